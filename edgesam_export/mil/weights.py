"""Reading the weight file of a package (``weights/weight.bin``).

Layout, found by reading files that coremltools' ``BlobWriter`` writes, all numbers little-endian:
a 64-byte header (u32 number of blobs, u32 version = 2); then per blob a 64-byte record, aligned to 64: u32 sentinel
``0xDEADBEEF``, u32 element type, u64 size in bytes, u64 offset of the data in the file, u64 unused bits at the end of
the data (sub-byte types). A program refers to the offset of the record. Sub-byte elements are packed from the lowest
bit.

Blobs are read, not mapped: a file that shrinks under a mapping would end the process.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgesam_export.errors import ProgramError
from edgesam_export.files import stand_in
from edgesam_export.mil.types import BITS

__all__ = ["STORED", "Blob", "WeightFile", "unpack_bits"]

HEADER_BYTES = 64
RECORD_BYTES = 64
SENTINEL = 0xDEADBEEF
VERSION = 2
BLOB_TYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    5: "bf16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}
"""Number in the record -> element type."""
STORED: dict[str, str] = {
    "fp16": "<f2",
    "bf16": "<u2",
    "fp32": "<f4",
    "fp64": "<f8",
    "bool": "|b1",
    "int8": "|i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "|u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
}
"""Element type -> NumPy type of its bytes; BF16 as its bit pattern."""


def unpack_bits(packed: np.ndarray, dtype: str, count: int) -> np.ndarray:
    """Return the first ``count`` elements of a sub-byte type: uint8, or int8 for the signed ones.

    Shapes:
        packed (ceil(count * bits / 8),) uint8; element i occupies bits [i * bits, (i + 1) * bits), lowest bit first.
    """
    bits, groups = BITS[dtype], -(-count // 8)
    octets = np.zeros((groups, 8), np.uint8)  # eight elements take `bits` bytes: one little-endian word per group
    padded = np.zeros(groups * bits, np.uint8)
    padded[: packed.size] = packed
    octets[:, :bits] = padded.reshape(groups, bits)
    words = octets.view("<u8")[:, 0]
    values = np.empty((groups, 8), np.uint8)
    for index in range(8):
        values[:, index] = (words >> np.uint64(index * bits)) & np.uint64((1 << bits) - 1)
    flat = values.reshape(-1)[:count]
    if not dtype.startswith("int"):
        return flat
    return (flat << (8 - bits)).view(np.int8) >> (8 - bits)  # sign extension


@dataclass(frozen=True)
class Blob:
    """One record of a weight file."""

    dtype: str
    size_bytes: int
    data_offset: int


class WeightFile:
    """A weight file whose records are checked before anything is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for somebody who writes to it
                raise ProgramError(f"{path}: cannot read the weight file (it is a folder, pipe or device)")
            self.size_bytes = status.st_size
            with path.open("rb") as stream:
                header = stream.read(HEADER_BYTES)
        except OSError as error:
            raise ProgramError(f"{path}: cannot read the weight file ({error.strerror})") from None
        if found := stand_in(path, header):
            raise ProgramError(f"{path}: the weight file {found}")
        if len(header) < HEADER_BYTES:
            raise ProgramError(f"{path}: weight file is truncated: {len(header)} bytes, the header alone has 64")
        _, version = struct.unpack_from("<II", header)
        if version != VERSION:
            raise ProgramError(f"{path}: weight file has version {version}; only version {VERSION} can be read")

    def blob(self, offset: int) -> Blob:
        """Return the record at ``offset``.

        Raises:
            ProgramError: no record there, or its data lies outside the file.
        """
        if not HEADER_BYTES <= offset <= self.size_bytes - RECORD_BYTES:
            raise ProgramError(f"{self.path}: weight offset {offset} lies outside the file of {self.size_bytes} bytes")
        with self.path.open("rb") as stream:
            stream.seek(offset)
            record = stream.read(RECORD_BYTES)
        if len(record) < RECORD_BYTES:
            raise ProgramError(f"{self.path}: weight file became shorter than {self.size_bytes} bytes while in use")
        sentinel, code, size, start = struct.unpack_from("<IIQQ", record)
        if sentinel != SENTINEL:
            raise ProgramError(f"{self.path}: no weight record at offset {offset} (found 0x{sentinel:08X})")
        if code not in BLOB_TYPES:
            raise ProgramError(f"{self.path}: weight record at offset {offset} has unknown element type {code}")
        if start > self.size_bytes or size > self.size_bytes - start:
            raise ProgramError(
                f"{self.path}: weight at offset {offset} needs bytes {start} to {start + size}, "
                f"the file has {self.size_bytes}"
            )
        return Blob(dtype=BLOB_TYPES[code], size_bytes=size, data_offset=start)

    def check(self, offset: int, dtype: str, count: int) -> Blob:
        """Return the record at ``offset`` if it holds ``count`` elements of ``dtype``.

        Raises:
            ProgramError: it does not.
        """
        blob = self.blob(offset)
        needed = (count * BITS[dtype] + 7) // 8
        same_type = blob.dtype == dtype or (dtype == "bool" and blob.dtype in ("uint8", "int8"))
        if not same_type or blob.size_bytes != needed:
            raise ProgramError(
                f"{self.path}: weight at offset {offset} is {blob.size_bytes} bytes of {blob.dtype}, "
                f"the program declares {count} elements of {dtype} ({needed} bytes)"
            )
        return blob

    def read(self, offset: int, dtype: str, count: int) -> np.ndarray:
        """Return ``count`` elements, 1-D: sub-byte types unpacked to 8 bits, BF16 as uint16 bit patterns.

        Raises:
            ProgramError: the record does not hold them.
        """
        blob = self.check(offset, dtype, count)
        raw = np.fromfile(self.path, np.uint8, blob.size_bytes, offset=blob.data_offset)
        if raw.size != blob.size_bytes:
            raise ProgramError(f"{self.path}: weight file became shorter than {self.size_bytes} bytes while in use")
        return decode_bytes(raw, dtype, count)


def decode_bytes(raw: np.ndarray, dtype: str, count: int) -> np.ndarray:
    """Return ``count`` elements of ``dtype`` from their little-endian bytes."""
    if BITS[dtype] < 8:
        return unpack_bits(raw, dtype, count)
    if dtype == "bool":
        return raw.astype(np.bool_)
    return raw.view(STORED[dtype])

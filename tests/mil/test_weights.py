"""The weight file reader against files that coremltools' own writer makes."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from edgesam_export.errors import ProgramError
from edgesam_export.mil.weights import WeightFile, unpack_bits

INTEGERS = {
    "int8": (-128, 128),
    "uint8": (0, 256),
    "int16": (-(2**15), 2**15),
    "uint16": (0, 2**16),
    "int32": (-(2**31), 2**31),
    "uint32": (0, 2**32),
}
SUB_BYTE = {"int4": (-8, 8), "uint1": (0, 2), "uint2": (0, 4), "uint3": (0, 8), "uint4": (0, 16), "uint6": (0, 64)}


@pytest.fixture(scope="module")
def writer_class():
    import coremltools  # noqa: F401  # the library below needs it
    from coremltools.libmilstoragepython import _BlobStorageWriter

    return _BlobStorageWriter


@pytest.mark.parametrize("dtype", [*INTEGERS, *SUB_BYTE])
def test_integers_written_by_coremltools_are_read_back(writer_class, tmp_path: Path, dtype: str) -> None:
    from coremltools.converters.mil.mil import types

    low, high = {**INTEGERS, **SUB_BYTE}[dtype]
    values = np.random.default_rng(1).integers(low, high, 13)
    values[:2] = low, high - 1
    stored = values.astype(getattr(types, f"np_{dtype}_dtype") if dtype in SUB_BYTE else dtype)
    path = tmp_path / "weight.bin"
    writer = writer_class(str(path))
    first = writer.write_float_data(np.ones(3, np.float32))
    second = getattr(writer, f"write_{dtype}_data")(stored)
    del writer
    file = WeightFile(path)
    np.testing.assert_array_equal(file.read(second, dtype, 13), values)
    np.testing.assert_array_equal(file.read(first, "fp32", 3), [1, 1, 1])


def test_fp16_written_by_coremltools_is_read_back(writer_class, tmp_path: Path) -> None:
    values = np.array([1.5, -65504, 6e-8, np.inf], np.float16)
    path = tmp_path / "weight.bin"
    writer = writer_class(str(path))
    offset = writer.write_fp16_data(values.view(np.uint16))
    del writer
    np.testing.assert_array_equal(WeightFile(path).read(offset, "fp16", 4), values)


def test_unpack_bits_takes_the_lowest_bit_first_and_extends_the_sign() -> None:
    # 0x8F = 1000 1111: low nibble 1111, high nibble 1000
    assert unpack_bits(np.array([0x8F], np.uint8), "uint4", 2).tolist() == [15, 8]
    assert unpack_bits(np.array([0x8F], np.uint8), "int4", 2).tolist() == [-1, -8]
    # 3 bits: 101 011 000 from bit 0 of 0b00_011_101 on
    assert unpack_bits(np.array([0b00011101, 0], np.uint8), "uint3", 3).tolist() == [5, 3, 0]


def blob_file(path: Path, *, sentinel=0xDEADBEEF, code=2, size=8, start=128, version=2, data=b"\0" * 8) -> WeightFile:
    header = struct.pack("<II", 1, version).ljust(64, b"\0")
    record = struct.pack("<IIQQ", sentinel, code, size, start).ljust(64, b"\0")
    path.write_bytes(header + record + data)
    return WeightFile(path)


def test_a_record_made_by_hand_is_read(tmp_path: Path) -> None:
    file = blob_file(tmp_path / "w", data=struct.pack("<ff", 1.5, -2))
    assert file.read(64, "fp32", 2).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentinel": 1}, "no weight record at offset 64"),
        ({"code": 99}, "unknown element type 99"),
        ({"size": 9}, "needs bytes 128 to 137, the file has 136"),
        ({"start": 2**63}, "the file has 136"),
        ({"size": 2**64 - 1}, "the file has 136"),
        ({"size": 4}, "4 bytes of fp32"),
        ({"code": 1}, "bytes of fp16"),
    ],
)
def test_damaged_record_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        blob_file(tmp_path / "w", **change).read(64, "fp32", 2)


@pytest.mark.parametrize("offset", [0, 63, 73, 136, 2**63])
def test_offset_outside_the_records_is_refused(tmp_path: Path, offset: int) -> None:
    with pytest.raises(ProgramError, match=f"weight offset {offset} lies outside"):
        blob_file(tmp_path / "w").read(offset, "fp32", 2)


def test_file_that_shrinks_after_loading_is_reported(tmp_path: Path) -> None:
    file = blob_file(tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:130])
    with pytest.raises(ProgramError, match="became shorter"):
        file.read(64, "fp32", 2)


def test_missing_short_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot read the weight file"):
        WeightFile(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for good
    for name in ("pipe", "."):
        with pytest.raises(ProgramError, match=r"cannot read the weight file \(it is a folder, pipe or device\)"):
            WeightFile(tmp_path / name)
    (tmp_path / "short").write_bytes(b"\1\0")
    with pytest.raises(ProgramError, match="truncated"):
        WeightFile(tmp_path / "short")
    with pytest.raises(ProgramError, match="has version 7"):
        blob_file(tmp_path / "w", version=7)

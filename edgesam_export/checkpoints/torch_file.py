"""Files of ``torch.save``, read without PyTorch's reader and without running anything in them.

Such a file is a pickle that names tensors, and the tensors' bytes. The pickle is read by an unpickler that knows the
few functions that describe tensors and keeps everything else inert: an object of any class, training state for
example, is an ``Inert`` with its parts, never the real thing. The claims of the tensors are compared with the size of
the file, and a tensor's bytes are read when it is asked for. So no code in a file runs, and nothing larger than the
file accounts for is allocated.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from edgesam_export.checkpoints.file_kinds import archive_text
from edgesam_export.checkpoints.inert import Inert, InertTypes, may_run_code
from edgesam_export.errors import CheckpointError, first_line

if TYPE_CHECKING:
    import torch

__all__ = ["ELEMENT_TYPES", "StorageClaim", "TensorClaim", "TorchFile", "check_expansion"]

MAX_PICKLE_BYTES = 64 << 20
"""The pickle of SAM ViT-H is below 0.2 MB; training states with an optimizer stay below a few."""
MAX_EXPANSION = 8
"""Float32 bytes of all tensors per byte of file: bf16 doubles, int8 quadruples, a tied weight counts twice."""
EXPANSION_FLOOR = 1 << 20
ELEMENT_TYPES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
"""Kinds of storage that hold weights: the type of their elements, and its bytes."""
REMEDY = "in the program that wrote it, save only model.state_dict()"


class StorageClaim(NamedTuple):
    """Memory that the pickle says follows it."""

    key: str
    kind: str
    elements: int

    @property
    def element_bytes(self) -> int:
        return ELEMENT_TYPES[self.kind][1]


class TensorClaim(NamedTuple):
    """A view of a storage."""

    storage: StorageClaim
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def tensor_claim(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorClaim | Inert:
    """Return the claim if the view lies inside its storage; a storage that holds no weights stays inert."""
    if isinstance(storage, Inert):
        return storage
    if not isinstance(storage, StorageClaim) or not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        raise CheckpointError("it describes a tensor by something other than a storage and sizes")
    if len(size) != len(stride) or len(size) > 64:
        raise CheckpointError(f"it describes a tensor of {len(size)} sizes and {len(stride)} strides")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if count else -1
    if last >= storage.elements:
        shape = "x".join(map(str, size))
        raise CheckpointError(f"it claims a tensor of {shape} in a storage of {storage.elements} elements")
    return TensorClaim(storage, offset, tuple(size), tuple(stride))


def first_operand(value: Any, *_: Any) -> Any:
    """Return the tensor that a parameter is made of."""
    return value


def rebuilt(function: Any, _: Any, operands: Any, *__: Any) -> Any:
    """Return the tensor that a subclass of ``Tensor`` is made of; its class and attributes are left out."""
    return function(*operands)


class Function(NamedTuple):
    """A function that a pickle may call; unlike a plain one it has no attribute that a pickle could set."""

    call: Callable[..., Any]

    def __call__(self, *operands: Any) -> Any:
        return self.call(*operands)


FUNCTIONS = {
    "collections.OrderedDict": Function(OrderedDict),
    "torch._utils._rebuild_tensor": Function(tensor_claim),
    "torch._utils._rebuild_tensor_v2": Function(tensor_claim),
    "torch._utils._rebuild_parameter": Function(first_operand),
    "torch._utils._rebuild_parameter_with_state": Function(first_operand),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": Function(first_operand),
    "torch._tensor._rebuild_from_type": Function(rebuilt),
    "torch._tensor._rebuild_from_type_v2": Function(rebuilt),
}
"""The only names in a pickle that are called."""


class ClaimReader(pickle.Unpickler):
    """Unpickler that resolves names to ``FUNCTIONS`` and to inert types, so no pickled code can run."""

    def __init__(self, file: Any, types: InertTypes) -> None:
        super().__init__(file, encoding="utf-8")
        self.types = types
        self.storages: dict[str, StorageClaim] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in FUNCTIONS:
            return FUNCTIONS[full]
        if may_run_code(module, name):
            raise CheckpointError(f"it refers to {full}, which may run code; {REMEDY}")
        return self.types.named(full)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":  # a class with its source, unread
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], type):
            raise CheckpointError(f"it refers to stored data in an unknown way; {REMEDY}")
        kind, key, count = pid[1].__name__.rpartition(".")[2], pid[2], pid[4]
        if not kind.endswith("Storage") or not isinstance(key, str) or type(count) is not int or count < 0:
            raise CheckpointError("it claims a storage of unknown type or size")
        if len(pid) > 5 and pid[5] is not None:
            raise CheckpointError(f"it holds a view of a storage, as PyTorch before 0.4 wrote; {REMEDY}")
        if kind not in ELEMENT_TYPES:
            return pid[1]()
        claim = StorageClaim(key, kind, count)
        if self.storages.setdefault(key, claim) != claim:
            raise CheckpointError(f"it claims storage {key} twice, with different sizes")
        return claim


class BoundedFile:
    """The methods that reading a pickle needs; a declared length never allocates more than the file has left."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size

    def read(self, count: int) -> bytes:
        return self.file.read(max(0, min(count, self.size - self.file.tell())))

    def readline(self) -> bytes:
        return self.file.readline()

    def tell(self) -> int:
        return self.file.tell()


def read_claims(file: IO[bytes], size: int, storages: dict[str, StorageClaim]) -> Any:
    """Read one pickle from the current position; the storages it names are added to ``storages``."""
    start = file.tell()
    for opcode, operand, position in pickletools.genops(cast("IO[bytes]", BoundedFile(file, size))):
        assert position is not None  # the file has a position
        if position - start > MAX_PICKLE_BYTES:
            raise CheckpointError(f"its pickle is larger than {MAX_PICKLE_BYTES} bytes; {REMEDY}")
        # The unpickler's memo is an array: one huge index in a ten-byte file would allocate gigabytes.
        if "PUT" in opcode.name and int(operand or 0) > position - start:
            raise CheckpointError("its pickle is malformed (memo index out of range)")
    file.seek(start)
    reader = ClaimReader(BoundedFile(file, size), InertTypes())
    reader.storages = storages
    return reader.load()


def check_expansion(claims: Iterator[TensorClaim], size: int) -> None:
    """Refuse tensors that would take far more memory than the file has bytes (a stride of 0 repeats for free)."""
    total = sum(claim.elements * max(4, claim.storage.element_bytes) for claim in claims)
    if total > MAX_EXPANSION * size + EXPANSION_FLOOR:
        raise CheckpointError(f"it has {size} bytes but its tensors claim {total}")


class TorchFile:
    """An open file of ``torch.save``: ``tree`` is what was saved, its tensors as claims, which ``tensor`` reads.

    Raises:
        CheckpointError: it is no such file, or its claims and its bytes differ; the message is half a sentence about
            "it", which the caller completes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size
        self.big_endian = False
        self.last: tuple[str, bytearray] | None = None
        """Storage that was read last: views of one storage follow each other."""
        try:
            head = file.read(2)
            file.seek(0)
            if head == b"PK":
                self.tree, self.stored = self.open_zip()
            elif head[:1] == b"\x80":
                self.tree, self.stored = self.open_legacy()
            else:
                raise CheckpointError("it is neither a torch.save file nor safetensors")
        except CheckpointError:
            raise
        except Exception as error:  # the standard library raises any exception for a malformed pickle or archive
            raise CheckpointError(f"it is damaged or was cut short ({type(error).__name__})") from error

    def open_zip(self) -> tuple[Any, Callable[[StorageClaim], bytes]]:
        """Return tree and reader of a file since PyTorch 1.6: a zip of a pickle and a record for each storage."""
        archive, members = checked_archive(self.file, self.size)
        folder = next(name for name in members if name.endswith("/data.pkl")).rpartition("/")[0]
        storages: dict[str, StorageClaim] = {}
        with archive.open(f"{folder}/data.pkl") as stream:
            tree = read_claims(stream, members[f"{folder}/data.pkl"].file_size, storages)
        for claim in storages.values():
            record = members.get(f"{folder}/data/{claim.key}")
            claimed = claim.elements * claim.element_bytes
            if record is None or record.file_size != claimed:
                found = "none" if record is None else record.file_size
                raise CheckpointError(f"storage {claim.key} claims {claimed} bytes, its record has {found}")
        if f"{folder}/byteorder" in members:
            self.big_endian = archive.read(f"{folder}/byteorder") == b"big"
        return tree, lambda claim: archive.read(f"{folder}/data/{claim.key}")

    def open_legacy(self) -> tuple[Any, Callable[[StorageClaim], bytes]]:
        """Return tree and reader of a file before PyTorch 1.6: five pickles, then the storages one after the other."""
        file, size = self.file, self.size
        # torch.load tries tar first, and a tar archive may begin with any bytes.
        if tarfile.is_tarfile(file):
            raise CheckpointError("it is a tar archive, not a checkpoint that torch.save wrote since 2017")
        file.seek(0)
        storages: dict[str, StorageClaim] = {}
        magic = read_claims(file, size, {})
        if magic != 0x1950A86A20F9469CFC6C:
            raise CheckpointError(
                "it is a pickle, but not one that torch.save wrote; load it where it was made, then torch.save() it"
            )
        read_claims(file, size, {})
        read_claims(file, size, {})
        tree = read_claims(file, size, storages)
        order = read_claims(file, size, {})
        claimed = sum(claim.elements * claim.element_bytes for claim in storages.values())
        if claimed > size - file.tell():
            left = size - file.tell()
            raise CheckpointError(f"its storages claim {claimed} bytes, {left} follow: damaged or cut short")
        positions = legacy_positions(file, order, storages)

        def read(claim: StorageClaim) -> bytes:
            file.seek(positions[claim.key])
            return file.read(claim.elements * claim.element_bytes)

        return tree, read

    def tensor(self, claim: TensorClaim) -> torch.Tensor:
        """Read one tensor; views of one storage do not share memory.

        Raises:
            CheckpointError: its bytes cannot be read, or PyTorch has no such tensor.
        """
        import torch

        name, width = ELEMENT_TYPES[claim.storage.kind]
        try:
            if not claim.elements:
                return torch.empty(claim.shape, dtype=getattr(torch, name))
            if self.last is None or self.last[0] != claim.storage.key:
                self.last = (claim.storage.key, self.storage_bytes(claim.storage, width))
            flat = torch.frombuffer(self.last[1], dtype=getattr(torch, name))
            return flat.as_strided(claim.shape, claim.stride, claim.offset).clone()
        except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond 64 bits, memory used up
            raise CheckpointError(f"a tensor cannot be made ({type(error).__name__}): {first_line(error)}") from error

    def storage_bytes(self, storage: StorageClaim, width: int) -> bytearray:
        """Return the bytes of a storage in this machine's order."""
        try:
            contents = bytearray(self.stored(storage))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"storage {storage.key} is damaged ({error}); fetch the file again") from error
        if len(contents) != storage.elements * width:
            raise CheckpointError(f"storage {storage.key} has {len(contents)} bytes, not {storage.elements * width}")
        if self.big_endian:
            for byte in range(width // 2):
                contents[byte::width], contents[width - 1 - byte :: width] = (
                    contents[width - 1 - byte :: width],
                    contents[byte::width],
                )
        return contents


def checked_archive(file: IO[bytes], size: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Return the zip archive that ``torch.save`` wrote, and its records by name."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError("it is damaged or was cut short (no zip directory at its end); fetch it again") from error
    members = {member.filename: member for member in archive.infolist()}
    # Archives that two readers could understand differently are refused: torch.load has a reader of its own.
    if len(members) != len(archive.infolist()) or archive.comment:
        raise CheckpointError("it has two records of one name, or a comment: torch.save writes neither")
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(archive_text(members))
    if f"{pickles[0].rpartition('/')[0]}/constants.pkl" in members:
        raise CheckpointError(f"it is a TorchScript program, not a state dict; {REMEDY}")
    packed = [m for m in members.values() if m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size]
    if packed:
        worst = max(packed, key=lambda member: member.file_size)
        raise CheckpointError(
            f"record {worst.filename} is compressed ({worst.compress_size} bytes claim to become "
            f"{worst.file_size}), which torch.save never does; unpack it and pack it uncompressed (zip -0 -r)"
        )
    if sum(member.file_size for member in members.values()) > size:
        raise CheckpointError(f"it has {size} bytes but its records claim more")
    for member in members.values():
        if member.CRC == 0:  # of torch.serialization.set_crc32_options(False): not computed
            member.CRC = None  # type: ignore[assignment]  # how zipfile spells "do not compare"
    return archive, members


def legacy_positions(file: IO[bytes], order: Any, storages: Mapping[str, StorageClaim]) -> dict[str, int]:
    """Return the offset of each storage's first byte, from the current position on: a count, then the elements."""
    positions: dict[str, int] = {}
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(storages):
        raise CheckpointError("its storages are not those that its tensors use: damaged or cut short")
    for key in order:
        count = int.from_bytes(file.read(8), "little")
        claim = storages[str(key)]
        if count != claim.elements:
            raise CheckpointError(f"storage {key} claims {claim.elements} elements, {count} are there; fetch it again")
        positions[str(key)] = file.tell()
        file.seek(count * claim.element_bytes, 1)
    return positions

"""Claims of a PyTorch checkpoint file about its content, read before PyTorch reads it and without running any of it.

A ``torch.save`` file is a pickle that names tensors, and the tensors' bytes. ``check_torch_file`` reads the pickle with
an unpickler that knows a dozen names and replaces each by inert data, then compares what is claimed with what the file
can hold. So a file that would run code, or claims more memory than it has bytes for, is refused before anything is
allocated, whatever the installed PyTorch checks by itself.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from typing import IO, Any, NamedTuple, cast

from edgesam_export.errors import CheckpointError

__all__ = ["check_torch_file"]

MAX_PICKLE_BYTES = 64 << 20
"""The pickle of SAM ViT-H is below 0.2 MB; training states with an optimizer stay below a few."""
MAX_EXPANSION = 8
"""Float32 bytes of all tensors per byte of file: bf16 doubles, int8 quadruples, a tied weight counts twice."""
EXPANSION_FLOOR = 1 << 20
ELEMENT_BYTES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
}
OPAQUE = ("collections.Counter", "torch.device", "torch.Size")
REMEDY = "in the program that wrote it, save only model.state_dict()"


class AllowedGlobal(NamedTuple):
    """Stands for a name in the pickle; calling it gives inert data, never the real thing."""

    name: str

    def __call__(self, *operands: Any) -> Any:
        if self.name == "collections.OrderedDict" and not operands:
            return OrderedDict()
        if self.name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return tensor_claim(*operands[:4])
        if self.name == "torch._utils._rebuild_parameter" and isinstance(operands[0], TensorClaim):
            return operands[0]
        if self.name in OPAQUE:
            return AllowedGlobal(self.name)
        raise CheckpointError(f"it calls {self.name} in a way that no state dict does")


class StorageClaim(NamedTuple):
    """Memory that the pickle says follows it."""

    key: str
    element_bytes: int
    elements: int


class TensorClaim(NamedTuple):
    """A view of a storage."""

    storage: StorageClaim
    elements: int


def tensor_claim(storage: Any, offset: Any, size: Any, stride: Any) -> TensorClaim:
    """Return the claim if the view lies inside its storage."""
    if not isinstance(storage, StorageClaim) or not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        raise CheckpointError("it describes a tensor by something other than a storage and sizes")
    if len(size) != len(stride) or len(size) > 64:
        raise CheckpointError(f"it describes a tensor of {len(size)} sizes and {len(stride)} strides")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if count else -1
    if last >= storage.elements:
        shape = "x".join(map(str, size))
        raise CheckpointError(f"it claims a tensor of {shape} in a storage of {storage.elements} elements")
    return TensorClaim(storage, count)


class ClaimReader(pickle.Unpickler):
    """Unpickler that resolves names to ``AllowedGlobal`` and nothing else, so no pickled code can run."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, StorageClaim] = {}

    def find_class(self, module: str, name: str) -> AllowedGlobal:
        full = f"{module}.{name}"
        storage = module in ("torch", "torch.cuda", "torch.storage") and name in ELEMENT_BYTES
        rebuild = module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
        dtype = module == "torch" and name.rstrip("0123456789") in ("float", "bfloat", "int", "uint", "bool")
        if storage or rebuild or dtype or full == "collections.OrderedDict" or full in OPAQUE:
            return AllowedGlobal(full)
        raise CheckpointError(f"it refers to {full}, which may run code; {REMEDY}")

    def persistent_load(self, pid: Any) -> StorageClaim:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], AllowedGlobal):
            raise CheckpointError(f"it refers to stored data in an unknown way; {REMEDY}")
        kind, key, count = pid[1].name.rpartition(".")[2], pid[2], pid[4]
        if kind not in ELEMENT_BYTES or not isinstance(key, str) or type(count) is not int or count < 0:
            raise CheckpointError("it claims a storage of unknown type or size")
        if len(pid) > 5 and pid[5] is not None:
            raise CheckpointError(f"it holds a view of a storage, as PyTorch before 0.4 wrote; {REMEDY}")
        claim = StorageClaim(key, ELEMENT_BYTES[kind], count)
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
    for opcode, operand, position in pickletools.genops(cast(IO[bytes], BoundedFile(file, size))):
        offset = (position or start) - start
        if offset > MAX_PICKLE_BYTES:
            raise CheckpointError(f"its pickle is larger than {MAX_PICKLE_BYTES} bytes; {REMEDY}")
        # The unpickler's memo is an array: one huge index in a ten-byte file would allocate gigabytes.
        if "PUT" in opcode.name and int(operand or 0) > offset:
            raise CheckpointError("its pickle is malformed (memo index out of range)")
    file.seek(start)
    reader = ClaimReader(BoundedFile(file, size))
    reader.storages = storages
    return reader.load()


def tensor_claims(value: Any) -> Iterable[TensorClaim]:
    """Yield every claim in nested containers, each container once (a pickle can hold itself)."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, TensorClaim):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)


def check_expansion(value: Any, size: int) -> None:
    """Refuse tensors that would take far more memory than the file has bytes (a stride of 0 repeats for free)."""
    total = sum(claim.elements * max(4, claim.storage.element_bytes) for claim in tensor_claims(value))
    if total > MAX_EXPANSION * size + EXPANSION_FLOOR:
        raise CheckpointError(f"it has {size} bytes but its tensors claim {total}")


def check_zip(file: IO[bytes], size: int) -> None:
    """Check a file of ``torch.save`` since PyTorch 1.6: an uncompressed zip of one pickle and one record a storage."""
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
        inner = next((name for name in members if name.endswith((".pt", ".pth"))), None)
        advice = f"; unpack it and use {inner}" if inner else ""
        raise CheckpointError(f"it is a zip archive, but not one that torch.save wrote{advice}")
    folder = pickles[0].rpartition("/")[0]
    if f"{folder}/constants.pkl" in members:
        raise CheckpointError(f"it is a TorchScript program, not a state dict; {REMEDY}")
    packed = [m for m in members.values() if m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size]
    if packed:
        worst = max(packed, key=lambda member: member.file_size)
        raise CheckpointError(
            f"record {worst.filename} is compressed ({worst.compress_size} bytes claim to become "
            f"{worst.file_size}), which torch.save never does"
        )
    if sum(member.file_size for member in members.values()) > size:
        raise CheckpointError(f"it has {size} bytes but its records claim more")
    storages: dict[str, StorageClaim] = {}
    with archive.open(pickles[0]) as stream:
        value = read_claims(stream, members[pickles[0]].file_size, storages)
    for claim in storages.values():
        record = members.get(f"{folder}/data/{claim.key}")
        claimed = claim.elements * claim.element_bytes
        if record is None or record.file_size != claimed:
            found = "none" if record is None else record.file_size
            raise CheckpointError(f"storage {claim.key} claims {claimed} bytes, its record has {found}")
    check_expansion(value, size)


def check_legacy(file: IO[bytes], size: int) -> None:
    """Check a file of ``torch.save`` before PyTorch 1.6: five pickles, then the storages one after the other."""
    # torch.load tries tar first, and a tar archive may begin with any bytes.
    if tarfile.is_tarfile(file):
        raise CheckpointError("it is a tar archive, not a checkpoint that torch.save wrote since 2017")
    file.seek(0)
    storages: dict[str, StorageClaim] = {}
    magic = read_claims(file, size, {})
    if magic != 0x1950A86A20F9469CFC6C:
        raise CheckpointError("it is a pickle, but not one that torch.save wrote; a checkpoint holds tensors")
    read_claims(file, size, {})
    read_claims(file, size, {})
    value = read_claims(file, size, storages)
    read_claims(file, size, {})
    claimed = sum(claim.elements * claim.element_bytes for claim in storages.values())
    if claimed > size - file.tell():
        raise CheckpointError(f"its storages claim {claimed} bytes, {size - file.tell()} follow: damaged or cut short")
    check_expansion(value, size)


def check_torch_file(file: IO[bytes], size: int) -> None:
    """Return if the open file is a ``torch.save`` file of plain data that its ``size`` in bytes can hold.

    Raises:
        CheckpointError: it is something else; the message is half a sentence about "it", for the caller to complete.
    """
    try:
        head = file.read(2)
        file.seek(0)
        if head == b"PK":
            check_zip(file, size)
        elif head[:1] == b"\x80":
            check_legacy(file, size)
        else:
            raise CheckpointError("it is neither a torch.save file nor safetensors")
    except CheckpointError:
        raise
    except Exception as error:  # whatever a malformed pickle or archive makes the standard library raise
        raise CheckpointError(f"it is damaged or was cut short ({type(error).__name__})") from error

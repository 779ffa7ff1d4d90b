"""What lies where a checkpoint was to be: files and folders of other kinds, recognised to say what to do with them."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection
from pathlib import Path

from edgesam_export.errors import CheckpointError
from edgesam_export.files import is_address, stand_in

__all__ = ["HEAD_BYTES", "archive_text", "check_file", "check_head", "folder_text"]

HEAD_BYTES = 512
"""What of a file is looked at; tar has its mark at 257."""
SHOWN_TEXT = 60
UNPACK = "unpack it and give the checkpoint in it"
TENSORS = "save the PyTorch model: torch.save(model.state_dict(), FILE)"
MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "is packed with gzip", UNPACK),
    (0, b"BZh", "is packed with bzip2", UNPACK),
    (0, b"\xfd7zXZ\x00", "is packed with xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "is packed with zstd", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive", UNPACK),
    (0, b"Rar!", "is a RAR archive", UNPACK),
    (257, b"ustar", "is a tar archive", UNPACK),
    (0, b"\x93NUMPY", "is a NumPy array", TENSORS),
    (0, b"\x89HDF", "is an HDF5 file, as Keras writes", TENSORS),
    (0, b"\x89PNG", "is an image", "give the checkpoint"),
    (0, b"\xff\xd8\xff", "is an image", "give the checkpoint"),
    (0, b"%PDF", "is a PDF", "give the checkpoint"),
    (0, b"GGUF", "is a GGUF file", TENSORS),
    (4, b"TFL3", "is a TensorFlow Lite model", TENSORS),
    (4, b"ET", "is an ExecuTorch program", TENSORS),
)
"""Position and bytes that a kind of file has, what such a file is, what to do."""
ONNX_HEAD = re.compile(rb"\x08[\x01-\x1f](?:\x12|\x1a|\x3a|\x42)")
"""A ModelProto as exporters write it: the version of its format, then its producer, graph or operator sets."""
MSGPACK_HEAD = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9\xda]", re.DOTALL)
"""A map whose first key is text: what Flax saves."""
ARCHIVES: tuple[tuple[str, str, str], ...] = (
    (r"\.npy$", "a NumPy archive (.npz)", TENSORS),
    (r"(^|/)Manifest\.json$|\.mlmodel$", "a zipped Core ML package", TENSORS),
    (r"(^|/)(archive_format|archive_version)$", "a program of torch.export", TENSORS),
    (r"\.weights\.h5$", "a Keras model", TENSORS),
)
"""Pattern of a member's name, what such a zip archive is, what to do."""
FOLDERS: tuple[tuple[str, str, str], ...] = (
    ("data.pkl", "a torch.save file that was unpacked", "download it again, or pack it: zip -0 -r FILE.pt FOLDER"),
    (
        ".metadata",
        "a checkpoint of torch.distributed",
        "join it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt",
    ),
    (
        "zero_to_fp32.py",
        "a checkpoint of DeepSpeed ZeRO",
        "join it with that script: python zero_to_fp32.py . out",
    ),
    ("adapter_config.json", "a PEFT adapter", "merge it (merge_and_unload()), save the model and give that"),
    ("Manifest.json", "a Core ML package", TENSORS),
    ("saved_model.pb", "a TensorFlow model", TENSORS),
    (
        "*.index.json",
        "weights in several files",
        "load and save them as one: from_pretrained(FOLDER).save_pretrained(OTHER, max_shard_size='50GB')",
    ),
)
"""Pattern of a name in a folder, what such a folder is, what to do."""
PREFERRED = ("model.safetensors", "pytorch_model.bin")
ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def check_file(path: Path) -> None:
    """Raise CheckpointError for a folder, an address and what is no regular file; OSError where nothing is."""
    if is_address(path):
        raise CheckpointError(f"'{path}' is an address, not a file; download it and give the file")
    if str(path) == ".":
        raise CheckpointError("no checkpoint is named: the path is empty, or the current folder")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; {folder_text(path)}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError(f"{path} is a pipe or a device; write the checkpoint to a file and give that")


def folder_text(folder: Path) -> str:
    """Return what a folder is and which file in it may be the checkpoint, for an error message."""
    names = sorted(entry.name for entry in folder.iterdir())
    for pattern, what, remedy in FOLDERS:
        if any(Path(name).match(pattern) for name in names):
            return f"it is {what}: {remedy}"
    files = sorted((name for name in names if name.endswith(ENDINGS)), key=lambda name: name not in PREFERRED)
    return f"give the checkpoint file in it{f', for example {folder / files[0]}' if files else ''}"


def check_head(head: bytes, size: int, path: Path) -> None:
    """Raise CheckpointError for a file that begins as one of another kind does.

    ``head`` are its first ``HEAD_BYTES`` bytes, ``size`` all.
    """
    if found := stand_in(path, head):
        raise CheckpointError(f"{path} {found}")
    for position, mark, what, remedy in MAGIC:
        if head[position : position + len(mark)] == mark:
            raise CheckpointError(f"{path} {what}; {remedy}")
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if ONNX_HEAD.match(head):
        raise CheckpointError(f"{path} is an ONNX model; {TENSORS}")
    if MSGPACK_HEAD.match(head):
        raise CheckpointError(f"{path} is MessagePack, as Flax saves; {TENSORS}")
    if not head.strip(b"\0"):
        raise CheckpointError(f"{path} begins with {len(head)} zeros: its download did not end; fetch it again")
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 1 << 32:
        raise CheckpointError(f"{path} is safetensors and was cut short: it has {size} bytes; fetch it again")
    if begin[:1] == b"{" and b"weight_map" in head:
        raise CheckpointError(f"{path} is the index of weights in several files; give their folder to learn what to do")
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        text = " ".join(head.decode("ascii").split())[:SHOWN_TEXT]
        raise CheckpointError(f"{path} is text, not a checkpoint: '{text}'; download the file itself")


def archive_text(names: Collection[str]) -> str:
    """Return what a zip archive is that torch.save did not write, and what to do, from its members' names."""
    for pattern, what, remedy in ARCHIVES:
        if any(re.search(pattern, name) for name in names):
            return f"it is {what}; {remedy}"
    inner = next((name for name in names if name.endswith(ENDINGS)), None)
    if inner is None and any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "it is a torch.save file packed again in another way: in its zip, data.pkl lies in one folder"
    advice = f"; unpack it and use {inner}" if inner else ""
    return f"it is a zip archive, but not one that torch.save wrote{advice}"

"""Checkpoints: read without running pickled code, compared with the model's keys, identified by their SHA-256.

The rest of the package calls ``load_state_dict``, which reads a given file, or the released one, downloaded unless it
comes with the package.
PyTorch is imported inside functions: the manifest answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgesam_export.checkpoints.download import default_cache_dir, download
from edgesam_export.checkpoints.manifest import CheckpointFile, checkpoint_for, manifest
from edgesam_export.checkpoints.torch_file import check_torch_file
from edgesam_export.errors import CheckpointError, EdgeSAMExportWarning, warn
from edgesam_export.files import sha256_of
from edgesam_export.spec import Progress, Provenance

if TYPE_CHECKING:
    import torch

__all__ = [
    "CheckpointFile",
    "ChecksumWarning",
    "check_keys",
    "checkpoint_for",
    "default_cache_dir",
    "download",
    "family_of_keys",
    "load_state_dict",
    "manifest",
    "read_state_dict",
    "sha256_of",
]

WRAPPERS = ("model", "state_dict", "model_state_dict")
MAX_WRAPPERS = 4
PREFIXES = ("module.", "model.")
NAMED_KEYS = 3
"""Keys that an error message lists; it counts the others."""

# family, fragments of which every one occurs in some key, fragments of which none does (a leading dot: anywhere)
SIGNATURES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("sam2 (or EdgeTAM)", ("memory_encoder.",), ()),
    ("sam2 (or EdgeTAM)", ("image_encoder.trunk.",), ()),
    ("edge_sam_tiny", ("image_encoder.features.", "image_encoder.fuse_stage1.", "image_encoder.fuse_stage2."), ()),
    ("edge_sam", ("image_encoder.features.", "image_encoder.fuse_stage2."), ()),
    ("repvit_sam", ("image_encoder.features.",), ("image_encoder.fuse_stage2.",)),
    ("mobile_sam (or TinySAM)", ("image_encoder.layers.", "image_encoder.patch_embed.seq."), ()),
    ("sam", ("image_encoder.blocks.", ".attn.rel_pos"), ()),
    ("efficientvit_sam", ("image_encoder.backbone.",), ()),
    ("efficient_sam", ("image_encoder.blocks.", "mask_decoder.final_output_upscaling_layers."), (".rel_pos",)),
)


class ChecksumWarning(EdgeSAMExportWarning):
    """A file has the name of a released checkpoint but not its contents."""


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of a ``.safetensors`` or ``torch.save`` file, on the CPU; the contents decide which it is.

    Floating-point tensors of any width come back as contiguous float32, others (counters, indices) unchanged.
    Wrappers (``model``, ``state_dict``, ``model_state_dict``) and a ``module.`` or ``model.`` in front of every key
    are stripped. No code in the file ever runs, and nothing larger than the file accounts for is allocated.

    Raises:
        CheckpointError: the file cannot be read, would run code, is damaged, or holds anything but finite tensors.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; give the checkpoint file in it")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CheckpointError(f"{path} is empty; fetch it again")
            head = file.read(64)
            file.seek(0)
            value = read_safetensors(path) if is_safetensors(head, size) else read_torch(path, file, size, head)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    return strip_prefixes(plain_tensors(unwrap(value, path), path), path)


def is_safetensors(head: bytes, size: int) -> bool:
    """Recognise the format: eight bytes with the length of a header, then the header, a JSON object."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size


def read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged safetensors ({reason}); fetch it again") from error


def read_torch(path: Path, file: BinaryIO, size: int, head: bytes) -> Any:
    """Return the object that ``torch.save`` stored, after ``check_torch_file`` found it harmless."""
    import torch

    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file it points to; run 'git lfs pull' or download it"
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a checkpoint; download the file itself")
    try:
        check_torch_file(file, size)
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of torch raises any exception for a malformed file
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {reason}); fetch it again") from error


def unwrap(value: Any, path: Path) -> Mapping[Any, Any]:
    """Follow ``model``, ``state_dict`` or ``model_state_dict`` down to the mapping that holds the tensors."""
    for _ in range(MAX_WRAPPERS):
        inner = [value[key] for key in WRAPPERS if key in value] if isinstance(value, Mapping) else []
        if not inner or not isinstance(inner[0], Mapping):
            break
        value = inner[0]
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; a state dict (names to tensors) is needed")
    if not value:
        raise CheckpointError(f"{path} holds an empty state dict")
    return value


def plain_tensors(entries: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Return the entries as plain float32 (or integer) tensors of their own memory.

    Raises:
        CheckpointError: a key is no string, or a value no dense, real and finite tensor.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for key, value in entries.items():
        if not isinstance(key, str):
            raise CheckpointError(f"{path}: key {str(key)[:80]} is a {type(key).__name__}; keys are parameter names")
        if not isinstance(value, torch.Tensor):
            found = type(value).__name__
            raise CheckpointError(f"{path}: '{key}' is a {found}, not a tensor; save only model.state_dict()")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise CheckpointError(f"{path}: '{key}' is not a dense real tensor ({value.dtype}, {value.layout})")
        plain = value.detach().to(torch.float32) if value.is_floating_point() else value.detach()
        tensors[key] = plain.clone(memory_format=torch.contiguous_format)
    check_finite(tensors, path)
    return tensors


def check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    bad = [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        count = int((~tensors[bad[0]].isfinite()).sum())
        raise CheckpointError(
            f"{path}: '{bad[0]}' has {count} of {tensors[bad[0]].numel()} values NaN or infinite as float32 "
            f"({len(bad)} of {len(tensors)} tensors affected); the training diverged or the file is damaged"
        )


def strip_prefixes(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Strip ``module.`` and ``model.`` where every key has them (data parallel, training frameworks)."""
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
        if "" in tensors:
            raise CheckpointError(f"{path}: key '{prefix}' has no parameter name")
    return tensors


def family_of_keys(keys: Collection[str]) -> str | None:
    """Return the family that has these parameter names, None if no known family does."""

    def occurs(fragment: str) -> bool:
        return any(fragment in key if fragment.startswith(".") else key.startswith(fragment) for key in keys)

    for family, every, none in SIGNATURES:
        if all(map(occurs, every)) and not any(map(occurs, none)):
            return family
    return None


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor; a value that has none is a shape itself."""
    return {key: tuple(value.shape if hasattr(value, "shape") else value) for key, value in values.items()}


def check_keys(model_or_shapes: Any, state_dict: Mapping[str, Any], *, where: str) -> None:
    """Check that the state dict has exactly the keys and shapes of the model.

    ``model_or_shapes`` is a module, or a mapping of keys to shapes or tensors; ``where`` opens the message.

    Raises:
        CheckpointError: one line with missing, unexpected and misshapen keys, and the family they look like.
    """
    expected = model_or_shapes if isinstance(model_or_shapes, Mapping) else model_or_shapes.state_dict()
    shapes, found = shapes_of(expected), shapes_of(state_dict)
    missing = [key for key in shapes if key not in found]
    unexpected = [key for key in found if key not in shapes]
    misshapen = [
        f"{key} (expected {as_text(shape)}, found {as_text(found[key])})"
        for key, shape in shapes.items()
        if key in found and found[key] != shape
    ]
    problems = [(missing, "missing"), (unexpected, "unexpected"), (misshapen, "misshapen")]
    parts = [f"{len(keys)} {what}: {listing(keys)}" for keys, what in problems if keys]
    if not parts:
        return
    family, expected_family = family_of_keys(found), family_of_keys(shapes)
    hint = f"; the keys look like {family}" if family is not None and family != expected_family else ""
    raise CheckpointError(f"{where}: the checkpoint does not fit the model{hint}; {'; '.join(parts)}")


def as_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def listing(keys: list[str]) -> str:
    return ", ".join(keys[:NAMED_KEYS]) + (", ..." if len(keys) > NAMED_KEYS else "")


def load_state_dict(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, torch.Tensor], Provenance]:
    """Return the parameters of model ``name`` and their provenance.

    Without ``checkpoint``, a bundled file is read in place; another released one is taken from ``cache_dir``
    (default: ``default_cache_dir()``), or downloaded to it. A file named like a released one but with other contents
    is read, with a ``ChecksumWarning``.

    Raises:
        CheckpointError: the file cannot be obtained or read.
    """
    released = checkpoint_for(name)
    if checkpoint is not None:
        path = Path(checkpoint)
    elif released is not None:
        path = download(released, cache_dir, progress=progress)
    else:
        raise CheckpointError(
            f"no released checkpoint of '{name}' is known; give one with checkpoint=PATH (--checkpoint)"
        )
    state_dict = read_state_dict(path)
    return state_dict, provenance(path, released)


def provenance(path: Path, released: CheckpointFile | None) -> Provenance:
    """Return the provenance of a file; other weights than released ones count as derived from the model's."""
    digest = sha256_of(path)
    exact = next((file for file in manifest() if file.sha256 == digest), None)
    namesake = next((file for file in manifest() if file.name == path.name), None)
    if exact is None and namesake is not None and namesake.sha256 is not None:
        warn(
            f"{path} has the name of a released file but sha256 {digest} instead of {namesake.sha256}: "
            "fine if you trained it, otherwise fetch it again",
            ChecksumWarning,
            stacklevel=4,
        )
    if exact is not None:
        licence = exact.licence
    elif namesake is not None and namesake.sha256 is None and namesake == released:
        licence = namesake.licence  # the manifest has no SHA-256 to compare: only the name identifies it
    elif released is not None:
        licence = f"{released.licence} (weights derived from {released.model})"
    else:
        licence = "unknown"
    return Provenance(source=path.name, sha256=digest, licence=licence)

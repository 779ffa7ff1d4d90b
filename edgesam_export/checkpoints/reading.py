"""Checkpoints: read without running pickled code, compared with the model's keys, identified by their SHA-256.

The rest of the package calls ``load_state_dict``, which reads a given file, or the released one, downloaded unless it
comes with the package.
PyTorch is imported inside functions: the manifest answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.checkpoints.contents import opened, plain_tensors, type_name
from edgesam_export.checkpoints.download import default_cache_dir, download
from edgesam_export.checkpoints.hints import difference, family_of_keys, shapes_of
from edgesam_export.checkpoints.manifest import CheckpointFile, checkpoint_for, manifest
from edgesam_export.checkpoints.selection import read_weights
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
KEY_MARK = "#"
"""Between a file and the name of one of several sets of weights in it."""


class ChecksumWarning(EdgeSAMExportWarning):
    """A file has the name of a released checkpoint but not its contents."""


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that holds one state dict and nothing else, whatever their names, on the CPU.

    Floating-point tensors of any width come back as contiguous float32, others (counters, indices) unchanged.
    Wrappers (``model``, ``state_dict``, ``model_state_dict``) and a ``module.`` or ``model.`` in front of every key
    are stripped. No code in the file ever runs, and nothing larger than the file accounts for is allocated.

    Raises:
        CheckpointError: the file cannot be read, names code, is damaged, or holds anything but finite tensors.
    """
    path = Path(path)
    with opened(path) as contents:
        return strip_prefixes(plain_tensors(unwrap(contents.tree, path), contents), path)


def unwrap(value: Any, path: Path) -> dict[Any, Any]:
    """Follow ``model``, ``state_dict`` or ``model_state_dict`` down to the mapping that holds the tensors."""
    for _ in range(MAX_WRAPPERS):
        inner = [value[key] for key in WRAPPERS if key in value] if isinstance(value, dict) else []
        if not inner or not isinstance(inner[0], dict):
            break
        value = inner[0]
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type_name(value)}; a state dict (names to tensors) is needed")
    if not value:
        raise CheckpointError(f"{path} holds an empty state dict")
    return value


def strip_prefixes(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Strip ``module.`` and ``model.`` where every key has them (data parallel, training frameworks)."""
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
        if "" in tensors:
            raise CheckpointError(f"{path}: key '{prefix}' has no parameter name")
    return tensors


def check_keys(model_or_shapes: Any, state_dict: Mapping[str, Any], *, where: str) -> None:
    """Check that the state dict has exactly the keys and shapes of the model.

    ``model_or_shapes`` is a module, or a mapping of keys to shapes or tensors; ``where`` opens the message.

    Raises:
        CheckpointError: one line with missing, unexpected and misshapen keys, and the family they look like.
    """
    expected = model_or_shapes if isinstance(model_or_shapes, Mapping) else model_or_shapes.state_dict()
    found = shapes_of(state_dict)
    if text := difference(shapes_of(expected), found, found):
        raise CheckpointError(f"{where}: {text}")


def load_state_dict(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    forms: Iterable[Mapping[str, torch.Tensor]] | None = None,
    constants: Mapping[str, tuple[float, ...]] | None = None,
    others: Iterable[tuple[str, Mapping[str, torch.Tensor]]] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, torch.Tensor], Provenance]:
    """Return the parameters of model ``name`` and their provenance.

    Without ``checkpoint``, a bundled file is read in place, and so is one of an installed package; another released one
    is taken from ``cache_dir``
    (default: ``default_cache_dir()``), or downloaded to it. A file named like a released one but with other contents
    is read, with a ``ChecksumWarning``. ``FILE#KEY`` names one of several sets of weights in a file, ``FILE#ema`` its
    running average.

    ``forms`` are the model's tensors by key, of each form that its weights may have; the file's tensors that they ask
    for are found wherever they are (``read_weights``, which has ``constants`` and ``others`` too). Without forms the
    file must hold one state dict and nothing else.

    Raises:
        CheckpointError: the file cannot be obtained or read, or holds no weights of these forms, or several.
    """
    released = checkpoint_for(name)
    key = None
    if checkpoint is not None:
        path, key = split_key(Path(checkpoint))
    elif released is not None:
        path = download(released, cache_dir, progress=progress)
    else:
        raise CheckpointError(
            f"no released checkpoint of '{name}' is known; give one with checkpoint=PATH (--checkpoint)"
        )
    if forms is None:
        return read_state_dict(path), provenance(path, released)
    state_dict, note = read_weights(path, forms, key=key, constants=constants or {}, others=others, model=name)
    return state_dict, provenance(path, released, key=key, note=note)


def split_key(path: Path) -> tuple[Path, str | None]:
    """Return a file and the key after its ``#``; a file whose own name has one is that file."""
    text, mark, key = str(path).rpartition(KEY_MARK)
    if not mark or path.exists():
        return path, None
    if not key:
        raise CheckpointError(f"'{path}' names no weights after {KEY_MARK}; write FILE#KEY, for example {text}#ema")
    return Path(text), key


def provenance(
    path: Path, released: CheckpointFile | None, *, key: str | None = None, note: str | None = None
) -> Provenance:
    """Return the provenance of a file; other weights than released ones count as derived from the model's."""
    digest = sha256_of(path)
    exact = next((file for file in manifest() if file.sha256 == digest), None)
    namesake = next((file for file in manifest() if file.name == path.name), None)
    # A bundled file is never fetched; what has its name was trained, by `distill` for one.
    if exact is None and namesake is not None and namesake.sha256 is not None and not namesake.bundled:
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
    source = path.name if key is None else f"{path.name}{KEY_MARK}{key}"
    return Provenance(source=source, sha256=digest, licence=licence, note=note)

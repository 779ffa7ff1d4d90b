"""An open checkpoint file: what was saved, and its tensors, read when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.checkpoints.file_kinds import HEAD_BYTES, check_file, check_head
from edgesam_export.checkpoints.torch_file import ELEMENT_TYPES, TensorClaim, TorchFile, check_expansion
from edgesam_export.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Contents", "element_type", "opened", "plain_tensors", "type_name"]


class Contents:
    """What an open checkpoint holds: ``tree``, whose tensors are read when asked for."""

    def __init__(self, path: Path, tree: Any, file: TorchFile | None) -> None:
        self.path = path
        self.tree = tree
        self.file = file

    def tensor(self, leaf: Any) -> torch.Tensor:
        """Return a tensor of the tree."""
        if self.file is None or not isinstance(leaf, TensorClaim):
            return leaf  # type: ignore[no-any-return]  # safetensors are read at once
        try:
            return self.file.tensor(leaf)
        except CheckpointError as error:
            raise CheckpointError(f"cannot read {self.path}: {error}") from error

    def check_size(self, leaves: Iterable[Any]) -> None:
        """Raise CheckpointError where tensors would take far more memory than the file has bytes."""
        if self.file is None:
            return
        try:
            check_expansion((leaf for leaf in leaves if isinstance(leaf, TensorClaim)), self.file.size)
        except CheckpointError as error:
            raise CheckpointError(f"cannot read {self.path}: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """Yield the contents of a ``.safetensors`` or ``torch.save`` file; the contents decide which it is.

    Raises:
        CheckpointError: the file cannot be read, names code, or is damaged.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CheckpointError(f"{path} is empty; fetch it again")
            head = file.read(HEAD_BYTES)
            file.seek(0)
            if is_safetensors(head, size):
                yield Contents(path, read_safetensors(path), None)
                return
            check_head(head, size, path)
            try:
                torch_file = TorchFile(file, size)
            except CheckpointError as error:
                raise CheckpointError(f"cannot read {path}: {error}") from error
            yield Contents(path, torch_file.tree, torch_file)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


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


def type_name(value: Any) -> str:
    return "Tensor" if isinstance(value, TensorClaim) else type(value).__name__


def element_type(leaf: Any) -> str:
    """Return the name of the type of a tensor's elements, as PyTorch calls it."""
    if isinstance(leaf, TensorClaim):
        return ELEMENT_TYPES[leaf.storage.kind][0]
    return str(leaf.dtype).removeprefix("torch.")


def plain_tensors(entries: dict[Any, Any], contents: Contents) -> dict[str, torch.Tensor]:
    """Return the entries as plain float32 (or integer) tensors of their own memory.

    Raises:
        CheckpointError: a key is no string, or a value no dense, real and finite tensor.
    """
    import torch

    path = contents.path
    for key, value in dict.items(entries):
        if not isinstance(key, str):
            text = f"{key} " if isinstance(key, int) and abs(key) < 1 << 63 else ""
            raise CheckpointError(f"{path}: key {text}is a {type(key).__name__}; keys are parameter names")
        if not isinstance(value, torch.Tensor | TensorClaim):
            found = type(value).__name__
            raise CheckpointError(f"{path}: '{key}' is a {found}, not a tensor; save only model.state_dict()")
    contents.check_size(dict.values(entries))
    tensors: dict[str, torch.Tensor] = {}
    for key, leaf in dict.items(entries):
        value = contents.tensor(leaf)
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

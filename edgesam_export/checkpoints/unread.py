"""Tensors of a checkpoint that have no plain values of their own: what they are, and how they become ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgesam_export.checkpoints.inert import Inert

__all__ = ["FLOAT_WEIGHTS", "unread_kind", "unread_text"]

FULL_STATE = (
    "gather them where they were trained, for example with"
    " torch.distributed.checkpoint.state_dict.get_model_state_dict and StateDictOptions(full_state_dict=True)"
)
FLOAT_WEIGHTS = "save the float weights, as they were before quantisation"
KINDS: tuple[tuple[str, str, str], ...] = (
    ("torch._utils._rebuild_wrapper_subclass", "shards of FSDP (DTensor), or quantised by torchao", FULL_STATE),
    ("ShardedTensor", "one process's shards of FSDP", FULL_STATE),
    ("torch._utils._rebuild_qtensor", "quantised", FLOAT_WEIGHTS),
    (".Q", "quantised", FLOAT_WEIGHTS),  # torch.QInt8Storage and the like
    ("torch._utils._rebuild_sparse", "sparse", "save tensor.to_dense() of each"),
    ("torch._utils._rebuild_nested", "nested", "save dense tensors"),
    ("torch._utils._rebuild_meta_tensor", "on the meta device, without values", "save the model after it was loaded"),
    ("torch._utils._rebuild_tensor_v3", "of 8-bit or other small types", FLOAT_WEIGHTS),
    ("torch._utils._rebuild_device_tensor", "on a device that PyTorch saves apart", "save model.cpu().state_dict()"),
    ("multiarray._reconstruct", "NumPy arrays", "save tensors: torch.from_numpy() of each"),
    (".Complex", "complex", "save real tensors"),
    ("Storage", "of a type that holds no weights", "save floating-point tensors"),
)
"""Part of the name of what the pickle makes such a tensor of (torch/_utils.py, torch/_tensor.py), what it is, and what
to do. The first that occurs counts."""


def unread_kind(value: Any) -> int | None:
    """Return the row of ``KINDS`` that an object of a pickle belongs to, None for one that is no tensor."""
    if not isinstance(value, Inert):
        return None
    return next((row for row, (fragment, _, _) in enumerate(KINDS) if fragment in value.name), None)


def unread_text(unread: Mapping[str, int], keys: Iterable[str]) -> str:
    """Return what those of a model's keys are that are there as tensors which are not read; empty without one."""
    needed = set(keys)
    found = [name for name in unread if any(ending in needed for ending in endings(name))]
    if not found:
        return ""
    row, count = Counter(unread[name] for name in found).most_common(1)[0]
    example = next(name for name in found if unread[name] == row)
    _, what, remedy = KINDS[row]
    return f"{count} of its tensors are {what}, {example} for one, and are not read; {remedy}"


def endings(name: str) -> Iterator[str]:
    """Yield a name, and what is left of it without its first components."""
    while name:
        yield name
        name = name.partition(".")[2]

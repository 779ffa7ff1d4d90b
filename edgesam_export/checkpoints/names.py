"""The tensors of a checkpoint under one flat set of names: wrappers, nesting and prefixes become the same thing.

A tensor's name is the path to it, joined by dots: ``state_dict.model.image_encoder.neck.0.weight``. So the key of a
parameter is the end of a name, and a wrapper, a framework's prefix or a dictionary for each part is what precedes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from edgesam_export.checkpoints.inert import parts_of
from edgesam_export.checkpoints.torch_file import TensorClaim
from edgesam_export.errors import CheckpointError

__all__ = ["SuffixIndex", "named_tensors"]

MAX_NAMES = 100_000
"""Tensors of one file, an optimizer's included; those of SAM ViT-H and AdamW are below 2,000."""
MAX_VISITS = 1_000_000
"""Values that are looked at; a pickle can name one list a million times."""
MAX_DEPTH = 24
MAX_KEY = 500
"""Characters of a key."""
INSERTED = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
"""What torch.compile, activation checkpointing and FSDP insert into names, at any depth; no parameter is called so."""


def named_tensors(tree: Any) -> dict[str, Any]:
    """Return every tensor of a tree by the path to it; objects are entered like dictionaries.

    Raises:
        CheckpointError: two tensors have one name, or there are absurdly many values.
    """
    import torch

    found: dict[str, Any] = {}
    pending: list[tuple[str, Any, tuple[int, ...]]] = [("", tree, ())]
    visits = 0
    while pending:
        prefix, value, above = pending.pop()
        visits += 1
        if visits > MAX_VISITS or len(found) > MAX_NAMES:
            raise CheckpointError(f"it nests more than {MAX_NAMES} tensors or {MAX_VISITS} values; it is no checkpoint")
        if isinstance(value, TensorClaim | torch.Tensor):
            name = without_insertions(prefix[:-1])
            if name in found:
                raise CheckpointError(f"it has two tensors named '{name[:80]}'; save one of them only")
            found[name] = value
        elif id(value) not in above and len(above) < MAX_DEPTH:  # a pickle can hold itself
            inner = [
                (f"{prefix}{key}.", part, (*above, id(value)))
                for key, part in parts_of(value)
                if isinstance(key, str | int) and not isinstance(part, str | bytes | int | float | None.__class__)
                if len(str(key)) <= MAX_KEY
            ]
            pending.extend(reversed(inner))
    return found


def without_insertions(name: str) -> str:
    """Return a name without ``INSERTED``."""
    for fragment in INSERTED:
        name = name.replace(fragment, "")
    return name


class SuffixIndex:
    """Finds what precedes a key in names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.prefixes: dict[str, list[str]] = defaultdict(list)
        for name in names:
            start = 0
            while start >= 0:
                self.prefixes[name[start:]].append(name[:start])
                start = name.find(".", start) + 1 or -1

    def counts(self, keys: Iterable[str]) -> Counter[str]:
        """Return how many of the keys stand behind each prefix, which is empty or ends with a dot."""
        return Counter(prefix for key in keys for prefix in self.prefixes.get(key, ()))

"""The tensors of a checkpoint under one flat set of names: wrappers, nesting and prefixes become the same thing.

A tensor's name is the path to it, joined by dots: ``state_dict.model.image_encoder.neck.0.weight``. So the key of a
parameter is the end of a name, and a wrapper, a framework's prefix or a dictionary for each part is what precedes it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from edgesam_export.checkpoints.hints import shapes_of
from edgesam_export.checkpoints.inert import is_module, parts_of
from edgesam_export.checkpoints.torch_file import TensorClaim
from edgesam_export.checkpoints.unread import unread_kind
from edgesam_export.errors import CheckpointError

__all__ = ["Names", "SuffixIndex", "named_tensors"]

MAX_NAMES = 100_000
"""Tensors of one file, an optimizer's included; those of SAM ViT-H and AdamW are below 2,000."""
MAX_VISITS = 300_000
"""Values that are looked at; a pickle can name one list a thousand times."""
MAX_DEPTH = 24
MAX_KEY = 500
"""Characters of a key."""
STACKED = "point_embed.weight"
"""The embeddings of a prompt's labels, which transformers' SAM 2 has as rows of one, every other code one by one."""
MAX_ROWS = 16
INSERTED = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
"""What torch.compile, activation checkpointing and FSDP insert into names, at any depth; no parameter is called so."""


@dataclass(frozen=True)
class Names:
    """The tensors of a file by name."""

    leaves: Mapping[str, Any]
    containers: Mapping[str, str]
    """Path of the dictionary that each tensor is in, or of the whole module: what shares it is one state dict."""
    unread: Mapping[str, int]
    """Tensors that have no plain values, by name: their kind (``unread_kind``)."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes_of(self.leaves)

    @cached_property
    def index(self) -> SuffixIndex:
        return SuffixIndex(self.leaves)


def named_tensors(tree: Any) -> Names:
    """Return every tensor of a tree by the path to it; objects are entered like dictionaries.

    Raises:
        CheckpointError: two tensors have one name, or there are absurdly many values.
    """
    import torch

    leaves: dict[str, Any] = {}
    containers: dict[str, str] = {}
    unread: dict[str, int] = {}
    pending: list[Visit] = [Visit("", tree, (), "", False)]
    visits = 0
    while pending:
        visit = pending.pop()
        visits += 1
        if visits > MAX_VISITS or len(leaves) > MAX_NAMES:
            raise CheckpointError(f"it nests more than {MAX_NAMES} tensors or {MAX_VISITS} values; it is no checkpoint")
        if isinstance(visit.value, TensorClaim | torch.Tensor):
            for name, value in unstacked(without_insertions(visit.prefix[:-1]), visit.value):
                if name in leaves:
                    raise CheckpointError(f"it has two tensors named '{name[:80]}'; save one of them only")
                leaves[name], containers[name] = value, visit.container
        elif (kind := unread_kind(visit.value)) is not None:
            unread[without_insertions(visit.prefix[:-1])] = kind
        elif id(visit.value) not in visit.above and len(visit.above) < MAX_DEPTH:  # a pickle can hold itself
            pending.extend(reversed(list(visit.inner())))
    return Names(leaves, containers, unread)


class Visit(NamedTuple):
    """A value of a tree: the path to it, the values above it, and the state dict that it would be in."""

    prefix: str
    value: Any
    above: tuple[int, ...]
    container: str
    in_module: bool

    def inner(self) -> Iterator[Visit]:
        """Yield the parts that may hold tensors."""
        in_module = self.in_module or is_module(self.value)
        container = self.container if self.in_module else self.prefix
        for key, part in parts_of(self.value):
            plain = isinstance(key, str) or (isinstance(key, int) and abs(key) < MAX_VISITS)
            if plain and len(str(key)) <= MAX_KEY and not isinstance(part, str | bytes | int | float):
                yield Visit(f"{self.prefix}{key}.", part, (*self.above, id(self.value)), container, in_module)


def unstacked(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a tensor under its name, or the rows of one that ``STACKED`` names, each as a tensor of one row."""
    if not f".{name}".endswith(f".{STACKED}") or len(value.shape) != 2 or not 0 < value.shape[0] <= MAX_ROWS:
        yield name, value
        return
    begin, _, end = name.rpartition(".")
    for row in range(value.shape[0]):
        part = (
            value._replace(offset=value.offset + row * value.stride[0], shape=(1, value.shape[1]))
            if isinstance(value, TensorClaim)
            else value[row : row + 1]
        )
        yield f"{begin}.{row}.{end}", part


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

"""One module per consumer's tensor contract: data plus small wrapper modules.

A profile registers a ``Profile`` whose two functions turn a (rewritten) model into components ready for tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import ExportConfig, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgesam_export.modeling.sam import SamModel

__all__ = ["PROFILES", "Component", "Profile", "embedding_names", "find_profile"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A module that takes and returns exactly what its consumer expects."""

    name: str
    """``encoder`` or ``decoder``."""
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: tuple[torch.Tensor, ...]
    """Example inputs for tracing, in the order of ``inputs``."""
    free_dims: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Named free dimensions: smallest and largest size."""
    details: dict[str, Any] = field(default_factory=dict)
    """Facts for the contract: slots, candidates, score."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A consumer's contract."""

    name: str
    summary: str
    encoder: Callable[[SamModel, ExportConfig], Component]
    decoder: Callable[[SamModel, ExportConfig], Component]
    formats: tuple[str, ...] | None = None
    """Formats that its consumers read, None for every format."""


PROFILES: Registry[Profile] = Registry("profile")


def embedding_names(count: int) -> tuple[str, ...]:
    """Return the names of an embedding's ``count`` maps: that of the official files, and one for each further map."""
    return ("image_embeddings", *(f"feats_s{number}" for number in range(count - 1)))


def find_profile(name: str) -> Profile:
    """Return a profile by name.

    Raises:
        UsageError: unknown name; the line lists the known ones.
    """
    import_submodules(__name__)
    return PROFILES[name]

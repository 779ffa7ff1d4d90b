"""Output-preserving rewrites of a model for what runs it: one function, one rewrite.

The Neural Engine, which Core ML and Core AI serve, wants channels on axis 1, 1x1 convolutions and no large transposes;
ONNX Runtime wants channels on the last axis, matrix products and few passes over an image.  So a rewrite names the
formats that it is recommended for.

A rewrite takes a ``SamModel`` and changes its modules in place; ``apply_rewrites`` works on a copy, so the reference
that parity compares with is never touched.  The copy shares its parameters with the original, since those of large
models take gigabytes: a rewrite makes new tensors and never writes into an existing one.  Each states the largest
relative difference it may make in FP32 and whether it belongs to the recommended export.  Rewrites do not depend on
each other's order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import EVERY_FORMAT

if TYPE_CHECKING:
    from torch import nn

    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "NEURAL_ENGINE",
    "REWRITES",
    "Rewrite",
    "apply_rewrites",
    "recommended_rewrites",
    "register_rewrite",
    "replace_modules",
]

NEURAL_ENGINE = ("coreml", "coreai")
"""Formats whose files may run on the Neural Engine."""


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A named change of a model that keeps its output."""

    name: str
    apply: Callable[[SamModel], None]
    tolerance: float
    """Largest difference it may make in FP32, relative to the largest magnitude of the output."""
    formats: tuple[str, ...]
    """Export formats that it is recommended for, perhaps none; ``EVERY_FORMAT`` stands for all."""
    summary: str

    def recommended_for(self, format: str) -> bool:
        """Return whether an export to ``format`` applies it by default."""
        return not {format, EVERY_FORMAT}.isdisjoint(self.formats)


Apply = Callable[["SamModel"], None]
REWRITES: Registry[Rewrite] = Registry("rewrite")
Change = Callable[["SamModel"], None]


def register_rewrite(*, tolerance: float, formats: tuple[str, ...] = (EVERY_FORMAT,)) -> Callable[[Apply], Apply]:
    """Return a decorator that registers a function ``(model) -> None`` under its own name."""

    def store(function: Apply) -> Apply:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        entry = Rewrite(name=function.__name__, apply=function, tolerance=tolerance, formats=formats, summary=summary)
        REWRITES.register(function.__name__)(entry)
        return function

    return store


def load_all() -> Registry[Rewrite]:
    """Return the registry with every module of this folder imported."""
    import_submodules(__name__)
    return REWRITES


def recommended_rewrites(format: str) -> tuple[str, ...]:
    """Return the names that an export to ``format`` applies by default, in order."""
    registry = load_all()
    return tuple(name for name in registry if registry[name].recommended_for(format))


def apply_rewrites(model: SamModel, names: tuple[str, ...]) -> SamModel:
    """Return a copy of ``model`` with the named rewrites applied, in the registry's order whatever that of ``names``.

    What one folds (a norm's weight, say) must still be there, which another's form of the module may not have.
    Parameters that no rewrite replaces are those of ``model`` itself, not copies.

    Raises:
        UsageError: a name is not a rewrite.
    """
    registry = load_all()
    wanted = {registry[name].name for name in names}
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    rewritten = copy.deepcopy(model, shared)
    for name in registry:
        if name in wanted:
            registry[name].apply(rewritten)
    return rewritten.eval().requires_grad_(False)


def replace_modules(root: nn.Module, build: Callable[[nn.Module], nn.Module | None]) -> int:
    """Replace every sub-module for which ``build`` returns a module; return how many were replaced."""
    replaced = 0
    for name, child in list(root.named_children()):
        new = build(child)
        if new is None:
            replaced += replace_modules(child, build)
        else:
            setattr(root, name, new)
            replaced += 1
    return replaced

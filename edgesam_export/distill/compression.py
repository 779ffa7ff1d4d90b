"""Training against compressed weights: what a package will hold stands in for each weight, gradients pass straight on.

The model is the folded one (``export/folding.py``) in its plain layout; ``export/compression/layouts.py`` knows how an
export lays its kernels out. So a folded model exported with the recommended rewrites and the same recipe holds, bit for
bit, the simulated values.
Source of the straight-through gradient: Bengio, Leonard, Courville 2013, https://arxiv.org/abs/1308.3432.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import (
    LaidOut,
    Recipe,
    Scheme,
    chosen_kernels,
    find_palettes,
    kept_weights,
    latent,
    looked_up,
    nearest_indices,
    storable_entries,
    store,
    through_fp16,
)
from edgesam_export.modeling.sam import SamModel

__all__ = ["attach", "detach", "refresh", "stand_ins"]


class Shared:
    """What the layers of one exported kernel have in common: its scheme, mask and palettes."""

    def __init__(self, kernel: LaidOut, scheme: Scheme, *, train_palettes: bool) -> None:
        self.kernel = kernel
        self.scheme = scheme
        joined = through_fp16(kernel.joined())
        self.mask = kept_weights(joined, scheme) if scheme.sparsity else None
        """Stays as it is found here: a weight that is pruned stays zero."""
        self.palettes: nn.Parameter | None = None
        """Entries stay until ``refresh`` unless they are trained."""
        if scheme.palette:
            self.palettes = nn.Parameter(self.best_palettes(), requires_grad=train_palettes)

    def best_palettes(self) -> Tensor:
        """Return the palettes that an export finds for the weights as they are now."""
        weight = through_fp16(self.kernel.joined())
        if self.mask is not None:
            weight = weight.where(self.mask, 0.0)
        return find_palettes(weight, self.scheme, self.kernel.kernel.axis, self.mask)

    def values(self, exported: Tensor) -> Tensor:
        """Return the FP16 values that stand for a weight in the exported layout, with the gradient of the palettes."""
        axis = self.kernel.kernel.axis
        if self.palettes is None:
            return through_fp16(store(exported, self.scheme, axis, self.mask).values())
        stored = storable_entries(self.palettes, self.scheme)
        entries = straight_through(stored, self.palettes).sort(1).values
        values = looked_up(nearest_indices(through_fp16(exported), entries.detach(), axis), entries, axis)
        return values if self.mask is None else values.where(self.mask, 0.0)


class StandIn(nn.Module):
    """The values that a package will hold for the weight of one layer."""

    def __init__(self, shared: Shared, position: int) -> None:
        super().__init__()
        self.shared = shared
        self.position = position
        self.palettes = shared.palettes  # registered, so that it moves and is saved with the model

    def forward(self, weight: Tensor) -> Tensor:
        """Return the compressed weight; its gradient is the weight's, and the entries' that stand in for it."""
        kernel = self.shared.kernel
        weights = [
            weight.detach() if position == self.position else latent(layer.module)
            for position, layer in enumerate(kernel.layers)
        ]
        value = kernel.divided(self.shared.values(kernel.joined(weights)))[self.position]
        return straight_through(value, weight)


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value`` exactly, with the gradient of ``source`` added to its own."""
    return value + (source - source.detach())  # the difference is exactly 0


def attach(model: SamModel, compress: str | Recipe, *, train_palettes: bool = False) -> list[nn.Parameter]:
    """Let compressed weights stand in for the trained ones; return the palettes if they are to be trained, too.

    ``compress`` is the name of a scheme or preset, or a recipe. What pruning leaves is decided here and stays.

    Raises:
        UsageError: no such name, a recipe that does not fit, a model that is not folded, or one that has stand-ins
            already.
    """
    if any(stand_ins(model)):
        raise UsageError("the model has compressed weights already; detach them first")
    palettes = []
    for kernel, scheme in chosen_kernels(model, compress):
        shared = Shared(kernel, scheme, train_palettes=train_palettes)
        palettes += [] if shared.palettes is None else [shared.palettes]
        for position, layer in enumerate(kernel.layers):
            parametrize.register_parametrization(layer.module, "weight", StandIn(shared, position))
    return palettes if train_palettes else []


def stand_ins(model: nn.Module) -> Iterator[tuple[nn.Module, StandIn]]:
    """Yield every layer that has a stand-in for its weight, with the stand-in."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parts = cast("parametrize.ParametrizationList", module.get_submodule("parametrizations.weight"))
            part = parts[0]
            if isinstance(part, StandIn):
                yield module, part


def shared_parts(model: nn.Module) -> list[Shared]:
    """Return what the layers of each exported kernel have in common, each once."""
    return list({id(part.shared): part.shared for _, part in stand_ins(model)}.values())


@torch.no_grad()
def refresh(model: SamModel) -> int:
    """Find every palette anew from the weights as they are now; return how many tensors have palettes of their own.

    Schemes with scales have nothing to do: all of theirs follows the weights at every step.
    """
    count = 0
    for shared in shared_parts(model):
        if shared.palettes is not None:
            shared.palettes.copy_(shared.best_palettes())
            count += 1
    return count


@torch.no_grad()
def detach(model: SamModel) -> None:
    """Take the stand-ins away and leave weights whose compression is exactly what stood in last.

    Of a palette of FP16 values these are its values, which an export finds again; otherwise the trained weights
    themselves, from which an export computes the same, with zeros where they are pruned.
    """
    for shared in shared_parts(model):
        if shared.palettes is None and shared.mask is not None:
            pruned = shared.kernel.joined().where(shared.mask, 0.0)
            for layer, weight in zip(shared.kernel.layers, shared.kernel.divided(pruned)):
                latent(layer.module).copy_(weight)
    for module, part in list(stand_ins(model)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=part.shared.palettes is not None)

"""Training against compressed weights: what a package will hold stands in for each weight, gradients pass straight on.

The model is the folded one (``export/folding.py``) in its plain layout, which takes prompts by the batch. An export
lays three kinds of kernels out otherwise before it compresses them; here each goes into that layout, is compressed, and
comes back. So a folded model exported with the recommended rewrites and ``compress`` holds, bit for bit, the simulated
values.
Source of the straight-through gradient: Bengio, Leonard, Courville 2013, https://arxiv.org/abs/1308.3432.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import (
    Scheme,
    find_palette,
    find_scheme,
    is_worth_it,
    kernel_modules,
    linear_values,
    nearest_entries,
    output_axis,
    through_fp16,
)
from edgesam_export.modeling.mask_decoder import Hypernetworks
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import Attention, TwoWayTransformer

__all__ = ["attach", "compress_parameters", "compressed_kernels", "detach", "refresh", "stand_ins"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A layer whose weight is compressed, and how an export lays that weight out."""

    path: str
    module: nn.Module
    group: str
    """Kernels of one group become one tensor, one after the other on axis 0; they share a palette."""
    shape: torch.Size
    """Shape of the weight."""
    scale: float = 1.0
    """Factor that an export multiplies the weight by."""
    phases: bool = False
    """A transposed convolution that becomes a 1x1 convolution to four phases."""

    @property
    def axis(self) -> int:
        """Axis of the output channels in the exported layout."""
        return 0 if self.phases else output_axis(self.module)

    def exported(self, weight: Tensor) -> Tensor:
        """Return the weight, or one of the group's, as an export lays it out."""
        if self.phases:
            weight = weight.permute(2, 3, 1, 0).flatten(0, 2)  # (I, O, 2, 2) -> (4 * O, I)
        return weight * self.scale

    def restored(self, exported: Tensor) -> Tensor:
        """Undo ``exported``."""
        weight = exported / self.scale
        if self.phases:
            inputs, outputs, *sides = self.shape
            weight = weight.reshape(*sides, outputs, inputs).permute(3, 2, 0, 1)
        return weight


# ----------------------------------------------------------------------------------------------------- which weights


def compressed_kernels(model: SamModel, scheme: Scheme) -> dict[str, Kernel]:
    """Return path -> kernel for every weight that an export of the folded ``model`` with ``scheme`` compresses.

    Raises:
        UsageError: the model has batch norms, so it is not folded.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(f"compressed weights are trained on a folded model; '{path}' is a batch norm, fold it")
    layers = kernel_modules(model)
    first = next((path for path in layers if path.startswith("image_encoder.")), None)
    kernels = [with_layout(path, module, model) for path, module in layers.items() if path != first]
    shapes = {}
    for group, members in grouped(kernels).items():
        rows, *others = members[0].exported(latent(members[0])).shape
        shapes[group] = (rows * len(members), *others)  # they are shaped alike
    return {kernel.path: kernel for kernel in kernels if is_worth_it(shapes[kernel.group], kernel.axis, scheme)}


def with_layout(path: str, module: nn.Module, model: SamModel) -> Kernel:
    """Return a layer's kernel with the layout that an export's rewrites give it."""
    kernel = Kernel(path=path, module=module, group=path, shape=weight_of(module).shape)
    if not path.startswith("mask_decoder."):
        return kernel
    decoder = model.mask_decoder
    first, *others = path.removeprefix("mask_decoder.").split(".")
    if isinstance(getattr(decoder, first), Hypernetworks):
        return replace(kernel, group=".".join([first, *others[1:]]))  # without the number of the mask token
    if others and others[-1] == "q_proj" and isinstance(decoder.transformer, TwoWayTransformer):
        attention = model.get_submodule(path.rpartition(".")[0])
        assert isinstance(attention, Attention) and isinstance(module, nn.Linear)
        return replace(kernel, scale=float((module.out_features // attention.heads) ** -0.5))
    upscalings = [part for part in decoder.modules() if isinstance(part, nn.ConvTranspose2d)]
    return replace(kernel, phases=module in upscalings[-1:])


def grouped(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """Return the kernels by group, in the order in which an export joins them."""
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.group, []).append(kernel)
    return groups


# -------------------------------------------------------------------------------------------------------- the values


@torch.no_grad()
def compress_parameters(model: SamModel, scheme: str) -> dict[str, Tensor]:
    """Return ``<path>.weight`` -> the values that Core ML uses once a package is exported with ``scheme``, float32.

    The values are FP16 in the exported layout; palettes are those that an export finds.

    Raises:
        UsageError: no such scheme, or the model is not folded.
    """
    found = find_scheme(scheme)
    values = {}
    for members in grouped(compressed_kernels(model, found).values()).values():
        palette = group_palette(members, found.bits) if found.palette else None
        for kernel in members:
            exported = kernel.exported(weight_of(kernel.module).detach().float())
            compressed = in_exported_layout(exported, kernel, found, palette)
            values[f"{kernel.path}.weight"] = kernel.restored(compressed).contiguous()
    return values


def in_exported_layout(exported: Tensor, kernel: Kernel, scheme: Scheme, palette: Tensor | None) -> Tensor:
    """Return the FP16 values that stand for a weight in the exported layout, float32."""
    exported = through_fp16(exported)
    if palette is None:
        return through_fp16(linear_values(exported, scheme, kernel.axis))
    return palette[nearest_entries(exported, palette)]


def latent(kernel: Kernel) -> Tensor:
    """Return the weight that is trained, whether or not something stands in for it."""
    if parametrize.is_parametrized(kernel.module, "weight"):
        original = parametrizations_of(kernel.module).original
        assert isinstance(original, Tensor)  # there would be several for a weight made of several
        return original.detach()
    return weight_of(kernel.module).detach()


def weight_of(module: nn.Module) -> Tensor:
    """Return a layer's weight, or what stands in for it."""
    assert isinstance(module.weight, Tensor)
    return module.weight


def parametrizations_of(module: nn.Module) -> parametrize.ParametrizationList:
    """Return the parametrizations that stand in for a layer's weight."""
    found = module.get_submodule("parametrizations.weight")
    assert isinstance(found, parametrize.ParametrizationList)
    return found


def group_palette(members: list[Kernel], bits: int) -> Tensor:
    """Return the palette of the tensor that an export makes of a group."""
    return find_palette(torch.cat([kernel.exported(latent(kernel).float()).flatten() for kernel in members]), bits)


# ---------------------------------------------------------------------------------------------------------- training


class LinearStandIn(nn.Module):
    """A weight as integers times scales, which follow the weight at every step."""

    def __init__(self, kernel: Kernel, scheme: Scheme) -> None:
        super().__init__()
        self.kernel = kernel
        self.scheme = scheme

    def forward(self, weight: Tensor) -> Tensor:
        """Return the compressed weight; its gradient is the weight's."""
        kernel = self.kernel
        exported = kernel.exported(weight.detach().float())
        compressed = in_exported_layout(exported, kernel, self.scheme, None)
        return straight_through(kernel.restored(compressed), weight)


class PaletteStandIn(nn.Module):
    """A weight as the nearest entries of a palette, which stays until ``refresh`` unless its entries are trained."""

    def __init__(self, kernel: Kernel, palette: nn.Parameter) -> None:
        super().__init__()
        self.kernel = kernel
        self.palette = palette

    def forward(self, weight: Tensor) -> Tensor:
        """Return the compressed weight; its gradient is the weight's, and the entries' that stand in for it."""
        kernel = self.kernel
        entries = straight_through(through_fp16(self.palette), self.palette).sort().values
        nearest = nearest_entries(through_fp16(kernel.exported(weight.detach().float())), entries.detach())
        return straight_through(kernel.restored(entries[nearest]), weight)


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value`` exactly, with the gradient of ``source`` added to its own."""
    return value + (source - source.detach())  # the difference is exactly 0


def attach(model: SamModel, scheme: str, *, train_palettes: bool = False) -> list[nn.Parameter]:
    """Let compressed weights stand in for the trained ones; return the palettes if they are to be trained, too.

    Raises:
        UsageError: no such scheme, a model that is not folded, or one that has stand-ins already.
    """
    found = find_scheme(scheme)
    if any(stand_ins(model)):
        raise UsageError("the model has compressed weights already; detach them first")
    palettes = []
    for members in grouped(compressed_kernels(model, found).values()).values():
        palette = None
        if found.palette:
            palette = nn.Parameter(group_palette(members, found.bits), requires_grad=train_palettes)
            palettes.append(palette)
        for kernel in members:
            part = LinearStandIn(kernel, found) if palette is None else PaletteStandIn(kernel, palette)
            parametrize.register_parametrization(kernel.module, "weight", part)
    return palettes if train_palettes else []


def stand_ins(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield every layer that has a stand-in for its weight, with the stand-in."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            part = parametrizations_of(module)[0]
            if isinstance(part, LinearStandIn | PaletteStandIn):
                yield module, part


@torch.no_grad()
def refresh(model: SamModel) -> int:
    """Find every palette anew from the weights as they are now; return how many. Linear schemes have nothing to do."""
    members: dict[nn.Parameter, list[Kernel]] = {}
    for _, part in stand_ins(model):
        if isinstance(part, PaletteStandIn):
            members.setdefault(part.palette, []).append(part.kernel)
    for palette, kernels in members.items():
        palette.copy_(group_palette(kernels, (len(palette) - 1).bit_length()))
    return len(members)


@torch.no_grad()
def detach(model: SamModel) -> None:
    """Take the stand-ins away and leave weights whose compression is exactly what stood in last.

    Of a palette these are its values, which an export finds again; of a linear scheme the trained weights themselves,
    from which an export computes the same scales.
    """
    for module, part in list(stand_ins(model)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=isinstance(part, PaletteStandIn))

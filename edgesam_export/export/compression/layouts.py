"""Kernels of a plain model, and how an export lays them out before it compresses them.

Training and searches compute with the folded model (``export/folding.py``) in its plain layout, which takes prompts by
the batch. An export's recommended rewrites lay three kinds of kernels out otherwise: here each goes into that layout,
is compressed, and comes back. So a package holds, bit for bit, the values that are simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgesam_export.export.compression.kernels import TABLES, kernel_modules, output_axis, require_folded
from edgesam_export.export.compression.palettes import through_fp16
from edgesam_export.export.compression.recipe import schemes_for
from edgesam_export.export.compression.schemes import MIN_ELEMENTS, Kernel, Scheme
from edgesam_export.export.compression.stored import stored_values
from edgesam_export.modeling.mask_decoder import Hypernetworks
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import Attention, TwoWayTransformer
from edgesam_export.spec import Recipe

__all__ = ["LaidOut", "Layer", "chosen_kernels", "compress_model", "laid_out_kernels", "latent", "model_values"]

ENCODER = "image_encoder."
MLP = ".mlp"
"""End of the path of an MLP in the transformer; an exported decoder has it as a stack."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the model whose weight an export compresses, and how an export lays that weight out."""

    path: str
    module: nn.Module
    exported_path: str
    """Path in the exported component; layers that share it become one kernel, one after the other on axis 0."""
    shape: torch.Size
    """Shape of the weight."""
    scale: float = 1.0
    """Factor that an export multiplies the weight by."""
    phases: bool = False
    """A transposed convolution that becomes a 1x1 convolution to four phases."""

    def exported(self, weight: Tensor) -> Tensor:
        """Return the weight as an export lays it out."""
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


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """A kernel of an exported component, and the layers of the model that it is made of, in order."""

    kernel: Kernel
    layers: tuple[Layer, ...] = field(repr=False)

    def joined(self, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Return the weight as an export lays it out, float32, from those of the layers or those that are given."""
        weights = [latent(layer.module) for layer in self.layers] if weights is None else weights
        return torch.cat([layer.exported(weight.float()) for layer, weight in zip(self.layers, weights)])

    def divided(self, exported: Tensor) -> list[Tensor]:
        """Return the layers' weights that make up an exported one, in the order of ``layers``."""
        return [layer.restored(part) for layer, part in zip(self.layers, exported.chunk(len(self.layers)))]


def laid_out_kernels(model: SamModel) -> dict[str, dict[str, LaidOut]]:
    """Return the kernels that an export of the folded ``model`` may compress, by component and exported path.

    Raises:
        UsageError: the model has batch norms, so it is not folded.
    """
    require_folded({path: type(part).__name__ for path, part in model.named_modules()})
    modules = kernel_modules(model)
    first = next((path for path in modules if path.startswith(ENCODER)), None)
    groups: dict[str, list[Layer]] = {}
    for path, module in modules.items():
        if path != first:
            layer = layer_of(path, module, model)
            groups.setdefault(layer.exported_path, []).append(layer)
    found: dict[str, dict[str, LaidOut]] = {"encoder": {}, "decoder": {}}
    for path, layers in groups.items():
        rows, *others = layers[0].exported(latent(layers[0].module)).shape
        axis = 0 if layers[0].phases else output_axis(layers[0].module)
        kernel = Kernel(path=path, shape=(rows * len(layers), *others), axis=axis)  # the layers are shaped alike
        if kernel.elements >= MIN_ELEMENTS:
            component = "encoder" if path.startswith(ENCODER) else "decoder"
            found[component][path] = LaidOut(kernel=kernel, layers=tuple(layers))
    return found


def layer_of(path: str, module: nn.Module, model: SamModel) -> Layer:
    """Return a layer with the path and the layout that an export's rewrites give it."""
    layer = Layer(
        path=path, module=module, exported_path=path.removeprefix("prompt_encoder."), shape=latent(module).shape
    )
    if not path.startswith("mask_decoder."):
        return layer
    block, inside, _ = path.partition(f"{MLP}.")
    if inside:
        index = index_in_stack(model.get_submodule(block + MLP), module)
        return replace(layer, exported_path=f"{block}{MLP}.{index}")
    decoder = model.mask_decoder
    first, *others = path.removeprefix("mask_decoder.").split(".")
    if isinstance(mlps := getattr(decoder, first), Hypernetworks):
        # one stack for all mask tokens
        index = index_in_stack(mlps[int(others[0])], module)
        return replace(layer, exported_path=f"mask_decoder.{first}.layers.{index}")
    if others and others[-1] == "q_proj" and isinstance(decoder.transformer, TwoWayTransformer):
        attention = model.get_submodule(path.rpartition(".")[0])
        assert isinstance(attention, Attention) and isinstance(module, nn.Linear)
        return replace(layer, scale=float((module.out_features // attention.heads) ** -0.5))
    upscalings = [part for part in decoder.modules() if isinstance(part, nn.ConvTranspose2d)]
    return replace(layer, phases=module in upscalings[-1:])


def index_in_stack(mlp: nn.Module, layer: nn.Module) -> int:
    """Return the index of an MLP's linear layer in a stack of them with an activation after each.

    Families name the layers of an MLP otherwise; their order is what an export goes by.
    """
    linears: list[nn.Module] = [part for part in mlp.modules() if isinstance(part, nn.Linear)]
    return 2 * linears.index(layer)


def latent(module: nn.Module) -> Tensor:
    """Return a layer's weight without gradient, the trained one where something stands in for it."""
    if parametrize.is_parametrized(module, "weight"):
        return module.get_parameter("parametrizations.weight.original").detach()
    return module.get_parameter("weight").detach()


def chosen_kernels(model: SamModel, compress: str | Recipe) -> list[tuple[LaidOut, Scheme]]:
    """Return the kernels that a recipe, a scheme or a preset stores compressed, with their schemes."""
    pairs = []
    for component, kernels in laid_out_kernels(model).items():
        # a table is part of the export alone: the model computes it
        schemes = schemes_for(compress, component, {path: found.kernel for path, found in kernels.items()}, TABLES)
        pairs += [(kernels[path], scheme) for path, scheme in schemes.items()]
    return pairs


@torch.no_grad()
def model_values(model: SamModel, compress: str | Recipe) -> dict[str, Tensor]:
    """Return ``<path>.weight`` -> the values that Core ML uses once a package is exported with ``compress``, float32.

    The values are FP16 in the exported layout.

    Raises:
        UsageError: a recipe does not fit, or the model is not folded.
    """
    values = {}
    for found, scheme in chosen_kernels(model, compress):
        stored = through_fp16(stored_values(found.joined(), scheme, found.kernel.axis))
        for layer, value in zip(found.layers, found.divided(stored)):
            values[f"{layer.path}.weight"] = value.contiguous()
    return values


def compress_model(model: SamModel, compress: str | Recipe) -> None:
    """Replace a folded model's weights by the values that Core ML uses once it is exported with ``compress``.

    The tensors are new ones: the old ones may be shared with another model.

    Raises:
        UsageError: a recipe does not fit, or the model is not folded.
    """
    for name, value in model_values(model, compress).items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        layer.weight = nn.Parameter(value, requires_grad=False)

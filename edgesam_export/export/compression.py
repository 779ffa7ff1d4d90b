"""Compressed weights: the schemes, which tensors they take, and what a compressed package's weights decode to.

Core ML keeps a palette (one table of values per tensor, indices into it) or integers with scales. Both are
computed here in PyTorch, on the FP16 values that an export stores: ``formats/coreml/convert.py`` hands the palettes to
coremltools, whose linear quantisation is repeated here bit for bit, so what training simulates is what a package holds.
Compressed are kernels of convolutions and linear layers, but the encoder's first one: all that follows sees its error,
and it is small. Tables, positional encodings, norms and interpolation matrices are not; they are small, or exact.
Sources: coremltools ``optimize/_utils.py`` for scales and rounding; Lloyd 1982, "Least squares quantization in PCM";
Ward 1963, "Hierarchical grouping to optimize an objective function"; Panter, Dite 1951, "Quantization distortion in
pulse-count modulation with nonuniform spacing of levels", for the density of levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.export.trace import fp32_modules, within
from edgesam_export.spec import COMPRESSIONS, check_compression

__all__ = [
    "MIN_ELEMENTS",
    "Scheme",
    "compress_modules",
    "find_palette",
    "find_scheme",
    "is_worth_it",
    "kernel_modules",
    "linear_parts",
    "linear_values",
    "nearest_entries",
    "output_axis",
    "require_folded",
    "stored_values",
    "through_fp16",
]

MIN_ELEMENTS = 2048
"""Smaller tensors stay FP16: a palette of 256 entries and its record would outweigh what they save."""
LLOYD_ROUNDS = 500
SMALL_CELLS = 1024
"""Cells that merging starts from; it takes a step for each."""
KERNELS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How the weights of one export are stored."""

    name: str
    bits: int
    palette: bool
    """A table of ``2 ** bits`` FP16 values per tensor; otherwise integers with FP16 scales, symmetric to zero."""
    block: int | None = None
    """Input channels that share a scale; None: one scale per output channel."""
    target: str
    """Oldest system that reads it."""

    @property
    def largest(self) -> int:
        """Largest integer of a linear scheme; the smallest is its negative."""
        return (1 << (self.bits - 1)) - 1


KINDS: dict[str, dict[str, Any]] = {
    "palettize4": {"bits": 4, "palette": True},
    "palettize6": {"bits": 6, "palette": True},
    "palettize8": {"bits": 8, "palette": True},
    "linear8": {"bits": 8, "palette": False},
    "linear4": {"bits": 4, "palette": False, "block": 32},
}


def find_scheme(name: str) -> Scheme:
    """Return a scheme by name.

    Raises:
        UsageError: no such scheme.
    """
    check_compression(name)
    return Scheme(name=name, target=COMPRESSIONS[name], **KINDS[name])


# ----------------------------------------------------------------------------------------------------- which tensors


def is_worth_it(shape: Iterable[int], axis: int, scheme: Scheme) -> bool:
    """Return whether a kernel of this shape, output channels on ``axis``, is compressed.

    Coremltools leaves a tensor alone whose input channels blocks do not divide, such as a depthwise kernel.
    """
    sizes = tuple(shape)
    elements = torch.Size(sizes).numel()
    return elements >= MIN_ELEMENTS and (scheme.block is None or sizes[1 - axis] % scheme.block == 0)


def require_folded(kinds: Mapping[str, str], scheme: Scheme) -> None:
    """Raise UsageError if one of the modules, path -> name of its class, is a batch norm.

    Its fold would change a weight that is simulated as it is.
    """
    norm = next((path for path, kind in kinds.items() if kind.startswith("BatchNorm")), None)
    if norm is not None:
        raise UsageError(f"compress {scheme.name} needs batch norms folded, and '{norm}' is not; rewrite fold_branches")


def output_axis(module: nn.Module) -> int:
    """Return the axis of the output channels in a kernel: 1 of a transposed convolution, else 0."""
    return 1 if isinstance(module, nn.ConvTranspose2d) else 0


def kernel_modules(root: nn.Module, format: str = "coreml") -> dict[str, nn.Module]:
    """Return path -> module of every convolution and linear layer, but for those whose arithmetic stays FP32."""
    exact = fp32_modules(root, format)
    return {
        path: module for path, module in root.named_modules() if isinstance(module, KERNELS) and not within(path, exact)
    }


# -------------------------------------------------------------------------------------------------------- the values


def through_fp16(tensor: Tensor) -> Tensor:
    """Return the nearest FP16 values as float32, without gradient."""
    return tensor.detach().half().float()


def stored_values(weight: Tensor, scheme: Scheme, axis: int = 0) -> Tensor:
    """Return, float32, exactly what a package that stores ``weight`` with ``scheme`` stands for.

    Of a linear scheme these are products of an integer and an FP16 scale; Core ML rounds them to FP16.
    """
    weight = through_fp16(weight)
    if scheme.palette:
        palette = find_palette(weight, scheme.bits)
        return palette[nearest_entries(weight, palette)]
    return linear_values(weight, scheme, axis)


def linear_values(weight: Tensor, scheme: Scheme, axis: int = 0) -> Tensor:
    """Return scale * integer, float32; every step that coremltools takes in FP16 is rounded to FP16.

    Shapes:
        weight of any rank from 2, FP16 values, output channels on ``axis`` (0 or 1), input channels on the other
    """
    whole, scale = grouped_integers(weight, scheme, axis)
    return (whole * scale).reshape(weight.transpose(0, axis).shape).transpose(0, axis).contiguous()


def linear_parts(weight: Tensor, scheme: Scheme, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Return the factors of ``linear_values``: integers shaped like ``weight``, and scales of blocks of it.

    A dimension of the scales divides that of the weight.
    """
    whole, scale = grouped_integers(weight, scheme, axis)
    rows, blocks, _ = scale.shape
    integers = whole.reshape(weight.transpose(0, axis).shape).transpose(0, axis).contiguous()
    return integers, scale.reshape(rows, blocks, *[1] * (weight.dim() - 2)).transpose(0, axis).contiguous()


def grouped_integers(weight: Tensor, scheme: Scheme, axis: int) -> tuple[Tensor, Tensor]:
    """Return integers and scales, float32, of output channels, their blocks, and the elements of each."""
    moved = weight.transpose(0, axis)
    grouped = moved.reshape(len(moved), 1 if scheme.block is None else moved.shape[1] // scheme.block, -1)
    # all elements of an output channel or, blocks being neighbours in memory, of its block of input channels
    bound = grouped.abs().amax(2, keepdim=True)
    scale = through_fp16(through_fp16(2 * bound) / (2 * scheme.largest))
    whole = through_fp16(grouped / scale).round().clamp(-scheme.largest, scheme.largest)
    return whole.nan_to_num(0.0), scale  # a channel of zeros: 0 / 0


def find_palette(weight: Tensor, bits: int) -> Tensor:
    """Return ``2 ** bits`` FP16 values, ascending, float32, that stand for the FP16 values of ``weight``.

    A tensor with no more values than that keeps them all, so weights that were compressed once stay what they are.
    Otherwise k-means, started from neighbours merged where that costs least: deterministic, and close to the best.
    """
    values, counts = torch.unique(through_fp16(weight).cpu().double(), return_counts=True)
    size = 2**bits
    if len(values) <= size:
        return torch.cat([values, values[-1:].expand(size - len(values))]).float().to(weight.device)
    zero = values.new_zeros(1)
    mass = torch.cat([zero, counts.double().cumsum(0)])
    total = torch.cat([zero, (counts * values).cumsum(0)])
    centres = merged_centres(values, mass, total, size)
    for _ in range(LLOYD_ROUNDS):
        edges = cell_edges(values, centres)
        weights = mass[edges].diff()
        moved = torch.where(weights > 0, total[edges].diff() / weights, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return through_fp16(centres).to(weight.device)


def merged_centres(values: Tensor, mass: Tensor, total: Tensor, size: int) -> Tensor:
    """Return ``size`` ascending centres: small cells, of which the cheapest two neighbours are merged again and again.

    ``mass`` and ``total`` are running sums of how often the ascending ``values`` occur, and of that times the value.
    """
    centres = values if len(values) <= SMALL_CELLS else dense_centres(values, mass, SMALL_CELLS)
    edges = torch.unique(cell_edges(values, centres))
    weights, sums = mass[edges].diff().numpy(), total[edges].diff().numpy()
    while len(weights) > size:
        steps = np.diff(sums / weights)
        cost = weights[1:] * weights[:-1] / (weights[1:] + weights[:-1]) * steps**2  # growth of the sum of squares
        left = int(cost.argmin())
        weights[left] += weights[left + 1]
        sums[left] += sums[left + 1]
        weights, sums = np.delete(weights, left + 1), np.delete(sums, left + 1)
    merged = torch.from_numpy(sums / weights)
    return torch.cat([merged, merged[-1:].expand(size - len(merged))])


def dense_centres(values: Tensor, mass: Tensor, size: int) -> Tensor:
    """Return ``size`` ascending centres whose density is proportional to the cube root of that of the values."""
    bins = 8 * size
    edges = torch.linspace(float(values[0]), float(values[-1]), bins + 1, dtype=torch.float64)
    below = mass[torch.searchsorted(values, edges[1:], right=True)]
    density = torch.cat([below[:1], below.diff()]) ** (1 / 3)
    share = density.cumsum(0) / density.sum()
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    cell = torch.searchsorted(share, middles)
    before = torch.cat([share.new_zeros(1), share])[cell]
    return torch.lerp(edges[cell], edges[cell + 1], (middles - before) / (share[cell] - before))


def cell_edges(values: Tensor, centres: Tensor) -> Tensor:
    """Return where the values that are nearest to each ascending centre begin, and the number of values."""
    inner = torch.searchsorted(values, centres_between(centres), right=True)
    return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(values))])


def centres_between(centres: Tensor) -> Tensor:
    """Return the middles between neighbours."""
    return (centres[1:] + centres[:-1]) / 2


def nearest_entries(weight: Tensor, palette: Tensor) -> Tensor:
    """Return the index of the nearest entry of an ascending ``palette`` for every value; of two, the lower one."""
    # float64 holds the middle of two FP16 values exactly
    return torch.bucketize(weight.double().contiguous(), centres_between(palette.double()))


def compress_modules(root: nn.Module, paths: Iterable[str], scheme: Scheme, where: str) -> None:
    """Replace the weights of the modules at ``paths`` by the values that a package stores; tensors are new ones.

    Raises:
        SchemaError: ``root`` has no such layer; ``where`` opens the message.
    """
    layers = kernel_modules(root)
    for path in paths:
        if path not in layers:
            raise SchemaError(f"{where}: contract lists a compressed layer '{path}' that the model does not have")
        module = layers[path]
        weight = module.get_parameter("weight")
        module.weight = nn.Parameter(stored_values(weight, scheme, output_axis(module)), requires_grad=False)

"""Activations in 8 bits: how a range becomes integers, and what PyTorch computes where a package quantises.

A package has a pair ``quantize``, ``dequantize`` before a layer. Rounding is discontinuous: where two exact executions
differ in the last bit, a value at the border of two integers falls on either side, and layers later nothing is equal
any more. So a layer here takes the integers that the file's own execution has, but only where its own value lies on
that border (``BORDER``); everywhere else it rounds for itself. What is left between the two is arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.spec import ACTIVATIONS, QUANTIZED_PARTS, CoreMLConfig, ExportConfig, is_read_by

__all__ = [
    "Quantization",
    "QuantizedInput",
    "QuantizedLayer",
    "check_activations",
    "is_quantized",
    "quantization_of",
    "quantize_inputs",
    "quantized_layers",
]

LEVELS = 255
"""Steps between the smallest and the largest integer of 8 bits."""
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
"""Type of the integers -> the smallest and the largest."""
SMALLEST_SCALE = 2.0**-14
"""Smallest normal number of FP16, the type of a scale."""
BORDER = 1 / 64
"""Distance from the middle of two integers, in steps, within which either is a correct rounding. Two orders of
summation were seen to differ by 0.00002 steps, which concerned 31 of 24 million integers of one encoder."""
MAX_BOUND_DB = 100.0
"""No bound is as high as this: half precision alone costs more."""


def is_quantized(config: ExportConfig, component: str) -> bool:
    """Return whether activations of a component are quantised."""
    if not isinstance(config, CoreMLConfig) or config.activations is None:
        return False
    return component == "encoder" or (component == "decoder" and config.activations_in == "both")


def check_activations(config: CoreMLConfig) -> None:
    """Raise UsageError unless the options of quantised activations fit together, and the others."""
    if config.activations is None:
        if config.keep_fp16:
            raise UsageError(
                f"keep_fp16 is {', '.join(config.keep_fp16)}, but no activations are quantised; add --activations"
            )
        return
    for field, known in (("activations", tuple(ACTIVATIONS)), ("activations_in", QUANTIZED_PARTS)):
        if getattr(config, field) not in known:
            raise UsageError(f"{field} is '{getattr(config, field)}'; choose one of: {', '.join(known)}")
    needed = ACTIVATIONS[config.activations]
    if not is_read_by(config.target, needed):
        raise UsageError(
            f"activations {config.activations} needs target {needed}, not {config.target}; pass --target {needed}"
        )
    if config.precision != "fp16":
        raise UsageError(f"activations {config.activations} needs precision fp16, not {config.precision}")
    if not 0 <= config.activations_db < MAX_BOUND_DB:
        raise UsageError(f"activations_db is {config.activations_db:g}; give 0 or more, below {MAX_BOUND_DB:g}")
    if config.activations_in == "both" and (config.functions or config.queries > 1 or config.profile != "default"):
        raise UsageError(
            "activations of a decoder are quantised in profile default, for one prompt at once and one number of"
            " points; leave activations_in at encoder"
        )


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How numbers become integers: round(x / scale) + zero_point, ties to even, clipped to the type."""

    dtype: str
    """``int8`` or ``uint8``."""
    scale: float
    """A number that FP16 holds."""
    zero_point: int

    def position(self, values: Tensor) -> Tensor:
        """Return values in steps of the scale, unrounded and clipped to the type's integers, float32."""
        low, high = LIMITS[self.dtype]
        return (values / self.scale + self.zero_point).clamp(low, high)

    def integers(self, values: Tensor) -> Tensor:
        """Return the integers as a package computes them, float32."""
        low, high = LIMITS[self.dtype]
        return (torch.round(values / self.scale) + self.zero_point).clamp(low, high)

    def values(self, integers: Tensor) -> Tensor:
        """Return the numbers that integers stand for, float32."""
        return (integers - self.zero_point) * self.scale


def quantization_of(low: float, high: float) -> Quantization | None:
    """Return the integers for numbers from ``low`` to ``high``, zero among them; None where FP16 has no such scale.

    Zero is exactly an integer, so that padding stays what it is. Numbers that are never negative are unsigned without
    a zero point, others signed; coremltools writes the former so too.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float16((high - low) / LEVELS))
    if not SMALLEST_SCALE <= scale < math.inf:
        return None
    offset = min(max(round(-low / scale), 0), LEVELS)
    if offset == 0:
        return Quantization(dtype="uint8", scale=scale, zero_point=0)
    return Quantization(dtype="int8", scale=scale, zero_point=offset + LIMITS["int8"][0])


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """A layer that reads integers: the module, the value of the program that it reads, and how that is quantised."""

    path: str
    tensor: str
    """Name of the value before it is quantised."""
    quantization: Quantization

    @property
    def integers(self) -> str:
        """Name of the quantised value."""
        return f"{self.tensor}_quantized"

    def entry(self) -> dict[str, Any]:
        """Return the layer's line in the contract."""
        return {"tensor": self.tensor, **asdict(self.quantization)}


def quantized_layers(contract: Mapping[str, Any], where: str) -> tuple[QuantizedLayer, ...]:
    """Return the layers of a component that read integers, as its contract lists them.

    Raises:
        SchemaError: it does not, or with values that cannot be.
    """
    entry = contract.get("activations")
    layers = entry.get("layers") if isinstance(entry, dict) else None
    if not isinstance(layers, dict):
        raise SchemaError(f"{where}: contract does not say which activations are quantised; export again")
    return tuple(read_layer(str(path), line, where) for path, line in layers.items())


def read_layer(path: str, line: Any, where: str) -> QuantizedLayer:
    """Return one layer of a contract; raises SchemaError."""
    fields = line if isinstance(line, dict) else {}
    tensor, dtype, scale, zero_point = (fields.get(name) for name in ("tensor", "dtype", "scale", "zero_point"))
    low, high = LIMITS.get(str(dtype), (1, 0))
    if (
        not (isinstance(tensor, str) and isinstance(scale, float) and isinstance(zero_point, int))
        or not SMALLEST_SCALE <= scale < math.inf
        or not low <= zero_point <= high
    ):
        raise SchemaError(f"{where}: contract quantises '{path[:80]}' by {str(line)[:120]}; export again")
    quantization = Quantization(dtype=str(dtype), scale=scale, zero_point=zero_point)
    return QuantizedLayer(path=path, tensor=tensor, quantization=quantization)


class QuantizedInput(nn.Module):
    """A layer whose input goes through integers first."""

    def __init__(self, layer: nn.Module, quantization: Quantization) -> None:
        super().__init__()
        self.layer = layer
        self.quantization = quantization
        self.given: Tensor | None = None
        """Integers of the file's own execution on the same input, of as many elements; None to round alone."""

    def forward(self, values: Tensor) -> Tensor:
        integers = self.quantization.integers(values)
        if self.given is not None and self.given.numel() == integers.numel():
            given = self.given.reshape(integers.shape).float()
            distance = (given - self.quantization.position(values)).abs()
            integers = torch.where(distance <= 0.5 + BORDER, given, integers)
        result: Tensor = self.layer(self.quantization.values(integers))
        return result


def quantize_inputs(
    root: nn.Module, layers: tuple[QuantizedLayer, ...], where: str
) -> list[tuple[QuantizedLayer, QuantizedInput]]:
    """Put integers before the layers of a network; return each with the module that now stands in its stead.

    Raises:
        SchemaError: ``root`` has no such layer; ``where`` opens the message.
    """
    modules = dict(root.named_modules())
    placed = []
    for layer in layers:
        parent, _, name = layer.path.rpartition(".")
        if not name or layer.path not in modules:
            raise SchemaError(f"{where}: contract lists a quantised layer '{layer.path}' that the model does not have")
        placed.append((layer, QuantizedInput(modules[layer.path], layer.quantization)))
        setattr(modules[parent], name, placed[-1][1])
    return placed

"""The schemes: how the weights of a kernel may be stored, which kernels take each, and how many bytes that costs.

Sources: coremltools' MIL operations ``constexpr_*`` of iOS16 and iOS18; its blob storage, in which every constant of
ten and more elements is a record of 64 bytes and data padded to 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from edgesam_export.spec import COMPRESSIONS, check_scheme, is_read_by

__all__ = ["MIN_ELEMENTS", "SCHEMES", "Kernel", "Scheme", "applicable", "find_scheme", "refusal", "stored_bytes"]

MIN_ELEMENTS = 2048
"""Smaller tensors stay FP16: a palette of 256 entries and its record would outweigh what they save."""
RECORD_BYTES = 64
"""Of a constant's record in the weight file, and what its data is padded to a multiple of."""
INLINE_ELEMENTS = 10
"""Constants of fewer elements stand in the program itself."""
BLOCKWISE_TARGET = "iOS18"
"""Since this system scales and palettes belong to blocks, and offsets may be absent."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A weight that an export may compress, as the exported component has it."""

    path: str
    """Path of its layer in the exported component."""
    shape: tuple[int, ...]
    axis: int
    """Axis of the output channels, 0 or 1; the input channels are on the other one."""
    is_table: bool = False
    """Constants that no layer owns: compressed only by a recipe that names them."""

    @property
    def elements(self) -> int:
        """Number of weights."""
        return torch.Size(self.shape).numel()

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.shape[self.axis]

    @property
    def inputs(self) -> int:
        """Number of input channels, of one group."""
        return self.shape[1 - self.axis]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How the weights of a kernel are stored."""

    name: str
    target: str
    """Oldest system that reads it."""
    bits: int = 16
    """Of each stored element: an index into a palette, an integer, or an FP16 value."""
    palette: bool = False
    """Elements are indices into a table of ``2 ** bits`` values."""
    group: int | None = None
    """Output channels that share a palette; None: the whole tensor."""
    entry_bits: int = 16
    """Of a palette's entries: FP16 values, or integers of 8 bits times a power of two for each palette."""
    block: int | None = None
    """Input channels that share a scale; None: one scale per output channel."""
    sparsity: float = 0.0
    """Share of the elements, those of the smallest magnitude, that are zero and not stored."""

    @property
    def scaled(self) -> bool:
        """Values are integers, symmetric to zero, times FP16 scales."""
        return not self.palette and self.bits < 16

    @property
    def largest(self) -> int:
        """Largest integer of a scheme with scales; the smallest is its negative."""
        return (1 << (self.bits - 1)) - 1

    def kept(self, elements: int) -> int:
        """Return how many of so many elements are stored."""
        return elements - int(elements * self.sparsity)


BASES: dict[str, dict[str, Any]] = {
    **{f"palettize{bits}": {"bits": bits, "palette": True} for bits in (1, 2, 3, 4, 6, 8)},
    "linear8": {"bits": 8},
    "linear4": {"bits": 4},
}
"""What a name begins with, or has after its sparsity -> fields."""
ENDINGS = {"g": "group", "b": "block"}
"""Letter before a number at a name's end -> field."""
CHANNEL = "channel"
INTEGERS = "int8"


def parsed(name: str, target: str) -> Scheme:
    """Return the scheme that a name means: parts joined by ``_``, as in ``palettize4_g8_int8``.

    ``linear4`` alone has blocks of 32: its name is older than the others.
    """
    fields: dict[str, Any] = {"block": 32} if name == "linear4" else {}
    for part in name.split("_"):
        if part in BASES:
            fields |= BASES[part]
        elif part.startswith("sparse"):
            fields["sparsity"] = int(part.removeprefix("sparse")) / 100
        elif part == INTEGERS:
            fields["entry_bits"] = 8
        elif part != CHANNEL:
            fields[ENDINGS[part[0]]] = int(part[1:])
    return Scheme(name=name, target=target, **fields)


SCHEMES = {name: parsed(name, target) for name, target in COMPRESSIONS.items()}
"""Name -> scheme."""


def find_scheme(name: str) -> Scheme:
    """Return a scheme by name.

    Raises:
        UsageError: no such scheme.
    """
    check_scheme(name)
    return SCHEMES[name]


def applicable(kernel: Kernel, scheme: Scheme) -> bool:
    """Return whether a kernel can be stored by ``scheme`` and takes fewer bytes then."""
    return refusal(kernel, scheme) is None


def refusal(kernel: Kernel, scheme: Scheme) -> str | None:
    """Return why a kernel is not stored by ``scheme``, None where it can be."""
    if kernel.elements < MIN_ELEMENTS:
        return f"it has {kernel.elements} elements, fewer than {MIN_ELEMENTS}"
    if kernel.is_table and (scheme.group or scheme.scaled or scheme.sparsity):
        # an export may lay it out otherwise
        return "it is a table without channels, which takes one palette"
    if scheme.block is not None and kernel.inputs % scheme.block:
        # coremltools leaves such a tensor alone, a depthwise kernel for one
        return f"blocks of {scheme.block} do not divide {kernel.inputs} input channels"
    if scheme.group is not None and (kernel.outputs % scheme.group or kernel.outputs == scheme.group):
        return f"groups of {scheme.group} do not divide {kernel.outputs} output channels into several"
    if stored_bytes(kernel, scheme) >= stored_bytes(kernel, None):
        return "it would take no fewer bytes"
    return None


def stored_bytes(kernel: Kernel, scheme: Scheme | None, target: str | None = None) -> int:
    """Return the bytes that a kernel takes in the weight file of a package, FP16 where ``scheme`` is None.

    ``target`` is the package's oldest system, by default that of the scheme: before iOS18 integers have offsets.
    """
    if scheme is None:
        return constant_bytes(kernel.elements, 16)
    blockwise = is_read_by(target or scheme.target, BLOCKWISE_TARGET)
    return sum(constant_bytes(elements, bits) for elements, bits in constants(kernel, scheme, blockwise))


def constants(kernel: Kernel, scheme: Scheme, blockwise: bool) -> Iterator[tuple[int, int]]:
    """Yield the number of elements and the bits of each, for every constant that stands for a kernel."""
    yield scheme.kept(kernel.elements), scheme.bits
    if scheme.sparsity:
        yield kernel.elements, 1
    if scheme.palette:
        palettes = 1 if scheme.group is None else kernel.outputs // scheme.group
        yield palettes << scheme.bits, scheme.entry_bits
        if scheme.entry_bits < 16:
            yield palettes, 16
    if scheme.scaled:
        yield kernel.outputs * (1 if scheme.block is None else kernel.inputs // scheme.block), 16
        if not blockwise:
            yield kernel.outputs, 8


def constant_bytes(elements: int, bits: int) -> int:
    """Return the bytes of a constant in the weight file: record and padded data."""
    if elements < INLINE_ELEMENTS:
        return 0
    size = -(-elements * bits // 8)
    return RECORD_BYTES + -(-size // RECORD_BYTES) * RECORD_BYTES

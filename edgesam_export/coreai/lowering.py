"""From Core AI's operations to those of the executor: one entry or function for each kind.

The executor has every body once, under the names of MIL, so a Core AI operation becomes the MIL operation of the same
meaning: one for one, since each rounds its result once. A kind that is not here, or an operand that has to be known
beforehand and is not, is reported by name before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgesam_export.coreai.graph import Node
from edgesam_export.errors import ProgramError, UnsupportedOpError
from edgesam_export.mil.graph import Argument, Constant, Operation, Output
from edgesam_export.mil.types import ValueType

__all__ = ["KINDS", "Site", "lower"]

PREFIXES = ("coreai.decomposable.broadcasting_", "coreai.")


@dataclass(frozen=True)
class Site:
    """One operation to be lowered, in the graph that calls it."""

    node: Node
    name: str
    location: str
    operands: tuple[str, ...]
    types: Mapping[str, ValueType]
    """Types of all values so far."""
    constants: Mapping[str, Constant]
    """Those that are constants."""
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.node.kind} '{self.name}' at {self.location}"

    def known(self, position: int, what: str) -> Any:
        """Return an operand as Python numbers.

        Raises:
            UnsupportedOpError: it is computed.
        """
        constant = self.constants.get(self.operands[position])
        if constant is None:
            raise UnsupportedOpError(f"{self}: its {what} is computed; only a constant one can be executed here")
        return constant.load().tolist()

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the sizes of an operand.

        Raises:
            UnsupportedOpError: one is free.
        """
        sizes = self.types[self.operands[position]].fixed_shape
        if sizes is None:
            raise UnsupportedOpError(f"{self}: an operand has a free size, with which it cannot be executed here")
        return sizes

    @property
    def result(self) -> ValueType:
        return self.node.results[0].type

    def operation(self, type: str, **inputs: Any) -> Operation:
        """Return the MIL operation with the results of this one; inputs are names, tuples of names, or numbers."""
        outputs = tuple(Output(name, value.type) for name, value in zip(self.results, self.node.results))
        return Operation(type, self.name, self.location, arguments(inputs), {}, outputs)


def arguments(inputs: Mapping[str, Any]) -> dict[str, tuple[Argument, ...]]:
    """Return inputs as an operation holds them."""
    return {key: value if isinstance(value, tuple) else (argument(value),) for key, value in inputs.items()}


def argument(value: Any) -> Argument:
    """Return a name as it is; text of an option, a number or a list of numbers as a constant."""
    if isinstance(value, str | Constant):
        return value
    array = np.array(value, None if np.size(value) else np.int32)
    dtype = {"b": "bool", "i": "int32", "f": "fp32"}[array.dtype.kind]
    return Constant(ValueType(dtype, array.shape), array)


def word(text: str) -> Constant:
    """Return an option of an operation that is a word."""
    return Constant(ValueType("string"), text)


Lowering = Callable[[Site], Operation | Iterator[Operation]]


@dataclass(frozen=True)
class Renamed:
    """An operation that MIL has with the same operands: its name there, and theirs in Core AI's order."""

    type: str
    operands: tuple[str, ...] = ("x",)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, site: Site) -> Operation:
        return site.operation(self.type, **dict(zip(self.operands, site.operands, strict=True)), **self.options)


PAIR, AXES = ("x", "y"), ("x", "axes")
KINDS: dict[str, Lowering] = {
    **{
        name: Renamed(name)
        for name in (
            *("abs", "acos", "asin", "atan", "atanh", "cos", "cosh", "erf", "exp", "relu", "round", "sigmoid", "silu"),
            *("sin", "sinh", "sqrt", "tan", "tanh"),
        )
    },
    "log": Renamed("log", options={"epsilon": 0.0}),
    "rsqrt": Renamed("rsqrt", options={"epsilon": 0.0}),
    "not": Renamed("logical_not"),
    "get_shape": Renamed("shape"),
    **{name: Renamed(name, PAIR) for name in ("add", "equal", "greater", "maximum", "minimum", "mul", "not_equal")},
    **{name: Renamed(name, PAIR) for name in ("pow", "sub")},
    **{name: Renamed(f"logical_{name}", PAIR) for name in ("and", "or", "xor")},
    "divide": Renamed("real_div", PAIR),
    "floor_divide": Renamed("floor_div", PAIR),
    "batch_matmul": Renamed("matmul", PAIR),
    "where": Renamed("select", ("cond", "a", "b")),
    "conv2d": Renamed("conv", ("x", "weight", "strides", "dilations", "groups"), {"pad_type": word("valid")}),
    "conv3d": Renamed("conv", ("x", "weight", "strides", "dilations", "groups"), {"pad_type": word("valid")}),
    **{
        f"reduce_{name}": Renamed(f"reduce_{mil}", AXES, {"keep_dims": True})
        for name, mil in {"max": "max", "mean": "mean", "min": "min", "product": "prod", "sum": "sum"}.items()
    },
    "argmax": Renamed("reduce_argmax", ("x", "axis"), {"keep_dims": True}),
    "softmax": Renamed("softmax", ("x", "axis")),
    "reshape": Renamed("reshape", ("x", "shape")),
    "transpose": Renamed("transpose", ("x", "perm")),
    "expand_dims": Renamed("expand_dims", AXES),
    "shrink_dims": Renamed("squeeze", AXES),
    "reverse": Renamed("reverse", AXES),
    "gather_nd": Renamed("gather_nd", ("x", "indices")),
    "gather_along_axis": Renamed("gather_along_axis", ("x", "indices", "axis")),
    "range": Renamed("range_1d", ("start", "end", "step")),
    "lut_to_dense": Renamed("constexpr_lut_to_dense", ("indices", "lut", "vector_axis")),
}
"""Kind without its prefix -> how it is lowered; functions add themselves below."""


def lowers(kind: str) -> Callable[[Lowering], Lowering]:
    """Register a function as what lowers a kind of operation."""

    def store(function: Lowering) -> Lowering:
        KINDS[kind] = function
        return function

    return store


def lower(site: Site) -> tuple[Operation, ...]:
    """Return the operations of the executor for one of Core AI, its results the last one's.

    Raises:
        UnsupportedOpError: there is no such operation here, or not with these operands.
        ProgramError: operands that the kind does not have.
    """
    kind = kind_of(site.node.kind)
    if kind not in KINDS or site.node.regions:
        raise UnsupportedOpError(
            f"operation '{site.node.kind}' cannot be executed here, at {site.location} '{site.name}'; Core AI on a Mac"
            " runs it, and an entry of KINDS in edgesam_export/coreai/lowering.py adds it"
        )
    try:
        lowered = KINDS[kind](site)
    except (ValueError, IndexError, TypeError) as error:
        raise ProgramError(f"{site}: operands that it cannot have ({error})") from None
    return (lowered,) if isinstance(lowered, Operation) else tuple(lowered)


def kind_of(name: str) -> str:
    """Return a kind without its prefix: with or without broadcasting, the executor's bodies are the same."""
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)


@lowers("cast")
def cast(site: Site) -> Operation:
    return site.operation("cast", x=site.operands[0], dtype=word(site.result.dtype))


@lowers("gelu")
def gelu(site: Site) -> Operation:
    modes = {"": "EXACT", "none": "EXACT", "tanh": "TANH_APPROXIMATION", "sigmoid": "SIGMOID_APPROXIMATION"}
    return site.operation("gelu", x=site.operands[0], mode=word(chosen(site, "approximate", modes)))


@lowers("pad")
def pad(site: Site) -> Operation:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "replicate"}
    mode = chosen(site, "padding_mode", modes)
    value = {"constant_val": site.operands[2]} if mode == "constant" else {}
    return site.operation("pad", x=site.operands[0], pad=site.operands[1], mode=word(mode), **value)


def chosen(site: Site, attribute: str, options: Mapping[str, str]) -> str:
    """Return MIL's word for an option of the operation.

    Raises:
        UnsupportedOpError: it has no such choice.
    """
    text = site.node.attributes.get(attribute, "")
    stated = re.search(r"[<\"](\w+)[>\"]", text)
    choice = stated.group(1) if stated else text
    if choice not in options:
        raise UnsupportedOpError(f"{site}: {attribute} is {choice[:40]}; known are {', '.join(filter(None, options))}")
    return options[choice]


@lowers("concat")
def concat(site: Site) -> Operation:
    axis, *values = site.operands
    return site.operation("concat", axis=axis, values=tuple(values), interleave=False)


@lowers("slice")
def slice_(site: Site) -> Operation:
    """Ends beyond the tensor, such as the largest integer, come to its end."""
    begin, end, stride = (site.known(index, what) for index, what in ((1, "start"), (2, "end"), (3, "stride")))
    ends = [resolved(*axis) for axis in zip(begin, end, stride, site.shape(0), strict=True)]
    return site.operation(
        "slice_by_index",
        x=site.operands[0],
        begin=[first for first, _ in ends],
        end=[last for _, last in ends],
        stride=stride,
        end_mask=[last < 0 for _, last in ends],  # -1 is in front of the first element here, the last one in MIL
    )


def resolved(start: int, end: int, stride: int, size: int) -> tuple[int, int]:
    """Return start and end of one axis as indices, an end of -1 being in front of the first element.

    Backwards this is not Python's rule: -1 itself is a valid end, so it does not count from the last element.
    """
    lowest, highest = (0, size) if stride > 0 else (-1, size - 1)
    first, last = start + size * (start < 0), end + size * (end < lowest)
    return min(max(first, 0), highest), min(max(last, lowest), highest)


@lowers("conv_transpose2d")
@lowers("conv_transpose3d")
def conv_transpose(site: Site) -> Operation:
    """The padding of both sides is the same; what ``output_pad`` adds is in the declared shape."""
    x, weight, strides, _, dilations, _, groups = site.operands
    pads = [amount for amount in site.known(3, "padding") for _ in (0, 1)]
    sizes = site.result.fixed_shape
    return site.operation(
        "conv_transpose",
        x=x,
        weight=weight,
        strides=strides,
        dilations=dilations,
        groups=groups,
        pad_type=word("custom"),
        pad=pads,
        **({} if sizes is None else {"output_shape": list(sizes)}),
    )


@lowers("split")
def split(site: Site) -> Operation:
    """The sizes are those of the results."""
    axis = site.known(2, "axis")
    sizes = [(value.type.fixed_shape or ())[axis] for value in site.node.results]
    return site.operation("split", x=site.operands[0], split_sizes=sizes, axis=axis)


@lowers("tile")
def tile(site: Site) -> Operation:
    counts = site.known(1, "repetition")
    return site.operation("tile", x=site.operands[0], reps=[1] * (len(site.shape(0)) - len(counts)) + counts)


@lowers("broadcast_in_dims")
@lowers("broadcast_to")
def broadcast(site: Site) -> Iterator[Operation]:
    """New axes in front, then repetition; both move values and compute nothing."""
    own, target = site.shape(0), site.result.fixed_shape
    if target is None:
        raise UnsupportedOpError(f"{site}: its result has a free size, with which it cannot be executed here")
    sizes = (1,) * (len(target) - len(own)) + own
    x = site.operands[0]
    if len(own) < len(target):
        x = f"{site.results[0]}_expanded"
        expanded = Output(x, ValueType(site.result.dtype, sizes))
        source = arguments({"x": site.operands[0], "axes": list(range(len(target) - len(own)))})
        yield Operation("expand_dims", x, site.location, source, {}, (expanded,))
    yield site.operation("tile", x=x, reps=[want if have == 1 else 1 for have, want in zip(sizes, target)])


@lowers("max_pool_2d")
def max_pool(site: Site) -> Operation:
    if any(step != 1 for step in site.known(3, "dilation")):
        raise UnsupportedOpError(f"{site}: its window has gaps (dilation {site.known(3, 'dilation')}); only 1 is known")
    x, kernel, strides, _, ceil_mode = site.operands
    return site.operation(
        "max_pool", x=x, kernel_sizes=kernel, strides=strides, pad_type=word("valid"), ceil_mode=ceil_mode
    )


@lowers("interpolate")
def interpolate(site: Site) -> Operation:
    """Whole multiples of height and width by repetition, which is what networks enlarge maps with."""
    chosen(site, "interpolation_mode", {"nearest_neighbor": "nearest_neighbor"})
    sizes, scale, offset = (site.known(index, what) for index, what in ((1, "shape"), (2, "scale"), (3, "offset")))
    own = site.shape(0)
    factors = [new // old for new, old in zip(sizes, own)]
    repeats = [old * factor for old, factor in zip(own, factors)] == sizes and factors == scale and not any(offset)
    if not repeats or any(factor != 1 for factor in factors[:-2]):
        raise UnsupportedOpError(f"{site}: from {own} to {sizes}; only whole multiples of the last two axes are known")
    return site.operation(
        "upsample_nearest_neighbor",
        x=site.operands[0],
        scale_factor_height=float(factors[-2]),
        scale_factor_width=float(factors[-1]),
    )


@lowers("blockwise_shift_scale")
def blockwise_shift_scale(site: Site) -> Operation:
    """MIL has no second offset, so it has to be zero."""
    data, scale, offset, second = site.operands
    stored = site.constants.get(second)
    if stored is None or np.any(stored.load()):
        raise UnsupportedOpError(f"{site}: its second offset is not zero, with which it cannot be executed here")
    return site.operation("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=offset)

"""The kinds of operations: one table of what an operation does to numbers, read by the executor, the cost and rules.

A trait is a fact of the operation's definition, whatever executes it; what an engine makes of it is data of the reader.
Operations without a trait are elementwise or have a rule of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

__all__ = ["OP_KINDS", "Trait", "is_decompression", "is_parameter", "ops_with"]

Trait = Literal[
    "accumulator",
    "activation",
    "convolution",
    "exponential",
    "layout",
    "pool",
    "product",
    "reduction",
    "slice",
    "squares",
]
"""
``accumulator``: every output element is one sum of products, and saturates where the sum does.
``activation``: one function of one operand, element by element; computed while its operand is written.
``convolution``: a product with a sliding kernel.
``exponential``: the output grows as the exponential of its operand does.
``layout``: moves or retypes values and computes nothing.
``pool``: a reduction over a sliding window.
``product``: work counted in multiply-adds.
``reduction``: elements of an axis or a window are combined.
``slice``: the output is a part of the operand that may start anywhere.
``squares``: an element of the operand is multiplied by itself.
"""

OP_KINDS: Mapping[str, frozenset[Trait]] = {
    **dict.fromkeys(
        ("conv", "conv_quantized", "conv_transpose"),
        frozenset[Trait]({"accumulator", "convolution", "product"}),
    ),
    **dict.fromkeys(("einsum", "linear", "matmul"), frozenset[Trait]({"accumulator", "product"})),
    # Its output is a weighted mean of the values, never larger than they are: the sums inside cannot be seen in it.
    "scaled_dot_product_attention": frozenset({"product"}),
    **dict.fromkeys(
        (
            *("clamped_relu", "clip", "elu", "gelu", "leaky_relu", "linear_activation", "prelu", "relu", "relu6"),
            *("scaled_tanh", "sigmoid", "sigmoid_hard", "silu", "softsign", "tanh", "thresholded_relu"),
        ),
        frozenset[Trait]({"activation"}),
    ),
    **dict.fromkeys(("softplus", "softplus_parametric"), frozenset[Trait]({"activation", "exponential"})),
    **dict.fromkeys(("exp", "exp2"), frozenset[Trait]({"exponential"})),
    **dict.fromkeys(("pow", "square"), frozenset[Trait]({"squares"})),
    **dict.fromkeys(
        (
            *("instance_norm", "layer_norm", "local_response_norm", "softmax"),
            *("reduce_argmax", "reduce_argmin", "reduce_l1_norm", "reduce_log_sum"),
            *("reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum"),
        ),
        frozenset[Trait]({"reduction"}),
    ),
    "reduce_log_sum_exp": frozenset({"exponential", "reduction"}),
    **dict.fromkeys(
        ("l2_norm", "reduce_l2_norm", "reduce_sum_square"),
        frozenset[Trait]({"reduction", "squares"}),
    ),
    **dict.fromkeys(("avg_pool", "l2_pool", "max_pool"), frozenset[Trait]({"pool", "reduction"})),
    **dict.fromkeys(
        (
            *("cast", "concat", "identity", "pad", "stack", "tile"),
            *("expand_dims", "flatten2d", "reshape", "reshape_like", "squeeze", "transpose"),
            *("gather", "gather_along_axis", "gather_nd", "reverse", "reverse_sequence"),
            *("slice_update", "sliding_windows"),
            *("batch_to_space", "depth_to_space", "pixel_shuffle", "pixel_unshuffle"),
            *("space_to_batch", "space_to_depth"),
        ),
        frozenset[Trait]({"layout"}),
    ),
    **dict.fromkeys(("slice_by_index", "slice_by_size", "split"), frozenset[Trait]({"layout", "slice"})),
}
"""Operation -> its traits."""


@cache
def ops_with(trait: Trait) -> frozenset[str]:
    """Return the operations that have a trait."""
    return frozenset(op for op, traits in OP_KINDS.items() if trait in traits)


def is_parameter(op_type: str) -> bool:
    """Return whether an operation's output is a parameter: a constant, or a weight that is decompressed."""
    return op_type == "const" or is_decompression(op_type)


def is_decompression(op_type: str) -> bool:
    """Return whether an operation expands a compressed weight."""
    return op_type.startswith("constexpr_")

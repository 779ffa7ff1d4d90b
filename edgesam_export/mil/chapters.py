"""Which module of ``mil/ops`` an op belongs to: the chapters of coremltools' MIL op documentation (version 9.0).

A test compares the table with the installed coremltools, so that a new op cannot be missed.
"""

from __future__ import annotations

__all__ = ["CHAPTERS", "chapter_of"]

CHAPTERS: dict[str, str] = {
    "activation": (
        "clamped_relu elu gelu leaky_relu linear_activation prelu relu relu6 scaled_tanh sigmoid sigmoid_hard "
        "silu softmax softplus softplus_parametric softsign thresholded_relu"
    ),
    "classify": "classify",
    "constexpr_ops": (
        "constexpr_affine_dequantize constexpr_blockwise_shift_scale constexpr_cast constexpr_lut_to_dense "
        "constexpr_lut_to_sparse constexpr_sparse_blockwise_shift_scale constexpr_sparse_to_dense"
    ),
    "control_flow": "cond const list_gather list_length list_read list_scatter list_write make_list select while_loop",
    "conv": "conv conv_quantized conv_transpose",
    "elementwise_binary": (
        "add equal floor_div greater greater_equal less less_equal logical_and logical_or logical_xor maximum "
        "minimum mod mul not_equal pow real_div sub"
    ),
    "elementwise_unary": (
        "abs acos asin atan atanh cast ceil clip cos cosh erf exp exp2 floor inverse log logical_not round rsqrt "
        "sign sin sinh sqrt square tan tanh threshold"
    ),
    "image_resizing": (
        "affine crop crop_resize resample resize resize_bilinear resize_nearest_neighbor upsample_bilinear "
        "upsample_nearest_neighbor"
    ),
    "linear": "einsum linear matmul",
    "normalization": "batch_norm instance_norm l2_norm layer_norm local_response_norm",
    "pool": "avg_pool l2_pool max_pool",
    "quantization_ops": "dequantize quantize",
    "random": "random_bernoulli random_categorical random_normal random_uniform",
    "recurrent": "gru lstm rnn",
    "reduction": (
        "reduce_argmax reduce_argmin reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max "
        "reduce_mean reduce_min reduce_prod reduce_sum reduce_sum_square"
    ),
    "scatter_gather": "gather gather_along_axis gather_nd scatter scatter_along_axis scatter_nd",
    "states": "coreml_update_state read_state write_state",
    "tensor_operation": (
        "argsort band_part concat cumsum fill fill_like flatten2d identity non_maximum_suppression non_zero "
        "one_hot pad range_1d shape split stack tile topk"
    ),
    "tensor_transformation": (
        "batch_to_space depth_to_space expand_dims pixel_shuffle pixel_unshuffle reshape reshape_like reverse "
        "reverse_sequence slice_by_index slice_by_size slice_update sliding_windows space_to_batch space_to_depth "
        "squeeze transpose"
    ),
    "transformers": "scaled_dot_product_attention",
}
"""Chapter -> its ops."""


def chapter_of(op_type: str) -> str:
    """Return the chapter that documents ``op_type``; ``custom`` for an op that coremltools does not know."""
    return next((chapter for chapter, ops in CHAPTERS.items() if op_type in ops.split()), "custom")

"""Faults of exports, for measuring the error rate of the parity gates: one decorated function is one fault.

A fault changes a copy of a model before that copy is exported; the reference stays as it is. ``weights`` and ``graph``
are faults of conversion: a file that has one is not the network. ``precision`` faults leave the network alone and
compute it worse. A function may first raise ``NotHere`` on a model that has not what it breaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.transformer import Attention

FAULTS: dict[str, Fault] = {}
ENCODER, DECODER = "image_encoder", "mask_decoder"


class NotHere(Exception):
    """The model has not what a fault breaks."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault: what it does to a model, and whether code stays patched while the model is exported."""

    name: str
    kind: str
    apply: Callable[[Any], Any]
    part: str = ""
    """The only component whose code a fault of a graph changes; empty when it may be both."""

    def plant(self, model: Any) -> list[Any]:
        """Change the model; return the patches to be active during its export."""
        with torch.no_grad():
            found = self.apply(model)
        return list(found or ())


def fault(name: str, kind: str, part: str = "") -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Return a decorator that registers a function as a fault."""

    def store(apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
        assert name not in FAULTS, name
        FAULTS[name] = Fault(name=name, kind=kind, apply=apply, part=part)
        return apply

    return store


def of_kind(root: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    """Modules of these kinds below ``root``, in order."""
    found = [module for module in root.modules() if isinstance(module, kinds)]
    if not found:
        raise NotHere
    return found


def middle(root: nn.Module, *kinds: type[nn.Module]) -> Any:
    """The middle one of the modules of these kinds."""
    found = of_kind(root, *kinds)
    return found[len(found) // 2]


def dense(root: nn.Module) -> Any:
    """The middle one of the linear layers and 1x1 convolutions."""
    layers = [
        m for m in of_kind(root, nn.Linear, nn.Conv2d) if m.weight.numel() >= 1024 and m.weight[0, 0].numel() == 1
    ]
    return layers[len(layers) // 2]


def prompt_part(model: Any, name: str) -> Any:
    """A part of SAM's prompt encoder."""
    part = getattr(model.prompt_encoder, name, None)
    if part is None:
        raise NotHere
    return part


def swap(left: Tensor, right: Tensor) -> None:
    """Exchange the contents of two tensors."""
    kept = left.clone()
    left.copy_(right)
    right.copy_(kept)


def replaced(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` where ``old`` is."""
    for module in root.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)


def noisy(root: nn.Module, dose: float) -> None:
    """Add noise of ``dose`` times its own rms to every matrix and kernel."""
    random = torch.Generator().manual_seed(0)
    for parameter in root.parameters():
        if parameter.ndim > 1:
            noise = torch.empty(parameter.shape).normal_(generator=random)
            parameter.add_(noise * dose * parameter.square().mean().sqrt())


# ------------------------------------------------------------------------------------------------------ wrong weights


for part in (ENCODER, DECODER):
    for dose in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3):
        fault(f"{dose:.1%} noise in the {part}", "weights")(
            lambda model, part=part, dose=dose: noisy(getattr(model, part), dose)
        )

    @fault(f"a row zeroed in the {part}", "weights")
    def row_zeroed(model: Any, part: str = part) -> None:
        dense(getattr(model, part)).weight[0].zero_()

    @fault(f"a row's sign in the {part}", "weights")
    def row_sign(model: Any, part: str = part) -> None:
        dense(getattr(model, part)).weight[0].neg_()

    @fault(f"one weight's sign in the {part}", "weights")
    def weight_sign(model: Any, part: str = part) -> None:
        weight = dense(getattr(model, part)).weight.view(-1)
        weight[weight.abs().argmax()] *= -1

    @fault(f"two rows exchanged in the {part}", "weights")
    def rows_exchanged(model: Any, part: str = part) -> None:
        weight = dense(getattr(model, part)).weight
        swap(weight[0], weight[1])

    @fault(f"a bias lost in the {part}", "weights")
    def bias_lost(model: Any, part: str = part) -> None:
        layers = [m for m in of_kind(getattr(model, part), nn.Linear, nn.Conv2d, nn.BatchNorm2d) if m.bias is not None]
        layers[len(layers) // 2].bias.zero_()

    @fault(f"weights of the {part} in bfloat16", "weights")
    def bfloat16(model: Any, part: str = part) -> None:
        for parameter in getattr(model, part).parameters():
            parameter.copy_(parameter.bfloat16().float())


@fault("a query projection times 1.1", "weights")
def query_scaled(model: Any) -> None:
    model.mask_decoder.transformer.layers[0].cross_attn_token_to_image.q_proj.weight.mul_(1.1)


@fault("key and query projections exchanged", "weights")
def key_query(model: Any) -> None:
    attention = model.mask_decoder.transformer.layers[1].self_attn
    swap(attention.q_proj.weight, attention.v_proj.weight)


@fault("layers of the decoder exchanged", "weights")
def layers_exchanged(model: Any) -> None:
    first, second = (layer.mlp for layer in model.mask_decoder.transformer.layers)
    for left, right in zip(first.parameters(), second.parameters()):
        swap(left, right)


@fault("mask tokens permuted", "weights")
def tokens_permuted(model: Any) -> None:
    tokens = model.mask_decoder.mask_tokens.weight
    tokens.copy_(tokens[[0, 2, 3, 1]])


@fault("two hypernetworks exchanged", "weights")
def hypernetworks(model: Any) -> None:
    networks = model.mask_decoder.output_hypernetworks_mlps
    for left, right in zip(networks[1].parameters(), networks[2].parameters()):
        swap(left, right)


@fault("labels of foreground and background exchanged", "weights")
def labels_exchanged(model: Any) -> None:
    vectors = prompt_part(model, "point_embeddings")
    swap(vectors[0].weight, vectors[1].weight)


@fault("labels of the box corners exchanged", "weights")
def corners_exchanged(model: Any) -> None:
    vectors = prompt_part(model, "point_embeddings")
    swap(vectors[2].weight, vectors[3].weight)


@fault("the vector of the padding point lost", "weights")
def no_padding_vector(model: Any) -> None:
    prompt_part(model, "not_a_point_embed").weight.zero_()


@fault("the vector of no mask lost", "weights")
def no_mask_vector(model: Any) -> None:
    prompt_part(model, "no_mask_embed").weight.zero_()


@fault("the mask prompt's kernel transposed", "weights")
def mask_kernel(model: Any) -> None:
    kernel = prompt_part(model, "mask_downscaling")[0].weight
    kernel.copy_(kernel.transpose(2, 3).clone())


@fault("0.05 added to a score", "weights")
def score_offset(model: Any) -> None:
    last = of_kind(model.mask_decoder.iou_prediction_head, nn.Linear)[-1]
    last.bias[1] += 0.05


@fault("0.001 added to a score", "weights")
def small_score_offset(model: Any) -> None:
    last = of_kind(model.mask_decoder.iou_prediction_head, nn.Linear)[-1]
    last.bias[1] += 0.001


@fault("scores exchanged", "weights")
def scores_exchanged(model: Any) -> None:
    last = of_kind(model.mask_decoder.iou_prediction_head, nn.Linear)[-1]
    for tensor in (last.weight, last.bias):
        swap(tensor[1], tensor[2])


@fault("a kernel transposed", "weights")
def kernel_transposed(model: Any) -> None:
    kernels = [m.weight for m in of_kind(model.image_encoder, nn.Conv2d) if m.weight.shape[-1] > 1]
    kernel = kernels[len(kernels) // 2]
    kernel.copy_(kernel.transpose(2, 3).clone())


@fault("an upscaling kernel transposed", "weights")
def upscaling_transposed(model: Any) -> None:
    kernel = middle(model.mask_decoder, nn.ConvTranspose2d).weight
    kernel.copy_(kernel.transpose(2, 3).clone())


@fault("statistics of a batch norm moved by 1 %", "weights")
def batch_norm_moved(model: Any) -> None:
    middle(model.image_encoder, nn.BatchNorm2d).running_var.mul_(1.01)


@fault("positions rounded to two digits", "weights")
def positions_rounded(model: Any) -> None:
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix.copy_((matrix * 100).round() / 100)


# -------------------------------------------------------------------------------------------------------- wrong graphs


@fault("bilinear neck", "graph", "encoder")
def bilinear(model: Any) -> None:
    found = [module for module in model.image_encoder.modules() if getattr(module, "mode", None) == "bicubic"]
    if not found:
        raise NotHere
    for module in found:
        module.mode = "bilinear"


@fault("tanh GELU", "graph")
def tanh_gelu(model: Any) -> None:
    for module in of_kind(model, nn.GELU):
        module.approximate = "tanh"


@fault("ReLU for a GELU", "graph", "encoder")
def relu(model: Any) -> None:
    replaced(model.image_encoder, middle(model.image_encoder, nn.GELU), nn.ReLU())


@fault("another epsilon in the decoder's norms", "graph", "decoder")
def decoder_epsilon(model: Any) -> None:
    for module in of_kind(model.mask_decoder, nn.LayerNorm):
        module.eps = 1e-3


@fault("another epsilon in the neck's norms", "graph", "encoder")
def neck_epsilon(model: Any) -> None:
    for module in model.image_encoder.modules():
        if type(module).__name__ == "LayerNorm2d":
            module.eps = 1.0


@fault("another epsilon in a batch norm", "graph", "encoder")
def batch_norm_epsilon(model: Any) -> None:
    middle(model.image_encoder, nn.BatchNorm2d).eps = 1e-2


@fault("no padding point", "graph")
def no_padding_point(model: Any) -> None:
    if not model.info.padding_point:
        raise NotHere
    model.info = replace(model.info, padding_point=False)


@fault("no positions of points", "graph", "decoder")
def no_positions(model: Any) -> None:
    model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.zero_()


@fault("no positions of the image", "graph", "decoder")
def no_image_positions(model: Any) -> list[Any]:
    grid = model.prompt_encoder.dense_pe()
    return [patch.object(model.prompt_encoder, "dense_pe", lambda: torch.zeros_like(grid))]


@fault("points without their half pixel", "graph", "decoder")
def no_half_pixel(model: Any) -> list[Any]:
    from edgesam_export.modeling.wrappers import ExactPrompt

    forward = ExactPrompt.forward
    return [patch.object(ExactPrompt, "forward", lambda self, coords, labels: forward(self, coords - 0.5, labels))]


@fault("x and y of points exchanged", "graph", "decoder")
def x_for_y(model: Any) -> list[Any]:
    from edgesam_export.modeling.wrappers import ExactPrompt

    forward = ExactPrompt.forward
    return [patch.object(ExactPrompt, "forward", lambda self, coords, labels: forward(self, coords.flip(-1), labels))]


@fault("points in a frame 1 % larger", "graph", "decoder")
def larger_frame(model: Any) -> list[Any]:
    from edgesam_export.modeling.wrappers import ExactPrompt

    forward = ExactPrompt.forward
    return [patch.object(ExactPrompt, "forward", lambda self, coords, labels: forward(self, coords / 1.01, labels))]


@fault("empty slots take part", "graph", "decoder")
def empty_slots(model: Any) -> list[Any]:
    from edgesam_export.modeling import wrappers

    return [patch.object(wrappers, "MASKED", 0.0)]


@fault("one std for all channels", "graph")
def one_std(model: Any) -> None:
    frame = model.info.frame
    if len(set(frame.std)) == 1:
        raise NotHere
    model.info = replace(model.info, frame=replace(frame, std=(frame.std[0],) * 3))


@fault("another mean, and so another colour of the padding", "graph")
def other_mean(model: Any) -> None:
    frame = model.info.frame
    model.info = replace(model.info, frame=replace(frame, mean=(frame.mean[0] + 8, *frame.mean[1:])))


@fault("padding of another colour", "graph", "encoder")
def padding_colour(model: Any) -> None:
    if model.info.frame.fit == "stretch" or not any(model.info.frame.mean):
        raise NotHere
    model.image_encoder = nn.Sequential(BlackPadding(model.info.frame), model.image_encoder)


class BlackPadding(nn.Module):
    """Black below three quarters of the frame, where no default image reaches."""

    def __init__(self, frame: Any) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (frame.mean, frame.std))
        rows = torch.arange(frame.size).reshape(1, 1, -1, 1) >= frame.size * 3 // 4
        self.register_buffer("black", -mean / std * rows)
        self.register_buffer("kept", 1.0 - rows.float())

    def forward(self, image: Tensor) -> Tensor:
        return image * self.kept + self.black


@fault("RGB for BGR", "graph", "encoder")
def colours_exchanged(model: Any) -> None:
    kernel = next(m for m in model.image_encoder.modules() if isinstance(m, nn.Conv2d)).weight
    kernel.copy_(kernel.flip(1))


@fault("a layer skipped in the encoder", "graph", "encoder")
def encoder_layer(model: Any) -> None:
    blocks = [m for m in model.image_encoder.modules() if type(m).__name__ in ("Residual", "TinyViTBlock", "MBConv")]
    if not blocks:
        raise NotHere
    replaced(model.image_encoder, blocks[len(blocks) // 2], nn.Identity())


@fault("an activation skipped in the decoder", "graph", "decoder")
def decoder_activation(model: Any) -> None:
    replaced(model.mask_decoder, of_kind(model.mask_decoder, nn.GELU)[0], nn.Identity())


@fault("attention unscaled", "graph", "decoder")
def unscaled(model: Any) -> None:
    attention = model.mask_decoder.transformer.layers[0].self_attn
    attention.q_proj.weight.mul_(math.sqrt(2))
    attention.q_proj.bias.mul_(math.sqrt(2))


@fault("attention of another number of heads", "graph", "decoder")
def heads(model: Any) -> None:
    model.mask_decoder.transformer.layers[0].self_attn.heads //= 2


def changed_logits(change: Callable[[Tensor], Tensor]) -> list[Any]:
    """A patch that changes the logits of an exported decoder."""
    from edgesam_export.modeling.wrappers import DecoderForExport

    forward = DecoderForExport.forward

    def changed(self: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, scores = forward(self, *inputs)
        return change(logits), scores

    return [patch.object(DecoderForExport, "forward", changed)]


@fault("logits moved by a quarter of a cell", "graph", "decoder")
def moved_logits(model: Any) -> list[Any]:
    return changed_logits(lambda logits: 0.75 * logits + 0.25 * F.pad(logits, (1, 0, 0, 0))[..., :-1])


@fault("logits clamped", "graph", "decoder")
def clamped_logits(model: Any) -> list[Any]:
    return changed_logits(lambda logits: logits.clamp(-2.0, 2.0))


@fault("logits divided by their scale", "graph", "decoder")
def scaled_logits(model: Any) -> list[Any]:
    return changed_logits(lambda logits: logits * 0.99)


# ---------------------------------------------------------------------------------------------------- precision faults


@fault("coordinates in FP16", "precision")
def fp16_coordinates(model: Any) -> list[Any]:
    from edgesam_export.modeling.wrappers import ExactPrompt

    return [patch.object(ExactPrompt, "fp32_formats", ())]


@fault("norms squared in FP16", "precision")
def squared(model: Any) -> list[Any]:
    return [without_rewrites("layer_norm_2d", "layer_norm_last_axis")]


for power in (4, 6, 8, 10):

    @fault(f"norms of values times 2^{power}, squared in FP16", "precision")
    def large_squared(model: Any, power: int = power) -> list[Any]:
        """The scale cancels in exact arithmetic; the squares are 4^power times as large."""
        norm = [m for m in model.image_encoder.modules() if type(m).__name__ == "LayerNorm2d"][-1]
        of_kind(model.image_encoder, nn.Conv2d)[-1].weight.mul_(2.0**power)
        norm.eps *= 4.0**power
        return [without_rewrites("layer_norm_2d", "layer_norm_last_axis")]


for power in (0, 6, 9, 12):

    @fault(f"softmax of scores 2^{power} times as large until they are scaled", "precision")
    def late_scale(model: Any, power: int = power) -> list[Any]:
        for layer in model.mask_decoder.transformer.layers:
            attention = layer.cross_attn_token_to_image
            attention.__class__ = LateScaled
            attention.late = 2.0**power
            for parameter in attention.q_proj.parameters():
                parameter.mul_(attention.late)
        return [without_rewrites("channels_first_transformer", "token_side_transformer")]


class LateScaled(Attention):
    """Attention whose scores are divided after the product, by the square root and by a further factor."""

    late: float

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        query, key, value = (
            self.split_heads(self.q_proj(q)),
            self.split_heads(self.k_proj(k)),
            self.split_heads(self.v_proj(v)),
        )
        scores = (query @ key.transpose(-2, -1)) * (1 / (math.sqrt(query.shape[-1]) * self.late))
        attended = torch.softmax(scores if key_bias is None else scores + key_bias, dim=-1) @ value
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def without_rewrites(*left_out: str) -> Any:
    """A patch that exports without some of the recommended rewrites."""
    from edgesam_export.rewrites import recommended_rewrites

    def kept(format: str) -> tuple[str, ...]:
        return tuple(name for name in recommended_rewrites(format) if name not in left_out)

    return patch("edgesam_export.export.trace.recommended_rewrites", kept)

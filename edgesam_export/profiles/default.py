"""The contract of this project: names of the official files, fixed prompt slots, optional mask prompt."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import Maps, SamModel
from edgesam_export.profiles import PROFILES, Component, Profile, embedding_names
from edgesam_export.spec import (
    EMPTY_SLOT,
    EVERY_FORMAT,
    NOT_A_POINT,
    CoreMLConfig,
    ExportConfig,
    ImageFrame,
    ModelInfo,
    TensorSpec,
)

__all__ = [
    "DecoderForExport",
    "EncoderForExport",
    "ExactPrompt",
    "ExactRatio",
    "Normalise",
    "StabilityScore",
    "check_points",
    "token_indexes",
]

# Finite in FP16 (largest 65504) and far below any score: its exponential is exactly zero.
MASKED = -1.0e4
LOGITS_SIDE = 256


def token_indexes(candidates: int) -> tuple[int, ...]:
    """Return which of the decoder's four mask tokens an export returns."""
    return {4: (0, 1, 2, 3), 3: (1, 2, 3), 1: (0,)}[candidates]


class Normalise(nn.Module):
    """8-bit RGB values to the network's input: subtract the mean, divide by the standard deviation, per channel.

    The nearest whole number is subtracted first, which FP16 does exactly, and the rest at the end.  The mean itself is
    off by up to 1/32 in FP16, the same at every pixel; that can be most of the error of a whole FP16 encoder.
    """

    def __init__(self, frame: ImageFrame) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (frame.mean, frame.std))
        self.register_buffer("whole", mean.round())
        self.register_buffer("inverse_std", 1.0 / std)
        self.register_buffer("rest", (mean - mean.round()) / std)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (B, 3, H, W) normalised from values 0..255 of the same shape."""
        return (image - self.whole) * self.inverse_std - self.rest


class EncoderForExport(nn.Module):
    """The image encoder, with the normalisation in front when its input is a picture."""

    def __init__(self, model: SamModel, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = Normalise(model.info.frame) if normalise else nn.Identity()
        self.image_encoder = model.image_encoder

    def forward(self, image: torch.Tensor) -> Maps:
        """Return the maps of the embedding, the first (1, D, 64, 64), from an image (1, 3, S, S)."""
        return self.image_encoder(self.normalise(image))


class ExactPrompt(nn.Module):
    """Point tokens in FP32 arithmetic: angles reach 25 rad, where FP16 steps are 1/64 rad.

    Labels become one-hot rows by relu(1 - |label - k|), which is exactly 0 or 1 for whole numbers, so no boolean tensor
    and no gather is needed; each row then picks its vector from a small table.
    """

    fp32_formats = (EVERY_FORMAT,)

    def __init__(self, model: SamModel) -> None:
        super().__init__()
        encoder = model.prompt_encoder
        matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.detach() * (2 * math.pi)  # (2, D / 2)
        self.scale = 2.0 / model.info.frame.prompt_size
        self.register_buffer("x_row", matrix[0].reshape(1, 1, -1).clone())
        self.register_buffer("y_row", matrix[1].reshape(1, 1, -1).clone())
        vectors = [embedding.weight.detach() for embedding in (encoder.not_a_point_embed, *encoder.point_embeddings)]
        self.register_buffer("table", torch.cat(vectors))  # (5, D)
        self.register_buffer("table_labels", torch.tensor([float(NOT_A_POINT), 0.0, 1.0, 2.0, 3.0]).reshape(1, 1, -1))

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (1, N, D) and their additive key bias (1, 1, 1, N) from (1, N, 2) pixels and (1, N) labels."""
        centred = (point_coords + 0.5) * self.scale - 1.0
        angle = centred[:, :, 0:1] * self.x_row + centred[:, :, 1:2] * self.y_row
        encoding = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
        label = point_labels.unsqueeze(-1)  # (1, N) -> (1, N, 1)
        tokens = encoding * (1.0 - self.indicator(label, float(NOT_A_POINT)))
        tokens = tokens + self.indicator(label, self.table_labels) @ self.table
        bias = MASKED * self.indicator(point_labels, float(EMPTY_SLOT))
        return tokens, bias.unsqueeze(1).unsqueeze(1)

    @staticmethod
    def indicator(label: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
        """Return 1.0 where ``label`` is ``value``, else 0.0."""
        return torch.relu(1.0 - (label - value).abs())


class ExactRatio(nn.Module):
    """Ratio of the means of two row profiles, in FP32: a mean over 65536 pixels has more bits than FP16."""

    fp32_formats = (EVERY_FORMAT,)

    def forward(self, inner: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
        """Return mean(inner) / mean(outer) over the last axis, 0 where both are 0."""
        smallest = 0.5 / (LOGITS_SIDE * LOGITS_SIDE)
        return inner.mean(-1) / outer.mean(-1).clamp(min=smallest)


class StabilityScore(nn.Module):
    """Stability score whose counts stay exact although the logits are FP16.

    The share of one row of 256 pixels is a multiple of 1/256, exact in FP16; only the last step is FP32.  A mask
    without any pixel above -1 scores 0.
    Source: Kirillov et al. 2023 (Segment Anything), appendix B; offset 1.0 as in segment_anything's mask generator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ratio = ExactRatio()

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Return (1, M) from logits (1, M, 256, 256)."""
        inner = (logits > 1.0).to(logits.dtype).mean(-1)
        outer = (logits > -1.0).to(logits.dtype).mean(-1)
        return self.ratio(inner, outer)


class DecoderForExport(nn.Module):
    """Prompt encoder and mask decoder behind one fixed set of tensors.

    A prompt encoder with other rules than SAM's has a method ``exact_prompt() -> nn.Module``, which returns what stands
    in for ``ExactPrompt``; one that knows no mask prompt has no ``mask_downscaling``.

    Raises:
        UsageError: the model's number of prompt slots is fixed, and it is not ``slots`` (None: any number).
    """

    def __init__(self, model: SamModel, *, candidates: int, score: str, slots: int | None = None) -> None:
        super().__init__()
        fixed = model.info.slots
        if fixed not in (None, slots):
            raise UsageError(
                f"{model.info.name} has exactly {fixed} prompt slots, this profile"
                f" {'leaves their number free' if slots is None else f'has {slots}'}; use profile 'default'"
            )
        exact_prompt = getattr(model.prompt_encoder, "exact_prompt", None)
        self.prompt = ExactPrompt(model) if exact_prompt is None else exact_prompt()
        self.mask_decoder = model.mask_decoder
        self.mask_downscaling = getattr(model.prompt_encoder, "mask_downscaling", None)
        self.maps = len(model.info.embedding_shapes)
        self.tokens = token_indexes(candidates)
        self.stability = StabilityScore() if score == "stability" else None
        self.register_buffer("image_pe", model.prompt_encoder.dense_pe().detach())
        no_mask = model.prompt_encoder.dense(None)[:, :, :1, :1]  # the same at every position
        self.register_buffer("no_mask", no_mask.detach().clone())

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks (1, M, 256, 256) logits and scores (1, M).

        Shapes of the inputs, in order:
            the maps of the embedding, the first (1, D, 64, 64); point_coords (1, N, 2) x, y in pixels of the prompt
            frame; point_labels (1, N); mask_input (1, 1, 256, 256) logits and has_mask_input (1), both or neither
        """
        embedding, *further = inputs[: self.maps]
        point_coords, point_labels, *mask = inputs[self.maps :]
        sparse, bias = self.prompt(point_coords, point_labels)
        logits, iou = self.mask_decoder(embedding, self.image_pe, sparse, self.dense(*mask), bias, tuple(further))
        first, last = self.tokens[0], self.tokens[-1] + 1
        logits, iou = logits[:, first:last], iou[:, first:last]
        return logits, iou if self.stability is None else self.stability(logits)

    def dense(self, mask_input: torch.Tensor | None = None, has_mask_input: torch.Tensor | None = None) -> torch.Tensor:
        """Return what is added to the image embedding: (1, D, 1, 1) without, (1, D, 64, 64) with a mask input."""
        if mask_input is None or has_mask_input is None:
            return self.no_mask
        has = has_mask_input.reshape(1, 1, 1, 1)
        return self.mask_downscaling(mask_input) * has + self.no_mask * (1.0 - has)


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder: an image for Core ML unless asked otherwise, a normalised tensor for ONNX."""
    size = model.info.frame.size
    as_image = isinstance(config, CoreMLConfig) and not config.tensor_input
    meaning = picture_meaning(model.info.frame, as_image=as_image)
    dtype = "image" if as_image else config.precision
    return Component(
        name="encoder",
        module=EncoderForExport(model, normalise=as_image),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype=dtype, description=meaning),),
        outputs=embedding_specs(model.info, config.precision),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": as_image, **label_details(model)},
    )


def picture_meaning(frame: ImageFrame, *, as_image: bool) -> str:
    """Return what the encoder's input is."""
    size = frame.size
    if frame.fit == "stretch":
        resized = f"stretched to {size} x {size}"
        return f"RGB picture, {resized}" if as_image else f"RGB, {resized}, normalised with the contract's mean and std"
    resized = f"longest side resized to {size}"
    if as_image:
        return f"RGB picture, {resized}, padded right and bottom with the colour of the contract"
    return f"RGB, {resized}, normalised with the contract's mean and std, zeros right and below"


def label_details(model: SamModel) -> dict:
    """Return the contract's labels where the prompt encoder gives them another meaning than SAM's."""
    labels = getattr(model.prompt_encoder, "label_meanings", None)
    return {} if labels is None else {"labels": labels}


def embedding_specs(info: ModelInfo, dtype: str) -> tuple[TensorSpec, ...]:
    """Return the tensors between the two components."""
    description = "image embedding, computed once per image; hand it to the decoder unchanged"
    shapes = info.embedding_shapes
    return tuple(
        TensorSpec(name=name, shape=shape, dtype=dtype, description=description)
        for name, shape in zip(embedding_names(len(shapes)), shapes)
    )


def prompt_slots(model: SamModel, config: ExportConfig) -> int | None:
    """Return the number of prompt slots of the decoder, None for a free one.

    Raises:
        UsageError: the model knows one number only, and another one was chosen (a default counts as not chosen).
    """
    fixed = model.info.slots
    if fixed is None:
        return config.points
    functions = getattr(config, "functions", ())
    if functions:
        raise UsageError(f"also points {functions[0]}, but {always(model.info)}")
    if config.points != type(config).points:
        check_points(model.info, config.points)
    return fixed


def check_points(info: ModelInfo, points: int | None) -> None:
    """Refuse a number of prompt slots that a caller chose for a model that has another one; None: none was chosen.

    A configuration cannot tell its default from the same number chosen; whoever can tell asks here.

    Raises:
        UsageError: the model's number of prompt slots is fixed, and it is not ``points``.
    """
    if points is not None and info.slots not in (None, points):
        raise UsageError(f"points is {points}, but {always(info)}")


def always(info: ModelInfo) -> str:
    """Return what a model of a fixed number of prompt slots always has, and the way out."""
    return f"{info.name} always has {info.slots} prompt slots, whose unused ones take part; leave it out"


def prompt_specs(
    slots: int | str, config: ExportConfig, prompt_size: int, labels: dict[str, str] | None = None
) -> tuple[TensorSpec, ...]:
    """Return the prompt inputs; coordinates and labels are FP32, since FP16 cannot hold half pixels above 1024.

    ``labels`` are their meanings where they are not SAM's.
    """
    meanings = "1 foreground, 0 background, 2 and 3 box corners, -1 not a point, -2 empty slot"
    if labels is not None:
        meanings = "; ".join(f"{label} {meaning}" for label, meaning in labels.items())
    where = f"x, y in pixels of the {prompt_size} x {prompt_size} frame (source pixel times new side / old side)"
    specs = (
        TensorSpec(name="point_coords", shape=(1, slots, 2), dtype="fp32", description=where),
        TensorSpec(
            name="point_labels",
            shape=(1, slots),
            dtype="fp32",
            description=meanings,
        ),
    )
    if config.mask_input:
        side = LOGITS_SIDE
        specs += (
            TensorSpec(
                name="mask_input",
                shape=(1, 1, side, side),
                dtype=config.precision,
                description="logits of an earlier prediction; zeros when there is none",
            ),
            TensorSpec(
                name="has_mask_input", shape=(1,), dtype="fp32", description="1 to use mask_input, 0 to ignore it"
            ),
        )
    return specs


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder with ``config.points`` prompt slots (ONNX: any number when None) or the model's own number.

    Raises:
        UsageError: the model's prompts are not what ``config`` asks for.
    """
    score = config.score or model.info.default_score
    slots = prompt_slots(model, config)
    module = DecoderForExport(model, candidates=config.candidates, score=score, slots=slots)
    if config.mask_input and module.mask_downscaling is None:
        raise UsageError(f"{model.info.name} knows no mask prompt; export it without mask_input")
    labels = label_details(model)
    count = len(token_indexes(config.candidates))
    resizing = mask_resize_meaning(model.info.frame)
    inputs = (
        *embedding_specs(model.info, config.precision),
        *prompt_specs(slots or "points", config, model.info.frame.prompt_size, **labels),
    )
    meaning = "predicted IoU" if score == "iou" else "stability: count(logit > 1) / count(logit > -1)"
    side = LOGITS_SIDE
    outputs = (
        TensorSpec(
            name="masks",
            shape=(1, count, side, side),
            dtype=config.precision,
            description=f"mask logits of the prompt frame; {resizing}, then threshold at 0",
        ),
        TensorSpec(name="scores", shape=(1, count), dtype="fp32", description=f"{meaning}, one per mask"),
    )
    return Component(
        name="decoder",
        module=module,
        inputs=inputs,
        outputs=outputs,
        example=example_prompt(model.info, slots or 5, config),
        free_dims={} if slots else {"points": (1, 64)},
        details={**decoder_details(slots, config, score), **labels, **limits(model.info, module)},
    )


def mask_resize_meaning(frame: ImageFrame) -> str:
    """Return how logits come to source size, in a few words; the contract's frame says it for programs."""
    return "upsample, crop" if frame.mask_resize == "bilinear" else f"{frame.mask_resize} to source size"


def decoder_details(slots: int | None, config: ExportConfig, score: str) -> dict:
    """Return the contract's facts about a decoder."""
    return {
        "slots": slots,
        "candidates": list(token_indexes(config.candidates)),
        "score": score,
        "mask_threshold": 0.0,
        "mask_input": config.mask_input,
    }


def limits(info: ModelInfo, module: DecoderForExport) -> dict:
    """Return what no other export of the model would change; it is in the contract so that nobody is told to try."""
    fixed = {} if info.slots is None else {"fixed_slots": True}
    return fixed if module.mask_downscaling is not None else {**fixed, "mask_prompts": False}


def example_prompt(info: ModelInfo, slots: int, config: ExportConfig) -> tuple[torch.Tensor, ...]:
    """Return example inputs of a decoder with ``slots`` prompt slots."""
    maps = (torch.zeros(shape) for shape in info.embedding_shapes)
    example = (*maps, torch.full((1, slots, 2), 100.0), torch.ones(1, slots))
    if config.mask_input:
        example += (torch.zeros(1, 1, LOGITS_SIDE, LOGITS_SIDE), torch.ones(1))
    return example


PROFILES.register("default")(
    Profile(
        name="default",
        summary="fixed prompt slots with exact masking, image input (Core ML), FP16 where it is safe",
        encoder=encoder,
        decoder=decoder,
    )
)

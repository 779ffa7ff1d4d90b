"""The contract of this project: names of the official files, fixed prompt slots, optional mask prompt."""

from __future__ import annotations

import torch

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import DecoderForExport, EncoderForExport, token_indexes
from edgesam_export.profiles import (
    PROFILES,
    Component,
    Profile,
    check_points,
    decoder_details,
    embedding_specs,
    example_prompt,
    fixed_slot_inputs,
    label_details,
    prompt_specs,
    score_meaning,
)
from edgesam_export.spec import (
    DYNAMIC,
    MASK_SIDE,
    CoreMLConfig,
    ExportConfig,
    ImageFrame,
    ModelInfo,
    PackageConfig,
    TensorSpec,
)

__all__ = ["decoder", "encoder"]


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder: of pixels for Apple's formats unless asked otherwise, of a normalised tensor for ONNX."""
    size = model.info.frame.size
    of_pixels = isinstance(config, PackageConfig) and not config.tensor_input
    as_image = of_pixels and isinstance(config, CoreMLConfig)
    meaning = image_meaning(model.info.frame, as_image=as_image, of_pixels=of_pixels)
    dtype = "image" if as_image else config.precision
    facts = {"input_layout": "NCHW", "input_values": "0..255", "padded_by": "caller"}
    return Component(
        name="encoder",
        module=EncoderForExport(model, normalise=of_pixels),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype=dtype, description=meaning),),
        outputs=embedding_specs(model.info, config.precision),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": as_image, **(facts if of_pixels and not as_image else {}), **label_details(model)},
    )


def image_meaning(frame: ImageFrame, *, as_image: bool, of_pixels: bool) -> str:
    """Return the description of the encoder's input."""
    size = frame.size
    resized = f"stretched to {size} x {size}" if frame.stretches else f"longest side resized to {size}"
    kind = "RGB image" if as_image else "RGB"
    values = ("" if as_image else ", 0..255") if of_pixels else ", normalised with the contract's mean and std"
    padding = ", padded right and bottom with the colour of the contract" if of_pixels else ", zeros right and below"
    return f"{kind}, {resized}{values}{'' if frame.stretches else padding}"


def prompt_slots(model: SamModel, config: ExportConfig) -> int | None:
    """Return the number of prompt slots of the decoder, None for a free one.

    Raises:
        UsageError: the model knows one number only, and another one was chosen (a default counts as not chosen).
    """
    fixed = model.info.slots
    if fixed is None:
        return config.points
    if isinstance(config, PackageConfig) and config.functions:
        raise UsageError(f"also points {config.functions[0]}, but {fixed_slot_inputs(model.info)}")
    if config.points != type(config).points:
        check_points(model.info, config.points)
    return fixed


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder with ``config.points`` prompt slots (ONNX: any number when None) or the model's own number.

    Raises:
        UsageError: the model's prompts are not what ``config`` asks for.
    """
    score = config.score or model.info.default_score
    slots = prompt_slots(model, config)
    refuse_without_object_score(model, config)
    module = DecoderForExport(
        model, candidates=config.candidates, score=score, slots=slots, object_score=config.object_score
    )
    if config.mask_input and module.mask_downscaling is None:
        raise UsageError(f"{model.info.name} knows no mask prompt; export it without mask_input")
    labels = label_details(model)
    inputs = (
        *embedding_specs(model.info, config.precision),
        *prompt_specs(slots or "points", config, model.info.frame.prompt_size, **labels),
    )
    return Component(
        name="decoder",
        module=module,
        inputs=inputs,
        outputs=output_specs(model.info.frame, config, score),
        example=example_prompt(model.info, slots or 5, config),
        free_dims={} if slots else {"points": (1, 64)},
        details={
            **decoder_details(slots, config, score),
            "object_score": config.object_score,
            "queries": config.queries,
            **labels,
            **unsupported_options(model.info, module),
        },
    )


def output_specs(frame: ImageFrame, config: ExportConfig, score: str) -> tuple[TensorSpec, ...]:
    """Return the outputs of a decoder whose scores are of the kind ``score``."""
    count = len(token_indexes(config.candidates))
    masks = TensorSpec(
        name="masks",
        shape=(config.queries, count, MASK_SIDE, MASK_SIDE),
        dtype=config.precision,
        description=f"mask logits of the prompt frame; {mask_resize_meaning(frame)}, then threshold at 0",
    )
    scores = TensorSpec(name="scores", shape=(config.queries, count), dtype="fp32", description=score_meaning(score))
    meaning = "logit of an object's presence: above 0 the prompt shows one; masks do not depend on it"
    presence = TensorSpec(name="object_score", shape=(config.queries, 1), dtype="fp32", description=meaning)
    return (masks, scores, presence) if config.object_score else (masks, scores)


def refuse_without_object_score(model: SamModel, config: ExportConfig) -> None:
    """Raise UsageError for options of SAM 2's decoder that another model's does not have."""
    if model.mask_decoder.scores_objects:
        return
    if config.candidates == DYNAMIC:
        raise UsageError(f"candidates dynamic is SAM 2's choice of one mask, not {model.info.name}'s; choose 4, 3 or 1")
    if config.object_score:
        raise UsageError(f"{model.info.name} has no object score, which is SAM 2's; leave object_score out")


def mask_resize_meaning(frame: ImageFrame) -> str:
    """Return the way of logits to source size, in a few words; the contract's frame has it for programs."""
    kind = frame.mask_resize.removesuffix("_direct")
    return "upsample, crop" if frame.mask_resize == "bilinear" else f"{kind} to source size"


def unsupported_options(info: ModelInfo, module: DecoderForExport) -> dict[str, bool]:
    """Return the contract's facts that no other export of the model changes, so that no message advises one."""
    fixed = {} if info.slots is None else {"fixed_slots": True}
    return fixed if module.mask_downscaling is not None else {**fixed, "mask_prompts": False}


PROFILES.register("default")(
    Profile(
        name="default",
        summary="fixed prompt slots with exact masking, image input (Core ML), FP16 where it is safe",
        encoder=encoder,
        decoder=decoder,
        queries=True,
    )
)

"""One module per consumer's tensor contract: data plus the wrapper modules that keep it.

A profile registers a ``Profile`` whose two functions turn a (rewritten) model into components ready for tracing. What
several profiles say of their tensors stands here, the wrapper modules in ``modeling/wrappers.py``; a profile imports no
other one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgesam_export.errors import UsageError
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import DYNAMIC, MASK_SIDE, CoreMLConfig, ExportConfig, ModelInfo, PackageConfig, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "PROFILES",
    "Component",
    "Profile",
    "check_points",
    "decoder_details",
    "embedding_names",
    "embedding_specs",
    "example_prompt",
    "find_profile",
    "finest_map_first",
    "fixed_slot_inputs",
    "label_details",
    "padded_by_graph",
    "prompt_specs",
    "refuse_contradictions",
    "refuse_fixed_points",
    "refuse_one_map",
    "refuse_other_candidates",
    "refuse_stretched",
    "sam2_decoder",
    "sam2_encoder",
    "score_meaning",
    "scores_then_masks",
    "unpadded_details",
    "unpadded_meaning",
]

COREML_POINTS = (1, 16)
"""Range of N in the released Core ML decoder."""
EXAMPLE_POINTS = 5
"""Points that a decoder of any number of them is traced with."""
EXAMPLE_PROMPTS = 2
"""Prompts that a decoder of any number of them is traced with; of one the graph would know that it is one."""
ONE_PROMPT = ("channels_first_transformer", "grouped_hypernetworks")
"""Rewrites that make a decoder of one prompt at a time."""
FINEST_FIRST = (1, 2, 0)
SAM2_MAPS = ("image_embed", "high_res_feats_0", "high_res_feats_1")
"""In the model's order; the encoder returns the first one last."""
SAM2_LOGIT_LIMIT = 32.0
"""samexporter clamps logits to this magnitude, as SAM 2 does to those that it returns beside full-size masks."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A module that takes and returns exactly what its consumer expects."""

    name: str
    """``encoder``, ``prompt_encoder`` or ``decoder``."""
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: tuple[torch.Tensor, ...]
    """Example inputs for tracing, in the order of ``inputs``."""
    free_dims: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Named free dimensions: smallest and largest size."""
    details: dict[str, Any] = field(default_factory=dict)
    """Facts for the contract: slots, candidates, score."""
    file_stem: str = ""
    """Name of the file without its suffix; empty: ``<MODEL>_<component>``."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A consumer's contract."""

    name: str
    summary: str
    encoder: Callable[[SamModel, ExportConfig], Component]
    decoder: Callable[[SamModel, ExportConfig], Component]
    formats: tuple[str, ...] | None = None
    """Formats that its consumers read, None for every format."""
    prompt_encoder: Callable[[SamModel, ExportConfig], Component] | None = None
    """A third component, which turns prompts into the tokens that the decoder takes."""
    queries: bool = False
    """Its decoder may take a fixed number of prompts at once, ``ExportConfig.queries``."""
    without: tuple[str, ...] = ()
    """Recommended rewrites that its files cannot have, since these are for one prompt at a time."""
    folder: str = ""
    """Folder that its consumers look for the files in, inside that of the export."""
    companions: Callable[[ModelInfo, ExportConfig], dict[str, Any]] | None = None
    """JSON documents that its consumers read beside the files, by name."""

    def components(self, model: SamModel, config: ExportConfig) -> tuple[Component, ...]:
        """Return the components of a (rewritten) model, in the order in which they run."""
        makers = (self.encoder, self.prompt_encoder, self.decoder)
        return tuple(maker(model, config) for maker in makers if maker is not None)


PROFILES: Registry[Profile] = Registry("profile")


def embedding_names(count: int) -> tuple[str, ...]:
    """Return the names of an embedding's ``count`` maps: that of the official files, and one for each further map."""
    return ("image_embeddings", *(f"feats_s{number}" for number in range(count - 1)))


def find_profile(name: str) -> Profile:
    """Return a profile by name.

    Raises:
        UsageError: unknown name; the line lists the known ones.
    """
    import_submodules(__name__)
    return PROFILES[name]


def embedding_specs(info: ModelInfo, dtype: str, names: Sequence[str] | None = None) -> tuple[TensorSpec, ...]:
    """Return the tensors between the two components in the model's order, called ``names`` (None: the usual ones)."""
    description = "image embedding, computed once per image; hand it to the decoder unchanged"
    shapes = info.embedding_shapes
    return tuple(
        TensorSpec(name=name, shape=shape, dtype=dtype, description=description)
        for name, shape in zip(names or embedding_names(len(shapes)), shapes)
    )


def label_details(model: SamModel) -> dict[str, dict[str, str]]:
    """Return the contract's labels where the prompt encoder gives them another meaning than SAM's."""
    labels = getattr(model.prompt_encoder, "label_meanings", None)
    return {} if labels is None else {"labels": labels}


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
    specs: tuple[TensorSpec, ...] = (
        TensorSpec(name="point_coords", shape=(config.queries, slots, 2), dtype="fp32", description=where),
        TensorSpec(name="point_labels", shape=(config.queries, slots), dtype="fp32", description=meanings),
    )
    if config.mask_input:
        specs += (
            TensorSpec(
                name="mask_input",
                shape=(config.queries, 1, MASK_SIDE, MASK_SIDE),
                dtype=config.precision,
                description="logits of an earlier prediction; zeros when there is none",
            ),
            TensorSpec(
                name="has_mask_input",
                shape=(config.queries,),
                dtype="fp32",
                description="1 to use mask_input, 0 to ignore it",
            ),
        )
    return specs


def example_prompt(info: ModelInfo, slots: int, config: ExportConfig) -> tuple[torch.Tensor, ...]:
    """Return example inputs of a decoder with ``slots`` prompt slots."""
    import torch

    maps, count = map(torch.zeros, info.embedding_shapes), config.queries
    example: tuple[torch.Tensor, ...] = (*maps, torch.full((count, slots, 2), 100.0), torch.ones(count, slots))
    if config.mask_input:
        example += (torch.zeros(count, 1, MASK_SIDE, MASK_SIDE), torch.ones(count))
    return example


def score_meaning(score: str) -> str:
    """Return the description of scores of a kind, one for each mask."""
    meaning = "predicted IoU" if score == "iou" else "stability: count(logit > 1) / count(logit > -1)"
    return f"{meaning}, one per mask"


def decoder_details(slots: int | None, config: ExportConfig, score: str) -> dict[str, Any]:
    """Return the contract's facts about a decoder."""
    from edgesam_export.modeling.wrappers import token_indexes

    return {
        "slots": slots,
        "candidates": list(token_indexes(config.candidates)),
        "selection": DYNAMIC if config.candidates == DYNAMIC else "all",
        "score": score,
        "mask_threshold": 0.0,
        "mask_input": config.mask_input,
    }


def check_points(info: ModelInfo, points: int | None) -> None:
    """Refuse a number of prompt slots that a caller chose for a model that has another one; None: none was chosen.

    A configuration cannot tell its default from the same number chosen; whoever can tell asks here.

    Raises:
        UsageError: the model's number of prompt slots is fixed, and it is not ``points``.
    """
    if points is not None and info.slots not in (None, points):
        raise UsageError(f"points is {points}, but {fixed_slot_inputs(info)}")


def fixed_slot_inputs(info: ModelInfo) -> str:
    """Return the inputs of a model with a fixed number of prompt slots, in words, and the way out."""
    return f"{info.name} always has {info.slots} prompt slots, whose unused ones take part; leave it out"


def refuse_fixed_points(config: ExportConfig) -> None:
    """Raise UsageError for a number of points that the caller chose: the profiles of other programs leave it free.

    The default of ``CoreMLConfig`` (8) counts as not chosen.
    """
    if config.points not in (None, type(config).points):
        raise UsageError(
            f"profile '{config.profile}' takes any number of points, not {config.points};"
            " leave points out or use profile 'default'"
        )
    if isinstance(config, PackageConfig) and config.functions:
        raise UsageError(
            f"profile '{config.profile}' takes any number of points, not functions for {config.functions};"
            " leave functions out or use profile 'default'"
        )


def unpadded_details(info: ModelInfo, layout: str) -> dict[str, Any]:
    """Return the contract's facts about an encoder that takes an image as it is, its axes in the order ``layout``."""
    facts = {"image_input": False, "input_layout": layout, "input_values": "0..255", "padded_by": "graph"}
    return facts if info.frame.size == info.frame.prompt_size else {**facts, "resized_by": "graph"}


def unpadded_meaning(info: ModelInfo) -> str:
    """Return what an encoder that takes an image as it is expects of its size, in words."""
    frame = info.frame
    if frame.size == frame.prompt_size:
        return f"longest side resized to {frame.size}, not normalised, not padded"
    return f"longest side resized to {frame.prompt_size}, not normalised, not padded; the graph makes it {frame.size}"


def refuse_stretched(info: ModelInfo, config: ExportConfig) -> None:
    """Raise UsageError for a model of stretched images: the hosts of this profile keep proportions."""
    if info.frame.stretches:
        raise UsageError(
            f"profile '{config.profile}' is for hosts that keep an image's proportions, {info.name} takes it stretched"
            f" to a square; use profile 'default'{' or sam2' if info.frame.fit == 'stretch_antialias' else ''}"
        )


def refuse_one_map(info: ModelInfo, config: ExportConfig) -> None:
    """Raise UsageError for a model whose embedding is one map: the hosts of this profile pass on SAM 2's three."""
    if len(info.embedding_shapes) != 3 or info.frame.fit != "stretch_antialias":
        raise UsageError(
            f"profile '{config.profile}' is for models with SAM 2's three maps and frame, {info.name} has"
            f" {len(info.embedding_shapes)} and fit {info.frame.fit}; use profile 'default'"
        )


def refuse_other_candidates(config: ExportConfig, count: int) -> None:
    """Raise UsageError for a number of masks other than the profile's; the default counts as not chosen."""
    if config.candidates not in (type(config).candidates, count):
        raise UsageError(
            f"profile '{config.profile}' returns {count} masks, not {config.candidates};"
            " leave candidates out or use profile 'default'"
        )


def refuse_contradictions(config: ExportConfig) -> None:
    """Raise UsageError for options that the tensors of the released decoder do not provide for."""
    refuse_fixed_points(config)
    refuse_other_candidates(config, 4)
    if config.mask_input:
        raise UsageError(
            f"profile '{config.profile}' has no mask_input; leave it out or use profile 'default' (ONNX: or 'sam6')"
        )


def scores_then_masks(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder of the files that the EdgeSAM authors released; its number of points is free.

    Raises:
        UsageError: ``points``, ``functions``, ``candidates`` or ``mask_input`` contradict the released files.
    """
    from edgesam_export.modeling.wrappers import ScoresThenMasks

    refuse_contradictions(config)
    score = config.score or "stability"
    masks = "logits of the mask tokens 0 to 3 in the prompt frame; upsample, crop, then threshold at 0"
    most = COREML_POINTS if isinstance(config, CoreMLConfig) else None
    return Component(
        name="decoder",
        module=ScoresThenMasks(model, score=score),
        inputs=(*embedding_specs(model.info, "fp32"), *prompt_specs("points", config, model.info.frame.prompt_size)),
        outputs=(
            TensorSpec(name="scores", shape=(1, 4), dtype="fp32", description=score_meaning(score)),
            TensorSpec(name="masks", shape=(1, 4, MASK_SIDE, MASK_SIDE), dtype="fp32", description=masks),
        ),
        example=example_prompt(model.info, EXAMPLE_POINTS, config),
        free_dims={"points": most or (1, 64)},
        details={**decoder_details(None, config, score), "points_range": list(most) if most else None},
    )


def padded_by_graph() -> dict[str, Any]:
    """Return the contract's facts about prompts whose padding point is added in the graph: a caller adds none."""
    return {"padding_point": False, "box_padding_point": False}


def finest_map_first(model: SamModel, image: str, maps: tuple[str, ...]) -> Component:
    """Return an encoder of SAM 2 that takes a tensor ``image``; the finest map comes first, the embedding last.

    ``maps`` are the names of its outputs in the model's order.
    """
    import torch

    from edgesam_export.modeling.wrappers import EncoderInOrder

    size = model.info.frame.size
    specs = embedding_specs(model.info, "fp32", maps)
    meaning = f"RGB, stretched to {size} x {size}, normalised with the contract's mean and std"
    return Component(
        name="encoder",
        module=EncoderInOrder(model, FINEST_FIRST),
        inputs=(TensorSpec(name=image, shape=(1, 3, size, size), dtype="fp32", description=meaning),),
        outputs=tuple(specs[index] for index in FINEST_FIRST),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": False, "input_layout": "NCHW", **padded_by_graph(), "embedding": list(maps)},
    )


def sam2_encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder of samexporter's SAM 2 files.

    Raises:
        UsageError: the model's embedding is not SAM 2's three maps.
    """
    refuse_one_map(model.info, config)
    return finest_map_first(model, "image", SAM2_MAPS)


def sam2_outputs(score: str) -> tuple[TensorSpec, ...]:
    """Return the two outputs of the decoder."""
    masks = f"logits of mask tokens 1 to 3, clamped to {SAM2_LOGIT_LIMIT:g}; to source size, then threshold at 0"
    shape = ("prompts", 3, MASK_SIDE, MASK_SIDE)
    return (
        TensorSpec(name="masks", shape=shape, dtype="fp32", description=masks),
        TensorSpec(name="iou_predictions", shape=("prompts", 3), dtype="fp32", description=score_meaning(score)),
    )


def sam2_decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder of samexporter's SAM 2 files; the numbers of prompts and of their points are free.

    Raises:
        UsageError: the model's embedding is not SAM 2's three maps, or ``points``, ``functions`` or ``candidates``
            contradict samexporter's files.
    """
    from edgesam_export.modeling.wrappers import DecoderOfPrompts

    refuse_one_map(model.info, config)
    refuse_fixed_points(config)
    refuse_other_candidates(config, 3)
    config = replace(config, mask_input=True, precision="fp32", candidates=3)
    score = config.score or model.info.default_score
    prompt = prompt_specs("points", config, model.info.frame.prompt_size)
    maps, examples = embedding_specs(model.info, "fp32", SAM2_MAPS), example_prompt(model.info, EXAMPLE_POINTS, config)
    several = [example.expand(EXAMPLE_PROMPTS, *example.shape[1:]) for example in examples[len(maps) : -1]]
    return Component(
        name="decoder",
        module=DecoderOfPrompts(model, score=score, logit_limit=SAM2_LOGIT_LIMIT),
        inputs=(*maps, *(replace(spec, shape=("prompts", *spec.shape[1:])) for spec in prompt[:-1]), prompt[-1]),
        outputs=sam2_outputs(score),
        example=(*examples[: len(maps)], *several, examples[-1]),
        free_dims={"prompts": (1, 64), "points": (1, 64)},
        details={
            **decoder_details(None, config, score),
            **padded_by_graph(),
            "embedding": list(SAM2_MAPS),
            "logit_limit": SAM2_LOGIT_LIMIT,
            "outputs_of": {"scores": "iou_predictions"},
        },
    )

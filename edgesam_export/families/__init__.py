"""Model families: drop a file here whose builders are decorated with ``register_model`` and its models exist.

Importing this package imports no torch; the files of the folder are read when a model is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgesam_export.errors import UsageError, warn
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import PROMPT_KINDS, ModelInfo, Progress, Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "FAMILIES",
    "NOT_EXPORTED",
    "RegisteredModel",
    "build_model",
    "load_model",
    "meant_model",
    "model_info",
    "model_names",
    "register_model",
]

Builder = Callable[[ModelInfo], "SamModel"]
UPSAMPLES: tuple[Literal["bicubic", "bilinear"], ...] = ("bicubic", "bilinear")
NOT_EXPORTED = {
    "fast_sam": "it is a detector whose prompts only choose among its masks, so it has no prompt decoder; AGPL-3.0",
}
"""Models that are requested and not exported, with the reason."""
SAM2_SIZES = (
    ("t(iny)?", "tiny"),
    ("s(mall)?", "small"),
    ("b(ase)?_?(plus)?_?", "base_plus"),  # "b+" reads "b_"
    ("l(arge)?", "large"),
)
OTHER_NAMES = (
    (r"(sam_)?vit_?b(ase)?|sam_b(ase)?|sam_vit_b_01ec64", ("sam_vit_b",)),
    (r"med_?sam(_vit_?b(ase)?)?", ("medsam",)),
    (r"(sam_)?vit_?l(arge)?|sam_l(arge)?|sam_vit_l_0b3195", ("sam_vit_l",)),
    (r"(sam_)?vit_?h(uge)?|sam_h(uge)?|sam_vit_h_4b8939|sam|segment_anything|default", ("sam_vit_h",)),
    (r"(sam_)?vit_?t(iny)?|mobilesam|mobile_sam_.*|tiny_?vit(_5m)?", ("mobile_sam",)),
    (r"edgesam(_1x)?|edge_sam_1x|rep_?vit_m1", ("edge_sam", "edge_sam_3x")),
    (r"edgesam_3x", ("edge_sam_3x",)),
    (r"edgesam_rpn", ("edge_sam_rpn",)),
    (r"(efficient_?vit_?(sam_?)?)?(?P<size>l0|l1|l2|xl0|xl1)", (r"efficientvit_sam_\g<size>",)),
    (r"efficient_?sam_?(vit)?(ti?|tiny)", ("efficient_sam_vitt",)),
    (r"efficient_?sam_?(vit)?(s|small)", ("efficient_sam_vits",)),
    (r"edge_?tam(_.*)?", ("edgetam",)),
    *(
        (rf"(coreml_)?sam_?v?{number}_(hiera_)?{pattern}", (f"{release}_hiera_{size}",))
        for number, release in (("2", "sam2"), (r"2[._]1", "sam2.1"))
        for pattern, size in SAM2_SIZES
    ),
    (
        r"(coreml_)?(sam|segment_anything)_?v?2([._]1)?(_hiera)?",
        tuple(f"sam2.1_hiera_{size}" for _, size in SAM2_SIZES),
    ),
)
"""What other repositories call a model (a pattern of the whole name, in small letters, "_" between words) and ours."""


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A model's metadata, and the function that builds it."""

    info: ModelInfo
    build: Builder


FAMILIES: Registry[RegisteredModel] = Registry("model")


def register_model(info: ModelInfo) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a builder for ``info``; several may be stacked on one builder."""

    def store(build: Builder) -> Builder:
        FAMILIES.register(info.name)(RegisteredModel(info=info, build=build))
        return build

    return store


def registered_models() -> Registry[RegisteredModel]:
    """Return every model of every file of this folder."""
    import_submodules(__name__)
    return FAMILIES


def registered(name: str) -> RegisteredModel:
    """Return a model's metadata and its builder.

    Raises:
        UsageError: no such model, or one that is not exported.
    """
    if name in NOT_EXPORTED:
        raise UsageError(f"model '{name}' is not exported: {NOT_EXPORTED[name]}")
    models = registered_models()
    if name not in models and Path(name).is_file():
        raise UsageError(
            f"'{name}' is a file, not a model; name the model that it is of, and the file with --checkpoint"
        )
    if name not in models and (meaning := meant_model(name)):
        raise UsageError(f"unknown model '{name}': {meaning}; 'edgesam-export models' lists all")
    return models[name]


def meant_model(name: str) -> str | None:
    """Return what a name of another repository, or of a file, means here; None for an unknown one."""
    from edgesam_export.checkpoints.manifest import manifest

    if called := models_called(name):
        return f"it is called {' or '.join(called)} here"
    plain = plain_name(name)
    if re.search("hq", plain):
        return "HQ-SAM is not exported yet; the SAM that it was made from is, for example sam_vit_b"
    for file in manifest():
        if plain in (file.model, Path(file.name).stem) or plain.replace("_", "") == file.model.replace("_", ""):
            return f"{file.model} is known ({file.home}), but not exported yet"
    return None


def plain_name(name: str) -> str:
    """Return a name of a model or a file in small letters, without folder and suffix, "_" between words."""
    plain = re.sub(r"[^a-z0-9.]+", "_", Path(name).name.lower())
    return re.sub(r"\.(pth|pt|ckpt|bin|safetensors|zip|ya?ml)$", "", plain).removeprefix("facebook_")


def models_called(name: str) -> list[str]:
    """Return our names of the models that another repository, or a file, has under a name; empty for an unknown one."""
    plain = plain_name(name)
    if plain in registered_models():
        return [plain]
    for pattern, ours in OTHER_NAMES:
        if found := re.fullmatch(pattern, plain):
            return [found.expand(one) for one in ours]
    return []


def model_names() -> list[str]:
    """Return the names of all models, sorted."""
    return list(registered_models())


def model_info(name: str) -> ModelInfo:
    """Return a model's metadata without building it.

    Raises:
        UsageError: no such model.
    """
    return registered(name).info


def build_model(name: str, *, upsample: str | None = None) -> SamModel:
    """Return a model with PyTorch's own random initialisation, in evaluation mode.

    ``upsample`` ("bicubic" or "bilinear") overrides the neck.

    Raises:
        UsageError: no such model, or no such upsampling.
    """
    entry = registered(name)
    if upsample is None:
        return entry.build(entry.info)
    mode = next((known for known in UPSAMPLES if known == upsample), None)
    if mode is None:
        raise UsageError(f"upsample is '{upsample}'; choose {' or '.join(UPSAMPLES)}")
    return entry.build(replace(entry.info, upsample=mode))


def other_models(name: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every other model's name and tensors, which take no memory."""
    return ((other, tensors_on_meta(entry)) for other, entry in registered_models().entries.items() if other != name)


@lru_cache
def tensors_on_meta(entry: RegisteredModel) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by key, without values."""
    import torch

    with torch.device("meta"):
        return entry.build(entry.info).state_dict()


def load_model(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    random_weights: int | None = None,
    upsample: str | None = None,
    progress: Progress | None = None,
) -> SamModel:
    """Return a model with the parameters of a checkpoint: float32, evaluation mode, every key accounted for.

    Without ``checkpoint`` the published one is used; one of folded weights gives a folded model. The weights are found
    in the file by their keys and shapes, whatever else it holds (docs/checkpoints.md). ``random_weights`` is
    the seed of stand-in parameters (``modeling.random_weights``) instead of trained ones. ``progress`` is handed to the
    download.

    Raises:
        UsageError: no such model or upsampling, or both a checkpoint and random weights.
        CheckpointError: the checkpoint cannot be read, or its keys or shapes are not this model's.
    """
    if random_weights is not None and checkpoint is not None:
        raise UsageError(f"both checkpoint '{checkpoint}' and random_weights {random_weights} given; pass one")
    model = build_model(name, upsample=upsample)
    if random_weights is not None:
        from edgesam_export.modeling.random_weights import fill_random

        fill_random(model, random_weights)
        return model

    return from_checkpoint(model, name, checkpoint, progress)


def from_checkpoint(model: SamModel, name: str, checkpoint: str | Path | None, progress: Progress | None) -> SamModel:
    """Return the model, or its folded form, with the parameters of a checkpoint; see ``load_model``."""
    from edgesam_export.checkpoints.reading import load_state_dict
    from edgesam_export.export.folding import forms_of, matching_form

    frame = model.info.frame
    state_dict, provenance = load_state_dict(
        name,
        checkpoint,
        forms=forms_of(model),
        constants={"pixel_mean": frame.mean, "pixel_std": frame.std},
        others=other_models(name),
        progress=progress,
    )
    warn_of_another_frame(model.info, checkpoint)
    return with_weights(matching_form(model, state_dict), state_dict, provenance)


def warn_of_another_frame(info: ModelInfo, checkpoint: str | Path | None) -> None:
    """Warn where a file has the name of a model that sees images otherwise, which weights do not show."""
    named = [] if checkpoint is None else models_called(str(checkpoint).partition("#")[0])
    if named and all(model_info(other).frame != info.frame for other in named):
        warn(
            f"{Path(checkpoint or '').name} has the name of {named[0]}, whose images are prepared otherwise than those"
            f" of {info.name}: if the weights are of {named[0]}, masks will be wrong; name the model {named[0]}",
            stacklevel=5,
        )


def with_weights(model: SamModel, state_dict: dict[str, Tensor], provenance: Provenance) -> SamModel:
    """Return the model with its parameters, their origin, and the kinds of prompt that they were trained on."""
    from edgesam_export.modeling.prompt_encoder import never_trained_on_masks

    model.provenance = provenance
    model.load_state_dict(state_dict, strict=True)
    if never_trained_on_masks(model.prompt_encoder):
        kinds = model.info.trained_prompts or PROMPT_KINDS
        model.info = replace(model.info, trained_prompts=tuple(kind for kind in kinds if kind != "mask"))
    return model

"""Files that another exporter made, opened by the tensor contract of a profile so that they are checked like ours.

They carry no contract of ours, so one is made: of the model that the caller names, the profile, and what the file
itself says about its tensors (``matching``). Every difference from the profile is named; one that leaves nothing to
feed or to compare is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesam_export.artifacts import format_of, list_files
from edgesam_export.errors import UsageError
from edgesam_export.export.contract import make_contract
from edgesam_export.files import sha256_of
from edgesam_export.formats import FileTensors, Format
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity.matching import Match, match, shape_text
from edgesam_export.profiles import Component, find_profile
from edgesam_export.runners import Runner, numerics_choices, runner_of
from edgesam_export.spec import Artifact, ExportConfig, Provenance

__all__ = ["ForeignFiles", "open_foreign"]

OPTIONAL = ("mask_input", "has_mask_input", "orig_im_size", "input_boxes")
"""Inputs of a decoder that can be absent: it is checked without them."""
TOKENS = {4: [0, 1, 2, 3], 3: [1, 2, 3]}
"""Masks that a decoder returns -> their mask tokens."""


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """Files of another exporter, opened."""

    runners: tuple[Runner, ...]
    differences: tuple[str, ...]
    """From the profile, a line each."""
    skipped: tuple[str, ...]
    """What is not compared, and why."""


def open_foreign(
    files: Iterable[str | Path], model: SamModel, *, profile: str, score: str | None, numerics: Sequence[str]
) -> ForeignFiles:
    """Return runners of other exporters' files of ``model``: one for each format, of packages one for each numerics.

    ``score`` is what the files' scores are, None for the profile's choice. FP16 packages are not executed in exact
    arithmetic: how another exporter rounded its weights is unknown, so there is nothing exact to compare with.

    Raises:
        UsageError: no such profile or file, a file that does not match, two of one component, nothing to execute.
    """
    groups: dict[str, list[Artifact]] = {}
    differences: list[str] = []
    for path in map(Path, list_files(list(files))):
        artifact, found = as_artifact(path, model, profile=profile, score=score)
        differences += [f"{path.name}: {text}" for text in found]
        groups.setdefault(artifact.format, []).append(artifact)
    runners: list[Runner] = []
    skipped: list[str] = []
    for format, artifacts in groups.items():
        chosen: list[str | None] = [*numerics] if numerics_choices(format) else [None]
        if "fp32" in chosen and any(artifact.contract["precision"] == "fp16" for artifact in artifacts):
            chosen.remove("fp32")
            skipped.append(f"{format} files in exact arithmetic: how their weights were rounded to FP16 is unknown")
        runners += [runner_of(artifacts, numerics=name) for name in chosen]
    if not runners:
        raise UsageError(f"nothing to compare ({'; '.join(skipped) or 'no files'}); give --numerics fp16")
    return ForeignFiles(runners=tuple(runners), differences=tuple(differences), skipped=tuple(skipped))


def as_artifact(path: Path, model: SamModel, *, profile: str, score: str | None) -> tuple[Artifact, tuple[str, ...]]:
    """Return a file with a contract after the profile, and its differences from the profile.

    Raises:
        UsageError: no such file, a format that the profile is not for, or a tensor missing that is needed.
    """
    format, tensors = read_file(path)
    config = config_for(format, tensors, profile=profile, score=score)
    component = component_of(tensors, model, config, path)
    inputs = match(component.inputs, tensors.inputs, "input")
    outputs = match(component.outputs, tensors.outputs, "output")
    require_tensors(component, inputs, outputs, f"'{path}' as {component.name} of profile '{profile}'")
    of_component = {"encoder": encoder_facts, "prompt_encoder": prompt_encoder_facts, "decoder": decoder_facts}
    details, found = of_component[component.name](component, inputs, outputs, path)
    contract = make_contract(
        info=model.info,
        provenance=model.provenance or Provenance(source="unknown"),
        config=config,
        component=component.name,
        inputs=inputs.specs,
        outputs=outputs.specs,
        details={**component.details, **details, "names": {**inputs.names, **outputs.names}, "modules": {}},
    )
    artifact = Artifact(
        path=path,
        format=format.name,
        component=component.name,
        model=model.info.name,
        sha256=sha256_of(path),
        contract=contract,
    )
    return artifact, (*inputs.differences, *outputs.differences, *found)


def read_file(path: Path) -> tuple[Format, FileTensors]:
    """Return a file's format and tensors.

    Raises:
        UsageError: no such file, or a format whose files are only read by their contract.
    """
    format = format_of(path)
    if format is None or format.read_tensors is None or not path.exists():
        raise UsageError(
            f"'{path}' is no file of another exporter that can be checked; give an existing .onnx or .mlpackage"
        )
    return format, format.read_tensors(path)


def config_for(format: Format, tensors: FileTensors, *, profile: str, score: str | None) -> ExportConfig:
    """Return the options of an export whose tensors would be the file's, as far as the profile has options."""
    options: dict[str, Any] = {"profile": profile, "precision": tensors.precision, "score": score}
    if profile == ExportConfig.profile:
        slots = [spec.shape[1] for spec in tensors.inputs if len(spec.shape) == 2 and isinstance(spec.shape[1], int)]
        options["points"] = slots[0] if slots else format.config.points
        options["mask_input"] = any(spec.name == "mask_input" for spec in tensors.inputs)
        if hasattr(format.config, "tensor_input"):
            options["tensor_input"] = all(spec.dtype != "image" for spec in tensors.inputs)
    return format.config(**options)


def component_of(tensors: FileTensors, model: SamModel, config: ExportConfig, path: Path) -> Component:
    """Return the profile's component that a file is: the decoder, or a prompt encoder, is the one that takes points.

    Raises:
        UsageError: the profile has no files of this format, or the file is neither component.
    """
    profile, format = find_profile(config.profile), format_of(path)
    if profile.formats is not None and format is not None and format.name not in profile.formats:
        raise UsageError(f"profile '{profile.name}' is for {', '.join(profile.formats)}, not for '{path}'")
    if any(len(spec.shape) >= 3 and spec.shape[-1] == 2 for spec in tensors.inputs):
        return (profile.prompt_encoder or profile.decoder)(model, config)
    if len(tensors.inputs) == 1:
        return profile.encoder(model, config)
    if profile.prompt_encoder is not None:
        return profile.decoder(model, config)
    taken = ", ".join(f"{spec.name} {shape_text(spec.shape)}" for spec in tensors.inputs) or "nothing"
    raise UsageError(f"'{path}' takes {taken}: neither an encoder of one image nor a decoder with points (1, N, 2)")


def require_tensors(component: Component, inputs: Match, outputs: Match, where: str) -> None:
    """Raise UsageError unless a file has all that is fed and compared, the maps of the model's embedding among it."""
    results = [spec.name for spec in component.outputs]
    if component.name == "decoder":
        results = list({"masks": "masks", "scores": "scores", **component.details.get("outputs_of", {})}.values())
    absent = [f"input '{spec.name}'" for spec in inputs.missing if spec.name not in OPTIONAL]
    absent += [f"output '{spec.name}'" for spec in outputs.missing if spec.name in results]
    problems = [f"has no {', '.join(absent)}"] if absent else []
    problems += [f"takes '{spec.name}' {shape_text(spec.shape)}, unknown to the profile" for spec in inputs.surplus]
    maps = component.outputs if component.name == "encoder" else component.inputs
    for spec in maps:
        found = (outputs if component.name == "encoder" else inputs).find(spec.name)
        if found is not None and all(isinstance(size, int) for size in spec.shape) and found.shape != spec.shape:
            problems.append(f"has '{found.name}' {shape_text(found.shape)}, the model's is {shape_text(spec.shape)}")
    if problems:
        raise UsageError(f"{where}: {'; '.join(problems)}; give --model and --profile that the file was made for")


def encoder_facts(
    component: Component, inputs: Match, outputs: Match, path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return how an image is handed to the encoder, and in what this differs from the profile.

    Raises:
        UsageError: the input is no image.
    """
    spec, shape = inputs.specs[0], inputs.specs[0].shape
    free = any(isinstance(size, str) for size in shape)
    facts: dict[str, Any] = {"image_input": spec.dtype == "image"}
    if spec.dtype == "image":
        facts.update(padded_by="caller")
    elif len(shape) == 3 and shape[2] == 3:
        facts.update(input_layout="HWC", input_values="0..255", padded_by="graph")
    elif len(shape) == 4 and shape[1] == 3 and (free or spec.dtype == "uint8"):
        facts.update(input_layout="NCHW", input_values="0..255", padded_by="graph")
    elif len(shape) == 4 and shape[1] == 3:
        facts.update(input_layout="NCHW", input_values="normalised", padded_by="caller")
    else:
        raise UsageError(
            f"'{path}' takes '{spec.name}' {shape_text(shape)}; an image is (height, width, 3) or (1, 3, ...)"
        )
    other = {key: value for key, value in facts.items() if component.details.get(key, value) != value}
    text = ", ".join(
        f"{key.replace('_', ' ')} {value} instead of {component.details[key]}" for key, value in other.items()
    )
    return facts, (f"image is taken to be passed with {text}",) if other else ()


def prompt_encoder_facts(
    component: Component, inputs: Match, outputs: Match, path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return that a prompt encoder is given no empty slots, which others do not know; raises like ``fixed_slots``."""
    fixed_slots(component, inputs, path)
    return {"slots": None}, ()


def fixed_slots(component: Component, inputs: Match, path: Path) -> int | None:
    """Return the number of prompt slots of a file, None for a free one.

    Raises:
        UsageError: it takes one number of points where the profile takes any.
    """
    labels = inputs.find(component.details.get("inputs_of", {}).get("point_labels", "point_labels"))
    if labels is None or isinstance(labels.shape[-1], str):
        return None
    expected = next(spec for spec in component.inputs if spec.name == labels.name)
    if isinstance(expected.shape[-1], str):
        raise UsageError(
            f"'{path}' takes exactly {labels.shape[-1]} points, this profile any number; export it with a free number"
        )
    return labels.shape[-1]


def decoder_facts(
    component: Component, inputs: Match, outputs: Match, path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what the decoder takes and returns, as a contract has it; there is no difference that is not a tensor's.

    Raises:
        UsageError: it picks a mask itself, or takes one number of points where the profile takes any.
    """
    scores = outputs.find(component.details.get("outputs_of", {}).get("scores", "scores"))
    count = scores.shape[-1] if scores is not None else None
    if count not in TOKENS and isinstance(count, int):
        raise UsageError(
            f"'{path}' returns {count} mask(s), chosen inside, so there is not one of each token to compare; export it"
            " with all of them (samexporter: without --return-single-mask)"
        )
    slots = fixed_slots(component, inputs, path)
    tokens = component.details["candidates"] if count is None or isinstance(count, str) else TOKENS[count]
    return {"slots": slots, "candidates": tokens, "mask_input": inputs.find("mask_input") is not None}, ()

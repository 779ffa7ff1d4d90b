"""The contract that every exported file carries: what its tensors mean, where its weights come from, what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgesam_export.errors import SchemaError
from edgesam_export.imaging.prompts import is_trained_on, untrained_text
from edgesam_export.spec import MAX_QUERIES, PROMPT_KINDS, ExportConfig, ImageFrame, ModelInfo, Provenance, TensorSpec

__all__ = [
    "CONTRACT_KEY",
    "LABELS",
    "SCHEMA_VERSION",
    "info_of",
    "make_contract",
    "part_contract",
    "queries_of",
    "read_contract",
    "summary",
    "trained_kinds",
]

CONTRACT_KEY = "edgesam_export.contract"
"""Metadata key of the JSON text, in Core ML's user-defined metadata and ONNX's metadata_props."""
# 1: first version.
SCHEMA_VERSION = 1

RESIZE = {
    "longest_side": "longest side to size, each side int(side * scale + 0.5), bilinear with antialiasing, 8-bit RGB",
    "stretch": "both sides to size, bilinear with half-pixel centres, no antialiasing",
    "stretch_antialias": (
        "both sides to size, bilinear with antialiasing on unrounded values; an 8-bit image input rounds once, at the"
        " end, which is at most 0.5 of 255 (measured on random weights: maps at least 57 dB, masks IoU at least 0.99)"
    ),
}
PAD = {
    "longest_side": "right and bottom; zeros after normalisation, pad_colour in an 8-bit image",
    "stretch": "none",
    "stretch_antialias": "none",
}
LABELS = {
    "1": "foreground point",
    "0": "background point",
    "2": "box, top left corner",
    "3": "box, bottom right corner",
    "-1": "not a point: SAM's padding token, added once when points come without a box",
    "-2": "empty slot: takes no part in anything",
}
ALWAYS_PADDED = "not a point: SAM's padding token, added once to points and to a box"
"""Meaning of label -1 for a model whose boxes are followed by the padding point too."""


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that shapes an export."""
    from importlib.metadata import version

    names = ("edgesam-export", "torch", "coremltools", "onnx", "numpy")
    return {name: version(name) for name in names}


def make_contract(
    *,
    info: ModelInfo,
    provenance: Provenance,
    config: ExportConfig,
    component: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    details: dict[str, Any],
) -> dict[str, Any]:
    """Return the contract of one component as plain JSON data; ``details`` are the profile's own facts."""
    warnings = untrained_inputs(info, provenance, config) if component == "decoder" else []
    return {
        "schema_version": SCHEMA_VERSION,
        "model": info.name,
        "family": info.family,
        "component": component,
        "profile": config.profile,
        "precision": config.precision,
        "export": asdict(config),
        "frame": frame_entry(info.frame),
        "upsample": info.upsample,
        "padding_point": bool(info.padding_point),
        "box_padding_point": info.padding_point == "always",
        "trained_prompts": list(info.trained_prompts or PROMPT_KINDS),
        "image_domain": info.image_domain,
        "inputs": [tensor_entry(spec) for spec in inputs],
        "outputs": [tensor_entry(spec) for spec in outputs],
        "labels": {**LABELS, "-1": ALWAYS_PADDED} if info.padding_point == "always" else LABELS,
        "weights": {
            "source": provenance.source,
            "sha256": provenance.sha256,
            "licence": provenance.licence,
            "random_seed": provenance.random_seed,
        },
        "versions": tool_versions(),
        **({"warnings": warnings} if warnings else {}),
        **details,
    }


def untrained_inputs(info: ModelInfo, provenance: Provenance, config: ExportConfig) -> list[str]:
    """Return warnings of inputs that an export has and its weights were not trained on."""
    if not config.mask_input or provenance.random_seed is not None or is_trained_on(info, "mask"):
        return []
    return [f"mask_input: {untrained_text(info, 'mask')}"]


def frame_entry(frame: ImageFrame) -> dict[str, Any]:
    """Return the contract's entry of the frame, with its resizing and padding in words."""
    return {
        "size": frame.size,
        "prompt_size": frame.prompt_size,
        "mean": list(frame.mean),
        "std": list(frame.std),
        "pad_colour": list(frame.pad_colour),
        "fit": frame.fit,
        "mask_resize": frame.mask_resize,
        "resize": RESIZE[frame.fit],
        "pad": PAD[frame.fit],
    }


def part_contract(
    whole: dict[str, Any], part: int, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> dict[str, Any]:
    """Return the contract of one half of a component: ``part`` is 1 or 2 of ``[part, 2]``, the tensors are its own."""
    tensors = {"inputs": [tensor_entry(spec) for spec in inputs], "outputs": [tensor_entry(spec) for spec in outputs]}
    return {**whole, "part": [part, 2], **tensors}


def tensor_entry(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor's line in the contract."""
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype, "description": spec.description}


def read_contract(text: str, where: str) -> dict[str, Any]:
    """Return the contract that a file's metadata holds; fields we do not know are kept.

    Raises:
        SchemaError: not JSON, or written by a newer, incompatible version.
    """
    try:
        contract: dict[str, Any] = json.loads(text)
        version = contract["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise SchemaError(f"{where}: metadata '{CONTRACT_KEY}' is not a contract of edgesam-export") from None
    if version != SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: contract version {version}, this edgesam-export reads {SCHEMA_VERSION}; export again"
        )
    return contract


def info_of(contract: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> ModelInfo:
    """Return the facts of the model that a contract describes; ``shapes`` are those of its embedding's maps."""
    frame = contract["frame"]
    return ModelInfo(
        name=contract["model"],
        family=contract["family"],
        upsample=contract["upsample"],
        frame=ImageFrame(
            size=frame["size"],
            prompt_size=frame["prompt_size"],
            mean=tuple(frame["mean"]),
            std=tuple(frame["std"]),
            # Files of before these two fields existed had only the first of each.
            fit=frame.get("fit", "longest_side"),
            mask_resize=frame.get("mask_resize", "bilinear"),
        ),
        padding_point="always" if contract.get("box_padding_point") else contract.get("padding_point", True),
        trained_prompts=trained_kinds(contract),
        image_domain=str(contract.get("image_domain", "photographs")),
        embedding_dim=shapes[0][1],
        further_maps=tuple((shape[1], shape[2], shape[3]) for shape in shapes[1:]),
    )


def queries_of(contract: Mapping[str, Any]) -> int:
    """Return the number of prompts that a decoder takes at once; 1 of files that do not say.

    Raises:
        SchemaError: a number that no export has.
    """
    queries = contract.get("queries", 1)
    if type(queries) is not int or not 1 <= queries <= MAX_QUERIES:
        raise SchemaError(f"contract has queries {str(queries)[:40]}, expected 1 to {MAX_QUERIES}; export again")
    return queries


def trained_kinds(contract: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of prompt that a file's weights were trained on; none for all, as in files that do not say."""
    listed = contract.get("trained_prompts")
    kinds = tuple(kind for kind in PROMPT_KINDS if isinstance(listed, list) and kind in listed)
    return () if kinds == PROMPT_KINDS else kinds


def summary(contract: dict[str, Any]) -> str:
    """Return the one-paragraph description that Xcode and Netron show."""
    weights = contract["weights"]
    if weights["random_seed"] is not None:
        origin = f"RANDOM WEIGHTS (seed {weights['random_seed']}): for timing and tests only, masks mean nothing"
    else:
        origin = f"weights {weights['source']} (sha256 {weights['sha256']})"
    kind = f"{contract['model']} {contract['component']}, profile {contract['profile']}, {contract['precision']}"
    if "part" in contract:
        kind += f", part {contract['part'][0]} of {contract['part'][1]}"
    tool = f"edgesam-export {contract['versions']['edgesam-export']}"
    return f"{kind}; {origin}. Licence of the weights: {weights['licence']}. Made by {tool}."

"""Exported files by what their contracts say: which there are, which belong together, what they were exported with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from edgesam_export.coreai.asset import SUFFIX as ASSET_SUFFIX
from edgesam_export.errors import SchemaError, UsageError, warn
from edgesam_export.export.contract import CONTRACT_KEY, read_contract
from edgesam_export.files import sha256_of
from edgesam_export.formats import Format, find_format, recorded_modules, registered_formats
from edgesam_export.mil.program import Program
from edgesam_export.mil.program import load_program as load_package
from edgesam_export.spec import COMPONENTS, EMBEDDING_SIDE, PROMPT_INPUTS, Artifact, ExportConfig

__all__ = [
    "chains",
    "config_of",
    "embedding_specs",
    "format_of",
    "joined_contracts",
    "list_files",
    "load_program",
    "open_artifact",
    "pick_components",
    "pick_pair",
]

T = TypeVar("T")
PAIR = ("encoder", "decoder")
"""What an export has in the profiles of this project."""
MAX_MAP_SIZE = 4096
"""Sixteen times what any known model has in channels, rows or columns; a contract that claims more is not believed."""


def load_program(path: str | Path, *, function: str | None = None, require_weights: bool = True) -> Program:
    """Return the program of a Core ML package or a Core AI asset, ours or not; ``function`` names one of several.

    Without ``require_weights`` a package whose weight file is missing can be looked at.

    Raises:
        ProgramError: no such file, damaged, another type of model, or a program that does not hold together.
        RunnerUnavailableError: an asset, where Apple's reader is not installed.
    """
    if Path(path).suffix != ASSET_SUFFIX:
        return load_package(path, function=function, require_weights=require_weights)
    from edgesam_export.coreai.program import load_asset

    return load_asset(path, function=function)


def open_artifact(source: Artifact | str | Path) -> Artifact:
    """Return an exported file with the contract that its own metadata holds.

    The map from operations to torch modules is added under ``modules`` when an ``export.json`` of the same digest lies
    beside the file.

    Raises:
        UsageError: no such file, not an exported one, or without a contract of ours.
    """
    path = source.path if isinstance(source, Artifact) else Path(source)
    format = format_of(path)
    if format is None or not path.exists():
        hint = "; a checkpoint goes with its model: MODEL --checkpoint FILE" if path.is_file() else ""
        raise UsageError(f"'{path}' is no exported file; give an existing {' or '.join(suffixes())}{hint}")
    text = format.read_metadata(path).get(CONTRACT_KEY)
    if text is None:
        raise UsageError(
            f"'{path}' carries no contract of edgesam-export; only packages made by this tool can be used"
            " (parity --model NAME --profile NAME checks those of others)"
        )
    contract = read_contract(text, str(path))
    digest = sha256_of(path)
    return Artifact(
        path=path,
        format=format.name,
        component=contract["component"],
        model=contract["model"],
        sha256=digest,
        contract={**contract, "modules": recorded_modules(path, digest)},
    )


def suffixes() -> list[str]:
    """Return the suffixes of exported files."""
    return [format.suffix for format in registered_formats()]


def format_of(path: Path) -> Format | None:
    """Return the format that a file's suffix stands for, None when it is no exported file."""
    return next((format for format in registered_formats() if format.suffix == path.suffix), None)


def list_files(source: Any) -> list[Any]:
    """Return the exported files that ``source`` names."""
    if isinstance(source, Artifact):
        return [source]
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir() and format_of(path) is None:
            files = exported_members(path)
            if not files and path.suffix == ".mlmodelc":
                raise UsageError(f"'{path}' is a compiled model; give the .mlpackage it was compiled from")
            if not files:
                missing = " and ".join(f"no {suffix}" for suffix in suffixes())
                raise UsageError(f"'{path}' holds {missing}; give exported files or their folder")
            return files
        return [path]
    if isinstance(source, Iterable):
        return [file for item in source for file in list_files(item)]
    raise UsageError(f"cannot run a {type(source).__name__}; give a loaded model or exported files")


def exported_members(folder: Path) -> list[Path]:
    """Return the exported files of a folder, or of the folders in it when it has none itself, as some consumers ask."""
    for pattern in ("*", "*/*"):
        files = sorted(path for path in folder.glob(pattern) if format_of(path) and not format_of(path.parent))
        if files:
            return files
    return []


def pick_components(artifacts: list[Artifact]) -> list[Artifact]:
    """Return at most one file for each component, of one format and model, or say what does not fit.

    Files of different weights are warned of.
    """
    formats = sorted({artifact.format for artifact in artifacts})
    models = sorted({artifact.model for artifact in artifacts})
    if len(formats) > 1:
        hint = "give one encoder and one decoder of one; segment and everything take --backend"
        raise UsageError(f"files of several formats ({', '.join(formats)}); {hint}")
    if len(models) > 1:
        raise UsageError(f"files of several models ({', '.join(models)}); give one encoder and one decoder of one")
    for component in COMPONENTS:
        files = [artifact for artifact in artifacts if artifact.component == component]
        if any("part" in artifact.contract for artifact in files):
            check_parts(files)
        elif len(files) > 1:
            names = ", ".join(artifact.path.name for artifact in files)
            raise UsageError(f"several {component.removesuffix('s').replace('_', ' ')}s ({names}); give one")
    for artifact in artifacts:
        if artifact.component not in COMPONENTS:
            known = ", ".join(COMPONENTS)
            raise UsageError(f"'{artifact.path}' holds the component '{artifact.component}'; known are {known}")
        if artifact.component == "prompt_encoder" and not any(one.component == "decoder" for one in artifacts):
            raise UsageError(f"'{artifact.path}' is a prompt encoder; give the decoder that takes its tokens too")
    warn_of_other_weights(artifacts)
    return sorted(artifacts, key=lambda artifact: (COMPONENTS.index(artifact.component), part_of(artifact)))


def warn_of_other_weights(artifacts: list[Artifact]) -> None:
    """Warn when the files were exported from different weights, which a decoder trained on its own may be.

    A decoder that stayed behind in a folder fits in every name and shape, and makes masks of embeddings that it was not
    trained on.
    """
    origins = {weights_of(artifact): artifact for artifact in artifacts}
    if len(origins) > 1:
        named = ", ".join(f"'{artifact.path.name}' from {origin}" for origin, artifact in origins.items())
        warn(f"files of different weights: {named}; unless one was trained for the other, export them together")


def weights_of(artifact: Artifact) -> str:
    """Return what a file's weights are, in words."""
    weights = artifact.contract["weights"]
    if weights.get("random_seed") is not None:
        return f"random weights (seed {weights['random_seed']})"
    return f"{weights['source']} (sha256 {str(weights.get('sha256'))[:12]})"


def part_of(artifact: Artifact) -> int:
    """Return which part of its component a file is, counted from 1; 0 for a whole one.

    Raises:
        SchemaError: its contract says something else than "first or second of two".
    """
    part = artifact.contract.get("part")
    if part not in (None, [1, 2], [2, 2]):
        raise SchemaError(f"{artifact.path}: contract has part {str(part)[:40]}; known are [1, 2] and [2, 2]")
    return part[0] if part else 0


def check_parts(files: list[Artifact]) -> None:
    """Refuse files of a split component that are not its two parts, once each and of one export."""
    component, names = files[0].component, ", ".join(file.path.name for file in files)
    numbers = sorted(part_of(file) for file in files)
    if len(files) == 1:
        other = 3 - numbers[0]
        raise UsageError(f"'{files[0].path}' is part {numbers[0]} of 2 of the {component}; give part {other} as well")
    if numbers != [1, 2]:
        raise UsageError(f"several {component}s ({names}); give one, or its parts 1 and 2")
    own = ("part", "inputs", "outputs", "modules", "weight_bytes", "warnings")
    shared = [{key: value for key, value in file.contract.items() if key not in own} for file in files]
    first, second = sorted(files, key=part_of)
    if shared[0] != shared[1] or first.contract["outputs"] != second.contract["inputs"]:
        raise UsageError(f"parts of different exports of the {component} ({names}); give both of one")


def chains(artifacts: list[Artifact], load: Callable[[Path], T]) -> dict[str, list[T]]:
    """Return each component's files, loaded by ``load``, in the order in which they run."""
    loaded: dict[str, list[T]] = {}
    for artifact in artifacts:
        loaded.setdefault(artifact.component, []).append(load(artifact.path))
    return loaded


def joined_contracts(artifacts: Iterable[Artifact]) -> dict[str, dict[str, Any]]:
    """Return the contract of each component; two parts have the inputs of the first and the outputs of the second."""
    contracts: dict[str, dict[str, Any]] = {}
    for artifact in artifacts:
        first = contracts.get(artifact.component)
        whole = artifact.contract if first is None else {**first, "outputs": artifact.contract["outputs"]}
        contracts[artifact.component] = whole
    return contracts


def pick_pair(artifacts: list[Artifact]) -> list[Artifact]:
    """Return encoder and decoder, or one of them, without what else was exported; raises like ``pick_components``."""
    picked = pick_components(artifacts)
    for artifact in picked:
        if artifact.component == "prompt_encoder":
            raise UsageError(
                f"'{artifact.path}' is a prompt encoder; only pairs of an encoder and a decoder are measured,"
                " export with profile 'default'"
            )
    pair = [artifact for artifact in picked if artifact.component in PAIR]
    if artifacts and not pair:
        raise UsageError(f"'{artifacts[0].path}' is neither encoder nor decoder; give them too")
    for artifact in pair:
        if part_of(artifact):
            raise UsageError(f"'{artifact.path}' is a part; only whole packages are measured, without --split-encoder")
    return pair


def config_of(artifact: Artifact) -> ExportConfig:
    """Return the options that a file was exported with, of its format's class.

    Raises:
        SchemaError: its contract does not hold them.
    """
    options = artifact.contract.get("export")
    try:
        if not isinstance(options, dict):
            raise TypeError(f"export is {str(options)[:40]}")
        fields: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in options.items()}
        if isinstance(fields.get("compress"), dict):
            from edgesam_export.export.compression import recipe_of  # needs torch, which looking at files does not

            fields["compress"] = recipe_of(fields["compress"], "compress")
        return find_format(artifact.format).config(**fields)
    except (TypeError, UsageError, SchemaError) as error:
        raise SchemaError(f"{artifact.path}: contract holds no usable export options ({error}); export again") from None


def embedding_specs(contracts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the contract's entries of the maps that an encoder hands to a decoder, in order.

    They are the encoder's outputs; of a decoder alone its inputs without the prompt's, of proposals alone their inputs.
    A profile with another order or further tensors names them in the contract's ``embedding``.

    Raises:
        SchemaError: there are none, their sizes cannot be, or two components have different ones.
    """
    sides = {"encoder": "outputs", "decoder": "inputs", "proposals": "inputs"}
    maps = {
        component: maps_of(contracts[component], side) for component, side in sides.items() if component in contracts
    }
    listed = {component: [(spec["name"], spec["shape"]) for spec in specs] for component, specs in maps.items()}
    whole = max(listed.values(), key=len, default=[])
    # proposals are made of the first map alone
    fits = all(side == whole or (name == "proposals" and side == whole[:1]) for name, side in listed.items())
    if not whole or not fits or not are_maps([shape for _, shape in whole]):
        raise SchemaError(
            f"contracts have the embeddings {str(listed)[:120]}, expected one list of maps (1, C, H, W), the first"
            f" (1, D, {EMBEDDING_SIDE}, {EMBEDDING_SIDE}), sizes at most {MAX_MAP_SIZE}; export encoder and decoder"
            " together"
        )
    return next(specs for specs in maps.values() if len(specs) == len(whole))


def maps_of(contract: dict[str, Any], side: str) -> list[dict[str, Any]]:
    """Return the contract's entries of the maps of the embedding among a component's inputs or outputs, in order."""
    named = contract.get("embedding")
    if not isinstance(named, list):
        return [spec for spec in contract[side] if spec["name"] not in PROMPT_INPUTS]
    return [spec for name in named for spec in contract[side] if spec["name"] == name]


def are_maps(shapes: list[Any]) -> bool:
    """True when shapes from a contract are those of the maps of an embedding."""
    plausible = all(
        isinstance(shape, list)
        and len(shape) == 4
        and shape[0] == 1
        and all(type(size) is int and 1 <= size <= MAX_MAP_SIZE for size in shape)
        for shape in shapes
    )
    return plausible and shapes[0][2:] == [EMBEDDING_SIDE, EMBEDDING_SIDE]

"""One package per export format: traced components in, files with their contract out.

A format registers a ``Format``; opening, running, checking and segmenting files of it read nothing else. This module is
also the one place that writes and reads ``export.json``, the record beside the files of an export.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.errors import UsageError, warn
from edgesam_export.files import json_text, read_json, sha256_of, write_json
from edgesam_export.profiles import find_profile
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import Artifact, ExportConfig, ModelInfo, TensorSpec

if TYPE_CHECKING:
    from edgesam_export.export.trace import TracedComponent

__all__ = [
    "FORMATS",
    "FileTensors",
    "Format",
    "component_path",
    "files_folder",
    "find_format",
    "format_names",
    "make_artifacts",
    "recorded_modules",
    "registered_formats",
    "without_module",
    "write_companions",
]

RECORD = "export.json"
# 1: first version.
SCHEMA_VERSION = 1
MAX_RECORD_BYTES = 256 << 20
"""A record larger than this, a hundred times the largest, is not read."""
MAX_NAME_LENGTH = 1000


@dataclass(frozen=True, kw_only=True)
class FileTensors:
    """What a file takes and returns, by its own word; a size that it leaves free is a string."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    """Type of most of its weights, ``fp16`` or ``fp32``."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """Everything that the rest of the package knows about an export format."""

    name: str
    suffix: str
    """Of its files or folders, with the dot."""
    config: type[ExportConfig]
    """Options of an export; a contract holds the fields of one."""
    export: Callable[..., list[Artifact]]
    """``export(model, out_dir, config=None, *, progress=None)``; ``progress`` is called with a line for each step."""
    read_metadata: Callable[[Path], dict[str, str]]
    """User-defined metadata of a file, the contract among it; raises UsageError or ProgramError for a broken file."""
    read_tensors: Callable[[Path], FileTensors] | None = None
    """Tensors of any file of the format, ours or not; raises like ``read_metadata``. None: only our files are read."""


FORMATS: Registry[Format] = Registry("format")


def registered_formats() -> list[Format]:
    """Return every format of this folder, sorted by name."""
    import_submodules(__name__)
    return [FORMATS[name] for name in FORMATS]


def format_names() -> list[str]:
    """Return the names of all formats without importing them, for help texts."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_format(name: str) -> Format:
    """Return a format by name.

    Raises:
        UsageError: no such format.
    """
    import_submodules(__name__)
    return FORMATS[name]


def component_path(folder: Path, component: TracedComponent, suffix: str) -> Path:
    """Return a component's path: ``<MODEL>_<component><suffix>``; a part has ``_part1`` or ``_part2`` before it.

    A profile may have another name instead of ``<MODEL>_<component>``.
    """
    part = f"_part{component.contract['part'][0]}" if "part" in component.contract else ""
    return folder / f"{component.file_stem or component.contract['model'] + '_' + component.name}{part}{suffix}"


def files_folder(out_dir: str | Path, config: ExportConfig) -> Path:
    """Return the folder that an export into ``out_dir`` writes its files to: that of the profile's consumers."""
    return Path(out_dir) / find_profile(config.profile).folder


def write_companions(out_dir: str | Path, info: ModelInfo, config: ExportConfig) -> None:
    """Write the documents that the profile's consumers read beside the files."""
    companions = find_profile(config.profile).companions
    for name, document in (companions(info, config) if companions else {}).items():
        write_json(Path(out_dir) / name, document)


def without_module(component: TracedComponent) -> TracedComponent:
    """Return the component's metadata; frees its weights."""
    return replace(component, module=None)


def make_artifacts(
    out_dir: Path, components: list[TracedComponent], *, format: str, suffix: str, modules: dict[str, dict[str, str]]
) -> list[Artifact]:
    """Return the artifacts of an export at its final location, and record them in ``export.json``.

    ``modules`` maps a component to its map from operation name to the torch module that it came from.
    """
    artifacts = [
        Artifact(
            path=(path := component_path(out_dir, component, suffix)),
            format=format,
            component=component.name,
            model=component.contract["model"],
            sha256=sha256_of(path),
            contract=component.contract,
        )
        for component in components
    ]
    recorded = recorded_artifacts(out_dir)
    warn_of_leftovers(out_dir, artifacts, recorded)
    for artifact in artifacts:
        recorded[artifact.path.name] = {
            "format": artifact.format,
            "component": artifact.component,
            "sha256": artifact.sha256,
            "contract": artifact.contract,
            "modules": modules.get(artifact.component, {}),
        }
    write_json(out_dir / RECORD, {"schema_version": SCHEMA_VERSION, "artifacts": recorded})
    return artifacts


def warn_of_leftovers(folder: Path, artifacts: list[Artifact], recorded: dict[str, Any]) -> None:
    """Warn of files of an earlier export that this one did not replace, and beside which the folder is refused.

    A split encoder and a whole one, or the files of two profiles, have different names. Another model's files, another
    format's and those of another precision may well share a folder.
    """
    written = {artifact.path.name for artifact in artifacts}
    others = [name for name, entry in recorded.items() if name not in written and is_leftover(entry, artifacts)]
    left = [name for name in others if Path(name).name == name and (folder / name).exists()]
    if left:
        warn(f"'{folder}' still has {', '.join(left)} of an earlier export; remove what is old, or name single files")


def is_leftover(entry: Any, artifacts: list[Artifact]) -> bool:
    """Return whether a recorded file is of the same model and format as new ones, but of other parts or profile."""
    contract = entry.get("contract") if isinstance(entry, dict) else None
    if not isinstance(contract, dict):
        return False
    return any(
        (entry.get("format"), contract.get("model")) == (new.format, new.model)
        and (
            contract.get("profile") != new.contract["profile"]
            or (contract.get("component") == new.component and ("part" in contract) != ("part" in new.contract))
        )
        for new in artifacts
    )


def recorded_modules(path: Path, digest: str) -> dict[str, str]:
    """Return the operation-to-module map that ``export.json`` has for this very file, or nothing."""
    entry = recorded_artifacts(path.parent).get(path.name)
    modules = entry.get("modules") if isinstance(entry, dict) and entry.get("sha256") == digest else None
    return {k: v for k, v in modules.items() if is_module_name(v)} if isinstance(modules, dict) else {}


def is_module_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME_LENGTH


def recorded_artifacts(folder: Path) -> dict[str, Any]:
    """Return the records of earlier exports into a folder by file name; none when the record is damaged.

    What cannot be written again, such as a number beyond all bounds, is damage too.
    """
    path = folder / RECORD
    try:
        if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:  # a pipe would be waited for
            return {}
        document = read_json(path)
        json_text(document)
    except (OSError, UsageError, ValueError, RecursionError):
        return {}
    recorded = document.get("artifacts") if isinstance(document, dict) else None
    return recorded if isinstance(recorded, dict) else {}

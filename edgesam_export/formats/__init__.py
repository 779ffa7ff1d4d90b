"""One module per export format: traced components in, files with their contract out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.errors import UsageError
from edgesam_export.files import read_json, sha256_of, write_json
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import Artifact

if TYPE_CHECKING:
    from edgesam_export.export.trace import TracedComponent

__all__ = ["FORMATS", "component_path", "find_format", "make_artifacts", "without_module"]

FORMATS: Registry[Callable[..., list[Artifact]]] = Registry("format")
"""Format name -> ``export(model, out_dir, config, *, progress=None) -> list[Artifact]``."""


def find_format(name: str) -> Callable[..., list[Artifact]]:
    """Return a format's export function.

    Raises:
        UsageError: no such format.
    """
    import_submodules(__name__)
    return FORMATS[name]


def component_path(folder: Path, component: TracedComponent, suffix: str) -> Path:
    """Return where a component goes: ``<MODEL>_<component><suffix>``; a part has ``_part1`` or ``_part2`` before it."""
    part = f"_part{component.contract['part'][0]}" if "part" in component.contract else ""
    return folder / f"{component.contract['model']}_{component.name}{part}{suffix}"


def without_module(component: TracedComponent) -> TracedComponent:
    """Return what is left to say of a converted component, its weights let go."""
    return replace(component, module=None)


def make_artifacts(
    out_dir: Path, components: list[TracedComponent], *, format: str, suffix: str, modules: dict[str, dict[str, str]]
) -> list[Artifact]:
    """Return the artifacts of an export that stands at its final place, and record them in ``export.json``.

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
    record = out_dir / "export.json"
    known = recorded_artifacts(record)
    for artifact in artifacts:
        known[artifact.path.name] = {
            "format": artifact.format,
            "component": artifact.component,
            "sha256": artifact.sha256,
            "contract": artifact.contract,
            "modules": modules.get(artifact.component, {}),
        }
    write_json(record, {"schema_version": 1, "artifacts": known})
    return artifacts


def recorded_artifacts(record: Path) -> dict[str, Any]:
    """Return what an earlier export into the folder recorded; a damaged record is begun anew."""
    try:
        document = read_json(record)
    except UsageError:
        return {}
    known = document.get("artifacts") if isinstance(document, dict) else None
    return known if isinstance(known, dict) else {}

"""The packages of a choice: written, weighed and analysed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgesam_export.ane.analyzer import analyze
from edgesam_export.errors import UsageError
from edgesam_export.export.compression import write_recipe
from edgesam_export.files import files_of
from edgesam_export.formats.coreml.convert import export_coreml
from edgesam_export.shrink.allocation import Choice
from edgesam_export.shrink.result import MB, PackageFacts
from edgesam_export.spec import COMPONENTS, Artifact, CoreMLConfig, Progress, Recipe

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["RECIPE_FILE", "bytes_of", "facts_of", "recipe_for", "write_largest", "write_packages"]

RECIPE_FILE = "recipe.toml"


def recipe_for(model: SamModel, choice: Choice) -> Recipe:
    """Return a choice as a recipe, every kernel by name."""
    components: dict[str, dict[str, str]] = {name: {} for name in COMPONENTS}
    for (component, path), scheme in choice.items():
        components[component][path] = scheme
    return Recipe(
        name="shrink",
        model=model.info.name,
        checkpoint=None if model.provenance is None else model.provenance.sha256,
        components={name: table for name, table in components.items() if table},
    )


def write_packages(
    model: SamModel, choice: Choice, output: Path, export: CoreMLConfig, progress: Progress
) -> list[Artifact]:
    """Write the packages of a choice and its recipe into a folder."""
    recipe = recipe_for(model, choice)
    artifacts = export_coreml(model, output, replace(export, compress=recipe), progress=progress)
    write_recipe(recipe, output / RECIPE_FILE)
    return artifacts


def write_largest(
    model: SamModel,
    path: Sequence[Choice],
    index: int,
    output: Path,
    export: CoreMLConfig,
    limit: int | None,
    progress: Progress,
) -> tuple[list[Artifact], int]:
    """Write the packages of ``path[index]``, or of the next smaller choice whose packages have at most ``limit`` bytes.

    Returns them and the index of their choice: sizes that were computed are those of the files, nearly.

    Raises:
        UsageError: the smallest ones are larger.
    """
    for at in range(index, -1, -1):
        artifacts = write_packages(model, path[at], output, export, progress)
        if limit is None or bytes_of(artifacts) <= limit:
            return artifacts, at
    smallest = bytes_of(artifacts) / MB
    raise UsageError(f"the packages cannot have {(limit or 0) / MB:g} MB: the smallest take {smallest:.3f} MB")


def bytes_of(artifacts: Sequence[Artifact]) -> int:
    """Return the bytes of some packages."""
    return sum(member.stat().st_size for artifact in artifacts for member in files_of(artifact.path))


def facts_of(artifacts: Sequence[Artifact]) -> PackageFacts:
    """Return findings and estimates of some packages together."""
    reports = [analyze(artifact.path) for artifact in artifacts]
    findings = Counter(str(finding.severity) for report in reports for finding in report.findings)
    times: dict[str, float] = {}
    for cost in (cost for report in reports for cost in report.costs):
        times[cost.family] = times.get(cost.family, 0.0) + cost.time_ms
    return PackageFacts(findings=dict(findings), estimate_ms=times)

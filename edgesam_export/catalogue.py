"""Entries of ``models``: every registered model with its checkpoint, its measured figures and the published ones."""

from __future__ import annotations

import json
import statistics
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from edgesam_export.errors import SchemaError

__all__ = [
    "PUBLISHED_NAMES",
    "catalogue",
    "host_figures",
    "measured_figures",
    "published_figures",
    "published_rows",
]

PUBLISHED_NAMES: dict[str, str | None] = {
    "edge_sam": "EdgeSAM",
    "edge_sam_3x": "EdgeSAM",
    "edge_sam_rpn": "EdgeSAM-RPN",
    "edge_sam_tiny": None,
    "edgetam": "EdgeTAM",
    "efficient_sam_vits": "EfficientSAM-S",
    "efficient_sam_vitt": "EfficientSAM-Ti",
    "efficientvit_sam_l0": "EfficientViT-SAM-L0",
    "efficientvit_sam_l1": "EfficientViT-SAM-L1",
    "efficientvit_sam_l2": "EfficientViT-SAM-L2",
    "efficientvit_sam_xl0": "EfficientViT-SAM-XL0",
    "efficientvit_sam_xl1": "EfficientViT-SAM-XL1",
    "fast_sam": "FastSAM",
    "lite_medsam": None,
    "medsam": None,
    "mobile_sam": "MobileSAM",
    "sam2.1_hiera_base_plus": "SAM 2.1 B+",
    "sam2.1_hiera_large": "SAM 2.1 L",
    "sam2.1_hiera_small": "SAM 2.1 small",
    "sam2.1_hiera_tiny": "SAM 2.1 tiny",
    "sam2_hiera_base_plus": "SAM 2 B+",
    "sam2_hiera_large": "SAM 2 L",
    "sam2_hiera_small": "SAM 2 small",
    "sam2_hiera_tiny": "SAM 2 tiny",
    "sam_vit_b": "SAM ViT-B",
    "sam_vit_h": "SAM ViT-H",
    "sam_vit_l": "SAM ViT-L",
}
"""Our name -> the name in benchmarks/published.toml; None for a model of which no figures are published."""
FIGURE_FIELDS = ("part", "device", "value", "unit", "setup", "source")


def catalogue() -> list[dict[str, Any]]:
    """Return one plain entry per model, sorted by name; those that cannot be exported say why in ``not_exported``."""
    from edgesam_export.families import NOT_EXPORTED, model_names

    exported = [model_entry(name) for name in model_names()]
    refused = [
        {"name": name, "not_exported": reason, "published": published_figures(name)}
        for name, reason in NOT_EXPORTED.items()
    ]
    return sorted([*exported, *refused], key=lambda entry: entry["name"])


def model_entry(name: str) -> dict[str, Any]:
    """Return a registered model's entry."""
    from edgesam_export.checkpoints.manifest import checkpoint_for
    from edgesam_export.families import model_info

    info, file = model_info(name), checkpoint_for(name)
    return {
        "name": name,
        "family": info.family,
        "description": info.description,
        "input_size": info.frame.size,
        "default_score": info.default_score,
        "checkpoint": file.name if file else None,
        "bundled": file.bundled if file else False,
        "package": file.package if file else None,
        "url": file.url if file else None,
        "bytes": file.bytes if file else None,
        "sha256": file.sha256 if file else None,
        "licence": file.licence if file else None,
        "measured": measured_figures().get(name),
        "host": host_figures(name),
        "published": published_figures(name),
    }


@lru_cache(maxsize=1)
def measured_figures() -> dict[str, Any]:
    """Return models/figures.json: parameters, multiply-adds, sizes, findings and parity of our exports, by model."""
    from edgesam_export.resources import manifest_path

    path = manifest_path().with_name("figures.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def host_figures(name: str) -> dict[str, Any] | None:
    """Return our own times of a model on a host, None when there are none.

    Units: milliseconds, ``runtimes`` by runtime, part and statistic; FP32, batch 1, one prompt.
    """
    record = host_record()
    if name not in record["models"]:
        return None
    runtimes = {
        runtime: {part: {"samples": len(times), **summary_ms(times)} for part, times in parts.items()}
        for runtime, parts in record["models"][name].items()
    }
    return {"machine": record["machine"], "date": record["date"], "runtimes": runtimes}


def summary_ms(times: list[float]) -> dict[str, float]:
    """Return least, median and largest of some times."""
    values = {"min_ms": min(times), "median_ms": statistics.median(times), "max_ms": max(times)}
    return {key: round(value, 2) for key, value in values.items()}


@lru_cache(maxsize=1)
def host_record() -> dict[str, Any]:
    """Return the record of benchmarks/families.py: machine, date, and times by model, runtime and part."""
    from edgesam_export.resources import shipped_file

    document: dict[str, Any] = json.loads(shipped_file("benchmarks/families.json").read_text(encoding="utf-8"))
    return document


def published_figures(name: str) -> list[dict[str, Any]]:
    """Return the published figures of a model, each with its device, setup and source."""
    published = PUBLISHED_NAMES.get(name)
    return [{field: row[field] for field in FIGURE_FIELDS} for row in published_rows() if row["model"] == published]


@cache
def published_rows(path: Path | None = None) -> tuple[dict[str, Any], ...]:
    """Return every row of benchmarks/published.toml, or of another such file, read once.

    Raises:
        SchemaError: the file is not TOML, or has no figures.
    """
    from edgesam_export.resources import read_toml, shipped_file

    path = path or shipped_file("benchmarks/published.toml")
    document = read_toml(path)
    if not isinstance(document.get("figure"), list):
        raise SchemaError(f"{path}: is no list of published figures (it has no [[figure]])")
    return (*document["figure"], *document.get("reference", ()))

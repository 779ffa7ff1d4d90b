"""What ``models`` lists: every registered model with its published checkpoint."""

from __future__ import annotations

from typing import Any

__all__ = ["catalogue"]


def catalogue() -> list[dict[str, Any]]:
    """Return one plain entry per model, sorted by name."""
    from edgesam_export.download import checkpoint_for
    from edgesam_export.families import model_info, model_names

    entries = []
    for name in model_names():
        info, file = model_info(name), checkpoint_for(name)
        entries.append(
            {
                "name": name,
                "family": info.family,
                "description": info.description,
                "input_size": info.frame.size,
                "default_score": info.default_score,
                "checkpoint": file.name if file else None,
                "url": file.url if file else None,
                "bytes": file.bytes if file else None,
                "sha256": file.sha256 if file else None,
                "licence": file.licence if file else None,
            }
        )
    return entries

"""Loading a model as the options of a command say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgesam_export.cli.output import note_weights, steps

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["load"]


def load(model: str, options: dict[str, Any], quiet: bool) -> SamModel:
    """Return a model with the weights that the options name; prints their licence."""
    from edgesam_export.families import load_model

    with steps(quiet, f"loading {model}") as progress:
        loaded = load_model(
            model,
            options["checkpoint"],
            random_weights=options["random_weights"],
            upsample=options["upsample"],
            progress=progress,
        )
    note_weights(quiet, loaded.provenance)
    return loaded

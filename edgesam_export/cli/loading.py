"""Loading a model, or finding exported files, as the options of a command say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgesam_export.cli.output import note_weights, steps

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["load", "predicting_source"]


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


def predicting_source(options: dict[str, Any], quiet: bool) -> Any:
    """Return what the options of ``prediction_source`` name, for ``open_runner``: exported files or a loaded model."""
    from edgesam_export.predict.segment import choose_files

    return choose_files(options["artifacts"], options["backend"]) or load(options["model"], options, quiet)

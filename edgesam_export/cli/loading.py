"""Loading a model as the options of a command say."""

from __future__ import annotations

from typing import Any

from edgesam_export.cli.output import note, steps

__all__ = ["load"]


def load(model: str, options: dict[str, Any], quiet: bool) -> Any:
    """Load a model as the options say, and tell the licence of its weights."""
    from edgesam_export.families import load_model

    with steps(quiet, f"loading {model}") as progress:
        loaded = load_model(
            model,
            options["checkpoint"],
            random_weights=options["random_weights"],
            upsample=options["upsample"],
            progress=progress,
        )
    if loaded.provenance.random_seed is not None:
        note(quiet, f"random weights (seed {loaded.provenance.random_seed}): for timing and tests, masks mean nothing")
    else:
        note(quiet, f"licence of the weights: {loaded.provenance.licence}")
    return loaded

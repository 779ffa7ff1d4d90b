"""Loading a model, or finding exported files, as the options of a command say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgesam_export.cli.output import note_weights, steps
from edgesam_export.errors import UsageError

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
    """Return what the options of ``prediction_source`` name, for ``open_runner``: exported files or a loaded model.

    Raises: UsageError for files and an option that would have no effect on them.
    """
    from edgesam_export.predict.segment import choose_files

    if options["artifacts"] and (name := first_given("model", "checkpoint", "random_weights", "upsample")):
        option = f"--{name.replace('_', '-')}"
        raise UsageError(f"{option} has no effect on exported files; leave {option} or --artifact out")
    return choose_files(options["artifacts"], options["backend"]) or load(options["model"], options, quiet)


def first_given(*names: str) -> str | None:
    """Return the first of some parameters of the command that is on its command line."""
    source = click.get_current_context().get_parameter_source
    return next((name for name in names if source(name) is ParameterSource.COMMANDLINE), None)

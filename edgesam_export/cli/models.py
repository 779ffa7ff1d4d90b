"""The command ``models``."""

from __future__ import annotations

from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common
from edgesam_export.cli.output import emit
from edgesam_export.rendering import text_table


@cli.command()
@common()
def models(as_json: bool, quiet: bool) -> None:
    """List every model that can be exported and where its checkpoint comes from."""
    from edgesam_export.catalogue import catalogue

    entries = catalogue()
    if as_json:
        emit({"models": entries})
        return
    rows = [model_row(entry) for entry in entries if "not_exported" not in entry]
    headings = ("model", "input", "parameters", "G multiply-adds", "checkpoint", "licence of the weights")
    click.echo(text_table(headings, rows))
    for entry in entries:
        if "not_exported" in entry:
            click.echo(f"{entry['name']}: not exported, {entry['not_exported']}")


def checkpoint_text(entry: dict[str, Any]) -> str:
    """Return a model's checkpoint in a few words: its file's name, and the Python package that it is part of."""
    if entry["bundled"]:
        return "bundled"
    return f"{entry['checkpoint']} (pip: {entry['package']})" if entry["package"] else entry["checkpoint"] or "-"


def model_row(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return a model's row of the table; its figures are those of models/figures.json."""
    measured = entry["measured"]
    parts = [measured[part]["multiply_adds"] for part in ("encoder", "decoder")] if measured else ()
    return (
        entry["name"],
        str(entry["input_size"]),
        f"{measured['parameters'] / 1e6:.1f} M" if measured else "-",
        " + ".join(f"{count / 1e9:.1f}" for count in parts) or "-",
        checkpoint_text(entry),
        entry["licence"] or "-",
    )

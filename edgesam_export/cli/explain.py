"""The command ``explain``."""

from __future__ import annotations

import click

from edgesam_export.cli.app import cli


@cli.command()
@click.argument("rule")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def explain(rule: str) -> None:
    """Print what a rule of ``analyze`` looks for, why it matters and what to write instead."""
    from edgesam_export.ane.rules import explain as text_of

    click.echo(text_of(rule))

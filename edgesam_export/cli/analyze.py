"""The command ``analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common
from edgesam_export.cli.output import EXIT_GATE, note, steps
from edgesam_export.cli.paths import UserPath


@cli.command()
@click.argument("package", type=UserPath())
@click.option("--target", default="all", show_default=True, help='Device, chip or family: "iPhone 14", A15, H14, all.')
@click.option("--function", default=None, help="Function of a package that has several.")
@click.option("--ranges", type=UserPath(), help="Parity report (JSON) whose magnitudes to use.")
@click.option("--records", type=UserPath(), help="Folder of benchmark records of this artifact.")
@click.option("--fail-on", type=click.Choice(["error", "warning"]), help="Exit 1 when there is such a finding.")
@click.option("--baseline", type=UserPath(), help="Earlier JSON report: only new findings count.")
@click.option("--compute-plan", type=UserPath(), help="Core ML's stored plan (JSON) to compare with.")
@click.option("--native-plan", is_flag=True, help="Ask Core ML on this Mac for its plan, and compare.")
@common(output="build/analysis")
def analyze(package: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Report what may keep a package off the Neural Engine, where, why, and what to write instead."""
    from edgesam_export.ane.inspection import inspect_package

    with steps(quiet, f"analysing {package.name}"):
        result = inspect_package(package, output, **options)
    click.echo(result.render(as_json=as_json), nl=False)
    note(quiet, f"report: {', '.join(str(path) for path in result.paths)}")
    if result.failing:
        counted = "new findings" if options["baseline"] else "findings"
        note(quiet, f"analyze: {len(result.failing)} {counted} at or above {options['fail_on']}")
        raise click.exceptions.Exit(EXIT_GATE)

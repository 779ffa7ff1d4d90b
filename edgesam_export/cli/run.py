"""The command ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.rendering import text_table
from edgesam_export.spec import NUMERICS


@cli.command()
@click.argument("package", type=UserPath())
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=FILE",
    help="A .npy array or an image; of a state, what it holds before.",
)
@click.option("--function", default=None, help="Function of a package that has several.")
@click.option("--numerics", type=click.Choice(NUMERICS), default="fp16", show_default=True)
@click.option("--probe", "probes", multiple=True, metavar="NAME", help="Also save this value of the program.")
@click.option("--time", "repeats", type=int, metavar="N", help="Run N more times and print the times.")
@click.option("--profile", "profiled", is_flag=True, help="Also time every operation; writes profile.html and .json.")
@common(output="out")
def run(package: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Run any ML Program on this machine: inputs from .npy or image files; outputs to .npy, .png and .json."""
    from edgesam_export.predict.run import run_package

    with steps(quiet, f"running {package.name}"):
        result = run_package(
            package,
            inputs=options["inputs"],
            output=output,
            function=options["function"],
            numerics=options["numerics"],
            probes=options["probes"],
            repeats=options["repeats"],
            profiled=options["profiled"],
        )
    if as_json:
        emit(result.document())
        return
    rows = [(v.name, v.kind, v.shape_text, v.dtype, v.range_text, str(v.path)) for v in result.values]
    click.echo(text_table(("name", "kind", "shape", "dtype", "smallest .. largest", "file"), rows))
    if result.times_ms:
        ordered = sorted(result.times_ms)
        middle = ordered[len(ordered) // 2]
        click.echo(f"time: median {middle:.1f} ms, min {ordered[0]:.1f}, max {ordered[-1]:.1f}, {len(ordered)} runs")
    if result.profile is not None:
        from edgesam_export.predict.render.table import profile_text

        click.echo(f"\n{profile_text(result.profile)}")
        note(quiet, f"wrote {output / 'profile.html'} and {output / 'profile.json'}")

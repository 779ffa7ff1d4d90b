"""The command line: parse, one library call, render, exit code. Of all modules, only the ``cli*.py`` import click.

Heavy imports stay inside commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.spec import COMPRESSIONS

__all__ = ["cli", "main"]

EXIT_OK, EXIT_GATE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: every error a user can cause is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    name = next((word for word in arguments if not word.startswith("-")), "")
    prefix = f"edgesam-export {name}".strip()
    try:
        code = cli.main(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = EXIT_USAGE
    except click.ClickException as error:
        code = fail(prefix, f"{error.format_message()} (see '{prefix} --help')", EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        code = fail(prefix, "interrupted; nothing half-written was left", EXIT_INTERRUPTED)
    except SystemExit:  # click's own answer to a reader that went away, and only to that: `models | head`
        code = EXIT_OK
    except BrokenPipeError:
        sys.stderr.close()
        code = EXIT_OK
    except EdgeSAMExportError as error:
        if debug:
            raise
        code = fail(prefix, str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = " ".join(str(error).split()) or "no message"
        code = fail(prefix, f"unexpected {type(error).__name__}: {line}; run with --debug and report it", EXIT_USAGE)
    sys.exit(code or EXIT_OK)


def fail(prefix: str, message: str, code: int) -> int:
    """Print one error line; return the exit code."""
    click.echo(f"{prefix}: {' '.join(message.split())}", err=True)
    return code


# ---------------------------------------------------------------------------------------------------------- options


def common(*, output: str | None = None) -> Callable:
    """Return a decorator that adds --json, --quiet and, with a default, --output."""

    def decorate(command: Callable) -> Callable:
        command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)
        command = click.option("--quiet", is_flag=True, help="No progress and no summary on stderr.")(command)
        command = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)
        if output is not None:
            option = click.option("--output", type=click.Path(path_type=Path), default=output, show_default=True)
            command = option(command)
        return command

    return decorate


def weights(command: Callable) -> Callable:
    """Add --checkpoint, --random-weights and --upsample."""
    for option in (
        click.option("--upsample", type=click.Choice(["bicubic", "bilinear"]), help="Override the neck's upsampling."),
        click.option("--random-weights", type=int, metavar="SEED", help="Stand-in weights: timing and tests only."),
        click.option("--checkpoint", type=click.Path(path_type=Path), help="Your file; else the published one."),
    ):
        command = option(command)
    return command


def decoder_options(command: Callable) -> Callable:
    """Add what both export formats share."""
    for option in (
        click.option("--no-verify", is_flag=True, help="Skip parity with PyTorch after exporting."),
        click.option("--profile", default="default", show_default=True, help="Tensor contract (see README)."),
        click.option("--score", type=click.Choice(["iou", "stability"]), help="What scores are; default per family."),
        click.option("--candidates", type=click.Choice(["4", "3", "1"]), default="4", show_default=True),
        click.option("--mask-input/--no-mask-input", default=False, help="Let the decoder take an earlier mask."),
    ):
        command = option(command)
    return command


class Coordinates(click.ParamType):
    """Comma-separated numbers: a point or a box in source pixels."""

    def __init__(self, names: str) -> None:
        self.name = names
        self.count = len(names.split(","))

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Return the numbers, or say what was expected."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            self.fail(f"'{value}' is not {self.name} in source pixels", param, ctx)
        return numbers


# --------------------------------------------------------------------------------------------------------- rendering


@contextmanager
def steps(quiet: bool, title: str) -> Iterator[Callable[..., None]]:
    """Yield a progress callback: a bar on a terminal, nothing elsewhere.

    The callback takes a text, or (done, total) with an optional text.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(*parts: Any) -> None:
            numbers = [part for part in parts if isinstance(part, int)]
            text = next((part for part in parts if isinstance(part, str)), title)
            done, total = (*numbers, None, None)[:2]
            bar.update(task, description=text, completed=done, total=total)

        yield update


def note(quiet: bool, line: str) -> None:
    """Print a summary line on stderr."""
    if not quiet:
        click.echo(line, err=True)


def emit(document: Any) -> None:
    """Print JSON on stdout."""
    click.echo(json.dumps(document, indent=2, sort_keys=True, allow_nan=False))


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return rows under headings, columns aligned."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def size_text(path: Path) -> str:
    """Return the size of a file or folder in MB."""
    from edgesam_export.files import files_of

    return f"{sum(member.stat().st_size for member in files_of(path)) / 1e6:.1f} MB"


# ---------------------------------------------------------------------------------------------------------- commands


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edgesam-export")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli() -> None:
    """Take Segment Anything models to the iPhone: export, prove, run."""


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
    click.echo(table(headings, rows))
    for entry in entries:
        if "not_exported" in entry:
            click.echo(f"{entry['name']}: not exported, {entry['not_exported']}")


def model_row(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return what ``models`` shows of a model; figures are those of models/figures.json."""
    found = entry["measured"]
    parts = [found[part]["multiply_adds"] for part in ("encoder", "decoder")] if found else ()
    return (
        entry["name"],
        str(entry["input_size"]),
        f"{found['parameters'] / 1e6:.1f} M" if found else "-",
        " + ".join(f"{count / 1e9:.1f}" for count in parts) or "-",
        "bundled" if entry.get("bundled") else entry["checkpoint"] or "-",
        entry["licence"] or "-",
    )


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Prompt slots of the decoder; default: 8, or the model's own number.")
@click.option("--also-points", type=int, multiple=True, help="Another number of slots in the same package (iOS18).")
@click.option("--target", type=click.Choice(["iOS16", "iOS17", "iOS18"]), default="iOS17", show_default=True)
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), default="fp16", show_default=True)
@click.option("--tensor-input", is_flag=True, help="Encoder takes a normalised tensor instead of an image.")
@click.option("--split-encoder", is_flag=True, help="Encoder as two packages, for weights above 1 GB.")
@click.option("--compress", type=click.Choice(list(COMPRESSIONS)), help="Store weights compressed (linear4: iOS18).")
@decoder_options
@weights
@common(output="build")
def coreml(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to Core ML packages, then check them against PyTorch."""
    from edgesam_export.families import model_info
    from edgesam_export.profiles.default import check_points
    from edgesam_export.spec import CoreMLConfig

    chosen = {} if options["points"] is None else {"points": options["points"]}
    if chosen:
        check_points(model_info(model), options["points"])
    config = CoreMLConfig(
        **chosen,
        functions=options["also_points"],
        target=options["target"],
        precision=options["precision"],
        tensor_input=options["tensor_input"],
        split_encoder=options["split_encoder"],
        compress=options["compress"],
        **shared_config(options),
    )
    export("coreml", model, config, output, options, as_json=as_json, quiet=quiet)


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Fix the number of prompt slots; default: any number.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX operator set, 17 to 20.")
@decoder_options
@weights
@common(output="build")
def onnx(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to ONNX, then check them against PyTorch."""
    from edgesam_export.spec import OnnxConfig

    config = OnnxConfig(
        points=options["points"],
        precision=options["precision"],
        opset=options["opset"],
        **shared_config(options),
    )
    export("onnx", model, config, output, options, as_json=as_json, quiet=quiet)


def shared_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``ExportConfig`` that both commands take."""
    return {
        "mask_input": options["mask_input"],
        "candidates": int(options["candidates"]),
        "score": options["score"],
        "profile": options["profile"],
    }


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


def export(
    format: str, model: str, config: Any, output: Path, options: dict[str, Any], *, as_json: bool, quiet: bool
) -> None:
    """Export, print what was written, then judge it unless told not to."""
    from edgesam_export.formats import find_format

    loaded = load(model, options, quiet)
    with steps(quiet, "exporting") as progress:
        artifacts = find_format(format)(loaded, output, config, progress=progress)
    document: dict[str, Any] = {
        "artifacts": [
            {"path": str(a.path), "component": a.component, "format": a.format, "sha256": a.sha256} for a in artifacts
        ]
    }
    for artifact in artifacts:
        if as_json:
            break
        click.echo(f"{artifact.path}  {artifact.component}  {size_text(artifact.path)}  sha256 {artifact.sha256[:12]}")
    for artifact in artifacts:
        for warning in artifact.contract.get("warnings", ()):
            note(quiet, f"{artifact.path.name}: {warning}")
    passed = True
    if not options["no_verify"]:
        report = judge(loaded, artifacts, quiet=quiet)
        passed = report.passed
        document["parity"] = write_and_show(report, output, as_json=as_json, quiet=quiet)
    if as_json:
        emit(document)
    if not passed:
        raise click.exceptions.Exit(EXIT_GATE)


def judge(reference: Any, artifacts: Any, *, quiet: bool, **arguments: Any) -> Any:
    """Return the parity report, with progress on the way."""
    from edgesam_export.parity import check_parity

    with steps(quiet, "parity") as progress:
        return check_parity(reference, artifacts, progress=progress, **arguments)


def write_and_show(report: Any, folder: Path, *, as_json: bool, quiet: bool) -> dict[str, Any]:
    """Write the report's files, print its table; return what JSON output says about it."""
    from edgesam_export.report import to_table, write_reports

    paths = write_reports(report, folder)
    if not as_json:
        click.echo(to_table(report))
    note(quiet, f"report: {paths['html']}")
    return {"passed": report.passed, "reports": {kind: str(path) for kind, path in paths.items()}}


@cli.command()
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Picture to compare on (2+).")
@click.option("--numerics", default="fp32,fp16,ane", show_default=True, help="Of Core ML: fp32, fp16, ane, native:all.")
@weights
@common(output="build/parity")
def parity(artifacts: tuple[Path, ...], output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare exported files with PyTorch; exit 1 when a gate fails. Reports: JSON, JUnit XML, Markdown, HTML."""
    from edgesam_export.parity_inputs import load_reference

    with steps(quiet, "loading the reference") as progress:
        reference = load_reference(
            artifacts,
            checkpoint=options["checkpoint"],
            random_weights=options["random_weights"],
            upsample=options["upsample"],
            progress=progress,
        )
    arguments = {"numerics": tuple(options["numerics"].split(",")), "images": options["images"] or None}
    report = judge(reference, list(artifacts), quiet=quiet, **arguments)
    shown = write_and_show(report, output, as_json=as_json, quiet=quiet)
    if as_json:
        emit(shown)
    if not report.passed:
        raise click.exceptions.Exit(EXIT_GATE)


@cli.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--target", default="all", show_default=True, help='Device, chip or family: "iPhone 14", A15, H14, all.')
@click.option("--function", default=None, help="Function of a package that has several.")
@click.option("--ranges", type=click.Path(path_type=Path), help="Parity report (JSON) whose magnitudes to use.")
@click.option("--records", type=click.Path(path_type=Path), help="Folder of benchmark records of this artifact.")
@click.option("--fail-on", type=click.Choice(["error", "warning"]), help="Exit 1 when there is such a finding.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Earlier JSON report: only new findings count.")
@click.option("--compute-plan", type=click.Path(path_type=Path), help="Core ML's stored plan (JSON) to compare with.")
@click.option("--native-plan", is_flag=True, help="Ask Core ML on this Mac for its plan, and compare.")
@common(output="build/analysis")
def analyze(package: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Say what may keep a package off the Neural Engine, where, why, and what to write instead."""
    from edgesam_export.inspection import inspect_package

    with steps(quiet, f"analysing {package.name}"):
        result = inspect_package(package, output, **options)
    click.echo(result.render(as_json=as_json), nl=False)
    note(quiet, f"report: {', '.join(str(path) for path in result.paths)}")
    if result.failing:
        what = "new findings" if options["baseline"] else "findings"
        note(quiet, f"analyze: {len(result.failing)} {what} at or above {options['fail_on']}")
        raise click.exceptions.Exit(EXIT_GATE)


@cli.command()
@click.argument("rule")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def explain(rule: str) -> None:
    """Print what a rule of ``analyze`` looks for, why it matters and what to write instead."""
    from edgesam_export.rules import explain as text_of

    click.echo(text_of(rule))


@cli.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="A .npy array or a picture.")
@click.option("--function", default=None, help="Function of a package that has several.")
@click.option("--numerics", type=click.Choice(["fp16", "fp32", "ane"]), default="fp16", show_default=True)
@click.option("--probe", "probes", multiple=True, metavar="NAME", help="Also save this value of the program.")
@click.option("--time", "repeats", type=int, metavar="N", help="Run N more times and print the times.")
@common(output="out")
def run(package: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Run any ML Program on this machine: inputs from .npy or picture files, outputs to .npy."""
    from edgesam_export.execution import run_package

    with steps(quiet, f"running {package.name}"):
        result = run_package(
            package,
            inputs=options["inputs"],
            output=output,
            function=options["function"],
            numerics=options["numerics"],
            probes=options["probes"],
            repeats=options["repeats"],
        )
    if as_json:
        emit(result.document())
        return
    rows = [(v.name, v.kind, v.shape_text, v.dtype, v.range_text, str(v.path)) for v in result.values]
    click.echo(table(("name", "kind", "shape", "dtype", "smallest .. largest", "file"), rows))
    if result.times_ms:
        ordered = sorted(result.times_ms)
        middle = ordered[len(ordered) // 2]
        click.echo(f"time: median {middle:.1f} ms, min {ordered[0]:.1f}, max {ordered[-1]:.1f}, {len(ordered)} runs")


@cli.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--point", "points", multiple=True, type=Coordinates("x,y"), help="On the object; repeat for more.")
@click.option("--background", multiple=True, type=Coordinates("x,y"), help="Not on the object; repeat for more.")
@click.option("--box", type=Coordinates("x0,y0,x1,y1"), help="Around the object.")
@click.option("--mask-input", type=click.Path(path_type=Path), help="Logits of an earlier prediction, .npy.")
@click.option(
    "--artifact", "artifacts", multiple=True, type=click.Path(path_type=Path), help="Exported files or folder."
)
@click.option("--backend", type=click.Choice(["torch", "onnx", "coreml"]), help="Which of them; torch without files.")
@click.option("--model", default="edge_sam_3x", show_default=True, help="Model of the torch backend.")
@click.option("--numerics", default="fp16", show_default=True, help="Of Core ML: fp32, fp16, ane, native:all.")
@weights
@common(output="out")
def segment(image: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Cut an object out of a picture: writes the mask, the logits and a picture of the result."""
    from edgesam_export.execution import choose_files, segment_image

    files = choose_files(options["artifacts"], options["backend"])
    source = files if files else load(options["model"], options, quiet)
    with steps(quiet, f"segmenting {image.name}"):
        result = segment_image(
            image,
            source,
            output,
            points=options["points"],
            background=options["background"],
            box=options["box"],
            mask_input=options["mask_input"],
            numerics=options["numerics"],
        )
    if as_json:
        emit(result.document())
        return
    click.echo(f"mask     {result.mask_path}")
    click.echo(f"overlay  {result.overlay_path}")
    click.echo(f"logits   {result.logits_path}")
    note(quiet, result.summary())


import edgesam_export.cli_bench  # noqa: E402  # their commands are made of what stands above
import edgesam_export.cli_distill  # noqa: E402, F401

if __name__ == "__main__":
    # That import made a second copy of this module, the one that knows all commands.
    sys.modules["edgesam_export.cli"].main()

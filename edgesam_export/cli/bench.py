"""The command ``bench``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import RECORDS, common, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.errors import CheckpointError, RunnerUnavailableError, UsageError
from edgesam_export.rendering import text_table
from edgesam_export.spec import Progress

__all__ = ["bench"]

RUNS = Path("bench-runs")


def places(command: Callable) -> Callable:
    """Add where to measure and how to reach it."""
    for option in (
        click.option("--uninstall", is_flag=True, help="Remove the app from the phone afterwards."),
        click.option("--allow-wifi", "--wifi", is_flag=True, help="Take a phone without a cable."),
        click.option("--register-device", is_flag=True, help="Let Xcode add the phone to the developer account."),
        click.option("--bundle-id", help="Identifier of the app; default: with the team's appended."),
        click.option("--team", help="Development team that signs the app (10 characters)."),
        click.option("--list", "listing", is_flag=True, help="List the phones and why one cannot be used."),
        click.option("--host", is_flag=True, help="This machine: PyTorch, ONNX Runtime, executor, Swift runner."),
        click.option("--mac", is_flag=True, help="Core ML on this Mac."),
        click.option("--device", metavar="NAME|UDID", help="A phone; default: the only one connected."),
    ):
        command = option(command)
    return command


def measuring(command: Callable) -> Callable:
    """Add how to measure."""
    folder = click.Path(path_type=Path)
    for option in (
        click.option("--no-swift", is_flag=True, help="With --host: leave out the Swift runner."),
        click.option("--no-parity", is_flag=True, help="Do not compare outputs with PyTorch."),
        click.option("--output", type=folder, help="Where MODEL is exported to; default: a temporary folder."),
        click.option("--runs", type=folder, default=RUNS, show_default=True, help="What runs leave behind."),
        click.option("--records", type=folder, default=RECORDS, show_default=True, help="Where records go."),
        click.option("--strict", is_flag=True, help="Exit 7 when a case is not valid."),
        click.option("--sustained", type=click.FloatRange(0, 86400), metavar="SECONDS", help="Window; 0: none."),
        click.option("--quick", is_flag=True, help="A look, not a measurement: 10 iterations, never ranked."),
        click.option("--iterations", type=click.IntRange(1, 1000000), help="So many, however long they take."),
        click.option("--points", default="1", show_default=True, metavar="N,...", help="Prompt points, a case each."),
        click.option("--units", default="all", show_default=True, help="all, cpu_only, cpu_and_gpu, cpu_and_ne; E/D."),
    ):
        command = option(command)
    return command


@cli.command(epilog="A run whose phone went out of reach is fetched later with: edgesam-export bench collect RUN_ID")
@click.argument("sources", nargs=-1, metavar="[MODEL | FOLDER... | collect RUN_ID]")
@places
@measuring
@weights
@common()
def bench(sources: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure on an iPhone, on this Mac or on this machine; writes a record of raw samples and statistics."""
    chosen = [name for name in ("device", "mac", "host", "listing") if options[name]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are different places; give one".replace("listing", "list"))
    if options["listing"]:
        show_devices(options, as_json=as_json)
        return
    if not sources:
        raise UsageError("nothing to measure; give a model, or a folder of exported files")
    if sources[0] == "collect":
        path = collect(sources[1:], options, quiet)
    else:
        with opened(sources, options, quiet) as (files, model):
            path = (measure_here if options["host"] else measure_device)(files, model, options, quiet)
    show_record(path, as_json=as_json, quiet=quiet)


def show_devices(options: dict[str, Any], *, as_json: bool) -> None:
    """Print every phone that is seen."""
    from edgesam_export.bench.run import list_devices

    devices = list_devices(options=backend_options(options))
    if as_json:
        emit({"devices": [device.to_json() for device in devices]})
        return
    rows = [
        (d.name or "-", d.marketing_name or d.product_type or "-", d.os_version or "-", d.udid or d.identifier,
         d.transport or "-", d.rejection or "ready")
        for d in devices
    ]  # fmt: skip
    click.echo(
        text_table(("name", "device", "system", "identifier", "connection", "state"), rows) if rows else "no devices"
    )


def backend_options(options: dict[str, Any], **more: Any) -> Any:
    """Return what the backend is told."""
    from edgesam_export.bench.devices import BackendOptions

    named = ("team", "bundle_id", "allow_wifi", "register_device")
    return BackendOptions(**{name: options[name] for name in named}, **more)


def collect(words: tuple[str, ...], options: dict[str, Any], quiet: bool) -> Path:
    """Fetch a run that was started earlier."""
    from edgesam_export.bench.run import collect_run

    if len(words) != 1:
        raise UsageError(f"collect takes one RUN_ID, given: {' '.join(words) or 'none'}; runs lie in {options['runs']}")
    with steps(quiet, f"collecting {words[0]}") as progress:
        places = {name: options[name] for name in ("runs", "records", "strict")}
        return collect_run(words[0], on_status=status_text(progress), **places)


@contextmanager
def opened(sources: tuple[str, ...], options: dict[str, Any], quiet: bool) -> Iterator[tuple[list[Path], Any]]:
    """Yield exported files and the PyTorch model they came from; a model's name is exported first."""
    from edgesam_export.families import model_names

    paths = [Path(source) for source in sources]
    missing = [source for source, path in zip(sources, paths) if not path.exists()]
    if not missing:
        yield paths, None if options["no_parity"] and not options["host"] else reference(paths, options, quiet)
        return
    if len(sources) > 1 or missing[0] not in model_names():
        known = ", ".join(model_names())
        raise UsageError(f"'{missing[0]}' is neither a file nor a model; models are: {known}")
    check_place(options)
    with tempfile.TemporaryDirectory(prefix="edgesam-bench-") as temporary:
        folder = options["output"] or Path(temporary)
        model = load(missing[0], options, quiet)
        yield [artifact.path for artifact in exported(model, folder, options, quiet)], model


def check_place(options: dict[str, Any]) -> None:
    """Say before the minutes of an export what keeps the chosen place from measuring.

    Raises:
        RunnerUnavailableError: --mac on another machine.
        DeviceFailure: no tools for phones here, or no phone that can be used.
        UsageError: several phones fit.
    """
    from edgesam_export.bench.devices.readiness import choose_device
    from edgesam_export.bench.run import list_devices

    if options["mac"]:
        check_mac()
    elif not options["host"]:
        choose_device(list_devices(options=backend_options(options)), options["device"])


def check_mac() -> None:
    """Raise RunnerUnavailableError unless this is a Mac."""
    import sys

    if sys.platform != "darwin":
        raise RunnerUnavailableError(f"--mac needs macOS with Core ML (this is {sys.platform}); use --host here")


def exported(model: Any, folder: Path, options: dict[str, Any], quiet: bool) -> list[Any]:
    """Export what the place can run."""
    from edgesam_export.formats import find_format
    from edgesam_export.spec import CoreMLConfig, OnnxConfig

    slots = max(8, max(point_counts(options["points"])) + 1)
    configs = {"coreml": CoreMLConfig(points=slots), "onnx": OnnxConfig()}
    artifacts = []
    for format in ("coreml", "onnx") if options["host"] else ("coreml",):
        with steps(quiet, f"exporting to {format}") as progress:
            artifacts += find_format(format).export(model, folder, configs[format], progress=progress)
    return artifacts


def reference(paths: list[Path], options: dict[str, Any], quiet: bool) -> Any:
    """Return the PyTorch model that files came from; None, said aloud, when its checkpoint is not to be had."""
    from edgesam_export.parity.inputs import load_reference

    given = {name: options[name] for name in ("checkpoint", "random_weights", "upsample")}
    try:
        with steps(quiet, "loading the reference") as progress:
            return load_reference(paths, progress=progress, **given)
    except CheckpointError as error:
        if options["checkpoint"] is not None:
            raise
        note(quiet, f"not compared with PyTorch: {error}; give --checkpoint")
        return None


def point_counts(text: str) -> tuple[int, ...]:
    """Return the numbers in ``1,4``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--points '{text}' is no list of whole numbers; write 1 or 1,4,8") from None


def plan_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return schedule and workload as the options say."""
    from edgesam_export.bench.request import METHOD_SCHEDULE, QUICK_SCHEDULE, Workload

    schedule = QUICK_SCHEDULE if options["quick"] else METHOD_SCHEDULE
    if options["iterations"] is not None:
        schedule = schedule.with_iterations(options["iterations"])
    if options["sustained"] is not None:
        schedule = replace(schedule, sustained_duration_s=options["sustained"])
    return {"schedule": schedule, "workload": Workload(n_points=point_counts(options["points"]))}


def measure_device(files: list[Path], model: Any, options: dict[str, Any], quiet: bool) -> Path:
    """Measure on a phone or, with --mac, with Core ML on this Mac."""
    from edgesam_export.bench.request import make_plan, parse_matrix
    from edgesam_export.bench.run import run_benchmark

    if options["mac"]:
        check_mac()
    matrix = parse_matrix(options["units"])
    reference = None if options["no_parity"] else model
    plan = make_plan(files, matrix=matrix, reference=reference, **plan_fields(options))
    backend = "local" if options["mac"] else "devicectl"
    chosen = backend_options(options, build=options["mac"])
    with steps(quiet, "measuring") as progress:
        return run_benchmark(
            plan,
            options["device"],
            backend=backend,
            options=chosen,
            runs=options["runs"],
            records=options["records"],
            strict=options["strict"],
            uninstall=options["uninstall"] and not options["mac"],
            on_status=status_text(progress),
        )


def measure_here(files: list[Path], model: Any, options: dict[str, Any], quiet: bool) -> Path:
    """Measure every runtime of this machine into one record."""
    from edgesam_export.bench.host_record import plan_host, record_host
    from edgesam_export.bench.request import parse_matrix

    plan = plan_host(files, model, **plan_fields(options))
    with steps(quiet, "measuring") as progress:
        return record_host(
            plan,
            runs=options["runs"],
            records=options["records"],
            matrix=parse_matrix(options["units"]),
            swift=not options["no_swift"],
            strict=options["strict"],
            progress=progress,
            on_status=status_text(progress),
        )


def status_text(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """Return a callback that shows heartbeats as progress."""

    def show(status: dict[str, Any]) -> None:
        text = status.get("message") or str(status.get("phase", "")).replace("_", " ")
        if isinstance(status.get("case_index"), int) and isinstance(status.get("case_count"), int):
            progress(status["case_index"], status["case_count"], f"{text}, iteration {status.get('iteration') or 0}")
        else:
            progress(0, 0, text)

    return show


def show_record(path: Path, *, as_json: bool, quiet: bool) -> None:
    """Print a record: itself as JSON, or a line for each case."""
    from edgesam_export.bench.record import invalid_reasons, read_record
    from edgesam_export.bench.render.cases import case_table

    record = read_record(path)
    if as_json:
        emit(record)
    else:
        click.echo(case_table(record))
    for case in record["cases"]:
        if reasons := invalid_reasons(case):
            note(quiet, f"{case['id']}: {'; '.join(reasons)}")
    note(quiet, f"record: {path}")

"""The command ``bench``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import RECORDS, common, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError
from edgesam_export.rendering import text_table
from edgesam_export.spec import Progress

if TYPE_CHECKING:
    from edgesam_export.bench.devices import BackendOptions
    from edgesam_export.bench.sources import SourceConfig, Subject

__all__ = ["bench"]

RUNS = Path("bench-runs")


def target(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the device and how to reach it."""
    for option in (
        click.option("--uninstall", is_flag=True, help="Remove the app from the phone afterwards."),
        click.option("--allow-wifi", "--wifi", is_flag=True, help="Take a phone without a cable."),
        click.option("--register-device", is_flag=True, help="Let Xcode add the phone to the developer account."),
        click.option("--increased-memory", is_flag=True, help="Raise the app's memory limit; needs a paid team."),
        click.option("--bundle-id", help="Identifier of the app; default: org.edgesam.bench.TEAM."),
        click.option("--team", help="Development team that signs the app (10 characters)."),
        click.option("--list", "listing", is_flag=True, help="List the phones and why one cannot be used."),
        click.option("--host", is_flag=True, help="This machine: PyTorch, ONNX Runtime, executor, Swift runner."),
        click.option("--mac", is_flag=True, help="Core ML on this Mac."),
        click.option("--device", metavar="NAME|UDID", help="A phone; default: the only one connected."),
    ):
        command = option(command)
    return command


def measuring(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the measurement."""
    folder = UserPath()
    for option in (
        click.option("--no-swift", is_flag=True, help="With --host: leave out the Swift runner."),
        click.option("--no-parity", is_flag=True, help="On a device: do not compare outputs with PyTorch."),
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
@target
@measuring
@weights
@common()
def bench(sources: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure on an iPhone, on this Mac or on this machine; writes a record of raw samples and statistics."""
    from edgesam_export.bench.run import check_target
    from edgesam_export.bench.sources import open_subject

    chosen = [name for name in ("device", "mac", "host", "listing") if options[name]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are different devices; give one".replace("listing", "list"))
    if options["listing"]:
        show_devices(options, as_json=as_json)
        return
    if not sources:
        raise UsageError("nothing to measure; give a model, or a folder of exported files")
    if sources[0] == "collect":
        show_record(collect(sources[1:], options, quiet), as_json=as_json, quiet=quiet)
        return

    def ready() -> None:
        if not options["host"]:
            check_target(backend_name(options), options["device"], backend_options(options))

    with open_subject(
        sources,
        source_config(options),
        load=lambda name: load(name, options, quiet),
        ready=ready,
        stage=partial(steps, quiet),
        notify=partial(note, quiet),
    ) as subject:
        path = (measure_here if options["host"] else measure_device)(subject, options, quiet)
    show_record(path, as_json=as_json, quiet=quiet)


# ---------------------------------------------------------------------------------------------------- from the options


def backend_name(options: dict[str, Any]) -> str:
    """Return the backend that reaches the chosen device."""
    return "local" if options["mac"] else "devicectl"


def backend_options(options: dict[str, Any]) -> BackendOptions:
    """Return the backend's options."""
    from edgesam_export.bench.devices import BackendOptions

    named = ("team", "bundle_id", "allow_wifi", "register_device", "increased_memory")
    return BackendOptions(**{name: options[name] for name in named}, build=options["mac"])


def source_config(options: dict[str, Any]) -> SourceConfig:
    """Return the configuration of the subject."""
    from edgesam_export.bench.request import parse_points
    from edgesam_export.bench.sources import SourceConfig
    from edgesam_export.formats import format_names

    return SourceConfig(
        formats=tuple(format_names()) if options["host"] else ("coreml",),
        points=parse_points(options["points"]),
        compare=options["host"] or not options["no_parity"],
        **{name: options[name] for name in ("output", "checkpoint", "random_weights", "upsample")},
    )


def plan_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return schedule and workload."""
    from edgesam_export.bench.request import METHOD_SCHEDULE, QUICK_SCHEDULE, Workload, parse_points

    schedule = QUICK_SCHEDULE if options["quick"] else METHOD_SCHEDULE
    if options["iterations"] is not None:
        schedule = schedule.with_iterations(options["iterations"])
    if options["sustained"] is not None:
        schedule = replace(schedule, sustained_duration_s=options["sustained"])
    return {"schedule": schedule, "workload": Workload(n_points=parse_points(options["points"]))}


# ------------------------------------------------------------------------------------------------------------ measuring


def measure_device(subject: Subject, options: dict[str, Any], quiet: bool) -> Path:
    """Measure on a phone or, with --mac, with Core ML on this Mac; return the record's path."""
    from edgesam_export.bench.request import make_plan, parse_matrix
    from edgesam_export.bench.run import check_target, run_benchmark

    if options["mac"]:
        check_target("local")
    reference = None if options["no_parity"] else subject.model
    plan = make_plan(subject.files, matrix=parse_matrix(options["units"]), reference=reference, **plan_fields(options))
    with steps(quiet, "measuring") as progress:
        return run_benchmark(
            plan,
            options["device"],
            backend=backend_name(options),
            options=backend_options(options),
            runs=options["runs"],
            records=options["records"],
            strict=options["strict"],
            uninstall=options["uninstall"] and not options["mac"],
            on_status=status_text(progress),
        )


def measure_here(subject: Subject, options: dict[str, Any], quiet: bool) -> Path:
    """Measure every runtime of this machine; return the record's path."""
    from edgesam_export.bench.host_record import plan_host, record_host
    from edgesam_export.bench.request import parse_matrix

    plan = plan_host(subject.files, subject.model, **plan_fields(options))
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


def collect(words: tuple[str, ...], options: dict[str, Any], quiet: bool) -> Path:
    """Fetch a run that was started earlier; return the record's path."""
    from edgesam_export.bench.run import collect_run

    if len(words) != 1:
        raise UsageError(f"collect takes one RUN_ID, given: {' '.join(words) or 'none'}; runs lie in {options['runs']}")
    with steps(quiet, f"collecting {words[0]}") as progress:
        folders = {name: options[name] for name in ("runs", "records", "strict")}
        return collect_run(words[0], on_status=status_text(progress), **folders)


# -------------------------------------------------------------------------------------------------------------- showing


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
    headings = ("name", "device", "system", "identifier", "connection", "state")
    click.echo(text_table(headings, rows) if rows else "no devices")


def status_text(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """Return a callback that shows heartbeats as progress."""

    def show(status: dict[str, Any]) -> None:
        text = status.get("message") or str(status.get("phase", "")).replace("_", " ")
        index, count = status.get("case_index"), status.get("case_count")
        if isinstance(index, int) and isinstance(count, int):
            progress(index, count, f"{text}, iteration {status.get('iteration') or 0}")
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

"""The command ``eval``, of the extra ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import common, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, steps, table
from edgesam_export.errors import UsageError

__all__ = ["evaluate"]

PROMPTS = "box,point,point+2"


class Gate(click.ParamType):
    """A prompt and the least mIoU it may have."""

    name = "PROMPT=MIOU"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        """Return both, or say what was expected."""
        prompt, _, number = value.partition("=")
        try:
            least = float(number)
        except ValueError:
            least = -1.0
        if not prompt or not 0 <= least <= 1:
            self.fail(f"'{value}' is no gate; write for example box=0.9, the mIoU from 0 to 1", param, ctx)
        return prompt, least


@cli.command("eval")
@click.argument("sources", nargs=-1, required=True, metavar="MODEL|ARTIFACT...")
@click.option("--data", required=True, help="scenes:SEED:COUNT, a COCO .json, or a folder of pictures and masks.")
@click.option("--prompts", default=PROMPTS, show_default=True, help="box, point, box+N, point+N: N points more.")
@click.option("--numerics", default="fp16", show_default=True, help="Of Core ML: fp32, fp16, ane, native:all; several.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N pictures.")
@click.option("--objects", type=click.IntRange(min=1), metavar="N", help="The N largest objects of a picture.")
@click.option("--mask-prompt", is_flag=True, help="Hand each mask to the next round as a mask prompt.")
@click.option("--min-miou", "gates", multiple=True, type=Gate(), help="Exit 1 below this; repeat for more.")
@click.option("--output", type=click.Path(path_type=Path), metavar="JSON", help="Also write all objects to a file.")
@weights
@common()
def evaluate(sources: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure how well masks fit the truth: mIoU with boxes, points and corrections, of models and exported files."""
    from edgesam_export.distill.data import open_data
    from edgesam_export.distill.evaluation import check_runner, parse_prompts
    from edgesam_export.distill.evaluation import evaluate as evaluate_runner

    prompts = tuple(prompt.strip() for prompt in options["prompts"].split(","))
    kinds = parse_prompts(prompts)
    for prompt, _ in options["gates"]:
        if prompt not in prompts:
            raise UsageError(f"--min-miou {prompt}: not among the prompts {options['prompts']}; add it to --prompts")
    data = open_data(options["data"])
    subjects = opened(sources, options, quiet)
    for runner in subjects.values():
        check_runner(runner, kinds, options["mask_prompt"])
    chosen = {name: options[name] for name in ("limit", "objects", "mask_prompt")}
    reports = {}
    for name, runner in subjects.items():
        with steps(quiet, f"evaluating {name}") as progress:
            reports[name] = evaluate_runner(runner, data, prompts=prompts, progress=progress, **chosen)
    failures = failed_gates(reports, options["gates"])
    if options["output"] is not None:
        from edgesam_export.files import write_json

        write_json(options["output"], eval_document(reports, options["gates"], failures, objects=True))
    if as_json:
        emit(eval_document(reports, options["gates"], failures))
    else:
        click.echo(eval_table(reports))
    if options["output"] is not None:
        note(quiet, f"report: {options['output']}")
    for failure in failures:
        note(quiet, f"eval: {failure}")
    if failures:
        raise click.exceptions.Exit(EXIT_GATE)


def opened(sources: tuple[str, ...], options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Return runners by what their columns are called: models in PyTorch, files in every numerics asked for."""
    from edgesam_export.families import model_names

    known = model_names()
    names = list(dict.fromkeys(source for source in sources if not Path(source).exists()))
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}' is neither a file nor a model; models are: {', '.join(known)}")
    given = [option for option in ("checkpoint", "random_weights", "upsample") if options[option] is not None]
    if given and len(names) != 1:
        flag = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{flag} belongs to one model by name, given: {', '.join(names) or 'none'}")
    runners = file_runners([Path(source) for source in sources if source not in names], options)
    if names:
        from edgesam_export.runners import open_runner

        runners = [("", open_runner(load(name, options, quiet))) for name in names] + runners
    labels: dict[str, Any] = {}
    for place, runner in runners:
        label = f"{runner.info.name} {runner.name}"
        taken = label in labels
        label = f"{label}, {place}" if taken and place else label
        if label in labels:
            raise UsageError(f"'{place or runner.info.name}' is given twice; give every model and file once")
        labels[label] = runner
    return labels


def file_runners(paths: list[Path], options: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return where exported files lie and what runs them: a pair for each folder, format and model."""
    from edgesam_export.artifacts import list_files
    from edgesam_export.runners import numerics_choices, open_artifact, open_runner

    pairs: dict[tuple[str, str, str], list[Any]] = {}
    for path in paths:
        for file in list_files(path):
            artifact = open_artifact(file)
            pairs.setdefault((str(file.parent), artifact.format, artifact.model), []).append(artifact)
    runners = []
    for (folder, format, _), artifacts in pairs.items():
        kinds = dict.fromkeys(options["numerics"].split(",")) if numerics_choices(format) else (None,)
        runners += [(folder, open_runner(artifacts, numerics=kind)) for kind in kinds]
    return runners


def failed_gates(reports: dict[str, Any], gates: tuple[tuple[str, float], ...]) -> list[str]:
    """Return a line for each report and gate that it does not reach."""
    return [
        f"{name}: {prompt} has mIoU {found:.4f}, at least {least:g} is asked for"
        for name, report in reports.items()
        for prompt, least in gates
        if (found := report.summary(prompt).miou) < least
    ]


def eval_document(
    reports: dict[str, Any], gates: tuple[tuple[str, float], ...], failures: list[str], *, objects: bool = False
) -> dict[str, Any]:
    """Return all reports and the verdict as JSON data."""
    return {
        "kind": "evaluation",
        "schema_version": 1,
        "subjects": {name: report.document(objects=objects) for name, report in reports.items()},
        "gates": [{"prompt": prompt, "min_miou": least} for prompt, least in gates],
        "failures": failures,
        "passed": not failures,
    }


def eval_table(reports: dict[str, Any]) -> str:
    """Return a row for each prompt, and four columns for each subject under its name."""
    rows = list(dict.fromkeys(row for report in reports.values() for row in report.rows))
    lines = [("", *(cell for name in reports for cell in (name, "", "", "")))] if len(reports) > 1 else []
    lines += [("prompt", *("mIoU", "std error", "quartiles", "objects") * len(reports))]
    for row in rows:
        cells = (cell for report in reports.values() for cell in summary_cells(report.summary(row)))
        lines.append((row.replace("_", " "), *cells))
    title = "" if len(reports) > 1 else f"{next(iter(reports))} on {next(iter(reports.values())).data}\n"
    return title + table(lines[0], lines[1:])


def summary_cells(summary: Any) -> tuple[str, str, str, str]:
    """Return what a table shows of a summary."""
    if summary.miou is None:
        return ("-", "-", "-", "0")
    error = "-" if summary.standard_error is None else f"{summary.standard_error:.4f}"
    return (f"{summary.miou:.4f}", error, " ".join(f"{q:.3f}" for q in summary.quartiles), str(summary.objects))

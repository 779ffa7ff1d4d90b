"""The command ``eval``, of the extra ``distill``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common, numerics_of, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, note_weights, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.files import write_json

if TYPE_CHECKING:
    from edgesam_export.distill.comparison import Comparison
    from edgesam_export.distill.sharing import Journal

PROMPTS = "box,point,point+2"
PATIENCE = timedelta(days=7)
"""Processes that finish early wait for the last one."""


def gate(text: str) -> tuple[str, float]:
    """Return prompt and least mIoU of ``PROMPT=MIOU``."""
    prompt, _, number = text.partition("=")
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if not prompt or not 0 <= least <= 1:
        raise click.BadParameter(f"'{text}' is no gate; write for example box=0.9, the mIoU from 0 to 1")
    return prompt, least


@cli.command("eval")
@click.argument("sources", nargs=-1, required=True, metavar="MODEL|ARTIFACT...")
@click.option(
    "--data",
    type=UserPath(str),
    required=True,
    metavar="DATA",
    help="scenes:SEED:COUNT[:PHOTOGRAPHS], COCO .json, or folder with masks.",
)
@click.option("--prompts", default=PROMPTS, show_default=True, help="box, point; +N: N more points; +mask: its mask.")
@click.option(
    "--numerics", default="fp16", show_default=True, help="fp32, fp16, ane; native:all; apple (Core AI); several."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N images.")
@click.option("--objects", type=click.IntRange(min=1), metavar="N", help="The N largest objects of an image.")
@click.option("--mask-prompt", is_flag=True, help="Hand each mask to the next round as a mask prompt.")
@click.option("--min-miou", "gates", multiple=True, type=gate, metavar="PROMPT=MIOU", help="Exit 1 below; repeatable.")
@click.option("--output", type=UserPath(), metavar="JSON", help="Also write all objects to a file.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted evaluation to the same --output.")
@click.option("--strict", is_flag=True, help="Stop at a damaged image or annotation instead of leaving it out.")
@click.option(
    "--annotations-frame",
    "frame",
    type=click.Choice(["upright", "raw"]),
    help="Pixels that annotations are of, where EXIF has an orientation: upright (default), or raw as stored.",
)
@weights
@common()
def evaluate(sources: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure how well masks fit the truth: mIoU with boxes, points and corrections, of models and exported files."""
    from edgesam_export.distill.comparison import Evaluation, MiouGate, compare_subjects, identity_of
    from edgesam_export.distill.data import open_data
    from edgesam_export.distill.processes import Processes
    from edgesam_export.distill.samples import Reading
    from edgesam_export.distill.sharing import everyones
    from edgesam_export.distill.subjects import open_subjects

    numerics = numerics_of(options["numerics"])
    where = Processes.find("cpu", patience=PATIENCE)
    quiet = quiet or not where.first  # of several processes, one reports
    reading = Reading(strict=options["strict"], frame=options["frame"])
    evaluation = Evaluation(
        data=open_data(options["data"], reading=reading),
        reading=reading,
        prompts=tuple(prompt.strip() for prompt in options["prompts"].split(",")),
        gates=tuple(MiouGate(prompt=prompt, least=least) for prompt, least in options["gates"]),
        limit=options["limit"],
        objects=options["objects"],
        mask_prompt=options["mask_prompt"],
    )
    chosen = {name: options[name] for name in ("checkpoint", "random_weights", "upsample")}
    with steps(quiet, "loading") as progress:
        subjects = open_subjects(sources, numerics=numerics, progress=progress, **chosen)
    for subject in subjects:
        note_weights(quiet, subject.provenance)
    journal = journal_of(options["output"], options["resume"], identity_of(subjects, evaluation), where.rank)
    with steps(quiet, "evaluating") as progress:
        comparison = compare_subjects(subjects, evaluation, where=where, journal=journal, progress=progress)
    if where.first:
        report(comparison, options["output"], as_json, quiet)
    if journal is not None:
        everyones(where, None)  # no process deletes what another still reads, or before the report is written
        journal.remove()
    if where.first and comparison.failures:
        raise click.exceptions.Exit(EXIT_GATE)


def journal_of(output: Path | None, resume: bool, identity: dict[str, Any], rank: int) -> Journal | None:
    """Return where finished images are kept, beside the report; None without one."""
    from edgesam_export.distill.sharing import Journal

    if output is None:
        if resume:
            raise click.UsageError("--resume goes on with what was kept beside --output; give that too")
        return None
    return Journal(output.with_name(f"{output.name}.parts"), identity, rank=rank, resume=resume)


def report(comparison: Comparison, output: Path | None, as_json: bool, quiet: bool) -> None:
    """Write the report, and print it or the table."""
    from edgesam_export.distill.render.table import to_table

    if output is not None:
        write_json(output, comparison.document(objects=True))
        note(quiet, f"report: {output}")
    if as_json:
        emit(comparison.document())
    else:
        click.echo(to_table(comparison))
    for failure in comparison.failures:
        note(quiet, f"eval: {failure}")

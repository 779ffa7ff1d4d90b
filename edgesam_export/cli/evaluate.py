"""The command ``eval``, of the extra ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, note_weights, steps
from edgesam_export.files import write_json

PROMPTS = "box,point,point+2"


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
@click.option("--data", required=True, help="scenes:SEED:COUNT, a COCO .json, or a folder of images and masks.")
@click.option("--prompts", default=PROMPTS, show_default=True, help="box, point; +N: N more points; +mask: its mask.")
@click.option("--numerics", default="fp16", show_default=True, help="Of Core ML: fp32, fp16, ane, native:all; several.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N images.")
@click.option("--objects", type=click.IntRange(min=1), metavar="N", help="The N largest objects of an image.")
@click.option("--mask-prompt", is_flag=True, help="Hand each mask to the next round as a mask prompt.")
@click.option("--min-miou", "gates", multiple=True, type=gate, metavar="PROMPT=MIOU", help="Exit 1 below; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), metavar="JSON", help="Also write all objects to a file.")
@weights
@common()
def evaluate(sources: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Measure how well masks fit the truth: mIoU with boxes, points and corrections, of models and exported files."""
    from edgesam_export.distill.comparison import Evaluation, MiouGate, compare_subjects
    from edgesam_export.distill.data import open_data
    from edgesam_export.distill.render.table import to_table
    from edgesam_export.distill.subjects import open_subjects

    evaluation = Evaluation(
        data=open_data(options["data"]),
        prompts=tuple(prompt.strip() for prompt in options["prompts"].split(",")),
        gates=tuple(MiouGate(prompt=prompt, least=least) for prompt, least in options["gates"]),
        limit=options["limit"],
        objects=options["objects"],
        mask_prompt=options["mask_prompt"],
    )
    chosen = {name: options[name] for name in ("checkpoint", "random_weights", "upsample")}
    with steps(quiet, "loading") as progress:
        subjects = open_subjects(sources, numerics=options["numerics"].split(","), progress=progress, **chosen)
    for subject in subjects:
        note_weights(quiet, subject.provenance)
    with steps(quiet, "evaluating") as progress:
        comparison = compare_subjects(subjects, evaluation, progress=progress)
    if options["output"] is not None:
        write_json(options["output"], comparison.document(objects=True))
        note(quiet, f"report: {options['output']}")
    if as_json:
        emit(comparison.document())
    else:
        click.echo(to_table(comparison))
    for failure in comparison.failures:
        note(quiet, f"eval: {failure}")
    if comparison.failures:
        raise click.exceptions.Exit(EXIT_GATE)

"""The command ``distill``, of the extra of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common
from edgesam_export.cli.output import emit, note, steps

__all__ = ["distill"]


def config_options(command: Any) -> Any:
    """Add an option for every field of the configuration; None means that it was not said."""
    integer, number = click.IntRange(min=0), click.FloatRange(min=0)
    for name, kind, text in reversed(
        (
            (
                "--stage",
                click.Choice(["encoder", "prompts", "recover"]),
                "Match embeddings, masks, or win back. [prompts]",
            ),
            ("--teacher", str, "Model that says what is right; default: the masks of the data."),
            ("--data", str, "scenes:SEED[:COUNT], a COCO .json, or a folder of pictures. [scenes:0]"),
            (
                "--schedule",
                str,
                "SIZE:BATCH:STEPS[:ROUNDS],...: side of the pictures, pictures in a step. [512:8:1000]",
            ),
            ("--objects", integer, "Prompts drawn for each picture. [4]"),
            ("--rounds", integer, "Rounds of points drawn where student and teacher differ. [2]"),
            ("--points", integer, "Points drawn for each mask in a round. [1]"),
            ("--refinements", integer, "Rounds after those that only get the last logits as a mask prompt. [0]"),
            ("--mask-share", number, "Share of prompts with new points that also get the last logits. [0]"),
            ("--box-noise", number, "Standard deviation of a box's corners, of its sides. [0.1]"),
            ("--mask-tokens", click.Choice(["first", "all"]), "Compare the single-mask token or all four. [all]"),
            ("--freeze", str, "Parts that keep their parameters, comma-separated."),
            ("--inherit", str, "Parts that start as the teacher's, comma-separated."),
            ("--compress", str, "Scheme that stage recover simulates, as in 'coreml --compress'."),
            ("--learning-rate", number, "Largest learning rate. [0.001]"),
            ("--weight-decay", number, "Of matrices and kernels. [0.01]"),
            ("--warmup", integer, "Steps in which the learning rate rises. [100]"),
            ("--seconds", number, "Time budget instead of counted steps; needs --pool. [0: none]"),
            ("--average", number, "Decay per step of the running mean of the weights. [0: the last weights]"),
            ("--clip", number, "Largest norm of the gradients. [1]"),
            ("--channel", number, "Stage encoder: weight of the channel term. [0]"),
            ("--correlation", number, "Stage encoder: weight of the correlation term. [0]"),
            ("--seed", integer, "Seed of everything that is drawn. [0]"),
            ("--amp", click.Choice(["off", "bf16", "fp16"]), "Mixed precision; fp16 needs CUDA. [off]"),
            ("--checkpoint-every", integer, "Steps between checkpoints. [500]"),
            ("--workers", integer, "Processes that prepare pictures. [1]"),
            ("--pool", integer, "Drawn scenes kept on the device, each used several times. [0: one for each use]"),
        )
    ):
        command = click.option(name, type=kind, help=text)(command)
    return command


@cli.command("distill")
@click.argument("student")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Start from a saved configuration.")
@config_options
@click.option("--compile/--no-compile", default=None, help="Compile the step at the last size. [no]")
@click.option("--half", is_flag=True, default=None, help="Write the weights as FP16.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Where the student starts; default: afresh.")
@click.option(
    "--teacher-checkpoint", type=click.Path(path_type=Path), help="The teacher's file; else the published one."
)
@click.option("--teacher-random-weights", type=int, metavar="SEED", help="Stand-in weights: timing and tests only.")
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
@click.option("--resume-from", type=click.Path(path_type=Path), help="Go on from this checkpoint of the run.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the teacher's embeddings in this folder.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N; default: CUDA where there is some.")
@common(output="out/distill")
def distill(student: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train a small model on a larger one's masks, or on drawn scenes; win back what compression cost."""
    from edgesam_export.distill.config import configured
    from edgesam_export.distill.start import start_run
    from edgesam_export.distill.training import Processes, amp_advice
    from edgesam_export.distill.training import distill as run

    where = Processes.find(options["device"])
    speaks = where.first  # of several processes, one
    quiet = quiet or not speaks
    config = configured(student, options, options["config_file"])
    if advice := amp_advice(config, where):
        note(quiet, advice)
    with steps(quiet, "loading") as progress:
        model, teacher = start_run(
            config,
            checkpoint=options["checkpoint"],
            teacher_checkpoint=options["teacher_checkpoint"],
            teacher_random_weights=options["teacher_random_weights"],
            progress=progress,
        )
    with steps(quiet, f"training {student}") as progress:
        result = run(
            config,
            model,
            output,
            teacher=teacher,
            resume=options["resume"],
            checkpoint=options["resume_from"],
            device=options["device"],
            cache=options["cache"],
            progress=progress,
        )
    if not speaks:
        return
    last = result.history[-1] if result.history else {}
    if as_json:
        emit({"weights": str(result.weights), "folder": str(result.folder), "steps": result.steps, "last": last})
        return
    click.echo(f"weights  {result.weights}")
    click.echo(f"run      {result.folder}: config.json, history.json, curves.png, samples/, checkpoints/")
    shown = ("loss", "mse", "iou_first", "iou_last")
    note(quiet, f"{result.steps} steps; " + ", ".join(f"{name} {last[name]:.4f}" for name in shown if name in last))

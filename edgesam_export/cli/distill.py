"""The command ``distill``, of the extra of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import Command, common
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.distill.config import DistillConfig, configured, schedule_text

__all__ = ["CONFIG_OPTIONS"]

INTEGER, NUMBER = click.IntRange(min=0), click.FloatRange(min=0)
CONFIG_OPTIONS: dict[str, tuple[Any, str]] = {
    "stage": (click.Choice(["encoder", "prompts", "recover"]), "Match embeddings, masks, or win back."),
    "teacher": (str, "Model whose masks to match; default: the masks of the data."),
    "data": (UserPath(str), "scenes:SEED[:COUNT][:PHOTOGRAPHS], a COCO .json, or a folder of images."),
    "strict": (bool, "End at a damaged image or annotation."),
    "annotations_frame": (click.Choice(["upright", "raw"]), "Pixels that annotations are of, where EXIF turns them."),
    "schedule": (str, "SIZE:BATCH:STEPS[:ROUNDS],...: side of the images, images in a step."),
    "objects": (INTEGER, "Prompts drawn for each image."),
    "rounds": (INTEGER, "Rounds of points drawn where student and teacher differ."),
    "points": (INTEGER, "Points drawn for each mask in a round."),
    "refinements": (INTEGER, "Rounds after those that only get the last logits as a mask prompt."),
    "mask_share": (NUMBER, "Share of prompts with new points that also get the last logits."),
    "box_noise": (NUMBER, "Standard deviation of a box's corners, of its sides."),
    "mask_tokens": (click.Choice(["first", "all"]), "Compare the single-mask token or all four."),
    "freeze": (str, "Parts that keep their parameters, comma-separated."),
    "inherit": (str, "Parts that start as the teacher's, comma-separated."),
    "compress": (str, "What stage recover simulates, as in 'coreml --compress'."),
    "learning_rate": (NUMBER, "Largest learning rate."),
    "weight_decay": (NUMBER, "Of matrices and kernels."),
    "warmup": (INTEGER, "Steps in which the learning rate rises."),
    "seconds": (NUMBER, "Time budget instead of counted steps; needs --pool; 0: none."),
    "average": (NUMBER, "Decay per step of the running mean of the weights; 0: the last weights."),
    "clip": (NUMBER, "Largest norm of the gradients."),
    "channel": (NUMBER, "Stage encoder: weight of the channel term."),
    "correlation": (NUMBER, "Stage encoder: weight of the correlation term."),
    "seed": (INTEGER, "Seed of everything that is drawn."),
    "amp": (click.Choice(["off", "bf16", "fp16"]), "Mixed precision; fp16 needs CUDA."),
    "checkpoint_every": (INTEGER, "Steps between checkpoints."),
    "workers": (INTEGER, "Processes that prepare images."),
    "pool": (INTEGER, "Drawn scenes kept on the device, each used several times; 0: one for each use."),
    "compile": (bool, "Compile the step at the last size."),
    "half": (bool, "Write the weights as FP16."),
}
"""Fields of the configuration that have an option of their name: type and help. Defaults are the dataclass's."""


def config_options(command: Command) -> Command:
    """Add an option for each of ``CONFIG_OPTIONS``."""
    for name, (kind, text) in reversed(CONFIG_OPTIONS.items()):
        default = getattr(DistillConfig, name)
        if name == "schedule":
            default = schedule_text(default)
        elif default == ():
            default = None
        flag = f"--{name.replace('_', '-')}"
        flag = f"{flag}/{flag.replace('--', '--no-')}" if kind is bool else flag
        command = click.option(flag, type=kind, default=default, show_default=True, help=text)(command)
    return command


@cli.command("distill")
@click.argument("student")
@click.option("--config", "config_file", type=UserPath(), help="Start from a saved configuration.")
@config_options
@click.option("--checkpoint", type=UserPath(), help="Where the student starts; default: afresh.")
@click.option("--teacher-checkpoint", type=UserPath(), help="The teacher's file; else the published one.")
@click.option("--teacher-random-weights", type=int, metavar="SEED", help="Stand-in weights: timing and tests only.")
@click.option("--resume", is_flag=True, help="Continue the run in the output folder.")
@click.option("--resume-from", type=UserPath(), help="Continue from this checkpoint of the run.")
@click.option("--cache", type=UserPath(), help="Keep the teacher's embeddings in this folder.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N; default: CUDA where there is some.")
@common(output="out/distill")
def distill(student: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train a small model on a larger one's masks, or on drawn scenes; win back what compression cost."""
    from edgesam_export.distill.render.training import result_document, result_text, summary
    from edgesam_export.distill.run import train_student
    from edgesam_export.distill.training import Processes, amp_advice

    where = Processes.find(options["device"])
    quiet = quiet or not where.first  # of several processes, one reports
    config = configured(student, given(options), options["config_file"])
    if advice := amp_advice(config, where):
        note(quiet, advice)
    files = ("checkpoint", "teacher_checkpoint", "teacher_random_weights", "resume", "resume_from", "cache", "device")
    with steps(quiet, f"training {student}") as progress:
        result = train_student(config, output, progress=progress, **{name: options[name] for name in files})
    if not where.first:
        return
    if as_json:
        emit(result_document(result))
        return
    click.echo(result_text(result))
    note(quiet, summary(result))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the command line; those at their default leave a saved configuration as it is."""
    context = click.get_current_context()
    return {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }

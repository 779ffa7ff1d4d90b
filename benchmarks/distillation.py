"""The claim of the EdgeSAM paper, tested small: is it enough to match embeddings, or must the prompt be in the loop?

One student (half the width of ``edge_sam_tiny``'s encoder, the teacher's decoder to start with), one teacher
(``edge_sam_tiny``, frozen), the same number of images seen, three seeds:

(a) encoder only: embeddings are matched, all steps;
(b) prompt in the loop: half of the steps as (a), then masks are matched, with two rounds of points where they disagree;
(c) as (b), without those rounds.

All at 256 x 256 pixels, on drawn scenes; evaluated on held-out scenes against the exact masks, as by
``edgesam-export eval``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import machine

TARGET = Path(__file__).parent / "distillation.json"
SIZE = 256
STAGES = ((16, (True,)), (32, (True, False)), (64, (True, False, True)), (96, (True, False)))
ARMS = (("a", "encoder only", None), ("b", "prompt in the loop", 2), ("c", "prompt in the loop, no new points", 0))
DATA, HELD_OUT = "scenes:70:1000000", 1000
PROMPTS = ("box", "point", "point+2")


def main() -> None:
    """Run all arms and seeds, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes")
    parser.add_argument("--checkpoint", help="weights of edge_sam_tiny; default: the bundled ones")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    options = parser.parse_args()
    register()
    found: dict[str, Any] = {"machine": machine(2), "date": time.strftime("%Y-%m-%d"), "runs": []}
    found |= {"steps": options.steps, "batch": options.batch, "scenes": options.scenes, "size": SIZE}
    found["teacher"] = judge(teacher_of(options.checkpoint), options.scenes)
    print("teacher", show(found["teacher"]), flush=True)
    spawned = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    # One thread for each run, whatever the number of jobs: the same results.
    with ProcessPoolExecutor(options.jobs, mp_context=spawned, initializer=begin_job) as pool:
        started = [pool.submit(one, options, seed, arm) for seed in range(options.seeds) for arm in ARMS]
        for finished in as_completed(started):
            run = finished.result()
            found["runs"].append(run)
            print(f"seed {run['seed']} ({run['arm']}) {run['title']}: {show(run)}, {run['seconds']:.0f} s", flush=True)
    found["runs"].sort(key=lambda run: (run["seed"], run["arm"]))
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    print(table(found))


def begin_job() -> None:
    """Make a new process ready for runs."""
    torch.set_num_threads(1)
    register()


def one(options: argparse.Namespace, seed: int, arm: tuple[str, str, int | None]) -> dict[str, Any]:
    """Train and evaluate one student; return what the table needs."""
    name, title, rounds = arm
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        student = train(options, Path(folder), seed, rounds)
        seconds = time.perf_counter() - start
    return {"arm": name, "title": title, "seed": seed, "seconds": seconds, **judge(student, options.scenes)}


def register() -> None:
    """Make teacher and student known: ``edge_sam_tiny`` at 256 pixels, and one with a thinner encoder."""
    from edgesam_export.families import register_model
    from edgesam_export.families.edge_sam_tiny import EMBEDDING_DIM, MLP_DIM, EdgeSamTinyEncoder
    from edgesam_export.families.edge_sam_tiny import STAGES as TEACHER_STAGES
    from edgesam_export.modeling.mask_decoder import MaskDecoder
    from edgesam_export.modeling.prompt_encoder import PromptEncoder
    from edgesam_export.modeling.sam import SamModel
    from edgesam_export.spec import ImageFrame, ModelInfo

    def build(info: ModelInfo, stages: Any) -> SamModel:
        grid = (SIZE // 8, SIZE // 8)
        return SamModel(
            info=info,
            image_encoder=EdgeSamTinyEncoder(stages),
            prompt_encoder=PromptEncoder(EMBEDDING_DIM, grid),
            mask_decoder=MaskDecoder(EMBEDDING_DIM, mlp_dim=MLP_DIM),
        )

    for name, stages in (("tiny_256", TEACHER_STAGES), ("thin_256", STAGES)):
        info = ModelInfo(name=name, family=name, frame=ImageFrame(size=SIZE), embedding_dim=EMBEDDING_DIM)
        register_model(info)(lambda info, stages=stages: build(info, stages))


def teacher_of(checkpoint: str | None) -> Any:
    """Return ``edge_sam_tiny`` as it works at 256 pixels."""
    from edgesam_export import load_model
    from edgesam_export.families import build_model

    teacher = build_model("tiny_256")
    teacher.load_state_dict(load_model("edge_sam_tiny", checkpoint).state_dict())
    return teacher


def train(options: argparse.Namespace, folder: Path, seed: int, rounds: int | None) -> Any:
    """Return a student trained as one arm says; ``rounds`` None is encoder only."""
    from edgesam_export.distill.config import DistillConfig, Phase
    from edgesam_export.distill.start import inherit, start_run
    from edgesam_export.distill.training import distill

    first = options.steps if rounds is None else options.steps // 2
    config = DistillConfig(
        student="thin_256",
        stage="encoder",
        teacher="tiny_256",
        data=DATA,
        schedule=(Phase(size=SIZE, batch=options.batch, steps=first),),
        objects=2,
        learning_rate=2e-3,
        warmup=50,
        seed=seed,
        checkpoint_every=options.steps,
        workers=0,
    )
    teacher = teacher_of(options.checkpoint)
    student, _ = start_run(replace(config, stage="prompts", teacher=None))
    for part in ("prompt_encoder", "mask_decoder"):
        inherit(student, teacher, part)
    distill(config, student, folder / "encoder", teacher=teacher)
    if rounds is not None:
        schedule = (Phase(size=SIZE, batch=options.batch, steps=options.steps - first),)
        # Other images than in the first half, as (a) sees others, too.
        config = replace(
            config,
            stage="prompts",
            schedule=schedule,
            rounds=rounds,
            learning_rate=1e-3,
            data=DATA.replace(":70:", ":71:"),
        )
        distill(config, student, folder / "prompts", teacher=teacher)
    return student.eval()


def judge(model: Any, scenes: int) -> dict[str, float]:
    """Return the mIoU by prompt on held-out scenes: first mask token, at the logits' size."""
    import numpy as np

    from edgesam_export.distill.evaluation import centre_point, refinement_point
    from edgesam_export.distill.forward import decode, network_input
    from edgesam_export.distill.scenes import draw_scene
    from edgesam_export.imaging.masks import bounding_box, iou

    found: dict[str, list[float]] = {prompt: [] for prompt in PROMPTS}
    scale = 1024 / SIZE

    @torch.inference_mode()
    def mask_of(embedding: Any, points: list, labels: list) -> Any:
        coords = (torch.tensor([points], dtype=torch.float32) + 0.5) * scale - 0.5
        logits, _ = decode(model, embedding, coords, torch.tensor([labels]))
        logits = torch.nn.functional.interpolate(logits[:, :1], size=(SIZE, SIZE), mode="bilinear")
        return logits[0, 0].numpy() > 0

    for index in range(scenes):
        scene = draw_scene(HELD_OUT, index, SIZE)
        image = torch.from_numpy(scene.image.transpose(2, 0, 1)[None].copy())
        with torch.inference_mode():
            embedding = model.encode(network_input(image, model, SIZE))
        for mask in scene.masks:
            left, top, right, bottom = bounding_box(mask)
            found["box"].append(iou(mask_of(embedding, [(left, top), (right, bottom)], [2, 3]), mask))
            points, labels = [tuple(centre_point(mask))], [1]
            for rounds in range(3):
                predicted = mask_of(embedding, [*points, (0, 0)], [*labels, -1])
                if rounds == 0:
                    found["point"].append(iou(predicted, mask))
                following = refinement_point(predicted, mask, points) if rounds < 2 else None
                if following is None:
                    break
                points, labels = [*points, following[0]], [*labels, following[1]]
            found["point+2"].append(iou(predicted, mask))
    return {prompt: float(np.mean(values)) for prompt, values in found.items()}


def show(scores: dict[str, float]) -> str:
    """Return scores in one line."""
    return ", ".join(f"{prompt} {scores[prompt]:.3f}" for prompt in PROMPTS)


def table(found: dict[str, Any]) -> str:
    """Return the table of docs/distillation.md: mean and, in brackets, smallest and largest over the seeds."""
    lines = [f"| | {' | '.join(PROMPTS)} | time |", f"|---|{'---|' * len(PROMPTS)}---|"]
    teacher = " | ".join(f"{found['teacher'][prompt]:.3f}" for prompt in PROMPTS)
    lines.append(f"| teacher | {teacher} | |")
    for arm, title, _ in ARMS:
        runs = [run for run in found["runs"] if run["arm"] == arm]
        cells = []
        for prompt in PROMPTS:
            values = [run[prompt] for run in runs]
            cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        seconds = statistics.mean(run["seconds"] for run in runs)
        lines.append(f"| ({arm}) {title} | {' | '.join(cells)} | {seconds:.0f} s |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""A training run: from a configuration to weights, and on from where it stopped.

More than one process: start it with ``torchrun``; DistributedDataParallel does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgesam_export.distill.cache import EmbeddingCache
from edgesam_export.distill.compression import attach, detach
from edgesam_export.distill.config import DistillConfig, config_document
from edgesam_export.distill.dataset import Batch, batches
from edgesam_export.distill.loop import EmbeddingStep, PromptStep, fill_dots, network_input, teacher_embedding
from edgesam_export.distill.runs import RunFolder
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel

__all__ = ["Processes", "TrainingResult", "amp_advice", "distill"]

NOT_DECAYED = ("embed", "token")
"""Parameters with these in their names are tables of vectors: like biases and norms they keep their size."""
USUAL_MOMENTUM = 0.1
"""Of every batch norm's statistics, as in PyTorch."""
HISTORY_EVERY = 10
"""Steps that one line of the history is the mean of."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of the run."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    @staticmethod
    def find(device: str | None = None) -> Processes:
        """Join the others that ``torchrun`` started, if it did.

        Raises:
            UsageError: CUDA is asked for and there is none, or fewer devices than processes.
        """
        distributed = torch.distributed
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device is '{device}', but PyTorch finds no CUDA device here; leave --device out")
        several = distributed.is_available() and distributed.is_torchelastic_launched()
        if several and device == "cuda":
            place, there = distributed.get_node_local_rank(0), torch.cuda.device_count()
            if place >= there:
                raise UsageError(
                    f"process {place} finds {there} CUDA devices, one is needed for each; give torchrun"
                    f" --nproc-per-node {there}, or say --device cpu"
                )
            device = f"cuda:{place}"
        if several and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        return Processes(rank=rank, world=world, device=torch.device(device))


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run left."""

    folder: Path
    weights: Path
    steps: int
    history: list[dict[str, float]]


def amp_advice(config: DistillConfig, where: Processes) -> str | None:
    """Say when mixed precision costs time: short of AVX-512, PyTorch computes BF16 by converting to FP32 and back."""
    if config.amp == "bf16" and where.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return "amp bf16: this processor (AVX2) emulates BF16, several times slower than FP32; --amp off is faster here"
    return None


def distill(
    config: DistillConfig,
    student: SamModel,
    folder: str | Path,
    *,
    teacher: SamModel | None = None,
    resume: bool = False,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train ``student`` as ``config`` says; leave weights, configuration, history, curves and samples in ``folder``.

    ``resume`` goes on from the folder's newest checkpoint, or from ``checkpoint``: the result is that of a run which
    was never stopped, bit for bit on one kind of machine with the same number of threads and processes. ``cache`` is a
    folder for the teacher's embeddings. The student is changed in place.

    Raises:
        UsageError: options that do not fit together, or a folder that holds another run.
    """
    where = Processes.find(device)
    if config.amp == "fp16" and where.device.type != "cuda":
        raise UsageError(f"amp is fp16, which {where.device.type} cannot train with; choose bf16 or off")
    run = RunFolder(Path(folder), config, write=where.first)
    run.open(resume=resume or checkpoint is not None)
    student.to(where.device, memory_format=torch.channels_last)
    if teacher is not None:
        teacher.to(where.device).eval().requires_grad_(False)
    if config.compress is not None:
        attach(student, config.compress, train_palettes=True)
    prepare(student, config)
    loop = Loop(config, student, make_step(student, teacher, config), where)
    loop.known = known_embeddings(teacher, config, cache)
    loop.side = canvas_side(teacher, config)
    state = run.load(checkpoint, where.device) if resume or checkpoint is not None else None
    if state is not None:
        loop.restore(state)

    def save() -> None:
        if where.first:
            run.save(loop.done, loop.state())
            run.show(student, loop.history, loop.done)

    loop.run(save, progress or (lambda *_: None))
    loop.calibrate()
    if config.compress is not None:
        detach(student)
    student.eval().requires_grad_(False)
    weights = run.finish(student, loop.history)
    return TrainingResult(folder=run.folder, weights=weights, steps=config.steps, history=loop.history)


def canvas_side(teacher: SamModel | None, config: DistillConfig) -> int | None:
    """Return the size at which pictures are prepared when a teacher sees more than the student, else None."""
    if teacher is None:
        return None
    largest = max(phase.size for phase in config.schedule)
    return max(teacher.info.frame.size, largest)


def known_embeddings(
    teacher: SamModel | None, config: DistillConfig, cache: str | Path | None
) -> Callable[[Batch, Tensor], Tensor | None]:
    """Return what gives a batch's embeddings of the teacher: computed, or from the disk; None without a teacher."""
    if teacher is None:
        return lambda batch, pictures: None
    if cache is None:
        return lambda batch, pictures: teacher_embedding(teacher, pictures)
    kept: dict[int, EmbeddingCache] = {}

    def look(batch: Batch, pictures: Tensor) -> Tensor:
        side = int(pictures.shape[-1])
        if side not in kept:
            kept[side] = EmbeddingCache(Path(cache), teacher, config.data, side)
        return kept[side].embeddings(pictures, batch.indexes)

    return look


def prepare(student: SamModel, config: DistillConfig) -> None:
    """Put the student in training mode; frozen parts keep parameters and the statistics of their norms."""
    student.train().requires_grad_(True)
    parts = ("prompt_encoder", "mask_decoder") if config.stage == "encoder" else ()
    for name in {*config.freeze, *parts}:
        getattr(student, name).eval().requires_grad_(False)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise UsageError(f"freeze names {', '.join(config.freeze)}: nothing is left to train")


def make_step(student: SamModel, teacher: SamModel | None, config: DistillConfig) -> nn.Module:
    """Return the step of the configured stage.

    Raises:
        UsageError: a teacher is named and missing.
    """
    if config.stage == "encoder":
        if teacher is None:
            raise UsageError("stage 'encoder' needs a teacher; pass one")
        return EmbeddingStep(student, config)
    return PromptStep(student, teacher, config)


def make_optimizer(student: SamModel, config: DistillConfig) -> torch.optim.AdamW:
    """Return AdamW; vectors and tables are not decayed."""
    decayed, kept = [], []
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or any(part in name for part in NOT_DECAYED)
            (kept if plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def learning_rate(config: DistillConfig, step: int) -> float:
    """Return the rate of a step (from 0): up along a line, down along half a cosine.

    Source: Loshchilov, Hutter 2017, "SGDR", https://arxiv.org/abs/1608.03983, equation 5.
    """
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    risen = config.share_done(config.warmup)
    share = (config.share_done(step) - risen) / max(1e-9, 1 - risen)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class Loop:
    """The steps between two checkpoints, and what is counted on the way."""

    def __init__(self, config: DistillConfig, student: SamModel, step: nn.Module, where: Processes) -> None:
        self.config = config
        self.student = student
        self.step = step
        self.where = where
        self.optimizer = make_optimizer(student, config)
        self.scaler = torch.amp.GradScaler(where.device.type, enabled=config.amp == "fp16")
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.known: Callable[[Batch, Tensor], Tensor | None] = lambda batch, pictures: None
        self.side: int | None = None
        """Size at which pictures are prepared, None for the student's."""
        self.done = 0
        self.history: list[dict[str, float]] = []
        self.lines: list[dict[str, float]] = []
        """Steps that are not in the history yet."""
        self.called = step
        if where.world > 1:
            ids = [where.device.index] if where.device.type == "cuda" else None
            # Single-mask training leaves the other tokens' parameters without gradients.
            self.called = nn.parallel.DistributedDataParallel(step, device_ids=ids, find_unused_parameters=True)

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.done,
            "history": self.history,
            "lines": self.lines,
            "config": config_document(self.config),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` returned."""
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.done, self.history, self.lines = int(state["step"]), state["history"], state["lines"]

    def run(self, save: Callable[[], None], progress: Progress) -> None:
        """Do all steps that are not done; save at every interval, at the end, and when interrupted."""
        config, start = self.config, self.done
        try:
            for batch in self.batches(start):
                self.lines.append(self.one(self.done, batch))
                self.done += 1
                if self.done % HISTORY_EVERY == 0 or self.done == config.steps:
                    self.history.append({"step": self.done, **mean_of(self.lines)})
                    self.lines = []
                if self.done % config.checkpoint_every == 0 or self.done == config.steps:
                    save()
                progress(self.done, config.steps, text_of(self.history[-1] if self.history else {}))
        except KeyboardInterrupt:
            if self.done > start:
                save()
            raise

    def batches(self, start: int) -> Iterable[Batch]:
        """Return the batches of all steps from ``start`` on."""
        if start >= self.config.steps:
            return []
        return batches(self.config, start=start, side=self.side, rank=self.where.rank, world=self.where.world)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Measure the statistics of batch norms on the pictures of the last steps, with the final weights.

        What training leaves behind lags the weights, and is a mean over few of its small batches.
        """
        config = self.config
        norms = [m for m in self.student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        if not norms or not config.calibrate:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        for batch in self.batches(max(0, config.steps - config.calibrate)):
            pictures = batch.pictures.to(self.where.device)
            self.student.encode(network_input(pictures, self.student, config.schedule[-1].size))
        for norm in norms:
            norm.momentum = USUAL_MOMENTUM

    def one(self, number: int, batch: Batch) -> dict[str, float]:
        """Do one step; return its figures.

        Raises:
            UsageError: the loss is not finite.
        """
        device = self.where.device
        generator = torch.Generator(device)
        generator.manual_seed(self.config.seed * 1_000_003 + number * self.where.world + self.where.rank)
        rate = learning_rate(self.config, number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pictures, masks = batch.pictures.to(device), batch.masks.to(device)
        types = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        amp = types[self.config.amp]
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            target = self.known(batch, pictures)
            if self.config.stage != "encoder" and batch.dots.any():  # that stage does not look at masks
                masks = fill_dots(self.step.teacher[0], masks, batch.dots, target)
            loss, parts = self.called(pictures, masks, self.config.phase_at(number), generator, target)
        if not torch.isfinite(loss):
            raise UsageError(f"step {number}: the loss is {loss.item()}; lower --learning-rate and resume")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        found = {"loss": loss, "gradient": norm, **parts}
        return {**{name: float(value.detach()) for name, value in found.items()}, "learning_rate": rate}


def mean_of(lines: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every figure."""
    return {name: sum(line[name] for line in lines) / len(lines) for name in lines[0]}


def text_of(line: dict[str, Any]) -> str:
    """Return what the progress bar says."""
    shown = (("loss", "loss"), ("mse", "mse"), ("iou_first", "mIoU"), ("iou_last", "last round"))
    return "  ".join(f"{label} {line[name]:.3f}" for name, label in shown if name in line) or "training"

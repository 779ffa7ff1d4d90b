"""The steps of a run: optimiser, learning rate, clock, counters and history."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgesam_export.distill.config import DistillConfig, Phase, config_document
from edgesam_export.distill.dataset import Batch, batches
from edgesam_export.distill.forward import network_input
from edgesam_export.distill.loop import PromptStep
from edgesam_export.distill.pool import ScenePool
from edgesam_export.distill.processes import Processes
from edgesam_export.distill.samples import Skipped
from edgesam_export.distill.teacher import Seen
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Progress

__all__ = ["Trainer", "learning_rate"]

NOT_DECAYED = ("embed", "token")
"""Parameters with these in their names are tables of vectors: like biases and norms they keep their size."""
USUAL_MOMENTUM = 0.1
"""Of every batch norm's statistics, as in PyTorch."""
HISTORY_EVERY = 10
"""Steps that one line of the history is the mean of."""
AVERAGE_EVERY = 8
"""Steps between two updates of the running mean: hundreds of small kernels that every step would wait for."""
POOL_SEED = 1 << 48
"""Added to the seed of what a step draws from the pool, or prompts would repeat the same random numbers."""
TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_optimizer(student: SamModel, config: DistillConfig) -> torch.optim.AdamW:
    """Return AdamW; vectors and tables are not decayed."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or any(part in name for part in NOT_DECAYED)
            (kept if plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    on_cuda = next(student.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True if on_cuda else None)


def learning_rate(config: DistillConfig, step: int, share: float | None = None) -> float:
    """Return the rate of a step (from 0): up along a line, down along half a cosine.

    ``share`` is how much of the run is over by the clock; None: by the steps, and the cosine begins after the warm-up.
    Source: Loshchilov, Hutter 2017, "SGDR", https://arxiv.org/abs/1608.03983, equation 5.
    """
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    if share is None:
        if step < config.warmup:
            return config.learning_rate * rising
        risen = config.share_done(config.warmup)
        share, rising = (config.share_done(step) - risen) / max(1e-9, 1 - risen), 1.0
    return config.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class Trainer:
    """The steps between two checkpoints."""

    def __init__(
        self,
        config: DistillConfig,
        student: SamModel,
        step: nn.Module,
        where: Processes,
        *,
        target: Callable[[Batch, Tensor], Seen | None],
        side: int | None = None,
    ) -> None:
        self.config = config
        self.student = student
        self.step = step
        self.where = where
        self.target = target
        """Gives a batch's embeddings of the teacher, or None."""
        self.side = side
        """Size at which images are prepared, None for the student's."""
        self.optimizer = make_optimizer(student, config)
        self.scaler = torch.amp.GradScaler(where.device.type, enabled=config.amp == "fp16")
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.average = copy.deepcopy(student) if config.average else None
        self.done = 0
        self.seconds = 0.0
        """Time of all steps that are done."""
        self.scenes = 0
        """Scenes that were put into the pool."""
        self.history: list[dict[str, float]] = []
        self.skipped = Skipped()
        """What was passed over of the data, each time that it was."""
        self.lines: list[dict[str, Any]] = []
        """Steps that are not in the history yet."""
        self.parallel = step
        if where.world > 1:
            ids = [where.device.index] if where.device.type == "cuda" else None
            # Single-mask training leaves the other tokens' parameters without gradients.
            self.parallel = nn.parallel.DistributedDataParallel(step, device_ids=ids, find_unused_parameters=True)

    @property
    def result(self) -> SamModel:
        """The model that is shown and written: the running mean, if there is one."""
        return self.student if self.average is None else self.average

    def state(self) -> dict[str, Any]:
        """Return the state that the rest of the run depends on."""
        self.read_lines()
        return {
            "student": self.student.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.done,
            "seconds": self.seconds,
            "scenes": self.scenes,
            "history": self.history,
            "lines": self.lines,
            "config": config_document(self.config),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        self.student.load_state_dict(state["student"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.done, self.history, self.lines = int(state["step"]), state["history"], state["lines"]
        self.seconds, self.scenes = float(state["seconds"]), int(state["scenes"])

    @property
    def share(self) -> float | None:
        """How much of the time budget is used, 0 to 1; None without one."""
        return min(1.0, self.seconds / self.config.seconds) if self.config.seconds else None

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.config.steps if self.share is None else self.share >= 1.0

    def phase(self) -> Phase:
        """Return the phase of the next step."""
        return self.config.phase_at(self.done) if self.share is None else self.config.phase_of_share(self.share)

    def run(self, save: Callable[[], None], progress: Progress) -> None:
        """Do all steps that are not done; save at every interval, at the end, and when interrupted.

        Then measure the statistics of batch norms again.
        """
        start = self.done
        pool = self.make_pool()
        try:
            self.steps(self.prepared(pool), save, progress)
        except KeyboardInterrupt:
            if self.done > start:
                save()
            raise
        finally:
            if pool is not None:
                pool.close()
        if self.average is not None:
            self.student.load_state_dict(self.average.state_dict())
        self.calibrate()
        self.skipped.without_repeats().warn(self.config.annotations_frame)

    def make_pool(self) -> ScenePool | None:
        """Return the pool of scenes, None if images are prepared for each step."""
        if not self.config.pool or self.finished:
            return None
        side = self.side or max(phase.size for phase in self.config.schedule)
        where = self.where
        return ScenePool(
            self.config, where.device, side=side, rank=where.rank, world=where.world, first=self.scenes * where.world
        )

    def steps(self, prepared: Iterator[Batch], save: Callable[[], None], progress: Progress) -> None:
        """Do the steps, each on the next batch that is prepared."""
        config, before = self.config, self.seconds
        started = time.monotonic()
        for batch in prepared:
            self.lines.append(self.one(self.done, batch))
            self.done += 1
            self.seconds = before + time.monotonic() - started
            if self.done % HISTORY_EVERY == 0 or self.finished:
                self.read_lines()
                extra = {"seconds": self.seconds, "scenes": self.scenes} if config.pool else {}
                self.history.append({"step": self.done, **mean_of(self.lines), **extra})
                self.lines = []
            if self.done % config.checkpoint_every == 0 or self.finished:
                save()
            over, whole = (self.seconds, config.seconds) if config.seconds else (self.done, config.steps)
            progress(int(over), int(whole), text_of(self.history[-1] if self.history else {}))

    def prepared(self, pool: ScenePool | None) -> Iterator[Batch]:
        """Yield the batches of all steps that are not done."""
        if pool is None:
            if not self.finished:
                yield from self.counted_batches(self.done)
            return
        before = self.scenes
        while not self.finished:
            yield pool.batch(self.done, self.phase(), self.generator(self.done, POOL_SEED))
            self.scenes = before + pool.drawn

    def counted_batches(self, start: int) -> Iterator[Batch]:
        """Yield the batches of all steps from ``start`` on, prepared ahead by their numbers."""
        where = self.where
        for batch in batches(self.config, start=start, side=self.side, rank=where.rank, world=where.world):
            self.skipped.extend(batch.skipped)
            yield batch

    def generator(self, number: int, salt: int = 0) -> torch.Generator:
        """Return the generator of a step's random numbers."""
        made = torch.Generator(self.where.device)
        made.manual_seed(salt + self.config.seed * 1_000_003 + number * self.where.world + self.where.rank)
        return made

    @torch.no_grad()
    def calibrate(self) -> None:
        """Measure the statistics of batch norms on the images of the last steps, with the final weights.

        What training leaves behind lags the weights, and is a mean over few of its small batches.
        """
        config = self.config
        norms = [m for m in self.student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        if not norms or not config.calibrate:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        for batch in self.counted_batches(max(0, config.steps - config.calibrate)):
            images = batch.images.to(self.where.device)
            self.student.encode(network_input(images, self.student, config.schedule[-1].size))
        for norm in norms:
            norm.momentum = USUAL_MOMENTUM

    def one(self, number: int, batch: Batch) -> dict[str, Any]:
        """Do one step; return its figures, still on the device."""
        device = self.where.device
        rate = learning_rate(self.config, number, self.share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, masks = batch.images.to(device), batch.masks.to(device)
        amp = TYPES[self.config.amp]
        with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
            target = self.target(batch, images)
            if isinstance(self.step, PromptStep) and batch.dots.any():
                teacher = self.step.teacher
                assert teacher is not None and target is not None  # data without masks is refused without a teacher
                masks = teacher.fill_dots(masks, batch.dots, target)
            loss, parts = self.parallel(images, masks, self.phase(), self.generator(number), target)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.update_average(number)
        return {"loss": loss.detach(), "gradient": norm, **parts, "learning_rate": rate}

    @torch.no_grad()
    def update_average(self, number: int) -> None:
        """Move the running mean towards the parameters; early on it follows fast, to forget where they began."""
        if self.average is None or (number + 1) % AVERAGE_EVERY:
            return
        updates = (number + 1) // AVERAGE_EVERY
        kept = min(self.config.average**AVERAGE_EVERY, updates / (updates + 10))
        for mean, now in zip(self.average.parameters(), self.student.parameters()):
            mean.lerp_(now, 1 - kept)
        for kept_buffer, buffer in zip(self.average.buffers(), self.student.buffers()):
            kept_buffer.copy_(buffer)

    def read_lines(self) -> None:
        """Fetch the figures of the last steps from the device, all at once: each fetch waits for it.

        Raises:
            UsageError: a loss is not finite.
        """
        self.lines = [{name: float(value) for name, value in line.items()} for line in self.lines]
        for number, line in enumerate(self.lines, start=self.done - len(self.lines)):
            if not math.isfinite(line["loss"]):
                raise UsageError(f"step {number}: the loss is {line['loss']}; lower --learning-rate and resume")


def mean_of(lines: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every figure."""
    return {name: sum(line[name] for line in lines) / len(lines) for name in lines[0]}


def text_of(line: dict[str, Any]) -> str:
    """Return the progress bar's text."""
    shown = (("loss", "loss"), ("mse", "mse"), ("iou_first", "mIoU"), ("iou_last", "last round"))
    return "  ".join(f"{label} {line[name]:.3f}" for name, label in shown if name in line) or "training"

"""Drawn scenes on the device: processes draw new ones all the time, a step takes at random from what is there.

Drawing a scene costs a core about 20 ms, as much as a data centre's GPU needs to train on six. So a scene is used as
often as it takes, each time turned, cut and recoloured otherwise, and no step waits for one. What a step sees then
depends on how fast scenes are drawn: two runs are alike, not equal. Without worker processes a run is repeatable.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgesam_export.distill.augmentation import chosen_masks, cut, recoloured, turned
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.data import open_data
from edgesam_export.distill.dataset import Batch, square
from edgesam_export.distill.samples import Sample
from edgesam_export.errors import RunnerUnavailableError, first_line

__all__ = ["ScenePool"]

SHELF = 32
"""Scenes that a worker draws ahead of what was fetched."""
FIRST_SCENES = 512
"""Scenes that the first step waits for, unless the pool is smaller."""
USES = 4
"""Without workers: how often a scene is used on average."""
PAUSE_S = 0.01
"""Between two looks, of a worker at its full shelf and of a step at shelves that are empty."""
END_S = 5.0
"""Time that a worker has to end by itself."""


def labelled(sample: Sample, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene's image, and its disjoint masks as numbers from 1: uint8 (3, S, S) and (S, S)."""
    image, masks, _ = square(sample, side)
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)
    return image.transpose(2, 0, 1), (masks * numbers[:, None, None]).max(axis=0)


def shared(memory: Tensor) -> Tensor:
    """Return a tensor moved to memory that other processes see."""
    return memory.share_memory_()  # type: ignore[no-untyped-call, no-any-return]  # untyped in PyTorch


class Shelf:
    """Memory shared with one worker: a short ring of scenes and how many were put there and fetched.

    No lock, no queue: each count has one writer, which raises it after the scenes are there, or copied. A queue's
    handing over of tensors would run in the process that launches the kernels, and slow it down several times.
    """

    def __init__(self, side: int, length: int = SHELF) -> None:
        self.images = shared(torch.empty(length, 3, side, side, dtype=torch.uint8))
        self.labels = shared(torch.empty(length, side, side, dtype=torch.uint8))
        self.counts = shared(torch.zeros(3, dtype=torch.int64))  # put, fetched, whether to stop

    @property
    def stopped(self) -> bool:
        return bool(self.counts[2])

    @property
    def full(self) -> bool:
        return int(self.counts[0] - self.counts[1]) >= len(self.labels)

    def put(self, image: np.ndarray, label: np.ndarray) -> None:
        """Add a scene where there is room."""
        slot = int(self.counts[0]) % len(self.labels)
        self.images[slot], self.labels[slot] = torch.from_numpy(image.copy()), torch.from_numpy(label)
        self.counts[0] += 1

    def fetch(self) -> tuple[Tensor, Tensor, int]:
        """Return scenes that are there, those up to the ring's end, and how many; call ``fetched`` once copied."""
        start = int(self.counts[1]) % len(self.labels)
        many = min(int(self.counts[0] - self.counts[1]), len(self.labels) - start)
        return self.images[start : start + many], self.labels[start : start + many], many

    def fetched(self, many: int) -> None:
        """Free the room of so many scenes."""
        self.counts[1] += many


def draw_scenes(shelf: Shelf, data: str, side: int, first: int, step: int, failures: Any) -> None:
    """Put scene ``first``, ``first + step`` and so on onto the shelf until stopped; the body of a worker."""
    torch.set_num_threads(1)
    try:
        scenes, index = open_data(data, size=side), first
        while not shelf.stopped:
            if shelf.full:
                time.sleep(PAUSE_S)
                continue
            shelf.put(*labelled(scenes[index % len(scenes)], side))
            index += step
    except KeyboardInterrupt:  # meant for the run, which ends its workers
        return
    except Exception as error:  # whatever a scene cannot be drawn for; the step reports it
        failures.put(first_line(error))


class ScenePool:
    """A ring of scenes on the device: the newest replaces the oldest. ``close`` it to end the workers."""

    def __init__(
        self, config: DistillConfig, device: torch.device, *, side: int, rank: int = 0, world: int = 1, first: int = 0
    ) -> None:
        self.config = config
        self.device = device
        self.rank = rank
        self.images = torch.empty(config.pool, 3, side, side, dtype=torch.uint8, device=device)
        self.labels = torch.empty(config.pool, side, side, dtype=torch.uint8, device=device)
        self.stream = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # untyped in PyTorch
        self.drawn = 0
        """Scenes that came in since the start."""
        self.used = 0
        """Images handed to steps."""
        self.next, self.step = first + rank, world
        """Without workers: the next scene of the series, and from one to the next."""
        self.scenes = open_data(config.data, size=side)
        context = multiprocessing.get_context("fork")
        self.failures = context.SimpleQueue()
        self.shelves = [Shelf(side) for _ in range(config.workers)]
        step = world * max(1, config.workers)
        self.workers = [
            context.Process(
                target=draw_scenes,
                args=(shelf, config.data, side, first + rank + number * world, step, self.failures),
                daemon=True,
            )
            for number, shelf in enumerate(self.shelves)
        ]
        for worker in self.workers:
            worker.start()

    @property
    def filled(self) -> int:
        """Scenes that can be taken."""
        return min(self.drawn, len(self.labels))

    def take_in(self) -> None:
        """Copy the scenes on the shelves into the ring; without workers draw one scene.

        Raises:
            RunnerUnavailableError: a worker failed or was killed.
        """
        if not self.shelves:
            image, label = labelled(self.scenes[self.next % len(self.scenes)], self.labels.shape[-1])
            self.next += self.step
            self.add(torch.from_numpy(image[None].copy()), torch.from_numpy(label[None]))
            return
        if not self.failures.empty():
            raise RunnerUnavailableError(f"a process that draws scenes failed: {self.failures.get()}")
        if not all(worker.is_alive() for worker in self.workers):
            raise RunnerUnavailableError("a process that draws scenes was killed; is the memory used up?")
        for shelf in self.shelves:
            images, labels, many = shelf.fetch()
            if many:
                self.add(images, labels)
                shelf.fetched(many)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Put scenes into the ring.

        Copies from the host go through a stream of their own: in that of the steps each would wait for those queued.
        """
        if self.stream is not None:
            with torch.cuda.stream(self.stream):
                images, labels = images.to(self.device), labels.to(self.device)
            steps = torch.cuda.current_stream(self.device)
            steps.wait_stream(self.stream)
            images.record_stream(steps)
            labels.record_stream(steps)
        while len(labels):
            start = self.drawn % len(self.labels)
            many = min(len(labels), len(self.labels) - start)
            self.images[start : start + many], self.labels[start : start + many] = images[:many], labels[:many]
            images, labels = images[many:], labels[many:]
            self.drawn += many

    def wait(self, count: int) -> None:
        """Return when ``count`` scenes are there; without workers also when each is used often enough."""
        if not self.shelves:
            count = max(count, math.ceil(self.used / USES))
            while self.drawn < count:
                self.take_in()
            return
        self.take_in()
        while self.filled < count:
            time.sleep(PAUSE_S)
            self.take_in()

    def batch(self, number: int, phase: Phase, generator: torch.Generator) -> Batch:
        """Return images and masks of a step (from 0), at the phase's size or larger.

        Early phases see a part of the scene, between the phase's size and the whole, which the step then scales down.
        """
        side = self.labels.shape[-1]
        self.used += phase.batch
        self.wait(min(len(self.labels), max(phase.batch, FIRST_SCENES if self.shelves else 0)))
        rng = np.random.default_rng([self.config.seed, number, self.rank])
        window = round(phase.size * (side / phase.size) ** rng.random()) if phase.size < side else side
        slots = torch.randint(self.filled, (phase.batch,), generator=generator, device=self.device)
        images, labels = self.images[slots], self.labels[slots]
        images, labels = cut(images, labels, window, generator)
        images, labels = turned(images, labels, generator)
        masks = chosen_masks(labels, self.config.objects, generator)
        return Batch(
            images=recoloured(images, generator),
            masks=masks,
            sizes=[(window, window)] * phase.batch,
            dots=torch.zeros(phase.batch, dtype=torch.bool),
            indexes=[],
        )

    def close(self) -> None:
        """End the workers and free the device's memory."""
        for shelf in self.shelves:
            shelf.counts[2] = 1
        for worker in self.workers:
            worker.join(END_S)
            if worker.is_alive():
                worker.kill()
                worker.join()
        del self.images, self.labels

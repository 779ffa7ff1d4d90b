"""Drawn scenes on the device: processes draw new ones all the time, a step takes at random from what is there.

Drawing a scene costs a core about 20 ms, as much as a data centre's GPU needs to train on ten. So every scene is used
several times, each time turned, cut and recoloured otherwise, and no step waits for a scene. What a step sees then
depends on how fast scenes are drawn: two runs are alike, not equal. Without worker processes a run is repeatable.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from edgesam_export.distill.augmentation import chosen_masks, cut, recoloured, turned
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.data import Sample, open_data
from edgesam_export.distill.dataset import Batch, one_thread, square

__all__ = ["ScenePool"]

CHUNK = 8
"""Scenes that a worker hands over at once."""
FIRST_SCENES = 512
"""Scenes that the first step waits for, unless the pool is smaller."""
USES = 4
"""Without workers: how often a scene is used on average."""
PATIENCE_S = 0.5
"""Between looks whether the workers are still alive."""


class Drawing(IterableDataset):
    """Scenes of a series without end, in chunks: images uint8 (N, 3, S, S), labels uint8 (N, S, S)."""

    def __init__(self, data: str, side: int, *, rank: int, world: int, first: int = 0) -> None:
        self.text, self.side = data, side
        self.rank, self.world, self.first = rank, world, first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        data = open_data(self.text, size=self.side)
        index = self.first + self.rank * workers + number
        while True:
            scenes = [labelled(data[(index + i * self.world * workers) % len(data)], self.side) for i in range(CHUNK)]
            index += CHUNK * self.world * workers
            images, labels = (np.stack(values) for values in zip(*scenes))
            yield torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)


def labelled(sample: Sample, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene's image, and its disjoint masks as numbers from 1: uint8 (S, S, 3) and (S, S)."""
    image, masks, _ = square(sample, side)
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)
    return image, (masks * numbers[:, None, None]).max(axis=0)


class ScenePool:
    """A ring of scenes: the newest replaces the oldest. ``close`` it to end the workers."""

    def __init__(
        self, config: DistillConfig, device: torch.device, *, side: int, rank: int = 0, world: int = 1, first: int = 0
    ) -> None:
        self.config = config
        self.device = device
        self.rank = rank
        self.images = torch.empty(config.pool, 3, side, side, dtype=torch.uint8, device=device)
        self.labels = torch.empty(config.pool, side, side, dtype=torch.uint8, device=device)
        self.drawn = 0
        """Scenes that came in since the start."""
        self.used = 0
        """Images that steps were given."""
        self.failure: BaseException | None = None
        self.changed = threading.Condition()
        self.stopped = threading.Event()
        self.loader = iter(
            DataLoader(
                Drawing(config.data, side, rank=rank, world=world, first=first),
                batch_size=None,
                num_workers=config.workers,
                worker_init_fn=one_thread,
                prefetch_factor=4 if config.workers else None,
            )
        )
        self.feeder = threading.Thread(target=self.feed, daemon=True)
        if config.workers:
            self.feeder.start()

    @property
    def filled(self) -> int:
        """Scenes that can be taken."""
        return min(self.drawn, len(self.labels))

    def feed(self) -> None:
        """Take in what the workers draw, until closed."""
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        try:
            while not self.stopped.is_set():
                self.take_in(stream)
        except BaseException as error:  # the step that waits for scenes raises it
            self.failure = error
            with self.changed:
                self.changed.notify_all()

    def take_in(self, stream: torch.cuda.Stream | None = None) -> None:
        """Put the next chunk into the ring.

        ``stream``: copies from the host go through a stream of their own, or they would wait for all queued steps.
        """
        chunk = next(self.loader)
        if stream is not None:
            with torch.cuda.stream(stream):
                chunk = [value.to(self.device) for value in chunk]
            stream.synchronize()
            for value in chunk:
                value.record_stream(torch.cuda.default_stream(self.device))
        with self.changed:
            slots = (torch.arange(CHUNK) + self.drawn) % len(self.labels)
            for slot, image, label in zip(slots.tolist(), *chunk):
                self.images[slot], self.labels[slot] = image, label
            self.drawn += CHUNK
            self.changed.notify_all()

    def wait(self, count: int) -> None:
        """Return when ``count`` scenes are there; draw them here if there are no workers."""
        if not self.config.workers:
            while self.drawn < max(count, math.ceil(self.used / USES)):
                self.take_in()
            return
        with self.changed:
            while self.filled < count and self.failure is None:
                self.changed.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure

    def batch(self, number: int, phase: Phase, generator: torch.Generator) -> Batch:
        """Return images and masks of a step (from 0), at the phase's size or larger.

        Early phases see a part of the scene, between the phase's size and the whole, which the step then scales down.
        """
        side = self.labels.shape[-1]
        self.used += phase.batch
        self.wait(min(len(self.labels), max(phase.batch, FIRST_SCENES if self.config.workers else 0)))
        rng = np.random.default_rng([self.config.seed, number, self.rank])
        window = round(phase.size * (side / phase.size) ** rng.random()) if phase.size < side else side
        with self.changed:
            slots = torch.randint(self.filled, (phase.batch,), generator=generator, device=self.device)
            images, labels = self.images[slots], self.labels[slots]
        images, labels = cut(images, labels, window, generator)
        images, labels = turned(images, labels, generator)
        masks = chosen_masks(labels, self.config.objects, generator)
        return Batch(
            pictures=recoloured(images, generator),
            masks=masks,
            dots=torch.zeros(phase.batch, dtype=torch.bool),
            indexes=[],
        )

    def close(self) -> None:
        """End the workers and give the memory back."""
        self.stopped.set()
        if self.config.workers:
            self.feeder.join()
        del self.loader, self.images, self.labels

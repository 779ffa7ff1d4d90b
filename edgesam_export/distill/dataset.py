"""Images and masks of a training step: which ones, cut to a square, the same on every run and after every restart.

The samples of a step depend on the seed, the step and the process, and on nothing that happened before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgesam_export.distill.config import DistillConfig
from edgesam_export.distill.data import open_data
from edgesam_export.distill.samples import Data, Reading, Sample, Skipped, readable
from edgesam_export.errors import EdgeSAMExportError, UsageError
from edgesam_export.imaging.geometry import scaled_size
from edgesam_export.spec import ImageFrame

__all__ = ["Batch", "batches", "reading_of", "square"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The inputs of a step. Shapes: images uint8 (B, 3, S, S); masks bool (B, M, S, S); dots bool (B)."""

    images: Tensor
    masks: Tensor
    sizes: list[tuple[int, int]]
    """Height and width of each image without the padding."""
    dots: Tensor
    """True where the data has no masks: each of ``masks`` then is one pixel, a point to ask the teacher for."""
    indexes: list[int]
    skipped: Skipped = field(default_factory=Skipped)
    """What was passed over for this batch."""


def square(sample: Sample, side: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return image and masks with the longest side made ``side``, padded right and bottom, and the size unpadded.

    Shapes:
        returns uint8 (side, side, 3), bool (K, side, side), (height, width)
    """
    height, width = sample.image.shape[:2]
    if (height, width) == (side, side):
        return sample.image, sample.masks, (height, width)
    height, width = scaled_size((height, width), side)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = ImageFrame().pad_colour
    resized = Image.fromarray(sample.image).resize((width, height), Image.Resampling.BILINEAR)
    image[:height, :width] = np.asarray(resized)
    masks = np.zeros((len(sample.masks), side, side), bool)
    for target, mask in zip(masks, sample.masks):
        shrunk = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
        target[:height, :width] = np.asarray(shrunk) > 127
    return image, masks, (height, width)


Drawn = tuple[np.ndarray, np.ndarray, tuple[int, int], bool, int, Skipped]
"""Image, masks, size without padding, whether each mask is one pixel, index of the sample, what was passed over."""


def reading_of(config: DistillConfig) -> Reading:
    """Return how a run reads its data."""
    return Reading(strict=config.strict, frame=config.annotations_frame)


class StepSamples(Dataset[Drawn | EdgeSAMExportError]):
    """Samples by (step, position, index of the data, side of the square); objects are drawn by the first two."""

    def __init__(self, data: str, config: DistillConfig) -> None:
        self.text = data
        self.config = config
        self.opened: dict[int, Data] = {}

    def data(self, side: int) -> Data:
        """Return the data at a size; only drawn scenes have several."""
        key = side if self.text.startswith("scenes:") else 0
        if key not in self.opened:
            self.opened[key] = open_data(self.text, size=side, reading=reading_of(self.config))
        return self.opened[key]

    def __getitem__(self, key: tuple[int, int, int, int]) -> Drawn | EdgeSAMExportError:
        try:
            return self.drawn(*key)
        except EdgeSAMExportError as error:
            return error  # PyTorch would wrap what a worker raises in its traceback

    def drawn(self, step: int, position: int, index: int, side: int) -> Drawn:
        """Return what a step sees of a sample.

        Raises:
            UsageError: a damaged image; an image without masks, and no teacher to make them.
        """
        sample, index, skipped = readable(self.data(side), index, strict=self.config.strict)
        image, masks, (height, width) = square(sample, side)
        masks = masks[masks.any(axis=(1, 2))]
        rng = np.random.default_rng([self.config.seed, step, position])
        count = self.config.objects
        dots = len(masks) == 0
        if not dots:
            order = rng.permutation(len(masks))
            masks = masks[np.resize(order, count)]
        elif self.config.teacher is None and self.config.stage != "recover":
            raise UsageError(f"{sample.name} has no masks and no teacher makes them; name one with --teacher")
        else:
            masks = np.zeros((count, side, side), bool)
            masks[np.arange(count), rng.integers(0, height, count), rng.integers(0, width, count)] = True
        return image, masks, (height, width), dots, index, skipped


def collate(items: list[Drawn | EdgeSAMExportError]) -> Batch | EdgeSAMExportError:
    """Put samples together; an error stands for the batch."""
    drawn: list[Drawn] = []
    for item in items:
        if isinstance(item, EdgeSAMExportError):
            return item
        drawn.append(item)
    images, masks, sizes, dots, indexes, notes = zip(*drawn)
    skipped = Skipped()
    for one in notes:
        skipped.extend(one)
    return Batch(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),  # (B, S, S, 3) -> (B, 3, S, S)
        masks=torch.from_numpy(np.stack(masks)),
        sizes=list(sizes),
        dots=torch.tensor(dots),
        indexes=list(indexes),
        skipped=skipped,
    )


class Steps:
    """The keys that the data loader fetches: for every step from ``start`` on, the keys of its samples."""

    def __init__(self, config: DistillConfig, length: int, *, start: int, side: int | None, rank: int, world: int):
        self.config = config
        self.length = length
        self.start = start
        self.side = side
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return self.config.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, int, int]]]:
        seen = 0
        for step in range(self.config.steps):
            phase = self.config.phase_at(step)
            first = seen + self.rank * phase.batch
            seen += self.world * phase.batch
            if step < self.start:
                continue
            side = self.side or phase.size
            yield [(step, self.rank * phase.batch + i, self.index_of(first + i), side) for i in range(phase.batch)]

    def index_of(self, number: int) -> int:
        """Return the index of the ``number``th sample of the run: every epoch in another order, each sample once."""
        if self.length > 1 << 24:
            return number % self.length
        epoch, position = divmod(number, self.length)
        return int(order_of(self.config.seed, epoch, self.length)[position])


@lru_cache(maxsize=2)
def order_of(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of an epoch's samples; a batch may lie in two epochs."""
    return np.random.default_rng([seed, epoch]).permutation(length)


def batches(
    config: DistillConfig, *, start: int = 0, side: int | None = None, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Yield the batches of all steps from ``start`` on.

    ``side`` is the size of the squares, None for the student's own (a teacher may see larger images).

    Raises:
        UsageError: the data cannot be read.
    """
    samples = StepSamples(config.data, config)
    length = len(samples.data(side or config.schedule[0].size))
    if length == 0:
        raise UsageError(f"data '{config.data}' holds no images; give a folder or file with images")
    loader = DataLoader(
        samples,
        batch_sampler=Steps(config, length, start=start, side=side, rank=rank, world=world),
        collate_fn=collate,
        num_workers=config.workers,
        worker_init_fn=one_thread,
        prefetch_factor=4 if config.workers else None,
    )
    for batch in loader:
        if isinstance(batch, EdgeSAMExportError):
            raise batch
        yield batch


def one_thread(number: int) -> None:
    """Let a worker use one core."""
    torch.set_num_threads(1)

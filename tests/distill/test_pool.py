"""Scenes on the device, and the many ways in which one is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgesam_export.distill import augmentation, scenes
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.data import open_data
from edgesam_export.distill.pool import CHUNK, Drawing, ScenePool
from edgesam_export.errors import UsageError

CPU = torch.device("cpu")
SIDE = 64
PHASE = Phase(size=SIDE, batch=4, steps=1)
CONFIG = DistillConfig(
    student="edge_sam_tiny", data="scenes:5", schedule=(PHASE,), objects=3, pool=2 * CHUNK, workers=0
)


def generator(seed: int = 0) -> torch.Generator:
    made = torch.Generator()
    made.manual_seed(seed)
    return made


@pytest.fixture
def pool():
    made = ScenePool(CONFIG, CPU, side=SIDE)
    yield made
    made.close()


def test_labels_are_the_masks_of_the_scenes():
    images, labels = next(iter(Drawing("scenes:5", SIDE, rank=0, world=1)))
    assert images.shape == (CHUNK, 3, SIDE, SIDE) and labels.shape == (CHUNK, SIDE, SIDE)
    for index in range(CHUNK):
        sample = open_data("scenes:5", size=SIDE)[index]
        assert np.array_equal(images[index].permute(1, 2, 0).numpy(), sample.image)
        assert [np.array_equal(labels[index] == k + 1, mask) for k, mask in enumerate(sample.masks)] == [True] * len(
            sample.masks
        )
        assert int(labels[index].max()) == len(sample.masks)


def test_processes_and_restarts_draw_scenes_of_their_own():
    def names(**options) -> set[bytes]:
        return {image.numpy().tobytes() for image in next(iter(Drawing("scenes:5", SIDE, **options)))[0]}

    first, second = names(rank=0, world=2), names(rank=1, world=2)
    later = names(rank=0, world=2, first=2 * CHUNK)
    assert len(first | second | later) == 3 * CHUNK


def test_the_newest_scenes_replace_the_oldest(pool):
    chunks = [part for part, _ in zip(Drawing("scenes:5", SIDE, rank=0, world=1), range(3))]
    for _ in range(3):
        pool.take_in()
    assert pool.drawn == 3 * CHUNK and pool.filled == 2 * CHUNK
    assert torch.equal(pool.images[:CHUNK], chunks[2][0]) and torch.equal(pool.labels[CHUNK:], chunks[1][1])


def test_a_batch_has_masks_and_is_repeatable(pool):
    batch = pool.batch(7, PHASE, generator(1))
    assert batch.pictures.dtype == torch.uint8 and batch.pictures.shape == (4, 3, SIDE, SIDE)
    assert batch.masks.dtype == torch.bool and batch.masks.shape == (4, 3, SIDE, SIDE)
    assert bool(batch.masks.flatten(2).any(dim=2).all()) and not batch.dots.any()
    other = ScenePool(CONFIG, CPU, side=SIDE)
    again = other.batch(7, PHASE, generator(1))
    assert torch.equal(again.pictures, batch.pictures) and torch.equal(again.masks, batch.masks)
    other.close()


def test_every_use_of_a_scene_is_paid_for_without_workers(pool):
    for number in range(20):
        pool.batch(number, replace(PHASE, batch=8), generator(number))
    assert pool.drawn == pytest.approx(20 * 8 / 4, abs=CHUNK)


def test_early_phases_see_a_part_of_the_scene():
    pool = ScenePool(CONFIG, CPU, side=4 * SIDE)
    sides = {pool.batch(number, PHASE, generator(number)).pictures.shape[-1] for number in range(8)}
    pool.close()
    assert len(sides) > 3 and min(sides) >= SIDE and max(sides) <= 4 * SIDE


def test_workers_fill_the_pool_and_end():
    pool = ScenePool(replace(CONFIG, workers=1), CPU, side=SIDE)
    batch = pool.batch(0, PHASE, generator())
    assert pool.filled == 2 * CHUNK and bool(batch.masks.any())
    pool.close()
    assert not pool.feeder.is_alive()


def test_what_a_worker_cannot_draw_stops_the_step():
    pool = ScenePool(replace(CONFIG, workers=1), CPU, side=8)  # smaller than a scene can be
    with pytest.raises(UsageError, match="size 8"):
        pool.batch(0, replace(PHASE, size=8), generator())
    pool.close()


def test_turning_moves_images_and_labels_alike_in_eight_ways():
    labels = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4).expand(400, 4, 4)
    images = labels[:, None].expand(400, 3, 4, 4)
    moved, numbers = augmentation.turned(images, labels, generator())
    assert torch.equal(moved[:, 0], numbers) and torch.equal(moved[:, 2], numbers)
    square = np.arange(16).reshape(4, 4)
    ways = {np.rot90(one, k).tobytes() for one in (square, square.T) for k in range(4)}
    counts = {way: sum(one.numpy().astype(int).tobytes() == way for one in numbers) for way in ways}
    assert len(counts) == 8 and sum(counts.values()) == 400 and min(counts.values()) > 20  # 50 each


def test_a_cut_holds_a_pixel_of_an_object():
    labels = torch.zeros(200, 32, 32, dtype=torch.uint8)
    labels[:, 30, 2] = 7
    images = labels[:, None].expand(200, 3, 32, 32)
    parts, numbers = augmentation.cut(images, labels, 8, generator())
    assert parts.shape == (200, 3, 8, 8) and torch.equal(parts[:, 1], numbers)
    assert (numbers == 7).sum(dim=(1, 2)).tolist() == [1] * 200
    positions = {tuple(one) for one in (numbers == 7).nonzero()[:, 1:].tolist()}
    assert {row for row, _ in positions} == {6, 7} and {column for _, column in positions} == {0, 1, 2}  # no padding
    assert augmentation.cut(images, labels, 32, generator())[1] is labels


def test_recolouring_exchanges_channels_and_keeps_the_scale():
    images = torch.tensor([40, 120, 200], dtype=torch.uint8)[None, :, None, None].expand(600, 3, 2, 2)
    seen = augmentation.recoloured(images, generator()).float()
    assert (seen == seen[:, :, :1, :1]).all()  # one factor and one shift for a channel
    first = seen[:, 0, 0, 0]
    near = torch.stack([(first - value).abs() for value in (40, 120, 200)]).argmin(dim=0)
    assert sorted(torch.bincount(near, minlength=3).tolist())[0] > 120  # 200 each, some far off
    assert abs(float(seen.mean()) - 120) < 3
    middle = seen.median(dim=1).values[:, 0, 0]  # 120, factor 0.1 of it and shift 8: a deviation of 14
    assert abs(float(middle.mean()) - 120) < 4 and 10 < float(middle.std()) < 18


def test_chosen_objects_are_different_ones_and_large_enough():
    labels = torch.zeros(100, 64, 64, dtype=torch.uint8)
    labels[:, :8, :8], labels[:, 20:40, 20:40], labels[:, 60:, 60:], labels[:, 0, 63] = 1, 4, 9, 2  # 2: one pixel
    masks = augmentation.chosen_masks(labels, 3, generator())
    areas = masks.sum(dim=(2, 3)).sort(dim=1).values
    assert areas.tolist() == [[16, 64, 400]] * 100
    masks = augmentation.chosen_masks(labels, 5, generator())
    assert bool((masks.sum(dim=(2, 3)) > 1).all())  # the first one drawn again, not the single pixel
    alone = torch.zeros(1, 64, 64, dtype=torch.uint8)
    alone[0, 5, 5] = 3
    assert augmentation.chosen_masks(alone, 2, generator()).sum(dim=(2, 3)).tolist() == [[1, 1]]
    assert scenes.OBJECTS[1] == augmentation.MOST_OBJECTS


def test_what_a_pool_cannot_do():
    with pytest.raises(UsageError, match="a time budget needs --pool"):
        replace(CONFIG, pool=0, seconds=5.0)
    with pytest.raises(UsageError, match="a pool holds drawn scenes"):
        replace(CONFIG, data="images")

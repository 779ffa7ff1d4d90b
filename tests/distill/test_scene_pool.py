"""Scenes on the device, and the many ways in which one is seen."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgesam_export.distill import augmentation, scenes
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.data import open_data
from edgesam_export.distill.pool import SHELF, ScenePool, Shelf, labelled
from edgesam_export.errors import RunnerUnavailableError, UsageError

CPU = torch.device("cpu")
POOL = 16
SIDE = 64
PHASE = Phase(size=SIDE, batch=4, steps=1)
CONFIG = DistillConfig(student="edge_sam_tiny", data="scenes:5", schedule=(PHASE,), objects=3, pool=POOL, workers=0)


def generator(seed: int = 0) -> torch.Generator:
    made = torch.Generator()
    made.manual_seed(seed)
    return made


@pytest.fixture
def pool():
    made = ScenePool(CONFIG, CPU, side=SIDE)
    yield made
    made.close()


def drawn(index: int) -> tuple[np.ndarray, np.ndarray]:
    return labelled(open_data("scenes:5", size=SIDE)[index], SIDE)


def test_labels_are_the_masks_of_the_scenes():
    for index in range(4):
        sample = open_data("scenes:5", size=SIDE)[index]
        image, labels = drawn(index)
        assert np.array_equal(image.transpose(1, 2, 0), sample.image) and labels.dtype == np.uint8
        assert all(np.array_equal(labels == number, mask) for number, mask in enumerate(sample.masks, start=1))
        assert int(labels.max()) == len(sample.masks)


def test_a_shelf_is_a_ring_of_one_writer_and_one_reader():
    shelf = Shelf(SIDE, length=3)
    scenes = [drawn(index) for index in range(5)]
    for scene in scenes[:3]:
        assert not shelf.full
        shelf.put(*scene)
    assert shelf.full
    images, labels, many = shelf.fetch()
    assert many == 3 and all(np.array_equal(images[i], scenes[i][0]) for i in range(3))
    shelf.fetched(2)
    shelf.put(*scenes[3])
    shelf.put(*scenes[4])
    assert shelf.full
    images, labels, many = shelf.fetch()  # up to the ring's end
    assert many == 1 and np.array_equal(labels[0], scenes[2][1])
    shelf.fetched(1)
    images, labels, many = shelf.fetch()
    assert many == 2 and np.array_equal(images[0], scenes[3][0]) and np.array_equal(labels[1], scenes[4][1])


def test_processes_and_restarts_draw_scenes_of_their_own():
    seen = []
    for rank, first in ((0, 0), (1, 0), (0, 4)):
        pool = ScenePool(replace(CONFIG, pool=2), CPU, side=SIDE, rank=rank, world=2, first=first)
        for _ in range(2):
            pool.take_in()
        seen += [image.numpy().tobytes() for image in pool.images]
        pool.close()
    assert seen == [drawn(index)[0].tobytes() for index in (0, 2, 1, 3, 4, 6)]


def test_the_newest_scenes_replace_the_oldest(pool):
    for _ in range(POOL + 3):
        pool.take_in()
    assert pool.drawn == POOL + 3 and pool.filled == POOL
    assert np.array_equal(pool.images[2], drawn(POOL + 2)[0]) and np.array_equal(pool.labels[3], drawn(3)[1])


def test_more_scenes_than_the_ring_holds_leave_the_last(pool):
    labels = torch.arange(2 * POOL + 5, dtype=torch.uint8)[:, None, None].expand(-1, SIDE, SIDE)
    pool.add(labels[:, None].expand(-1, 3, -1, -1), labels)
    assert pool.drawn == 2 * POOL + 5
    assert sorted(pool.labels[:, 0, 0].tolist()) == list(range(POOL + 5, 2 * POOL + 5))
    assert torch.equal(pool.images[:, 1], pool.labels)


def test_a_batch_has_masks_and_is_repeatable(pool):
    batch = pool.batch(7, PHASE, generator(1))
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (4, 3, SIDE, SIDE)
    assert batch.masks.dtype == torch.bool and batch.masks.shape == (4, 3, SIDE, SIDE)
    assert bool(batch.masks.flatten(2).any(dim=2).all()) and not batch.dots.any()
    other = ScenePool(CONFIG, CPU, side=SIDE)
    again = other.batch(7, PHASE, generator(1))
    assert torch.equal(again.images, batch.images) and torch.equal(again.masks, batch.masks)
    other.close()


def test_every_use_of_a_scene_is_paid_for_without_workers(pool):
    for number in range(20):
        pool.batch(number, replace(PHASE, batch=8), generator(number))
    assert pool.drawn == 20 * 8 / 4


def test_early_phases_see_a_part_of_the_scene():
    pool = ScenePool(CONFIG, CPU, side=4 * SIDE)
    sides = {pool.batch(number, PHASE, generator(number)).images.shape[-1] for number in range(8)}
    pool.close()
    assert len(sides) > 3 and min(sides) >= SIDE and max(sides) <= 4 * SIDE


def test_workers_fill_the_pool_and_end():
    pool = ScenePool(replace(CONFIG, workers=2), CPU, side=SIDE)
    batch = pool.batch(0, PHASE, generator())
    assert pool.filled == POOL and bool(batch.masks.any())
    while not all(shelf.full for shelf in pool.shelves):  # they wait, and go on when there is room
        time.sleep(0.01)
    assert [int(shelf.counts[0] - shelf.counts[1]) for shelf in pool.shelves] == [SHELF, SHELF]
    before = pool.drawn
    pool.batch(1, PHASE, generator())
    assert pool.drawn > before
    pool.close()
    assert not any(worker.is_alive() for worker in pool.workers)
    assert [worker.exitcode for worker in pool.workers] == [0, 0]


def test_workers_draw_all_scenes_of_the_series():
    pool = ScenePool(replace(CONFIG, workers=2, pool=6), CPU, side=SIDE)
    while not all(int(shelf.counts[0]) >= 3 for shelf in pool.shelves):
        time.sleep(0.01)
    for number, shelf in enumerate(pool.shelves):
        for place in range(3):
            assert np.array_equal(shelf.images[place], drawn(2 * place + number)[0])
    pool.close()


def test_a_worker_that_fails_or_is_killed_stops_the_step():
    pool = ScenePool(replace(CONFIG, workers=1), CPU, side=8)  # smaller than a scene can be
    with pytest.raises(RunnerUnavailableError, match=r"draws scenes failed: .*size 8"):
        pool.batch(0, replace(PHASE, size=8), generator())
    pool.close()
    pool = ScenePool(replace(CONFIG, workers=1, pool=10_000), CPU, side=SIDE)
    pool.workers[0].kill()
    pool.workers[0].join()
    with pytest.raises(RunnerUnavailableError, match="was killed"):
        pool.batch(0, replace(PHASE, batch=9000), generator())
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

"""A teacher that sees images otherwise than its student does: stretched, with three maps, padded prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import trained_model_of_three_maps
from torch.nn import functional as F

from edgesam_export.distill.cache import EmbeddingCache
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.dataset import Batch, square
from edgesam_export.distill.forward import network_input
from edgesam_export.distill.loop import PromptStep
from edgesam_export.distill.prompts import initial_prompts
from edgesam_export.distill.samples import Sample
from edgesam_export.distill.teacher import NOTHING, Seen, Teacher, always_padded, in_square
from edgesam_export.distill.training import known_embeddings
from edgesam_export.families import load_model, model_info
from edgesam_export.predict.predictor import Predictor
from edgesam_export.spec import EMPTY_SLOT

NAME = "edge_sam_tiny"
SIDE = 1024
PROMPTS = [
    {"box": (95, 150, 225, 325)},
    {"points": [(160, 240)], "labels": [1]},
    {"points": [(160, 240), (40, 40)], "labels": [1, 0]},
]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    """Three maps, stretched to 1024 x 1024, a padding point after every prompt; it finds objects."""
    return Teacher(trained_model_of_three_maps())


@pytest.fixture(scope="module")
def portrait() -> Sample:
    """A disc of radius 60 that a stretch to a square would make an ellipse, on a gradient, 320 x 640 pixels."""
    y, x = np.mgrid[0:640, 0:320]
    image = np.stack([60 + x // 8, 90 + y // 16, np.full_like(x, 120)], axis=-1).astype(np.uint8)
    disc = (x - 160) ** 2 + (y - 240) ** 2 <= 60**2
    image[disc] = (230, 60, 40)
    return Sample(name="portrait", image=image, masks=disc[None])


def tensors(sample: Sample) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """A sample as a step has it: (1, 3, S, S), (1, K, S, S), and the size without padding."""
    image, masks, size = square(sample, SIDE)
    return torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(masks)[None], size


def in_student_frame(prompt: dict, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt in pixels of the source as the student's decoder takes it, centres on centres."""
    box = "box" in prompt
    pixels = np.reshape(prompt["box"], (2, 2)) if box else np.reshape(prompt["points"], (-1, 2))
    labels = [2, 3] if box else [*prompt["labels"], -1]
    coords = np.zeros((len(labels), 2), np.float32)
    coords[: len(pixels)] = (pixels + 0.5) * factor - 0.5
    return torch.from_numpy(coords)[None], torch.tensor([labels])


@pytest.fixture(scope="module")
def seen(teacher, portrait) -> Seen:
    """What the teacher sees of the padded square."""
    images, _, size = tensors(portrait)
    return teacher.see(images, [size])


@pytest.fixture(scope="module")
def predictor(teacher, portrait) -> Predictor:
    """The teacher on the image itself, as a user has it."""
    return Predictor(teacher.model).set_image(portrait.image)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["box", "point", "points"])
def test_masks_are_those_that_the_teacher_gives_a_user(teacher, portrait, seen, predictor, prompt):
    """Compared at the size of the image, and with the disc."""
    coords, labels = in_student_frame(prompt, SIDE / 640)
    logits = teacher.logits(seen, coords, labels, prompt_size=SIDE, size=(SIDE, SIDE))
    assert not bool((logits[..., SIDE // 2 :] > 0).any())  # nothing lies in the padding
    found = F.interpolate(logits[..., : SIDE // 2], size=(640, 320), mode="bilinear")[0] > 0
    expected = predictor.predict(**prompt).masks
    for token in range(4):
        assert overlap(found[token].numpy(), expected[token]) > 0.97
    assert max(overlap(mask.numpy(), portrait.masks[0]) for mask in found) > 0.8


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def test_what_it_sees_is_the_image_without_padding_stretched(portrait):
    class Keeps(torch.nn.Module):
        info = model_info("edgetam")

        def encode(self, image):
            return image, image[:, :1]

    images, _, size = tensors(portrait)
    images = images.repeat(2, 1, 1, 1)
    whole, part = SIDE, size
    teacher = Teacher(Keeps())
    seen = teacher.see(images, [(whole, whole), part])
    assert seen.extents.tolist() == [[1.0, 1.0], [0.5, 1.0]]  # columns, rows
    assert torch.equal(seen.maps[0][:1], network_input(images[:1], teacher.model, SIDE))
    assert float((seen.maps[0][1, :, :, -1] - seen.maps[0][1, :, :, -2]).abs().max()) < 0.05  # no border of padding
    assert Teacher(Keeps()).see(images).extents is None  # squares, where embeddings are matched
    assert Teacher(Keeps()).see(images, [(whole, whole)] * 2).extents is None


def test_logits_of_a_part_are_put_where_the_image_is():
    """A ramp along x over the left half: 0 at its left border, 1 at its right."""
    ramp = ((torch.arange(8) + 0.5) / 8).expand(1, 4, 8, 8)
    found = in_square(ramp, torch.tensor([[0.5, 0.75]]), (16, 16))
    assert found[0, 0, 0, 1:7].tolist() == pytest.approx([(column + 0.5) / 8 for column in range(1, 7)], abs=1e-6)
    assert bool((found[..., 8:] == NOTHING).all()) and bool((found[:, :, 12:] == NOTHING).all())
    assert bool((found[:, :, :12, :8] > 0).all())


def test_every_prompt_gets_one_padding_point():
    labels = torch.tensor([[2, 3, 1], [1, -1, 0]])
    _, padded = always_padded(torch.zeros(2, 3, 2), labels)
    assert padded.tolist() == [[2, 3, 1, -1], [1, -1, 0, EMPTY_SLOT]]


def test_another_prompt_frame_is_another_scale():
    """The same place in frames of 1024 and 256 pixels; the centre of a pixel stays the centre."""
    model = load_model(NAME, random_weights=1)
    seen = Teacher(model).see(torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8))
    fine, coarse = torch.tensor([[[401.5, 201.5]]]), torch.tensor([[[100.0, 50.0]]])
    answers = [
        Teacher(model).logits(seen, coords, torch.tensor([[1]]), prompt_size=size, size=(256, 256))
        for coords, size in ((fine, 1024), (coarse, 256))
    ]
    assert torch.allclose(*answers, atol=1e-4)


def test_a_student_is_held_to_the_disc_that_such_a_teacher_finds(teacher, portrait, seen):
    """One step of a padded image: the figures say how far the student is from the teacher's masks."""
    images, masks, _ = tensors(portrait)
    config = DistillConfig(student=NAME, teacher=NAME, schedule=(Phase(size=512, batch=1, steps=1),), rounds=0)
    step = PromptStep(load_model(NAME), teacher.model, config)
    coords, labels = initial_prompts(masks[0], SIDE, torch.Generator().manual_seed(0), 0.0)
    right, _ = step.right_masks(seen, masks[0], coords, labels, torch.zeros(1, 4, 256, 256))
    exact = F.adaptive_avg_pool2d(masks.float(), 256)[0, 0] > 0.5
    assert max(overlap(mask.numpy(), exact.numpy()) for mask in right[0]) > 0.8
    _, figures = step(images, masks, config.schedule[0], torch.Generator().manual_seed(0), seen)
    assert 0.5 < float(figures["iou_first"]) <= 1.0


def test_all_its_maps_are_kept_and_dots_become_its_masks(teacher, portrait, seen, tmp_path):
    """A batch of an image without masks, not square: the teacher is prompted; what it saw is read again."""
    images, _, size = tensors(portrait)
    dot = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    dot[0, 0, int(240 * SIDE / 640), int(160 * SIDE / 640)] = True
    batch = Batch(images=images, masks=dot, sizes=[size], dots=torch.tensor([True]), indexes=[0])
    config = DistillConfig(student=NAME, teacher="sam2.1_hiera_large", data="images")
    fresh = known_embeddings(teacher.model, config, tmp_path)(batch, images)
    filled = teacher.fill_dots(dot, batch.dots, fresh)
    disc = F.interpolate(torch.from_numpy(portrait.masks[None]).float(), scale_factor=SIDE / 640)[0, 0].numpy() > 0.5
    assert overlap(filled[0, 0, :, : SIDE // 2].numpy(), disc) > 0.8 and not bool(filled[..., SIDE // 2 :].any())
    (kept,) = tmp_path.iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["00000000.npy", "00000000_1.npy", "00000000_2.npy"]
    read = EmbeddingCache(tmp_path, teacher, "images", SIDE)
    read.teacher = replace(teacher, model=Blind())  # nobody to ask any more
    again = read.see(images, [0], [size])
    assert torch.equal(again.extents, seen.extents) and torch.equal(fresh.extents, seen.extents)
    for one, other in zip(again.maps, seen.maps):
        assert float((one - other).abs().max()) <= 1e-3 * max(1.0, float(other.abs().max()))


class Blind(torch.nn.Module):
    """A teacher that cannot be asked; its frame is known."""

    info = model_info("sam2.1_hiera_large")

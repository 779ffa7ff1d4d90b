"""One step with prompts: which masks go back in, and that a compiled step computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgesam_export.distill import loop
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.loop import PromptStep, answered, decode
from edgesam_export.families import load_model
from edgesam_export.spec import EMPTY_SLOT

NAME = "edge_sam_tiny"
PHASE = Phase(size=64, batch=2, steps=1)
CONFIG = DistillConfig(student=NAME, schedule=(PHASE,), objects=2, rounds=2, refinements=1, mask_share=0.5)


@pytest.fixture(scope="module")
def model():
    return load_model(NAME, random_weights=1)


def generator(seed: int = 0) -> torch.Generator:
    made = torch.Generator()
    made.manual_seed(seed)
    return made


def prompts(count: int = 6) -> tuple[torch.Tensor, ...]:
    embeddings = torch.randn(count, 128, 8, 8, generator=generator())
    coords = 1000 * torch.rand(count, 3, 2, generator=generator(1))
    labels = torch.tensor([[1, -1, 0]]).expand(count, 3)
    return embeddings, coords, labels


def images_and_masks() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator(), dtype=torch.uint8)
    masks = torch.zeros(2, 2, 64, 64, dtype=torch.bool)
    masks[:, 0, 10:40, 20:50] = masks[:, 1, 40:, :30] = True
    return images, masks


@torch.no_grad()
def test_a_training_decode_is_that_of_the_model(model):
    embeddings, coords, labels = prompts(1)
    embeddings = torch.randn(1, 128, 64, 64, generator=generator())
    mask = torch.randn(1, 1, 256, 256, generator=generator(2))
    for mask_input in (None, mask):
        has_mask = None if mask_input is None else torch.tensor([True])
        expected = model.decode(embeddings, coords, labels, mask_input)
        for one, other in zip(decode(model, embeddings, coords, labels, mask_input, has_mask), expected):
            assert torch.equal(one, other)


@torch.no_grad()
def test_a_mask_belongs_to_the_prompts_that_have_one(model):
    embeddings, coords, labels = prompts()
    mask = torch.randn(6, 1, 32, 32, generator=generator(2))
    has_mask = torch.tensor([True, False, True, False, False, True])
    mixed, _ = decode(model, embeddings, coords, labels, mask, has_mask)
    with_mask, _ = decode(model, embeddings, coords, labels, mask, torch.ones(6, dtype=torch.bool))
    without, _ = decode(model, embeddings, coords, labels)
    assert torch.allclose(mixed[has_mask], with_mask[has_mask], atol=1e-5)
    assert torch.allclose(mixed[~has_mask], without[~has_mask], atol=1e-5)
    assert float((with_mask - without).abs().amax(dim=(1, 2, 3)).min()) > 1e-3


@torch.no_grad()
def test_slots_that_fill_up_a_compiled_prompt_change_nothing(model):
    step = PromptStep(model, None, CONFIG)
    embeddings, coords, labels = prompts()
    coords, labels = coords[:, :2], labels[:, :2]
    expected = step.decode(PHASE, embeddings, coords, labels)
    seen = []

    def decoder(*inputs):
        seen.append(inputs[2].shape[1])
        return model.mask_decoder(*inputs)

    step.compiled = {"decode": decoder}
    for one, other in zip(step.decode(PHASE, embeddings, coords, labels), expected):
        assert torch.allclose(one, other, atol=1e-4)
    assert seen == [2 + CONFIG.rounds]
    step.decode(replace(PHASE, size=96), embeddings, coords, labels)
    assert len(seen) == 1  # eager at other sizes


def test_the_parameters_of_mask_prompts_are_trained_and_only_then():
    for config, trained in ((CONFIG, True), (replace(CONFIG, refinements=0, mask_share=0.0), False)):
        student = load_model(NAME, random_weights=1).requires_grad_(True)
        loss, _ = PromptStep(student, None, config)(*images_and_masks(), PHASE, generator(), None)
        loss.backward()
        gradients = [parameter.grad for parameter in student.prompt_encoder.mask_downscaling.parameters()]
        assert [gradient is not None and bool(gradient.any()) for gradient in gradients] == [trained] * len(gradients)


def test_rounds_get_the_prompts_that_the_configuration_says(model, monkeypatch):
    calls = []

    def spy(model, embeddings, coords, labels, mask_input=None, has_mask=None, **options):
        calls.append((labels.shape[1], None if has_mask is None else float(has_mask.float().mean())))
        return decode(model, embeddings, coords, labels, mask_input, has_mask)

    monkeypatch.setattr(loop, "decode", spy)
    images, masks = images_and_masks()
    for share, refinements, rounds, expected in (
        (0.0, 0, None, [(2, None), (3, None), (4, None)]),
        (1.0, 2, None, [(2, None), (3, 1.0), (4, 1.0), (4, 1.0), (4, 1.0)]),
        (0.0, 1, 1, [(2, None), (3, None), (3, 1.0)]),
        (1.0, 1, 0, [(2, None)]),
    ):
        calls.clear()
        config = replace(CONFIG, mask_share=share, refinements=refinements)
        PromptStep(model, None, config)(images, masks, replace(PHASE, rounds=rounds), generator(), None)
        assert calls == expected


def test_an_answer_is_the_mask_that_a_user_would_go_on_from():
    logits = torch.arange(4.0)[None, :, None, None].expand(4, 4, 2, 2)
    scores = torch.tensor([[0.9, 0.1, 0.3, 0.2]]).expand(4, 4)
    labels = torch.tensor([[1, -1], [2, 3], [1, 0], [1, EMPTY_SLOT]])
    # One point: the best of tokens 1 to 3. A box, or two points: token 0.
    assert answered(logits, scores, labels)[:, 0, 0, 0].tolist() == [2.0, 0.0, 0.0, 2.0]

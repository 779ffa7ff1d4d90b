"""A model whose decoder has fixed prompt slots and knows no mask prompt: nobody is told to export it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.families import load_model
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import ArtifactRunner, Decoded, Embedding, Runner
from edgesam_export.spec import Artifact, CoreMLConfig

NAME, SLOTS = "efficient_sam_vitt", 6
PICTURE = np.full((40, 60, 3), 128, np.uint8)
EMBEDDING = {"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)}
POINTS = [(float(x), 5.0) for x in range(SLOTS + 1)]


class DescribedRunner(ArtifactRunner):
    """An exported decoder of which only the contract exists."""

    name = "described"
    numerics = "fp32"

    def encode(self, prepared) -> Embedding:
        return EMBEDDING

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise AssertionError("a prompt that does not fit reached the decoder")


class BlankReference(Runner):
    """A reference that takes every prompt and whose masks are empty: nothing is computed."""

    name = "blank"
    accepts_mask_input = True
    embedding_names = tuple(EMBEDDING)

    def __init__(self, info) -> None:
        self.info = info

    def encode(self, prepared) -> Embedding:
        return EMBEDDING

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None) -> Decoded:
        return Decoded(np.zeros((1, 4, 256, 256), np.float32), np.zeros((1, 4), np.float32))


@pytest.fixture(scope="module")
def fixed():
    return load_model(NAME, random_weights=1)


def described(model) -> DescribedRunner:
    """The decoder of a Core ML export with default options."""
    (_, decoder), names = build_components(model, CoreMLConfig(), format="coreml")
    contract = trace_component(decoder, model, CoreMLConfig(), names, format="coreml").contract
    path = Path("decoder.mlpackage")
    file = Artifact(
        path=path, format="coreml", component="decoder", model=model.info.name, sha256="0" * 64, contract=contract
    )
    return DescribedRunner([file])


@pytest.fixture(scope="module")
def runner(fixed) -> DescribedRunner:
    return described(fixed)


@pytest.fixture(scope="module")
def usual(model) -> DescribedRunner:
    """A model that has as many slots as it is exported with."""
    return described(model)


def test_the_contract_says_what_no_export_changes(runner, usual):
    told = [{key: r.contracts["decoder"].get(key) for key in ("fixed_slots", "mask_prompts")} for r in (runner, usual)]
    assert told == [{"fixed_slots": True, "mask_prompts": False}, {"fixed_slots": None, "mask_prompts": None}]
    assert (runner.slots, runner.fixed_slots, runner.mask_prompts) == (SLOTS, True, False)
    assert (usual.slots, usual.fixed_slots, usual.mask_prompts) == (8, False, True)


def test_too_many_points_are_told_to_be_fewer(runner):
    line = rf"needs 7 slots \(points: 7\) but the model always has {SLOTS}; give fewer points$"
    with pytest.raises(UsageError, match=line):
        Predictor(runner=runner).set_image(PICTURE).predict(points=POINTS)
    coords = np.asarray([POINTS], np.float32)
    line = f"this decoder has {SLOTS}; every export of the model has as many, give fewer points$"
    with pytest.raises(UsageError, match=line):
        runner.decode(EMBEDDING, coords, np.ones((1, SLOTS + 1), np.float32))


def test_a_mask_prompt_is_told_to_be_impossible(runner):
    mask = np.zeros((256, 256), np.float32)
    with pytest.raises(UsageError, match=r"takes no mask prompt; no export of this model does$"):
        Predictor(runner=runner).set_image(PICTURE).predict(points=POINTS[:1], mask_input=mask)
    with pytest.raises(UsageError, match=r"takes no mask prompt; no export of this model does$"):
        runner.decode(EMBEDDING, np.zeros((1, 1, 2)), np.ones((1, 1)), mask[None, None])


def test_other_models_are_still_told_to_be_exported_again(usual):
    predictor = Predictor(runner=usual).set_image(PICTURE)
    with pytest.raises(UsageError, match=r"has 8; export it again with --points 10 or give fewer points"):
        predictor.predict(points=[(1.0, 1.0)] * 9)
    with pytest.raises(UsageError, match="takes no mask prompt; export it again with --mask-input"):
        predictor.predict(points=POINTS[:1], mask_input=np.zeros((256, 256), np.float32))


def test_parity_says_why_it_skips_the_mask_prompt(runner, usual):
    for candidate, reason in (
        (runner, "the model knows no mask prompt"),
        (usual, "the decoder was exported without mask input"),
    ):
        blank = BlankReference(candidate.info)
        images = [("one", PICTURE), ("two", PICTURE + 9)]
        with pytest.raises(
            UsageError, match=rf"nothing of the decoder was compared \(described: prompt mask: {reason}\)"
        ):
            check_parity(blank, candidate, images=images, prompts=lambda size: default_prompts(size)[-1:])


def test_parity_hands_over_as_many_slots_as_the_decoder_has(fixed):
    """Points, filled up to the fixed slots by parity itself: the decoder is reached with every prompt but the mask."""
    candidate, seen = described(fixed), []

    def decode_all(embedding, coords, labels, mask_input=None):
        seen.append((coords.shape, labels.shape))
        return Decoded(np.zeros((1, 4, 256, 256), np.float32), np.zeros((1, 4), np.float32))

    candidate.decode_all = decode_all
    images = [("one", PICTURE), ("two", PICTURE + 9)]
    report = check_parity(BlankReference(candidate.info), candidate, images=images, prompts=default_prompts)
    assert set(seen) == {((1, SLOTS, 2), (1, SLOTS))} and len(seen) == 2 * 4
    assert report.skipped == ("described: prompt mask: the model knows no mask prompt",)

"""What the server answers is what the library computes: masks, differences, files, all masks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from running_server import Client, picture, running
from small_models import small_model

from edgesam_export.modeling.sam import SamModel
from edgesam_export.predict.mask_generator import GeneratorConfig, generate_masks
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import open_runner
from edgesam_export.serve.backends import Backend, backend_of_model
from edgesam_export.serve.sessions import Limits

POINTS, BOX = [[30.5, 20.0, 1], [3.0, 3.0, 0]], [5.0, 4.0, 50.0, 36.0]


@pytest.fixture(scope="module")
def pair(small_backend: Backend) -> Iterator[Client]:
    """A server with two backends of one model, of different weights."""
    other = backend_of_model(small_model(seed=2))
    renamed = Backend(**{**vars(other), "id": "small/other"})
    with running([small_backend, renamed]) as client:
        yield client
        assert client.problems == []


def expected(model: SamModel, **prompt: object) -> object:
    return Predictor(model).set_image(np.asarray(picture())).predict(**prompt)


PROMPT = {"points": [point[:2] for point in POINTS], "labels": [1, 0]}


def test_masks_and_scores_are_those_of_the_predictor(client, small):
    asked = {"image": client.image(), "backend": "small/torch"}
    for body, prompt in (({"points": POINTS}, PROMPT), ({"box": BOX}, {"box": BOX})):
        status, line = client.post("/api/predict", {**asked, **body})
        answer = line["result"]["answers"][0]
        masks = expected(small, **prompt)
        assert status == 200 and answer["best"] == masks.best_index
        assert [one["score"] for one in answer["candidates"]] == pytest.approx(masks.scores.tolist(), abs=1e-5)
        assert [one["token"] for one in answer["candidates"]] == [0, 1, 2, 3]
        for one, mask in zip(answer["candidates"], masks.masks, strict=True):
            assert np.array_equal(coco.decode(one["segmentation"]).astype(bool), mask) and one["area"] == mask.sum()
        assert answer["decode_ms"] > 0 and answer["encode_ms"] > 0 and line["result"]["difference"] is None


def test_two_backends_are_compared_pixel_by_pixel(pair, small):
    asked = {"image": pair.image(), "backend": "small/torch", "against": "small/other", "points": POINTS}
    result = pair.post("/api/predict", asked)[1]["result"]
    ours, theirs = expected(small, **PROMPT).masks, expected(small_model(seed=2), **PROMPT).masks
    assert [answer["backend"] for answer in result["answers"]] == ["small/torch", "small/other"]
    for entry, one, other in zip(result["difference"], ours, theirs, strict=True):
        assert entry["pixels"] == np.count_nonzero(one ^ other)
        assert entry["iou"] == pytest.approx((one & other).sum() / (one | other).sum())
    assert [entry["candidate"] for entry in result["difference"]] == [0, 1, 2, 3]
    assert sum(entry["pixels"] for entry in result["difference"]) > 0


def test_downloads_have_the_mask_at_the_size_of_the_image(client, small):
    mask = expected(small, **PROMPT).masks[2]
    asked = {"image": client.image(), "backend": "small/torch", "points": POINTS, "candidate": 2}
    with Image.open(BytesIO(client.post("/api/download", {**asked, "kind": "mask"})[1])) as image:
        assert image.format == "PNG" and np.array_equal(np.asarray(image), np.where(mask, 255, 0))
    with Image.open(BytesIO(client.post("/api/download", {**asked, "kind": "overlay"})[1])) as image:
        drawn = np.asarray(image)
    assert drawn.shape == (40, 60, 3) and (drawn[mask] != np.asarray(picture())[mask]).any(-1).mean() > 0.9
    document = client.post("/api/download", {**asked, "kind": "rle"})[1]
    (entry,) = document["annotations"]
    assert np.array_equal(coco.decode(entry["segmentation"]).astype(bool), mask)
    assert coco.toBbox(entry["segmentation"]).tolist() == entry["bbox"] and entry["area"] == mask.sum()
    assert (entry["point_coords"], entry["point_labels"]) == (PROMPT["points"], [1, 0])
    assert document["image"] == {"image_id": 1, "height": 40, "width": 60} and document["runner"] == "torch"


def test_masks_of_a_large_image_are_shown_scaled_and_downloaded_whole(serving):
    client = serving(shown_pixels=600)
    asked = {"image": client.image(), "backend": "small/torch", "points": POINTS}
    shown = client.post("/api/predict", asked)[1]["result"]["answers"][0]["candidates"][0]["segmentation"]
    assert shown["size"] == [20, 30]
    whole = client.post("/api/download", {**asked, "kind": "rle", "candidate": 0})[1]["annotations"][0]["segmentation"]
    assert whole["size"] == [40, 60]
    enlarged = np.kron(coco.decode(shown), np.ones((2, 2), np.uint8))
    assert (enlarged == coco.decode(whole)).mean() > 0.9


def test_everything_finds_what_the_generator_finds(client, small):
    options = {"grid": 2, "min_score": 0, "min_stability": 0}
    asked = {"image": client.image(), "backend": "small/torch"}
    status, line = client.post("/api/everything", {**asked, **options})
    assert status == 200 and "result" in line, line
    result = line["result"]
    config = GeneratorConfig(points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0)
    masks = generate_masks(open_runner(small), np.asarray(picture()), config)
    found = [coco.decode(entry["segmentation"]).astype(bool) for entry in result["annotations"]]
    assert len(found) == len(masks) > 0
    assert all(np.array_equal(one, mask.runs.mask()) for one, mask in zip(found, masks))
    assert [entry["id"] for entry in result["annotations"]] == list(range(1, len(found) + 1))
    with Image.open(BytesIO(client.post("/api/download", {**asked, "kind": "everything"})[1])) as image:
        drawn = np.asarray(image)
    covered = np.any(found, axis=0)
    assert (drawn[covered] != np.asarray(picture())[covered]).any(-1).mean() > 0.8


def test_steps_are_reported_until_the_result_comes(small_backend):
    with running([small_backend]) as client:
        body = json.dumps({"image": client.image(), "backend": "small/torch"}).encode()
        lines = client.ask("POST", "/api/encode", body, content_type="application/json")[2].splitlines()
        steps = [json.loads(line)["progress"] for line in lines[:-1]]
        assert [step["step"] for step in steps if step["step"] != "waiting"][-1] in ("opening", "encoding")
        assert all(step["elapsed_ms"] >= 0 for step in steps)
        assert set(json.loads(lines[-1])["result"]) == {"backend", "encode_ms", "slots", "candidates"}


def test_the_page_is_told_what_there_is(client):
    setup = json.loads(client.ask("GET", "/api/setup")[2])
    assert setup["models"] == [
        {
            "name": "small",
            "trained_prompts": [],
            "image_domain": "photographs",
            "backends": [{"id": "small/torch", "label": "PyTorch FP32"}],
        }
    ]
    assert setup["samples"] and all(client.ask("GET", path)[0] == 200 for path in setup["samples"])
    assert setup["limits"]["upload_bytes"] == Limits().upload_bytes

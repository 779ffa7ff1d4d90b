"""EdgeSAM against what its authors' code computes on the same parameters and pictures; see tests/goldens/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesam_export.families import build_model
from edgesam_export.modeling.common import stability_score
from edgesam_export.modeling.sam import SamModel
from edgesam_export.predictor import PreparedImage, masks_to_source, prepare, to_frame

# Tolerances of tests/goldens/README.md.
INPUT = 1e-5
EMBEDDING = 1e-4
IOU = 1e-5
LOGITS_STATS = 1e-5
STABILITY = 2e-4
LOGITS = 2e-3
MASK_BITS = 100

PICTURES = (
    *[("edge_sam", index) for index in range(3)],
    ("edge_sam.extra", 0),
    *[("edge_sam_bilinear", index) for index in range(3)],
)
PROMPTS = ("point", "fg_bg", "box", "box_bg", "five", "mask")


@dataclass
class Picture:
    """One golden picture and what our network makes of it; results are kept, so that every test reads the same run."""

    arrays: dict[str, np.ndarray]
    meta: dict
    model: SamModel
    prepared: PreparedImage
    embedding: torch.Tensor
    results: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        return self.arrays[f"img{self.meta['index']}/{name}"]

    def decode(self, coords, labels, mask_input=None) -> tuple[torch.Tensor, torch.Tensor]:
        coords = torch.as_tensor(np.asarray(coords, np.float32))[None]
        labels = torch.as_tensor(np.asarray(labels, np.float32))[None]
        logits, iou = self.model.decode(self.embedding, coords, labels, mask_input)
        return logits[0], iou[0]

    def predict(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (4, 256, 256) and predicted IoU (4,) of a prompt, tokens in upstream's order."""
        if name not in self.results:
            prompt = self.meta["prompts"][name]
            points = np.asarray(prompt.get("coords", []), np.float64).reshape(-1, 2)
            labels = list(prompt.get("labels", []))
            if "box" in prompt:
                points = np.concatenate([points, np.asarray(prompt["box"], np.float64).reshape(2, 2)])
                labels += [2, 3]
            coords = to_frame(points, self.prepared)
            if "box" not in prompt:
                coords, labels = np.concatenate([coords, [[0, 0]]]), [*labels, -1]
            mask = self.predict(prompt["mask"])[0][None, :1] if "mask" in prompt else None
            self.results[name] = self.decode(coords, labels, mask)
        return self.results[name]


@pytest.fixture(scope="module")
def models(manifest, synthetic) -> dict[str, SamModel]:
    """The network with each neck; filled by the golden files' own rule, not by ours."""
    values = synthetic.synthetic_state_dict(manifest["state_dict"], 11)
    built = {mode: build_model("edge_sam", upsample=mode) for mode in ("bicubic", "bilinear")}
    for model in built.values():
        model.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=True)
    return built


def read_golden(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads(bytes(arrays["meta"]))


@pytest.fixture(scope="module")
def pictures(goldens, models, synthetic) -> dict[tuple[str, int], Picture]:
    read = {name: read_golden(goldens / f"{name}.npz") for name, _ in PICTURES}
    made = {}
    for name, index in PICTURES:
        arrays, meta = read[name]
        image = meta["images"][index]
        model = models["bilinear" if "bilinear" in name else "bicubic"]
        drawn = synthetic.test_image(image["height"], image["width"], image["variant"])
        prepared = prepare(drawn, model.info.frame)
        embedding = model.encode(torch.from_numpy(prepared.tensor))
        made[name, index] = Picture(arrays, image, model, prepared, embedding)
    return made


@pytest.fixture(params=PICTURES, ids=lambda key: f"{key[0]}-{key[1]}")
def picture(request, pictures) -> Picture:
    return pictures[request.param]


def assert_logits(logits: torch.Tensor, expected: np.ndarray) -> None:
    """Within one float16 step of the sampled logits, which are stored as float16."""
    step = np.maximum(np.spacing(np.abs(expected)).astype(np.float32), LOGITS)
    difference = np.abs(logits[:, ::4, ::4].numpy() - expected.astype(np.float32))
    assert (difference <= step).all(), f"largest difference {difference.max():.2e}"


def assert_close(actual: torch.Tensor | np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected).max()
    assert difference <= tolerance, f"largest difference {difference:.2e}"


def statistics(logits: torch.Tensor) -> np.ndarray:
    flat = logits.double().flatten(1)
    # The stored deviation divides by n - 1, as torch does by default.
    return torch.stack([flat.mean(1), flat.std(1, correction=1)], dim=1).numpy()


def test_state_dict_has_the_released_keys_shapes_and_order(models, manifest):
    expected = [(key, tuple(shape)) for key, shape in manifest["state_dict"].items()]
    assert [(key, tuple(value.shape)) for key, value in models["bicubic"].state_dict().items()] == expected


@pytest.mark.parametrize(
    ("part", "count"),
    [("", 9_582_112), ("image_encoder", 5_517_552), ("prompt_encoder", 6_220), ("mask_decoder", 4_058_340)],
)
def test_parameter_count_is_upstreams(models, manifest, part, count):
    assert manifest["_".join(filter(None, ["parameters", part]))] == count
    assert sum(p.numel() for p in models["bicubic"].get_submodule(part).parameters()) == count


def test_network_input_is_upstreams(picture):
    sampled = picture.prepared.tensor.reshape(-1)[:: picture.meta["input_stride"]]
    assert_close(sampled, picture.array("input"), INPUT)


def test_embedding_is_upstreams(picture):
    flat = picture.embedding.numpy().reshape(-1)
    assert list(picture.embedding.shape) == picture.meta["embedding_shape"]
    assert_close(flat[:: picture.meta["embedding_stride"]], picture.array("embedding"), EMBEDDING)
    assert abs(flat.mean(dtype=np.float64) - picture.meta["embedding_mean"]) <= LOGITS_STATS
    assert abs(flat.std(dtype=np.float64) - picture.meta["embedding_std"]) <= LOGITS_STATS


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_and_scores_are_upstreams(picture, prompt):
    logits, iou = picture.predict(prompt)
    assert_logits(logits, picture.array(f"{prompt}/logits"))
    assert_close(statistics(logits), picture.array(f"{prompt}/logits_stats"), LOGITS_STATS)
    assert_close(iou, picture.array(f"{prompt}/iou"), IOU)
    assert_close(stability_score(logits), picture.array(f"{prompt}/stability"), STABILITY)
    # The areas are rounded to four digits.
    area = (logits > 0).float().mean(dim=(1, 2))
    assert_close(area, np.asarray(picture.meta["prompts"][prompt]["area"], np.float32), 1e-4)


@pytest.mark.parametrize("golden", sorted({name for name, _ in PICTURES}))
def test_final_masks_are_upstreams(pictures, golden):
    compared = different = 0
    for picture in (pictures[key] for key in PICTURES if key[0] == golden):
        height, width = picture.meta["height"], picture.meta["width"]
        for prompt, described in picture.meta["prompts"].items():
            if "mask_area" not in described:
                continue
            masks = masks_to_source(picture.predict(prompt)[0].numpy(), picture.prepared) > 0
            assert masks.shape == (4, height, width)
            areas = np.count_nonzero(masks, axis=(1, 2))
            assert np.abs(areas - described["mask_area"]).max() <= MASK_BITS
            if prompt in ("point", "box"):
                stored = np.unpackbits(picture.array(f"{prompt}/mask"), axis=1, count=height * width)
                different += np.count_nonzero(stored != masks.reshape(4, -1))
                compared += masks.size
    assert compared > 5e6
    assert different <= MASK_BITS


@pytest.mark.parametrize("key", [key for key in PICTURES if key[0] != "edge_sam.extra"], ids=str)
def test_exported_decoder_of_upstream_gives_both_kinds_of_score(pictures, key):
    picture = pictures[key]
    logits, iou = picture.decode(picture.meta["export_point_coords"], picture.meta["export_point_labels"])
    assert_logits(logits, picture.array("export_iou/logits"))
    assert_logits(logits, picture.array("export_stability/logits"))
    assert_close(iou, picture.array("export_iou/scores"), IOU)
    assert_close(stability_score(logits), picture.array("export_stability/scores"), STABILITY)


@pytest.mark.parametrize("name", ["one", "one_padded", "box", "box_bg", "sixteen"])
def test_exported_decoder_of_upstream_on_further_point_sets(pictures, name):
    picture = pictures["edge_sam.extra", 0]
    points = picture.meta["export"][name]
    logits, iou = picture.decode(points["point_coords"], points["point_labels"])
    assert_logits(logits, picture.array(f"export/{name}/logits"))
    assert_close(statistics(logits), picture.array(f"export/{name}/logits_stats"), LOGITS_STATS)
    assert_close(iou, picture.array(f"export/{name}/scores"), IOU)
    assert_close(stability_score(logits), picture.array(f"export/{name}/stability"), STABILITY)

"""Golden tests of any family: subclass ``GoldenSuite``, name the files, done; see tests/goldens/README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from export_cache import cached_folder, digest_of_files, sources_folder

from edgesam_export.families import build_model
from edgesam_export.imaging.geometry import PreparedImage, prepare, to_frame
from edgesam_export.imaging.masks import masks_to_source
from edgesam_export.modeling.common import stability_score
from edgesam_export.modeling.sam import SamModel

GOLDENS = Path(__file__).parents[1] / "goldens"

# Tolerances of tests/goldens/README.md.
INPUT = 1e-5
EMBEDDING = 1e-4
IOU = 1e-5
LOGITS_STATS = 1e-5
STABILITY = 2e-4
LOGITS = 2e-3
MASK_BITS = 100

SEED = 11
PROMPTS = ("point", "fg_bg", "box", "box_bg", "five", "mask")


@dataclass
class Picture:
    """One golden picture and what our network makes of it; results are kept, so that every test reads the same run."""

    arrays: Mapping[str, np.ndarray]
    meta: dict
    model: SamModel
    prepared: PreparedImage
    embedding: torch.Tensor
    results: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        return self.arrays[f"img{self.meta['index']}/{name}"]

    def decode(self, coords, labels, mask_input=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (4, 256, 256) and predicted IoU (4,) of points in the prompt frame."""
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
            mask = self.first_mask(prompt["mask"]) if "mask" in prompt else None
            self.results[name] = self.decode(coords, labels, mask)
        return self.results[name]

    def first_mask(self, name: str) -> torch.Tensor:
        """Logits of the first mask token of a prompt as a mask input, (1, 1, 256, 256)."""
        return self.predict(name)[0][None, :1]

    def mask_areas(self, logits: torch.Tensor) -> np.ndarray:
        """Pixels of each final mask, at source size."""
        return np.count_nonzero(masks_to_source(logits.numpy(), self.prepared) > 0, axis=(1, 2))


def read_manifest(name: str) -> dict:
    return json.loads((GOLDENS / f"{name}.manifest.json").read_text())


def read_golden(name: str) -> tuple[dict[str, np.ndarray], dict]:
    with np.load(GOLDENS / f"{name}.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    return arrays, json.loads(bytes(arrays["meta"]))


def golden_model(name: str, manifest: dict, synthetic: ModuleType, **options: str) -> SamModel:
    """Model ``name`` filled by the golden files' own rule, not by ours."""
    values = synthetic.synthetic_state_dict(manifest["state_dict"], SEED)
    model = build_model(name, **options)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=True)
    return model


def golden_embedding(model: SamModel, prepared: PreparedImage, golden: str, meta: dict, **options: str) -> torch.Tensor:
    """Our network's embedding of a golden picture, computed once for a state of the sources (export_cache.py)."""

    def make(folder: Path) -> None:
        np.save(folder / "embedding.npy", model.encode(torch.from_numpy(prepared.tensor)).numpy())

    drawn = {key: meta[key] for key in ("height", "width", "variant")}
    rule = digest_of_files([GOLDENS / "synthetic_weights.py", *GOLDENS.glob("*.manifest.json")], GOLDENS)
    description = f"embedding of {model.info.name} {options}, seed {SEED}, {golden} {drawn}, rule {rule}"
    folder = cached_folder(sources_folder(), description, make)
    return torch.from_numpy(np.load(folder / "embedding.npy"))


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
    """Mean and standard deviation of each map; the stored deviation divides by n - 1, as torch does by default."""
    flat = logits.double().flatten(1)
    return torch.stack([flat.mean(1), flat.std(1, correction=1)], dim=1).numpy()


def assert_same_keys(model: SamModel, manifest: dict) -> None:
    """Keys and shapes are the released checkpoint's, and so is the order within the image encoder.

    The order of the decoder is not compared: EdgeSAM lists q, v, k in its attention, SAM q, k, v.
    """
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    expected = {key: tuple(shape) for key, shape in manifest["state_dict"].items()}
    assert found == expected
    encoder = [key for key in expected if key.startswith("image_encoder.")]
    assert [key for key in found if key.startswith("image_encoder.")] == encoder


def assert_same_counts(model: SamModel, manifest: dict) -> None:
    for part in ("", "image_encoder", "prompt_encoder", "mask_decoder"):
        count = sum(parameter.numel() for parameter in model.get_submodule(part).parameters())
        assert count == manifest["_".join(filter(None, ["parameters", part]))], part


class GoldenSuite:
    """A family against what its authors' code computes on the same parameters and pictures.

    A subclass, called ``Test...``, states ``MODEL`` (a model and a manifest) and ``PICTURES`` (golden file, picture);
    ``options`` where a golden file is of the network built otherwise.
    """

    MODEL: str
    PICTURES: tuple[tuple[str, int], ...]

    @staticmethod
    def options(golden: str) -> dict[str, str]:
        """Options of ``build_model`` for a golden file."""
        return {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "picture_key" in metafunc.fixturenames:
            metafunc.parametrize("picture_key", self.PICTURES, ids=lambda key: f"{key[0]}-{key[1]}", scope="class")
        if "golden" in metafunc.fixturenames:
            metafunc.parametrize("golden", sorted({name for name, _ in self.PICTURES}))

    @pytest.fixture(scope="class")
    @classmethod
    def manifest(cls) -> dict:
        return read_manifest(cls.MODEL)

    @pytest.fixture(scope="class")
    @classmethod
    def pictures(cls, manifest, synthetic) -> dict[tuple[str, int], Picture]:
        made, models, read = {}, {}, {}
        for name, index in cls.PICTURES:
            options = cls.options(name)
            key = tuple(sorted(options.items()))
            if key not in models:
                models[key] = golden_model(cls.MODEL, manifest, synthetic, **options)
            if name not in read:
                read[name] = read_golden(name)
            arrays, meta = read[name]
            image, model = meta["images"][index], models[key]
            drawn = synthetic.test_image(image["height"], image["width"], image["variant"])
            prepared = prepare(drawn, model.info.frame)
            embedding = golden_embedding(model, prepared, name, image, **options)
            made[name, index] = Picture(arrays, image, model, prepared, embedding)
        return made

    @pytest.fixture
    def picture(self, pictures, picture_key) -> Picture:
        return pictures[picture_key]

    def test_state_dict_has_the_released_keys_and_shapes(self, pictures, manifest):
        for picture in pictures.values():
            assert_same_keys(picture.model, manifest)

    def test_parameter_counts_are_upstreams(self, pictures, manifest):
        for picture in pictures.values():
            assert_same_counts(picture.model, manifest)

    def test_network_input_is_upstreams(self, picture):
        sampled = picture.prepared.tensor.reshape(-1)[:: picture.meta["input_stride"]]
        assert_close(sampled, picture.array("input"), INPUT)

    def test_embedding_is_upstreams(self, picture):
        flat = picture.embedding.numpy().reshape(-1)
        assert list(picture.embedding.shape) == picture.meta["embedding_shape"]
        assert_close(flat[:: picture.meta["embedding_stride"]], picture.array("embedding"), EMBEDDING)
        assert abs(flat.mean(dtype=np.float64) - picture.meta["embedding_mean"]) <= LOGITS_STATS
        assert abs(flat.std(dtype=np.float64) - picture.meta["embedding_std"]) <= LOGITS_STATS

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_logits_and_scores_are_upstreams(self, picture, prompt):
        logits, iou = picture.predict(prompt)
        assert_logits(logits, picture.array(f"{prompt}/logits"))
        assert_close(statistics(logits), picture.array(f"{prompt}/logits_stats"), LOGITS_STATS)
        assert_close(iou, picture.array(f"{prompt}/iou"), IOU)
        assert_close(stability_score(logits), picture.array(f"{prompt}/stability"), STABILITY)
        # The areas are rounded to four digits.
        area = (logits > 0).float().mean(dim=(1, 2))
        assert_close(area, np.asarray(picture.meta["prompts"][prompt]["area"], np.float32), 1e-4)

    def test_final_masks_are_upstreams(self, pictures, golden):
        compared = different = 0
        for picture in (pictures[key] for key in self.PICTURES if key[0] == golden):
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


class OnnxWrapperSuite(GoldenSuite):
    """In addition what upstream's ONNX wrapper returns, for the families that have one (SAM, MobileSAM)."""

    WRAPPED: tuple[str, int]
    """The picture whose golden file has ``onnx`` cases."""

    @pytest.mark.parametrize("case", ["point_padded", "box", "five_padded", "point_mask"])
    def test_onnx_wrapper_of_upstream_returns_the_same(self, pictures, case):
        picture = pictures[self.WRAPPED]
        described = picture.meta["onnx"][case]
        mask = picture.first_mask("point") if described["has_mask_input"] else None
        logits, scores = picture.decode(described["point_coords"], described["point_labels"], mask)
        assert_logits(logits, picture.array(f"onnx/{case}/logits"))
        assert_close(statistics(logits), picture.array(f"onnx/{case}/logits_stats"), LOGITS_STATS)
        assert_close(scores, picture.array(f"onnx/{case}/scores"), IOU)
        assert np.abs(picture.mask_areas(logits) - described["mask_area"]).max() <= MASK_BITS
        # Up to two points, padding counted, choose among tokens 1 to 3; three or more take token 0.
        few = len(described["point_labels"]) <= 2
        token = 1 + int(scores[1:].argmax()) if few else 0
        assert token == described["single_mask_token"]
        assert float(scores[token]) == pytest.approx(described["single_mask_score"], abs=IOU)

"""Profile sam6: segment-anything's six inputs and three outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from edgesam_export.errors import UsageError
from edgesam_export.export.trace import trace_model
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.masks import masks_to_source
from edgesam_export.modeling.common import stability_score
from edgesam_export.spec import CoreMLConfig, ImageFrame, OnnxConfig

RELATIVE = 1e-4
UPSCALED = 1e-3
"""Largest difference of upscaled logits, which reach about 5: ONNX Runtime computes sampling positions in float32."""
# Landscape, portrait, square, smaller than the frame, and two whose short side falls on a half after scaling.
SIZES = [(900, 1200), (1500, 1000), (512, 512), (97, 640), (2048, 1), (1025, 2048), (2048, 301)]


@dataclass(frozen=True)
class Source:
    """As much of a ``PreparedImage`` as bringing masks back needs."""

    source_size: tuple[int, int]
    prompt_extent: tuple[int, int]
    frame: ImageFrame


def extent(height: int, width: int) -> tuple[int, int]:
    """The inner size in the frame, in exact arithmetic: round half up of side * 1024 / longest."""
    longest = max(height, width)
    return tuple(max(1, (2 * side * 1024 + longest) // (2 * longest)) for side in (height, width))


def prompt(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed + count)
    labels = torch.randint(0, 4, (1, count), generator=random).float()
    return {"point_coords": torch.rand(1, count, 2, generator=random) * 1023, "point_labels": labels}


def six(embeddings, points, mask=None, has=0.0, size=(64, 96)) -> dict:
    mask = torch.zeros(1, 1, 256, 256) if mask is None else mask
    flags = {"has_mask_input": torch.tensor([has]), "orig_im_size": torch.tensor([float(side) for side in size])}
    return {"image_embeddings": embeddings, **points, "mask_input": mask, **flags}


def relative(actual: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(actual - expected.numpy()).max() / expected.abs().max())


@pytest.fixture(scope="module")
def decoder(export):
    return export("decoder", profile="sam6")


@pytest.fixture(scope="module")
def single(export):
    return export("decoder", profile="sam6", candidates=1, score="iou")


@pytest.fixture(scope="module")
def encoder(export):
    return export("encoder", profile="sam6")


def test_tensors_are_those_of_segment_anything(decoder):
    assert [(name, shape) for name, _, shape in decoder.inputs] == [
        ("image_embeddings", [1, 256, 64, 64]),
        ("point_coords", [1, "points", 2]),
        ("point_labels", [1, "points"]),
        ("mask_input", [1, 1, 256, 256]),
        ("has_mask_input", [1]),
        ("orig_im_size", [2]),
    ]
    assert [(name, shape) for name, _, shape in decoder.outputs] == [
        ("masks", [1, 4, "mask_height", "mask_width"]),
        ("iou_predictions", [1, 4]),
        ("low_res_masks", [1, 4, 256, 256]),
    ]
    assert {kind for _, kind, _ in (*decoder.inputs, *decoder.outputs)} == {"tensor(float)"}


def test_contract_says_what_the_files_do(decoder, single, encoder):
    facts = ("slots", "candidates", "score", "mask_threshold", "mask_input", "selection")
    assert [decoder.contract[fact] for fact in facts] == [None, [0, 1, 2, 3], "stability", 0.0, True, "all"]
    assert single.contract["score"] == "iou"
    assert single.contract["selection"].startswith("best of the candidates")
    assert single.contract["outputs"][0]["shape"][1] == 1
    layout = ("image_input", "input_layout", "input_values", "padded_by")
    assert [encoder.contract[fact] for fact in layout] == [False, "HWC", "0..255", "graph"]


def test_low_resolution_masks_and_scores_are_those_of_pytorch(decoder, model, embeddings):
    logits, _ = model.decode(embeddings, **prompt(3))
    _, scores, low = decoder(**six(embeddings, prompt(3)))
    assert relative(low, logits) < RELATIVE
    assert np.abs(scores - stability_score(logits).numpy()).max() < 2e-4


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_at_source_size_are_the_predictors(decoder, model, embeddings, size):
    masks, _, low = decoder(**six(embeddings, prompt(3), size=size))
    source = Source(source_size=size, prompt_extent=extent(*size), frame=model.info.frame)
    expected = masks_to_source(low[0], source)
    assert masks.shape == (1, 4, *size)
    assert np.abs(masks[0] - expected).max() < UPSCALED


@pytest.mark.parametrize("count", [1, 7])
def test_mask_prompt_counts_when_flagged(decoder, model, embeddings, count):
    points = prompt(count)
    mask = 4 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3))
    with_mask, _ = model.decode(embeddings, **points, mask_input=mask)
    without, _ = model.decode(embeddings, **points)
    assert relative(decoder(**six(embeddings, points, mask, 1.0))[2], with_mask) < RELATIVE
    assert relative(without.numpy(), with_mask) > 100 * RELATIVE


def test_mask_prompt_is_ignored_exactly_without_its_flag(decoder, embeddings):
    mask = 4 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3))
    plain = decoder(**six(embeddings, prompt(2)))
    unflagged = decoder(**six(embeddings, prompt(2), mask, 0.0))
    for one, other in zip(plain, unflagged):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_one_mask_is_chosen_by_the_number_of_points(single, model, embeddings, count, seed):
    points = prompt(count, seed)
    logits, iou = model.decode(embeddings, **points)
    token = 0 if count > 2 else 1 + int(iou[0, 1:].argmax())
    masks, scores, low = single(**six(embeddings, points))
    assert (masks.shape, scores.shape, low.shape) == ((1, 1, 64, 96), (1, 1), (1, 1, 256, 256))
    assert relative(low[:, 0], logits[:, token]) < RELATIVE
    assert abs(scores[0, 0] - float(iou[0, token])) < 1e-4


def test_padding_point_counts_and_empty_slots_do_not(single, model, embeddings):
    points = prompt(2)
    token = 1 + int(model.decode(embeddings, **points)[1][0, 1:].argmax())
    for label, expected in ((-1.0, 0), (-2.0, token)):
        longer = {
            "point_coords": torch.cat([points["point_coords"], torch.zeros(1, 1, 2)], 1),
            "point_labels": torch.cat([points["point_labels"], torch.tensor([[label]])], 1),
        }
        logits, _ = model.decode(embeddings, **longer)
        assert relative(single(**six(embeddings, longer))[2][:, 0], logits[:, expected]) < RELATIVE


def test_fp16_arithmetic_keeps_fp32_tensors_and_exact_sizes(export, model, embeddings):
    half = export("decoder", profile="sam6", precision="fp16", candidates=1, score="iou")
    assert {kind for _, kind, _ in (*half.inputs, *half.outputs)} == {"tensor(float)"}
    points = prompt(5)
    logits, _ = model.decode(embeddings, **points)
    masks, _, low = half(**six(embeddings, points, size=(97, 2049)))  # 2049 does not exist in FP16
    assert 1e-5 < relative(low, logits[:, :1]) < 1e-2
    source = Source(source_size=(97, 2049), prompt_extent=extent(97, 2049), frame=model.info.frame)
    assert np.abs(masks[0] - masks_to_source(low[0], source)).max() < UPSCALED


@pytest.mark.parametrize("size", [(700, 1024), (1024, 333)], ids=str)
def test_rows_of_rgb_pixels_give_the_embedding_of_the_prepared_picture(encoder, model, synthetic, size):
    prepared = prepare(synthetic.test_image(*size, 1), model.info.frame)
    rows = prepared.pixels[: prepared.scaled_size[0], : prepared.scaled_size[1]].astype(np.float32)
    assert encoder.inputs == [("input_image", "tensor(float)", ["height", "width", 3])]
    expected = model.encode(torch.from_numpy(prepared.tensor)).numpy()
    (found,) = encoder(input_image=rows)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (OnnxConfig(profile="sam6", candidates=3), "profile 'sam6' returns 4 masks or the best 1, not 3;"),
        (OnnxConfig(profile="sam6", points=5), "profile 'sam6' takes any number of points, not 5;"),
        (CoreMLConfig(profile="sam6"), "profile 'sam6' is for onnx, not for coreml"),
    ],
)
def test_options_without_a_place_in_the_contract_are_refused(model, config, line):
    with pytest.raises(UsageError) as error:
        trace_model(model, config, format="coreml" if isinstance(config, CoreMLConfig) else "onnx")
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)

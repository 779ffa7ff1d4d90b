"""Profile x-anylabeling: unpadded 8-bit pictures in, the decoder of profile official."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesam_export.errors import UsageError
from edgesam_export.export.trace import trace_model
from edgesam_export.imaging.geometry import prepare
from edgesam_export.spec import CoreMLConfig, OnnxConfig


@pytest.fixture(scope="module")
def encoder(export):
    return export("encoder", profile="x-anylabeling")


def pixels_of(model, synthetic, height: int, width: int):
    """A picture as X-AnyLabeling feeds it, uint8 (1, 3, h, w), and the same picture prepared for the reference."""
    prepared = prepare(synthetic.test_image(height, width, 1), model.info.frame)
    inside = prepared.pixels[: prepared.scaled_size[0], : prepared.scaled_size[1]]
    return np.ascontiguousarray(inside.transpose(2, 0, 1)[None]), prepared


def test_input_is_an_8_bit_picture_of_free_size(encoder):
    assert encoder.inputs == [("image", "tensor(uint8)", [1, 3, "height", "width"])]
    assert encoder.outputs == [("image_embeddings", "tensor(float)", [1, 256, 64, 64])]
    facts = ("image_input", "input_layout", "input_values", "padded_by")
    assert [encoder.contract[fact] for fact in facts] == [False, "NCHW", "0..255", "graph"]


@pytest.mark.parametrize("size", [(700, 1024), (1500, 489)], ids=str)
def test_unpadded_picture_gives_the_embedding_of_the_prepared_one(encoder, model, synthetic, size):
    pixels, prepared = pixels_of(model, synthetic, *size)
    expected = model.encode(torch.from_numpy(prepared.tensor)).numpy()
    (found,) = encoder(image=pixels)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_fp16_arithmetic_takes_the_same_picture(export, model, synthetic):
    half = export("encoder", profile="x-anylabeling", precision="fp16")
    assert half.inputs == [("image", "tensor(uint8)", [1, 3, "height", "width"])]
    assert half.outputs == [("image_embeddings", "tensor(float)", [1, 256, 64, 64])]
    pixels, prepared = pixels_of(model, synthetic, 480, 640)
    expected = model.encode(torch.from_numpy(prepared.tensor)).numpy()
    difference = half(image=pixels)[0] - expected
    # 40 dB: the gate of an FP16 embedding.
    assert 20 * np.log10(np.ptp(expected) / np.sqrt(np.mean(difference**2))) > 40


def test_decoder_returns_scores_then_masks(export, model, embeddings):
    decoder = export("decoder", profile="x-anylabeling")
    coords = torch.tensor([[[100.5, 200.0], [700.0, 650.0]]])
    labels = torch.tensor([[2.0, 3.0]])
    logits, _ = model.decode(embeddings, coords, labels)
    scores, masks = decoder(image_embeddings=embeddings, point_coords=coords, point_labels=labels)
    assert scores.shape == (1, 4)
    assert np.abs(masks - logits.numpy()).max() / logits.abs().max() < 1e-4
    assert decoder.contract["profile"] == "x-anylabeling"


def test_core_ml_is_refused(model):
    with pytest.raises(UsageError, match=r"^profile 'x-anylabeling' is for onnx, not for coreml$"):
        trace_model(model, CoreMLConfig(profile="x-anylabeling"), format="coreml")


def test_fixed_points_are_refused(model):
    with pytest.raises(UsageError, match=r"^profile 'x-anylabeling' takes any number of points, not 8;"):
        trace_model(model, OnnxConfig(profile="x-anylabeling", points=8), format="onnx")

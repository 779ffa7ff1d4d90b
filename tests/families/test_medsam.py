"""MedSAM: SAM's ViT-B on images that are prepared otherwise, which its weights do not show."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from edgesam_export.errors import EdgeSAMExportWarning
from edgesam_export.families import build_model, model_info, warn_of_another_frame
from edgesam_export.imaging.geometry import prepare, to_frame


def test_the_network_is_vit_b():
    with torch.device("meta"):
        ours, theirs = (build_model(name) for name in ("medsam", "sam_vit_b"))
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert [type(part) for part in ours.children()] == [type(part) for part in theirs.children()]


def test_images_and_boxes_are_prepared_as_upstream_does():
    """MedSAM_Inference.py: resized to the square, 0..1; box / [W, H, W, H] * 1024."""
    info = model_info("medsam")
    square = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    assert np.allclose(prepare(square, info.frame).tensor[0], square.transpose(2, 0, 1) / 255, atol=1e-6)
    ramp = np.tile(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (200, 1, 3))
    prepared = prepare(ramp, info.frame)
    assert prepared.tensor.shape == (1, 3, 1024, 1024) and prepared.scaled_size == (1024, 1024)
    assert np.allclose(prepared.tensor[0, 0, 700], np.linspace(0, 1, 1024), atol=0.01)  # no row is padding
    corners = to_frame([[30, 20], [270, 180]], prepared)
    assert np.allclose(corners, [[30 / 300 * 1024, 20 / 200 * 1024], [270 / 300 * 1024, 180 / 200 * 1024]])
    assert info.trained_prompts == ("box",)


@pytest.mark.parametrize(
    ("file", "name"),
    [("work/medsam_vit_b.pth", "sam_vit_b"), ("MedSAM.pth#model", "sam_vit_b"), ("sam_vit_b_01ec64.pth", "medsam")],
)
def test_a_file_with_the_name_of_a_model_of_other_images_is_warned_of(file, name):
    with pytest.warns(EdgeSAMExportWarning, match="whose images are prepared otherwise than those of"):
        warn_of_another_frame(model_info(name), file)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("medsam_vit_b.pth", "medsam"),
        ("best.ckpt", "sam_vit_b"),
        ("sam_vit_b_01ec64.pth", "sam_vit_b"),
        ("edge_sam.pth", "edge_sam_3x"),
        (None, "sam_vit_b"),
    ],
)
def test_no_other_name_is_warned_of(file, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_another_frame(model_info(name), file)

"""The public names, and the example of the README, run as it is written there."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest

import edgesam_export
from edgesam_export import (
    CoreMLConfig,
    Predictor,
    check_parity,
    export_coreml,
    load_model,
    load_program,
)
from edgesam_export.parity.inputs import default_images


def test_every_public_name_has_one_home():
    assert set(edgesam_export.__all__) == set(edgesam_export.HOMES) == set(dir(edgesam_export))
    assert edgesam_export.__all__ == sorted(edgesam_export.__all__)


@pytest.mark.parametrize("name", edgesam_export.__all__)
def test_a_public_name_is_documented_and_public_at_home(name):
    value = getattr(edgesam_export, name)
    home = importlib.import_module(edgesam_export.HOMES[name])
    assert value is getattr(home, name) and name in home.__all__
    text = inspect.getdoc(value) or ""
    assert len(text.split()) >= 5 and text.splitlines()[0].endswith("."), name
    assert "(self" not in text and not text.startswith(f"{name}("), "a docstring, not a generated signature"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'edgesam_export' has no attribute 'export_tflite'"):
        edgesam_export.export_tflite  # noqa: B018


@pytest.mark.parametrize("name", [n for n in edgesam_export.__all__ if n.endswith("Config")])
def test_options_are_frozen_and_by_keyword(name):
    config = getattr(edgesam_export, name)()
    with pytest.raises(AttributeError):
        config.points = 3
    with pytest.raises(TypeError):
        getattr(edgesam_export, name)(8)


@pytest.fixture(scope="module")
def small_model():
    return load_model("edge_sam_tiny")


@pytest.fixture(scope="module")
def files(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("example") / "build"
    return export_coreml(small_model, str(folder), CoreMLConfig(points=8))


def test_program_of_the_example(files):
    program = load_program(files[0].path)
    image = np.zeros((512, 512, 3), np.uint8)
    outputs = program.predict({"image": image}, numerics="fp16")
    assert list(outputs) == ["image_embeddings"] and outputs["image_embeddings"].dtype == np.float16


def test_parity_of_the_example_passes_every_gate(small_model, files):
    images = list(default_images())[:2]
    report = check_parity(reference=small_model, candidate=files, images=images, numerics=("fp32",))
    assert report.passed, [row.label for row in report.failures][:5]
    gated = {(row.component, row.prompt) for row in report.rows if row.checks}
    assert gated == {("encoder", ""), *(("decoder", kind) for kind in ("point", "points", "box", "box+point"))}
    assert any("mask" in line for line in report.skipped)  # exported without a mask prompt
    assert {artifact.sha256 for artifact in report.artifacts} == {artifact.sha256 for artifact in files}


def test_masks_of_the_example_are_alike_in_model_and_files(small_model, files, photo):
    masks = [
        Predictor(source).set_image(photo).predict(points=[(150, 120)], labels=[1]) for source in (small_model, files)
    ]
    one, other = (found.best for found in masks)
    assert one.shape == (240, 320)
    assert np.count_nonzero(one & other) >= 0.98 * np.count_nonzero(one | other) > 0

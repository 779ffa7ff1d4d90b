"""Adding a profile is adding a file: dropped into the folder, it exports under its name; profiles are independent."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from small_models import small_model

from edgesam_export import profiles
from edgesam_export.artifacts import open_artifact
from edgesam_export.errors import UsageError
from edgesam_export.formats import find_format
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.profiles import PROFILES
from edgesam_export.spec import CoreMLConfig, OnnxConfig

NAME = "toy-viewer"
PROFILE = dedent('''
    """A viewer that asks for a normalised tensor under the name ``pixels``, everything FP32, and one point at most."""

    from dataclasses import replace

    import torch

    from edgesam_export.modeling.wrappers import DecoderForExport, EncoderForExport
    from edgesam_export.profiles import (
        PROFILES, Component, Profile, decoder_details, embedding_specs, example_prompt, prompt_specs, score_meaning,
    )
    from edgesam_export.spec import TensorSpec

    def encoder(model, config):
        size = model.info.frame.size
        return Component(
            name="encoder",
            module=EncoderForExport(model, normalise=False),
            inputs=(TensorSpec(name="pixels", shape=(1, 3, size, size), dtype="fp32", description="normalised"),),
            outputs=embedding_specs(model.info, "fp32"),
            example=(torch.zeros(1, 3, size, size),),
            details={"image_input": False},
        )

    def decoder(model, config):
        config = replace(config, precision="fp32", candidates=4, mask_input=False)
        return Component(
            name="decoder",
            module=DecoderForExport(model, candidates=4, score="iou", slots=2),
            inputs=(*embedding_specs(model.info, "fp32"), *prompt_specs(2, config, model.info.frame.prompt_size)),
            outputs=(
                TensorSpec(name="masks", shape=(1, 4, 256, 256), dtype="fp32", description="logits"),
                TensorSpec(name="scores", shape=(1, 4), dtype="fp32", description=score_meaning("iou")),
            ),
            example=example_prompt(model.info, 2, config),
            details=decoder_details(2, config, "iou"),
        )

    PROFILES.register("toy-viewer")(
        Profile(name="toy-viewer", summary="for tests", formats=("onnx",), encoder=encoder, decoder=decoder)
    )
''')


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The profile as a file in one more folder of ``profiles``; every trace of it is gone afterwards."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "toy_viewer.py").write_text(PROFILE, encoding="utf-8")
    monkeypatch.setattr(profiles, "__path__", [*profiles.__path__, str(tmp_path / "profiles")])
    yield
    PROFILES.entries.pop(NAME, None)
    sys.modules.pop(f"{profiles.__name__}.toy_viewer", None)
    profiles.__dict__.pop("toy_viewer", None)


def test_files_of_it_keep_its_contract_and_give_the_masks_of_pytorch(tmp_path, photo):
    model = small_model()
    files = find_format("onnx").export(model, tmp_path / "out", OnnxConfig(profile=NAME))
    encoder, decoder = (open_artifact(file.path).contract for file in files)
    assert encoder["profile"] == NAME and [spec["name"] for spec in encoder["inputs"]] == ["pixels"]
    assert (decoder["slots"], decoder["candidates"]) == (2, [0, 1, 2, 3])
    expected = Predictor(model).set_image(photo).predict(points=[(150, 120)])
    found = Predictor(files).set_image(photo).predict(points=[(150, 120)])
    assert psnr_db(expected.logits, found.logits) > 80 and np.array_equal(expected.masks, found.masks)


def test_a_format_that_its_consumer_does_not_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match=f"profile '{NAME}' is for onnx, not for coreml"):
        find_format("coreml").export(small_model(), tmp_path / "out", CoreMLConfig(profile=NAME))


def test_profiles_do_not_import_each_other():
    folder = Path(profiles.__file__).parent
    siblings = {f"{profiles.__name__}.{path.stem}" for path in folder.glob("*.py")} - {f"{profiles.__name__}.__init__"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not names & siblings, path.name

"""One mask by SAM 2's rule and the object score: exported, run, and held by parity; a model without them refuses."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from small_models import small_model
from torch import Tensor, nn

from edgesam_export.artifacts import open_artifact
from edgesam_export.errors import UsageError
from edgesam_export.export.trace import build_components
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.modeling.pyramid import FURTHER_MAPS, ClampingPromptEncoder, PyramidMaskDecoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.parity.noise import Noise
from edgesam_export.parity.reference import ReferenceOutputs
from edgesam_export.parity.single_mask import allowed_tokens
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import open_runner
from edgesam_export.spec import CoreMLConfig, ImageFrame, ModelInfo, OnnxConfig


class Shrink(nn.Module):
    """An image (1, 3, 1024, 1024) to the three maps of ``FURTHER_MAPS`` and the embedding, by one convolution each."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3, width, side, stride=side) for width, side in ((256, 16), (32, 4), (64, 8))
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(conv(image) for conv in self.convs)


@pytest.fixture(scope="module")
def model() -> SamModel:
    """SAM 2's decoder behind an encoder that takes no time."""
    frame = ImageFrame(fit="stretch_antialias", mask_resize="bilinear_direct")
    info = ModelInfo(name="shrink", family="shrink", frame=frame, padding_point="always", further_maps=FURTHER_MAPS)
    parts = {"prompt_encoder": ClampingPromptEncoder(), "mask_decoder": PyramidMaskDecoder()}
    network = SamModel(info=info, image_encoder=Shrink(), **parts)
    fill_random(network, 3)
    return network


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    options = CoreMLConfig(points=3, candidates="dynamic", object_score=True)
    return export_coreml(model, tmp_path_factory.mktemp("packages"), options)


@pytest.fixture(scope="module")
def graphs(model, tmp_path_factory):
    options = OnnxConfig(points=3, candidates="dynamic", object_score=True)
    return export_onnx(model, tmp_path_factory.mktemp("graphs"), options)


def checked(reference, candidate):
    """One prompt on two plain images: what is asked is a matter of the outputs, not of the images."""
    images = [(str(level), np.full((32, 48, 3), level, np.uint8)) for level in (60, 200)]
    return check_parity(reference, candidate, images=images, prompts=lambda size: default_prompts(size)[:1])


def test_the_contract_says_so(files):
    contract = open_artifact(files[1].path).contract
    assert (contract["candidates"], contract["selection"], contract["object_score"]) == ([0], "dynamic", True)
    assert [(spec["name"], spec["shape"]) for spec in contract["outputs"]] == [
        ("masks", [1, 1, 256, 256]),
        ("scores", [1, 1]),
        ("object_score", [1, 1]),
    ]


def test_a_predictor_has_the_object_score_of_files_and_of_the_model(graphs, model, photo):
    expected, found = (Predictor(source).set_image(photo).predict(points=[(150, 125)]) for source in (model, graphs))
    assert len(expected.masks) == 4 and len(found.masks) == 1
    assert found.object_score == pytest.approx(expected.object_score, abs=1e-4)
    plain = Predictor(small_model()).set_image(photo).predict(points=[(150, 125)])
    assert plain.object_score is None


def test_segment_reports_it(command, graphs, photo, tmp_path):
    folder = graphs[0].path.parent
    code, out, _ = command("segment", photo, "--point", "150,125", "--artifact", folder, "--output", tmp_path, "--json")
    assert code == 0 and isinstance(json.loads(out)["object_score"], float)


def test_a_package_in_half_precision_returns_an_allowed_mask_and_the_object_score(files, model, photo):
    expected, found = (Predictor(source).set_image(photo) for source in (model, files))
    four, one = (predictor.predict(points=[(150, 125)]) for predictor in (expected, found))
    noise = Noise(logits=np.full(4, 0.01), scores=1e-3)
    allowed = allowed_tokens(ReferenceOutputs(four.logits, four.scores, None), noise)
    assert max(psnr_db(four.logits[token], one.logits[0]) for token in allowed) > 35
    assert one.object_score == pytest.approx(four.object_score, abs=0.05)


def test_parity_passes_and_holds_the_object_score(graphs, model):
    report = checked(model, graphs)
    assert report.passed, list(report.failures)
    rows = [row for row in report.rows if row.output == "object_score"]
    assert rows and all(row.checks for row in rows)


def test_parity_sees_another_object_score_and_another_choice(graphs, model):
    other = copy.deepcopy(model)
    other.mask_decoder.pred_obj_score_head.layers[2].bias.data += 0.2
    assert {row.output for row in checked(other, graphs).failures} == {"object_score"}
    runner, reference = open_runner(graphs), open_runner(model)
    tokens = []

    def another(embedding, *prompt):
        """The right masks and the wrong rule."""
        found = reference.decode_all(embedding, *prompt)
        right = allowed_tokens(ReferenceOutputs(found.masks[0], found.scores[0], None), None)
        tokens.append(next(token for token in range(4) if token not in right))
        return found._replace(masks=found.masks[:, tokens[-1:]], scores=found.scores[:, tokens[-1:]])

    runner.decode_all = another
    assert "masks" in {row.output for row in checked(reference, runner).failures} and tokens


def outputs(share: float, scores: list[float]) -> ReferenceOutputs:
    """Token 0 is stable to ``share``: of 1000 logits so many stand high above the upper bound, the others at 0."""
    logits = np.full((4, 256, 256), -9.0)
    logits[0].flat[:1000] = 0.0
    logits[0].flat[: round(1000 * share)] = 9.0
    return ReferenceOutputs(logits, np.array(scores), None)


@pytest.mark.parametrize(
    ("share", "scores", "noise", "expected"),
    [
        (0.990, [0.1, 0.5, 0.9, 0.7], None, [0]),
        (0.980, [0.1, 0.5, 0.9, 0.7], None, [0]),
        (0.979, [0.1, 0.5, 0.9, 0.7], None, [2]),
        (0.979, [0.1, 0.7, 0.5, 0.7], None, [1, 3]),
        (0.900, [0.1, 0.5, 0.9, 0.89], 0.004, [2, 3]),
        (0.970, [0.1, 0.2, 0.9, 0.3], 0.02, [0, 2]),  # noise moves the logits at 0 across the bounds
    ],
)
def test_tokens_are_allowed_by_the_rule_and_by_what_rounding_leaves_open(share, scores, noise, expected):
    spread = None if noise is None else Noise(logits=np.full(4, noise), scores=noise)
    assert allowed_tokens(outputs(share, scores), spread) == expected


def test_an_empty_mask_is_stable():
    empty = ReferenceOutputs(np.full((4, 256, 256), -9.0), np.array([0.1, 0.5, 0.9, 0.7]), None)
    assert allowed_tokens(empty, None) == [0]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"candidates": "dynamic"}, "candidates dynamic is SAM 2's choice of one mask, not small's; choose 4, 3 or 1"),
        ({"object_score": True}, "small has no object score, which is SAM 2's; leave object_score out"),
    ],
)
def test_a_model_without_them_refuses(options, line):
    network = small_model()
    with pytest.raises(UsageError) as error:
        build_components(network, CoreMLConfig(**options), format="coreml")
    assert str(error.value) == line.replace("small", network.info.name)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"profile": "sam6", "candidates": "dynamic"}, "profile 'sam6' returns 4 masks or the best 1, not dynamic"),
        ({"profile": "sam6", "object_score": True}, "profile 'sam6' has no object_score; leave it out"),
        ({"profile": "official", "candidates": "dynamic"}, "profile 'official' returns 4 masks, not dynamic"),
        ({"profile": "official", "object_score": True}, "profile 'official' has no object_score; leave it out"),
    ],
)
def test_profiles_of_consumers_that_do_not_know_them_refuse(options, line):
    with pytest.raises(UsageError) as error:
        build_components(small_model(), OnnxConfig(**options), format="onnx")
    assert line in str(error.value)

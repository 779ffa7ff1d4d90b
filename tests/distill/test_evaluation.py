"""mIoU with prompts: runners that know the answer, points where they belong, sums done by hand, ONNX like PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn

from edgesam_export.distill.data import ENDLESS, Sample, open_data
from edgesam_export.distill.evaluation import (
    centre_point,
    evaluate,
    parse_prompts,
    refinement_point,
)
from edgesam_export.distill.results import EvalReport, ObjectResult, Summary
from edgesam_export.errors import UsageError
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.runners import Decoded, Runner, open_runner
from edgesam_export.spec import Artifact, ImageFrame, ModelInfo, OnnxConfig

SIDE = 256
FRAME = ImageFrame(size=64, prompt_size=SIDE)
"""Logits, prompt frame and image are all 256 wide: no mask is resampled, so the truth comes back to the pixel."""


class Memory:
    """Samples in a list."""

    name = "memory"

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def sample_of(*masks: np.ndarray, name: str = "one") -> Sample:
    """An image of numbers that say which object a pixel belongs to."""
    return Sample(name, np.zeros((*masks[0].shape, 3), np.uint8), np.stack(masks))


def rectangle(x0: int, y0: int, x1: int, y1: int, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[y0:y1, x0:x1] = True
    return mask


FOUR = (rectangle(0, 0, 20, 20), rectangle(30, 0, 90, 40), rectangle(100, 100, 200, 220), rectangle(210, 230, 256, 256))


class Knowing(Runner):
    """Finds the object that a prompt means; ``answer(truth, points, labels)`` makes the logits of its tokens."""

    name, slots, accepts_mask_input = "knowing", None, True

    def __init__(self, masks, answer, *, tokens=(0,), scores=(1.0,), frame=FRAME, **more) -> None:
        self.info = ModelInfo(name="stub", family="stub", frame=frame)
        self.masks, self.answer, self.candidates, self.scores = masks, answer, tokens, scores
        self.encoded, self.calls = 0, []
        self.__dict__.update(more)

    def encode(self, prepared):
        self.encoded += 1
        return {"image_embeddings": np.zeros((1, 4, 4, 4), np.float32)}

    def decode_all(self, embedding, coords, labels, mask_input=None):
        kept = labels[0] >= 0
        points, kinds = coords[0][kept], labels[0][kept].astype(int)
        factor = self.masks[0].shape[0] / self.info.frame.prompt_size
        x, y = (points[kinds != 0][0] * factor).astype(int)  # first foreground point, or the box's first corner
        truth = next(mask for mask in self.masks if mask[y, x])
        self.calls.append((points, kinds, mask_input))
        logits = np.stack(self.answer(truth, points, kinds)).astype(np.float32)
        return Decoded(logits[None], np.float32([self.scores]))


def signed(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 4.0, -4.0)


# ------------------------------------------------------------------------------------------------------------ the ends


def test_a_runner_that_knows_the_truth_gets_one_and_encodes_once():
    runner = Knowing(FOUR, lambda truth, *_: [signed(truth)])
    data = Memory(sample_of(*FOUR[:2], name="a"), sample_of(*FOUR[2:], name="b"))
    report = evaluate(runner, data, prompts=("box", "point", "box+2", "point+3"))
    for prompt in report.prompts:
        assert report.values(prompt) == [1.0] * 4, prompt
    assert runner.encoded == 2 and report.images == 2
    assert len(runner.calls) == 8, "a perfect mask gets no further points"
    assert [(one.image, one.index, one.area) for one in report.objects] == [
        ("a", 0, 400), ("a", 1, 2400), ("b", 0, 12000), ("b", 1, 46 * 26),
    ]  # fmt: skip


def test_a_runner_that_gives_the_complement_gets_zero():
    runner = Knowing(FOUR, lambda truth, *_: [signed(~truth)])
    report = evaluate(runner, Memory(sample_of(*FOUR)), prompts=("box", "point"))
    assert report.values("box") == report.values("point") == [0.0] * 4


def test_the_truth_at_a_quarter_of_the_resolution_loses_borders_only():
    """Logits are 256 wide, this image 512 and its frame 1024: both resizings round off corners."""
    y, x = np.mgrid[:512, :512] + 0.5
    disc = (x - 250) ** 2 + (y - 260) ** 2 < 150**2
    coarse = (4 * disc.reshape(256, 2, 256, 2).mean((1, 3)) - 2,)
    runner = Knowing((disc,), lambda *_: coarse, frame=ImageFrame())
    value = evaluate(runner, Memory(sample_of(disc)), prompts=("point",)).values("point")[0]
    # A circumference of 2 * pi * 150 pixels, wrong by half a pixel at most, of an area of pi * 150 ** 2.
    assert 1 - 1 / 150 < value < 1


# ---------------------------------------------------------------------------------------------------------------- sums


def test_intersection_over_union_of_four_objects_by_hand():
    """Every prediction is the object moved right by 10 pixels: intersection (w - 10) h, union (w + 10) h."""
    masks = (*FOUR[:3], rectangle(210, 230, 240, 250))
    runner = Knowing(masks, lambda truth, *_: [signed(np.roll(truth, 10, axis=1))])
    report = evaluate(runner, Memory(sample_of(*masks)), prompts=("box",))
    by_hand = [10 / 30, 50 / 70, 90 / 110, 20 / 40]
    assert report.values("box") == pytest.approx(by_hand, abs=1e-12)
    found = report.summary("box")
    assert found.objects == 4 and found.miou == pytest.approx(0.591450, abs=1e-6)
    # Deviations -0.25812, 0.12284, 0.22673, -0.09145: squares sum to 0.141483; over 3, over 4, the root.
    assert found.standard_error == pytest.approx(0.108583, abs=1e-5)
    # Ordered 1/3, 1/2, 5/7, 9/11: a quarter of the way through three gaps is 3/4 into the first, and so on.
    assert found.quartiles == pytest.approx([11 / 24, 17 / 28, 5 / 7 + (9 / 11 - 5 / 7) / 4], abs=1e-12)
    # 400 and 600 pixels are small, 2400 is medium, 12000 large.
    sizes = {size: report.summary("box", size) for size in ("small", "medium", "large")}
    assert {size: found.objects for size, found in sizes.items()} == {"small": 2, "medium": 1, "large": 1}
    assert sizes["small"].miou == pytest.approx((1 / 3 + 1 / 2) / 2) and sizes["medium"].standard_error is None


def test_classes_of_size_meet_at_their_bounds():
    areas = (1, 1023, 1024, 9215, 9216, 10**7)
    objects = tuple(ObjectResult(image="a", index=n, area=area, iou={"box": n}) for n, area in enumerate(areas))
    report = EvalReport(model="m", runner="r", data="d", prompts=("box",), mask_prompt=False, images=1, objects=objects)
    found = [report.values("box", size) for size in ("small", "medium", "large")]
    assert found == [[0, 1], [2, 3], [4, 5]]
    document = report.document(objects=True)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["results"]["box"]["objects"] == 6 and len(document["objects"]) == 6
    assert "objects" not in report.document()


def test_a_summary_of_nothing_and_of_one():
    assert Summary.of([]) == Summary(objects=0, miou=None, standard_error=None, quartiles=None)
    assert Summary.of([0.5]) == Summary(objects=1, miou=0.5, standard_error=None, quartiles=(0.5, 0.5, 0.5))


# -------------------------------------------------------------------------------------------------------------- prompts


def test_an_empty_mask_has_no_centre_point():
    with pytest.raises(ValueError, match="empty mask"):
        centre_point(np.zeros((4, 5), bool))


def test_the_centre_of_a_ring_lies_on_the_ring():
    ring = rectangle(20, 20, 60, 60, 100) & ~rectangle(30, 30, 56, 56, 100)  # 10 wide left and above, 4 elsewhere
    x, y = centre_point(ring)
    assert ring[y, x] and not ring[40, 40]
    # The thickest part is the corner: its pixels (x, y) are min(x, y, distance to the hole's corner) deep.
    depth = distance_transform_edt(np.pad(ring, 1))[1:-1, 1:-1]
    assert depth[y, x] == depth.max() and x < 30 and y < 30


def test_the_image_ends_where_its_objects_end():
    assert centre_point(rectangle(0, 0, 9, 9, 9)) == (4, 4)
    assert centre_point(rectangle(0, 0, 5, 1, 9)) == (0, 0), "the first of equals"


def test_a_refinement_point_goes_into_the_larger_error():
    truth, predicted = rectangle(20, 20, 60, 60, 100), rectangle(40, 20, 65, 60, 100)
    assert refinement_point(predicted, truth) == ((29, 29), 1)  # 20 x 40 missing, the first of its middle pixels
    predicted = rectangle(20, 20, 91, 60, 100)
    assert refinement_point(predicted, truth) == ((75, 35), 0)  # 31 x 40 too much, the middle column is 75
    assert refinement_point(truth, truth) is None
    missed = rectangle(20, 20, 60, 60, 100)
    missed[30, 30] = False
    assert refinement_point(missed, truth) == ((30, 30), 1)
    assert refinement_point(missed, truth, [(30, 30)]) is None


@pytest.mark.parametrize("seed", range(20))
def test_every_refinement_point_lies_where_prediction_and_truth_differ(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = (np.kron(rng.random((8, 8)) < 0.5, np.ones((7, 5))) > 0 for _ in range(2))
    clicked: list[tuple[int, int]] = []
    for _ in range(5):
        (x, y), label = refinement_point(predicted, truth, clicked)
        assert truth[y, x] == bool(label) and predicted[y, x] != truth[y, x] and (x, y) not in clicked
        clicked.append((x, y))
    missing, excess = truth & ~predicted, predicted & ~truth
    (x, y), label = refinement_point(predicted, truth)
    larger = missing if missing.sum() >= excess.sum() else excess
    depth = distance_transform_edt(np.pad(larger, 1))[1:-1, 1:-1]
    assert larger[y, x] and depth[y, x] == depth.max()


def halving(truth, points, kinds):
    """Logits that miss the object's lower half until a second point has come."""
    rows = np.flatnonzero(truth.any(axis=1))
    part = truth.copy()
    if len(points) == 1 or (len(points) == 2 and 2 in kinds):
        part[(rows[0] + rows[-1] + 1) // 2 :] = False
    return [signed(part)]


def test_rounds_add_points_where_the_last_mask_was_wrong():
    runner = Knowing(FOUR[2:3], halving)
    report = evaluate(runner, Memory(sample_of(FOUR[2])), prompts=("box", "point", "point+1", "box+1", "point+2"))
    assert report.objects[0].iou == {
        "box": 0.5, "point": 0.5, "box+1": 1.0, "point+1": 1.0, "point+2": 1.0,
        "point oracle": 0.5, "point first_token": 0.5,
    }  # fmt: skip
    kinds = [list(kinds) for _, kinds, _ in runner.calls]
    assert kinds == [[2, 3], [1, 2, 3], [1], [1, 1]]
    # The missing half is x 100..199, y 160..219: deepest in the rows 189 and 190, from x = 129 on.
    assert runner.calls[1][0].tolist() == [[129, 189], [100, 100], [200, 220]]
    assert runner.calls[3][0][1].tolist() == [129, 189]
    assert all(mask is None for *_, mask in runner.calls)


def test_the_mask_before_goes_along_only_when_asked():
    runner = Knowing(FOUR[2:3], halving)
    evaluate(runner, Memory(sample_of(FOUR[2])), prompts=("point+1",), mask_prompt=True)
    (*_, none), (*_, earlier) = runner.calls
    assert none is None and earlier.shape == (1, 1, 256, 256)
    assert (earlier[0, 0] == halving(FOUR[2], [0], [1])[0]).all()


def test_the_same_prompt_again_gets_the_logits_of_its_first_mask():
    def better_with_a_mask(truth, points, kinds):
        return halving(truth, points, kinds) if runner.calls[-1][2] is None else [signed(truth)]

    runner = Knowing(FOUR[2:3], better_with_a_mask)
    report = evaluate(runner, Memory(sample_of(FOUR[2])), prompts=("box+mask", "box", "point+mask"))
    assert report.objects[0].iou == {"box": 0.5, "box+mask": 1.0, "point+mask": 1.0}
    (points, kinds, mask), (again, same, earlier) = runner.calls[:2]
    assert np.array_equal(points, again) and np.array_equal(kinds, same) and mask is None
    assert (earlier[0, 0] == halving(FOUR[2], [0], [1])[0]).all()
    assert report.rows == ("box+mask", "box", "point+mask")


def test_a_mask_prompt_needs_a_decoder_that_takes_one():
    runner = Knowing(FOUR, None, accepts_mask_input=False)
    with pytest.raises(UsageError, match=r"takes no mask prompt; leave box\+mask out, or export it again"):
        evaluate(runner, Memory(sample_of(*FOUR)), prompts=("box", "box+mask"))


# ------------------------------------------------------------------------------------------------------- which counts


def quarters(truth, points, kinds):
    """Four tokens: the left 1/4, 2/4, 3/4 and all of the object."""
    columns = np.flatnonzero(truth.any(axis=0))
    left, right = columns[0], columns[-1] + 1
    steps = [left + (right - left) * n // 4 for n in (1, 2, 3, 4)]
    return [signed(truth & (np.arange(SIDE) < end)) for end in steps]


@pytest.mark.parametrize(
    ("tokens", "scores", "point", "others", "box"),
    [
        ((0, 1, 2, 3), (0.9, 0.1, 0.5, 0.3), 0.75, (1.0, 0.25), 0.25),
        ((0, 1, 2, 3), (0.9, float("nan"), 0.1, 0.3), 1.0, (1.0, 0.25), 0.25),
        ((1, 2, 3), (0.9, 0.2, 0.5), 0.25, (0.75, None), 0.25),
        ((1, 2, 3), (0.1, 0.2, 0.5), 0.75, (0.75, None), 0.75),
        ((0,), (0.1,), 0.25, (0.25, 0.25), 0.25),
        ((0, 1, 2, 3), (0.1,), 0.25, (0.25, None), 0.25),  # the graph has chosen
    ],
)
def test_which_mask_counts(tokens, scores, point, others, box):
    runner = Knowing(FOUR[2:3], lambda *a: quarters(*a)[: len(scores)], tokens=tokens, scores=scores)
    report = evaluate(runner, Memory(sample_of(FOUR[2])), prompts=("box", "point", "point+1"))
    found = report.objects[0].iou
    assert found["point"] == point and found["box"] == box
    assert (found["point oracle"], found.get("point first_token")) == others
    if point < 1:
        assert found["point+1"] == box, "two points want one answer, as a box does"
    rows = ("box", "point", "point oracle", "point first_token", "point+1")
    assert report.rows == tuple(row for row in rows if others[1] is not None or "first" not in row)


# ------------------------------------------------------------------------------------------------------------ selection


def test_the_largest_objects_of_the_first_images_are_taken():
    nothing = Sample("none", np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((0, SIDE, SIDE), bool))
    runner = Knowing(FOUR, lambda truth, *_: [signed(truth)])
    data = Memory(nothing, sample_of(*FOUR, name="a"), sample_of(FOUR[0], name="b"))
    seen = []
    report = evaluate(
        runner,
        data,
        prompts=("box",),
        limit=2,
        objects=2,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert [(one.image, one.index) for one in report.objects] == [("a", 1), ("a", 2)]
    assert (report.images, runner.encoded, seen) == (1, 1, [(0, 2), (1, 2)])


class Endless(Memory):
    def __len__(self) -> int:
        return ENDLESS


def file_of(component: str) -> Artifact:
    path = Path(f"stub_{component}.onnx")
    return Artifact(path=path, format="onnx", component=component, model="stub", sha256="0" * 64, contract={})


REFUSED = [
    ({"prompts": ("box", "circle")}, {}, "prompt 'circle' cannot be evaluated: write box, point, box+N"),
    ({"prompts": ("point+0",)}, {}, "prompt 'point+0'"),
    ({"prompts": ("point+33",)}, {}, "N of 1 to 32"),
    ({"prompts": ("box", "box")}, {}, "given twice"),
    ({"prompts": ()}, {}, "no prompts"),
    ({"prompts": ("box+3",)}, {"slots": 4}, "needs 5 slots, the decoder of stub has 4; leave the prompt out, or"),
    ({"prompts": ("point+3",)}, {"slots": 4}, "prompt 'point+3' needs 5 slots"),
    ({"mask_prompt": True}, {"accepts_mask_input": False}, "takes no mask prompt"),
    ({}, {"artifacts": (file_of("decoder"),)}, "no encoder among the files"),
    ({}, {"artifacts": (file_of("encoder"),)}, "no decoder among the files"),
    ({"limit": 0}, {}, "limit is 0"),
    ({"objects": 0}, {}, "objects is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "runner", "line"), REFUSED)
def test_what_cannot_be_evaluated_is_said_before_anything_runs(arguments, runner, line):
    knowing = Knowing(FOUR, lambda truth, *_: [signed(truth)], **runner)
    with pytest.raises(UsageError) as error:
        evaluate(knowing, Memory(sample_of(*FOUR)), **arguments)
    assert line in str(error.value) and "\n" not in str(error.value) and knowing.encoded == 0


def test_as_many_slots_as_a_prompt_needs_are_enough():
    runner = Knowing(FOUR[:1], lambda truth, *_: [signed(truth)], slots=4)
    assert evaluate(runner, Memory(sample_of(FOUR[0])), prompts=("box+2", "point+2")).values("point+2") == [1.0]
    runner.info = ModelInfo(name="fixed", family="fixed", frame=FRAME, padding_point=False, slots=3)
    with pytest.raises(UsageError, match="needs 4 slots") as error:
        evaluate(Knowing(FOUR, None, slots=None, info=runner.info), Memory(), prompts=("point+3",))
    assert "--points" not in str(error.value)


def test_endless_data_and_data_without_objects():
    runner = Knowing(FOUR, lambda truth, *_: [signed(truth)])
    with pytest.raises(UsageError, match="data 'memory' has no end; give a limit"):
        evaluate(runner, Endless(sample_of(*FOUR)))
    assert evaluate(runner, Endless(sample_of(*FOUR)), limit=1).summary("box").miou == 1.0
    with pytest.raises(UsageError, match="0 images without a single object"):
        evaluate(runner, Memory())


def test_kinds_are_base_and_rounds_or_a_mask():
    found = parse_prompts(("box", "point+12", "box+mask"))
    assert found == {"box": ("box", 0, False), "point+12": ("point", 12, False), "box+mask": ("box", 0, True)}


# ---------------------------------------------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def small() -> SamModel:
    """One convolution in front of SAM's own prompt encoder and mask decoder, with stand-in weights."""
    info = ModelInfo(name="small_sam", family="small_sam")
    model = SamModel(
        info=info,
        image_encoder=nn.Conv2d(3, 256, kernel_size=16, stride=16),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(),
    ).eval()
    fill_random(model, 5)
    return model


def test_an_onnx_export_scores_like_the_model_it_came_from(small, tmp_path):
    torch.manual_seed(0)
    files = export_onnx(small, tmp_path, OnnxConfig())
    data = open_data("scenes:7:3", size=128)
    reports = [
        evaluate(open_runner(source), data, objects=1, prompts=("box", "point+1", "point")) for source in (small, files)
    ]
    model, exported = reports
    assert [one.area for one in model.objects] == [one.area for one in exported.objects]
    for row in model.rows:
        values = np.array([model.values(row), exported.values(row)])
        assert np.abs(values[0] - values[1]).max() < 0.002, row
        assert 0 < values.mean() < 1
    assert (model.runner, exported.runner) == ("torch", "onnxruntime fp32")

"""Parity with fake runners: each gate passes on a copy and fails on the fault that it is there for."""

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgesam_export.artifacts import list_files
from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.imaging.masks import stability
from edgesam_export.parity import check_parity
from edgesam_export.parity.check import TOGETHER
from edgesam_export.parity.gates import DEFAULT_GATES, Check, Gate
from edgesam_export.parity.inputs import default_images, default_prompts, open_candidates
from edgesam_export.parity.metrics import mask_iou
from edgesam_export.parity.outputs import ENCODER_OUTPUT, Pair, measure
from edgesam_export.runners import Decoded, Runner
from edgesam_export.spec import NUMERICS, Artifact, ImageFrame, ModelInfo

NAMES = ("image_embeddings",)
FRAME = ImageFrame(size=64, prompt_size=1024)
KINDS = ["point", "points", "box", "box+point", "mask"]


class FakeRunner(Runner):
    """Embeddings and discs that depend on image and prompt, exactly alike in every copy; faults are planted on it."""

    def __init__(
        self, name="torch", *, candidates=(0, 1, 2, 3), slots=None, mask_input=True, numerics="fp32", names=NAMES
    ):
        self.name = name
        self.info = ModelInfo(name="edge_sam", family="edgesam", frame=FRAME)
        self.candidates = candidates
        self.slots = slots
        self.accepts_mask_input = mask_input
        self.numerics = numerics
        self.embedding_names = names
        self.embedding_fault = self.logit_fault = self.score_fault = lambda array: array
        self.calls = []

    def encode(self, prepared):
        return self.embedding(prepared.tensor[0])

    def encode_pixels(self, pixels):
        return self.embedding(pixels.transpose(2, 0, 1).astype(np.float32) / 255)

    def embedding(self, planes):
        """Maps of different sizes and values; the fault is planted on the last."""
        rows = np.resize(planes.mean(0), (64, 64))
        maps = [np.tile(rows + n, (1, 16, 1, 1)).astype(np.float32)[..., n:] for n in range(len(self.embedding_names))]
        return dict(zip(self.embedding_names, [*maps[:-1], self.embedding_fault(maps[-1])]))

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None):
        self.calls.append((point_coords.shape, point_labels.tolist(), mask_input is not None))
        used = point_labels[0] >= 0
        x, y = point_coords[0][used].mean(0) / 4
        rows, columns = np.mgrid[:256, :256]
        distance = np.hypot(rows - y, columns - x)
        level = sum(float(array.mean()) for array in embedding.values()) + (
            0.0 if mask_input is None else float(mask_input.mean()) / 100
        )
        logits = np.stack([20.0 + 8 * token - distance + level for token in self.candidates])[None].astype(np.float32)
        scores = np.array([[0.9 - 0.1 * token for token in self.candidates]], np.float32)
        return Decoded(self.logit_fault(logits), self.score_fault(scores))


def row(report, output, *, embeddings="reference", prompt="point", image="cat.jpg"):
    of_decoder = output in ("masks", "scores")
    key = (output, embeddings if of_decoder else "", prompt if of_decoder else "", image)
    (found,) = [r for r in report.rows if (r.output, r.embeddings, r.prompt, r.image) == key]
    return found


QUICK = {"images": default_images()[::2], "prompts": lambda size: default_prompts(size)[:1]}
"""Two images and one prompt, for tests that are about something else."""


def check(candidate, **options):
    """Compare with a faultless reference on the default images and prompts, unless others are given."""
    return check_parity(FakeRunner(), candidate, **options)


def failed_metrics(report):
    return {check.gate.metric for row in report.rows for check in row.checks if not check.passed}


@pytest.mark.parametrize("numerics", ["fp32", "fp16", "ane"])
def test_an_exact_copy_passes_every_gate(numerics):
    report = check(FakeRunner("copy", numerics=numerics))
    assert report.passed and not report.failures and not report.skipped
    assert row(report, "image_embeddings").metrics["psnr_db"] == math.inf


def test_every_prompt_is_checked_on_both_embeddings_of_at_least_two_images():
    report = check(FakeRunner("copy"))
    for kind in KINDS:
        for embeddings in ("reference", "own"):
            for output in ("masks", "scores"):
                images = [
                    r.image for r in report.rows if (r.prompt, r.embeddings, r.output) == (kind, embeddings, output)
                ]
                assert images == ["cat.jpg", "coffee.jpg", "noise"]
    assert len(report.rows) == 3 * (1 + 5 * 2 * 2)


def noisy(psnr_db):
    """Fault that leaves exactly this PSNR: a constant error, peak / 10^(psnr / 20)."""
    return lambda array: array + np.float64(np.abs(array).max()) * 10 ** (-psnr_db / 20)


@pytest.mark.parametrize(("numerics", "gate"), [("fp32", 80), ("fp16", 20), ("ane", 20)])
def test_embedding_gate_stands_at_its_number_of_decibels(numerics, gate):
    for psnr_db, passes in ((gate + 0.1, True), (gate - 0.1, False)):
        candidate = FakeRunner("noisy", numerics=numerics)
        candidate.embedding_fault = noisy(psnr_db)
        found = row(check(candidate, **QUICK), "image_embeddings")
        assert found.passed is passes
        assert found.checks[0].would_pass_at == pytest.approx(psnr_db, abs=0.01)


def square(logits, *, hole=(0, 0), shift=0, level=5.0):
    """Fault that makes of every mask a square of 100 x 100 with a hole of this height and width, moved to the right."""
    made = np.full_like(logits, -level)
    made[..., 40:140, 60 + shift : 160 + shift] = level
    made[..., 80 : 80 + hole[0], 100 : 100 + hole[1]] = -level
    return made


def compare_squares(numerics, **fault):
    """The reference's plain square against the candidate's."""
    reference, candidate = FakeRunner(), FakeRunner("square", numerics=numerics)
    reference.logit_fault = square
    candidate.logit_fault = lambda logits: square(logits, **fault)
    return check_parity(reference, candidate, **QUICK)


@pytest.mark.parametrize("numerics", ["fp16", "ane"])
def test_mask_gate_stands_at_one_percent_of_the_mask(numerics):
    """Of a hole the ring beside what is left does not count: 10 x 10 or 10 x 11 cells of 10000."""
    for hole, change, passes in (((12, 12), 0.01, True), ((12, 13), 0.011, False)):
        report = compare_squares(numerics, hole=hole)
        found = {c.gate.metric: c for c in row(report, "masks").checks}["visible_change"]
        assert (found.value, found.passed) == (pytest.approx(change), passes)
        assert failed_metrics(report) == (set() if passes else {"visible_change"})


def test_a_border_may_move_by_one_cell_in_half_precision_and_not_at_all_in_exact_arithmetic():
    assert compare_squares("fp16", shift=1).passed
    assert failed_metrics(compare_squares("fp16", shift=2)) == {"visible_change"}
    assert failed_metrics(compare_squares("fp32", shift=1)) == {"psnr_db"}


def test_a_thin_or_small_mask_that_vanishes_fails():
    """One cell wide, all of it border; a single cell counts as a mask of 64 and may go."""
    for rows, passes in ((slice(40, 120), False), (slice(40, 41), False), (slice(40, 40), True)):
        reference, candidate = FakeRunner(), FakeRunner("gone", numerics="fp16")

        def line(logits, rows=rows):
            made = np.full_like(logits, -5.0)
            made[..., rows, 100] = 5.0
            return made

        reference.logit_fault = line
        candidate.logit_fault = lambda logits: np.full_like(logits, -5.0)
        assert check_parity(reference, candidate, **QUICK).passed is passes


def test_one_bad_mask_of_four_is_enough():
    candidate = FakeRunner("third", numerics="fp16")

    def fault(logits):
        logits = logits.copy()
        logits[0, 3] *= -1
        return logits

    candidate.logit_fault = fault
    found = row(check(candidate, **QUICK), "masks")
    assert not found.passed
    assert found.metrics["best_mask_iou"] == 1.0 and found.metrics["visible_change"] > 0.9


def test_one_small_mask_is_held_by_its_own_peak_in_exact_arithmetic():
    """An error of a thousandth of its peak in a mask a hundred times smaller than the others."""
    reference, candidate = FakeRunner(), FakeRunner("small")
    scale = np.array([1, 1, 1, 0.01], np.float32)[:, None, None]
    reference.logit_fault = lambda logits: logits * scale
    candidate.logit_fault = lambda logits: logits * scale + np.array([0, 0, 0, 2e-3], np.float32)[:, None, None]
    assert failed_metrics(check_parity(reference, candidate, **QUICK)) == {"psnr_db"}


def test_swapped_masks_fail():
    candidate = FakeRunner("swapped", numerics="ane")
    candidate.logit_fault = lambda logits: logits[:, [1, 0, 2, 3]]
    assert "visible_change" in failed_metrics(check(candidate, **QUICK))


def test_another_best_mask_fails_and_a_tie_within_half_precision_does_not():
    for gap, numerics, passes in ((0.009, "fp16", False), (9e-4, "fp16", True), (9e-5, "fp32", False)):
        reference, candidate = FakeRunner(), FakeRunner("other", numerics=numerics)
        reference.score_fault = lambda scores, gap=gap: np.array([[0.9, 0.9 - gap, 0.1, 0.1]], np.float32)
        candidate.score_fault = lambda scores, gap=gap: np.array([[0.9 - gap, 0.9, 0.1, 0.1]], np.float32)
        report = check_parity(reference, candidate, **QUICK)
        assert failed_metrics(report) == (set() if passes else {"choice_loss"})
        assert row(report, "scores").metrics["best_mask_gap"] == pytest.approx(gap, rel=1e-2)


@pytest.mark.parametrize(("numerics", "bound"), [("fp32", 1e-4), ("fp16", 0.01), ("ane", 0.01)])
def test_scores_are_held_by_value_although_their_order_stays(numerics, bound):
    for error, passes in ((0.9 * bound, True), (1.1 * bound, False)):
        candidate = FakeRunner("offset", numerics=numerics)
        candidate.score_fault = lambda scores, error=error: scores - np.array([[0, 0, error, 0]], np.float32)
        assert failed_metrics(check(candidate, **QUICK)) == (set() if passes else {"score_error"})


@pytest.mark.parametrize("fault", ["embedding_fault", "logit_fault", "score_fault"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_single_value_that_is_not_finite_fails_its_row(fault, bad):
    candidate = FakeRunner("nan")

    def plant(array):
        array = array.copy()
        array.reshape(-1)[-1] = bad  # in the padding, which no metric looks at
        return array

    setattr(candidate, fault, plant)
    report = check(candidate, **QUICK)
    output = {"embedding_fault": "image_embeddings", "logit_fault": "masks", "score_fault": "scores"}[fault]
    assert not report.passed
    assert "not finite" in row(report, output).problem


def test_half_precision_overflow_fails():
    candidate = FakeRunner("overflow", numerics="fp16")
    with np.errstate(over="ignore"):
        candidate.embedding_fault = lambda array: (array * 1e6).astype(np.float16)
        report = check(candidate, **QUICK)
    assert row(report, "image_embeddings").problem.endswith("values are not finite")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (lambda array: array[:, :2], "shape (1, 2"),
        (lambda array: array[0], "shape (4"),
        (lambda array: array[:0], "shape (0, 4"),
        (lambda array: None, "missing"),
    ],
)
@pytest.mark.parametrize("output", ["masks", "scores"])
def test_wrong_shapes_and_missing_outputs_are_failed_rows(fault, problem, output):
    candidate = FakeRunner("misshapen")
    setattr(candidate, {"masks": "logit_fault", "scores": "score_fault"}[output], fault)
    report = check(candidate, **QUICK)
    assert not report.passed
    assert problem in row(report, output).problem
    assert all(check.would_pass_at is None for check in row(report, output).checks)


def test_a_misshapen_embedding_fails_and_is_not_fed_to_the_decoder():
    candidate = FakeRunner("misshapen")
    candidate.embedding_fault = lambda array: array[:, :8]
    report = check(candidate, **QUICK)
    assert "shape (1, 8, 64, 64)" in row(report, "image_embeddings").problem
    assert {r.embeddings for r in report.rows} == {"", "reference"}


MAPS = ("image_embeddings", "feats_s0", "feats_s1")


def test_every_map_of_an_embedding_is_a_row_under_its_own_name_and_gate():
    reference, candidate = FakeRunner(names=MAPS), FakeRunner("maps", numerics="fp16", names=MAPS)
    candidate.embedding_fault = noisy(19.9)
    report = check_parity(reference, candidate, **QUICK)
    rows = [r for r in report.rows if r.component == "encoder" and r.image == "cat.jpg"]
    assert [(r.output, r.passed) for r in rows] == [(MAPS[0], True), (MAPS[1], True), (MAPS[2], False)]
    assert [(c.gate.output, c.gate.metric, c.gate.minimum) for r in rows for c in r.checks] == [
        (name, "psnr_db", 20.0) for name in MAPS
    ]
    assert {r.embeddings for r in report.rows} == {"", "reference", "own"}


def test_one_misshapen_map_keeps_the_whole_embedding_from_the_decoder():
    candidate = FakeRunner("misshapen", names=MAPS)
    candidate.embedding_fault = lambda array: array[:, :8]
    report = check_parity(FakeRunner(names=MAPS), candidate, **QUICK)
    assert [r.problem[:8] for r in report.rows if r.component == "encoder"][:3] == ["", "", "shape (1"]
    assert {r.embeddings for r in report.rows} == {"", "reference"}


def test_maps_are_matched_by_their_order_and_named_by_the_candidate():
    report = check_parity(FakeRunner(names=MAPS[:2]), FakeRunner("renamed", names=("deep", "fine")), **QUICK)
    assert report.passed
    assert {r.output for r in report.rows if r.component == "encoder"} == {"deep", "fine"}
    with pytest.raises(UsageError, match=r"embedding has maps \['image_embeddings'\]"):
        check_parity(FakeRunner(), FakeRunner("more", names=MAPS), **QUICK)


def test_a_gate_may_name_one_map_but_not_an_output_that_no_candidate_has():
    gates = [*DEFAULT_GATES, Gate(output="fine", metric="cosine", numerics="fp32", minimum=0.9)]
    candidate = FakeRunner("two", names=("deep", "fine"))
    report = check_parity(FakeRunner(names=MAPS[:2]), candidate, gates=gates, **QUICK)
    assert [c.gate.metric for c in row(report, "deep").checks] == ["psnr_db"]
    assert [c.gate.metric for c in row(report, "fine").checks] == ["psnr_db", "cosine"]
    with pytest.raises(UsageError, match=r"gate on 'fine': no such output; choose one of .*image_embeddings"):
        check(FakeRunner("one"), gates=gates, **QUICK)


def test_encoder_error_shows_end_to_end_but_not_on_the_reference_embedding():
    candidate = FakeRunner("shifted")
    candidate.embedding_fault = lambda array: array + 3
    report = check(candidate, **QUICK)
    assert row(report, "masks", embeddings="reference").passed
    assert not row(report, "masks", embeddings="own").passed


def test_padding_is_not_compared():
    candidate = FakeRunner("padding")

    def fault(logits):
        logits = logits.copy()
        logits[:, :, -30:] = 99  # the bottom of every default image, all of them wider than high by 4:3 or more
        return logits

    candidate.logit_fault = fault
    assert check(candidate, **QUICK).passed


@pytest.mark.parametrize("candidates", [(1, 2, 3), (0,)])
def test_candidates_are_compared_with_the_reference_of_the_same_token(candidates):
    report = check(FakeRunner("some", candidates=candidates), **QUICK)
    assert report.passed
    assert row(report, "masks").shape[1] == len(candidates)
    assert ("best_mask_gap" in row(report, "scores").metrics) == (len(candidates) > 1)


def test_stability_scores_are_compared_with_stability_of_the_reference():
    candidate = FakeRunner("stability")
    candidate.score_kind = "stability"
    decode, error = candidate.decode_all, np.zeros(4, np.float32)

    def with_stability(*inputs):
        logits = decode(*inputs).masks
        return Decoded(logits, stability(logits) - error)

    candidate.decode_all = with_stability
    report = check(candidate, **QUICK)
    assert report.passed and row(report, "scores").metrics["max_abs_error"] == 0
    error[2] = 2e-4
    assert failed_metrics(check(candidate, **QUICK)) == {"score_error"}


def test_a_stability_score_is_held_to_the_files_own_masks():
    """A few logits at -1 that moved within the gate on logits change the stability of a small mask by a tenth."""
    reference, candidate = FakeRunner(), FakeRunner("stability")
    candidate.score_kind = "stability"

    def small(logits, moved=0.0):
        made = np.full_like(logits, -9.0)
        made[..., 100, 100:110] = 2.0
        made[..., 100, 110] = -1.0 + moved
        return made

    reference.logit_fault = lambda logits: small(logits, -1e-5)
    decode = candidate.decode_all

    def with_stability(*inputs):
        logits = small(decode(*inputs).masks, 1e-5)
        return Decoded(logits, stability(logits))

    candidate.decode_all = with_stability
    report = check_parity(reference, candidate, **QUICK)
    assert report.passed and row(report, "scores").metrics["max_abs_error"] == pytest.approx(1 / 11, abs=1e-3)


def test_scores_of_a_kind_the_reference_has_not_are_refused():
    reference = FakeRunner()
    reference.score_kind = "stability"
    with pytest.raises(UsageError, match="iou"):
        check_parity(reference, FakeRunner("iou"), **QUICK)


def test_the_candidate_gets_its_slots_and_the_reference_none_to_spare():
    reference, candidate = FakeRunner(), FakeRunner("slots", slots=8)
    assert check_parity(reference, candidate).passed
    assert {shape for shape, _, _ in candidate.calls} == {(1, 8, 2)}
    assert {shape[1] for shape, _, _ in reference.calls} == {2, 3, 4}
    assert -2 not in {label for _, labels, _ in reference.calls for label in labels[0]}


def test_the_reference_answers_each_question_once_for_all_candidates():
    reference = FakeRunner()
    check_parity(reference, [FakeRunner("a"), FakeRunner("b", numerics="fp16")])
    assert len(reference.calls) == 3 * 5


def test_an_image_input_is_compared_on_the_very_same_image():
    candidate = FakeRunner("image")
    candidate.takes_image = True
    candidate.encode = lambda prepared: candidate.encode_pixels(prepared.pixels)
    assert check(candidate, **QUICK).passed
    candidate.takes_image = False
    assert not check(candidate, **QUICK).passed


def test_prompts_that_a_decoder_cannot_take_are_skipped_with_the_reason():
    report = check(FakeRunner("small", slots=2, mask_input=False))
    assert report.passed
    assert {r.prompt for r in report.rows} == {"", "point", "box"}
    assert report.skipped == (
        "small: prompt points: needs 4 slots, the decoder has 2",
        "small: prompt box+point: needs 3 slots, the decoder has 2",
        "small: prompt mask: the decoder was exported without mask input",
    )


def test_a_decoder_that_no_prompt_fits_is_an_error():
    with pytest.raises(UsageError, match=r"nothing of the decoder was compared.*needs 2 slots"):
        check(FakeRunner("tiny", slots=1, mask_input=False))


def test_no_prompts_images_gates_or_candidates_are_errors():
    copy = FakeRunner("copy")
    with pytest.raises(UsageError, match="nothing of the decoder"):
        check(copy, prompts=lambda size: ())
    with pytest.raises(UsageError, match="0 images"):
        check(copy, images=[])
    with pytest.raises(UsageError, match=r"1 images.*at least 2"):
        check(copy, images=[np.zeros((8, 8, 3), np.uint8)])
    for one in (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), "a.jpg", Path("a.jpg")):
        with pytest.raises(UsageError, match="images is one image, not a list"):
            check(copy, images=one)
    with pytest.raises(UsageError, match="no gate applies to the decoder"):
        check(copy, gates=())
    with pytest.raises(UsageError, match="no gate applies to the encoder"):
        check(copy, gates=[gate for gate in DEFAULT_GATES if gate.output != ENCODER_OUTPUT])
    with pytest.raises(UsageError, match="nothing to compare"):
        check([])


def test_a_reference_that_is_not_finite_is_an_error():
    reference = FakeRunner()
    reference.embedding_fault = lambda array: array * np.nan
    with pytest.raises(UsageError, match="embedding of cat"):
        check_parity(reference, FakeRunner("copy"), **QUICK)


def artifact(component, *, kind="coreml", precision="fp16", path="a_encoder.mlpackage", **contract):
    return Artifact(
        path=Path(path),
        format=kind,
        component=component,
        model="edge_sam",
        sha256=f"{component}-digest",
        contract={"precision": precision, **contract},
    )


def test_a_lone_encoder_or_decoder_is_checked_alone():
    for component, embeddings in (("encoder", {""}), ("decoder", {"reference"})):
        candidate = FakeRunner("half")
        candidate.artifacts = (artifact(component),)
        report = check(candidate, **QUICK)
        assert report.passed
        assert {r.embeddings for r in report.rows} == embeddings
        assert report.artifacts[0].sha256 == f"{component}-digest"


def test_a_lone_encoder_in_half_precision_is_judged_by_the_masks_made_of_its_embedding():
    candidate = FakeRunner("half", numerics="fp16")
    candidate.artifacts = (artifact("encoder"),)
    report = check(candidate, **QUICK)
    assert report.passed
    assert {(r.component, r.embeddings, r.output) for r in report.rows if r.output != "image_embeddings"} == {
        ("encoder", "own", "masks"),
        ("encoder", "own", "scores"),
    }
    candidate.embedding_fault = lambda array: array - 3  # the masks shrink by three cells
    assert "visible_change" in failed_metrics(check(candidate, **QUICK))


@pytest.mark.parametrize(("precision", "onnx"), [("fp32", [None]), ("fp16", ["widened", None])])
def test_core_ml_files_are_opened_once_for_each_numerics_and_onnx_as_typed(monkeypatch, precision, onnx):
    opened = []

    def open_runner(source, numerics=None):
        opened.append((len(source), numerics))
        return FakeRunner(str(numerics))

    monkeypatch.setattr("edgesam_export.parity.inputs.open_runner", open_runner)
    files = [
        artifact("encoder"),
        artifact("decoder"),
        artifact("encoder", kind="onnx", precision=precision),
        artifact("decoder", kind="onnx", precision=precision),
    ]
    expected = ["fp32", "fp16", "ane", *onnx]
    assert len(open_candidates(files, ("fp32", "fp16", "ane"))) == len(expected)
    assert opened == [(2, numerics) for numerics in expected]


def test_a_package_is_read_once_for_all_numerics(exported):
    files = list_files(exported("edge_sam_tiny", "coreml"))
    runners = open_candidates(files, ("fp32", "fp16", "ane"))
    assert [(runner.name, runner.numerics) for runner in runners] == [(f"executor {n}", n) for n in NUMERICS]
    assert all(runner.programs is runners[0].programs for runner in runners)
    assert len({id(runner.feeds) for runner in runners}) == 3, "a call of one is no call of another"
    with pytest.raises(UsageError, match="its files decide"):
        FakeRunner("fp32").under("fp16")


def test_a_runner_that_this_machine_lacks_is_never_a_silent_pass(monkeypatch):
    def unavailable(source, numerics=None):
        raise RunnerUnavailableError("cannot run here")

    monkeypatch.setattr("edgesam_export.parity.inputs.open_runner", unavailable)
    with pytest.raises(RunnerUnavailableError):
        check([artifact("encoder")], **QUICK)


def test_paths_that_are_no_exports_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path, message in (
        (tmp_path, "holds no .*.mlpackage"),
        (tmp_path / "notes.txt", "no exported file"),
        (tmp_path / "gone.onnx", "no exported file"),
    ):
        with pytest.raises(UsageError, match=message):
            check(path, **QUICK)


def test_progress_counts_every_image_of_every_candidate():
    steps = []
    check([FakeRunner("a"), FakeRunner("b")], progress=lambda *step: steps.append(step))
    assert [done for done, _, _ in steps] == list(range(7))
    assert {total for _, total, _ in steps} == {6}


def test_images_hold_the_best_mask_of_both_sides_at_one_size():
    report = check(FakeRunner("copy"))
    assert len(report.images) == 15
    for image in report.images:
        assert image.source.shape[:2] == image.reference.shape == image.candidate.shape
        assert np.array_equal(image.reference, image.candidate) and image.iou == 1
        for x, y in image.prompt.points:
            assert 0 <= x < image.source.shape[1] and 0 <= y < image.source.shape[0]


class FakeProgram:
    """Three operations; the second overflows outside fp32."""

    def __init__(self):
        names = ["a", "b", "c"]
        self.operations = [
            SimpleNamespace(type="mul", name=f"op_{n}", inputs={"x": p}, outputs=(n,), location=f"main/{n}")
            for n, p in zip(names, ["x", "a", "b"])
        ]
        self.outputs = ("c",)
        self.factors = (1, 1e6, 1)
        self.runs = []

    def predict(self, feed, *, numerics, probe):
        self.runs.append(numerics)
        value = feed["x"]
        for op, factor in zip(self.operations, self.factors):
            value = value * factor
            if numerics != "fp32" and factor > 1:
                value = value * np.inf
            probe(op, op.outputs[0], value)


def replayable(numerics, *, modules=None):
    candidate = FakeRunner(f"mil {numerics}", numerics=numerics)
    candidate.artifacts = (artifact("encoder", modules=modules or {}), artifact("decoder"))
    candidate.program = FakeProgram()
    candidate.replay = lambda component, part=0: (candidate.program, {"x": np.ones(4, np.float32)})
    return candidate


def test_a_failed_gate_names_the_operation_and_its_module():
    candidate = replayable("fp16", modules={"op_b": "encoder.stage2"})
    candidate.embedding_fault = lambda array: array * 2
    report = check(candidate, **QUICK)
    assert not report.passed
    found = report.first_divergence
    assert (found.operation, found.module, found.component, found.candidate) == (
        "op_b",
        "encoder.stage2",
        "encoder",
        "mil fp16",
    )
    assert [d.component for d in report.divergences] == ["encoder"]  # the decoder is right on the reference's embedding


def test_a_passing_candidate_is_not_searched_but_its_ranges_are_reported_once_per_file():
    report = check([replayable("fp32"), replayable("fp16")], **QUICK)
    assert report.passed and report.first_divergence is None
    assert [(r.component, r.operation) for r in report.ranges[:2]] == [("encoder", "op_b"), ("encoder", "op_c")]
    assert sum(r.operation == "op_b" for r in report.ranges) == 2  # encoder and decoder


def test_a_checked_candidate_gives_its_memory_back_before_the_next_one_runs():
    order = []
    candidates = [FakeRunner(name) for name in ("one", "two")]
    for candidate in candidates:
        encode, name = candidate.encode, candidate.name
        candidate.encode = lambda prepared, encode=encode, name=name: order.append(name) or encode(prepared)
        candidate.release = lambda name=name: order.append(f"{name} released")
    assert check(candidates, **QUICK).passed
    assert list(dict.fromkeys(order)) == ["one", "one released", "two", "two released"]


def test_a_failure_in_fp32_says_that_there_is_nothing_to_search():
    candidate = replayable("fp32")
    candidate.embedding_fault = lambda array: array * 2
    report = check(candidate, **QUICK)
    assert [str(item) for item in report.explanations] == [
        "mil fp32: encoder: the files differ from PyTorch in fp32 already"
    ]
    assert report.skipped == ()


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        ({"compression": {"scheme": "linear8"}}, "compressed weights (linear8)"),
        ({"compression": {"scheme": None, "recipe": "small"}}, "compressed weights (small)"),
        ({"activations": {"dtype": "int8"}}, "int8 activations"),
        (
            {"compression": {"scheme": "linear8"}, "activations": {"dtype": "int8"}},
            "compressed weights (linear8) and int8 activations",
        ),
    ],
)
def test_what_was_stored_in_fewer_bits_is_not_blamed_on_rounding(monkeypatch, stored, what):
    monkeypatch.setattr("edgesam_export.parity.diagnosis.first_divergence", lambda *_, **__: None)
    candidate = replayable("fp16")
    candidate.artifacts = (artifact("encoder", **stored), artifact("decoder"))
    candidate.embedding_fault = lambda array: array * 2
    (explanation,) = check(candidate, **QUICK).explanations
    assert (
        explanation.text == f"{what}: no operation stands out, and rounding changes no output by 1 % of its rms value"
    )


@pytest.mark.parametrize("renamed", [False, True])
def test_an_export_of_other_operations_is_not_searched_by_their_names(monkeypatch, renamed):
    """Names that a converter makes up shift with its version: equal names may then be different values."""
    fresh, reference, candidate = FakeProgram(), FakeRunner(), replayable("fp32")
    if renamed:
        fresh.operations = fresh.operations[1:] + fresh.operations[:1]
    reference.model = torch.nn.Module()
    candidate.artifacts = (artifact("encoder", precision="fp32"), artifact("decoder", precision="fp32"))
    candidate.program.factors = (1, 2, 1)  # the second operation of the file computes something else
    candidate.embedding_fault = lambda array: array * 2

    @contextmanager
    def fresh_program(model, file):
        yield fresh, {}

    monkeypatch.setattr("edgesam_export.runners.torch.fresh_program", fresh_program)
    report = check_parity(reference, candidate, **QUICK)
    if renamed:
        assert "a fresh export has other operations" in report.explanations[0].text and not report.divergences
    else:
        assert report.first_divergence.operation == "op_b" and not report.explanations


def test_a_decoder_that_fails_on_its_own_embedding_only_is_explained():
    candidate = FakeRunner("mil fp16", numerics="fp16")
    decode = candidate.decode_all

    def decoded(embedding, *rest):
        found = decode(embedding, *rest)
        return found._replace(masks=-found.masks) if embedding is candidate.latest else found

    encode = candidate.encode

    def encoded(prepared):
        candidate.latest = {name: array * np.float32(1 + 2**-20) for name, array in encode(prepared).items()}
        return candidate.latest

    candidate.encode, candidate.decode_all = encoded, decoded
    report = check(candidate, **QUICK)
    assert {row.embeddings for row in report.failures} == {"own"}
    assert [(item.component, item.text) for item in report.explanations] == [("decoder", TOGETHER)]


def test_gates_are_validated():
    with pytest.raises(UsageError, match="either a minimum or a maximum"):
        Gate(output="masks", metric="mask_iou", numerics="fp32")
    with pytest.raises(UsageError, match="either a minimum or a maximum"):
        Gate(output="masks", metric="mask_iou", numerics="fp32", minimum=1, maximum=2)
    with pytest.raises(UsageError, match="no such metric"):
        Gate(output="masks", metric="best_mask_gap", numerics="fp32", minimum=1)


@pytest.mark.parametrize("gate", DEFAULT_GATES, ids=lambda gate: f"{gate.output}-{gate.metric}-{gate.numerics}")
def test_each_gate_fails_beyond_its_bound_passes_on_it_and_never_passes_nan(gate):
    bound = gate.minimum if gate.minimum is not None else gate.maximum
    beyond = bound * 0.999 if gate.minimum is not None else bound * 1.001
    assert Check(gate=gate, value=bound).passed
    assert not Check(gate=gate, value=beyond).passed
    assert not Check(gate=gate, value=math.nan).passed and Check(gate=gate, value=math.nan).would_pass_at is None


def test_default_gates_hold_the_published_numbers():
    bounds = {(g.output, g.metric, g.numerics): g.bound for g in DEFAULT_GATES}
    assert [bounds[ENCODER_OUTPUT, "psnr_db", n] for n in ("fp32", "fp16", "ane")] == [80, 20, 20]
    assert bounds["masks", "psnr_db", "fp32"] == 80
    assert [bounds["masks", "visible_change", n] for n in ("fp16", "ane")] == [0.01, 0.01]
    assert [bounds["scores", "score_error", n] for n in ("fp32", "fp16", "ane")] == [1e-4, 0.01, 0.01]
    assert [bounds["scores", "choice_loss", n] for n in ("fp32", "fp16", "ane")] == [1e-5, 1e-3, 1e-3]
    assert [bounds["boxes", "psnr_db", n] for n in ("fp32", "fp16", "ane")] == [80, 40, 35]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3, 2), (300, 451), (4000, 30)])
def test_default_prompts_lie_inside_any_image(size):
    prompts = default_prompts(size)
    assert [prompt.kind for prompt in prompts] == KINDS
    height, width = size
    for prompt in prompts:
        assert all(0 <= x < width and 0 <= y < height for x, y in prompt.points)
        if prompt.box:
            x0, y0, x1, y1 = prompt.box
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert prompts == default_prompts(size)


def test_default_images_are_two_photographs_and_noise_that_never_changes():
    first, second = default_images(), default_images()
    assert [name for name, _ in first] == ["cat.jpg", "coffee.jpg", "noise"]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second))


def test_a_report_without_rows_or_gates_has_not_passed():
    report = check(FakeRunner("copy"), **QUICK)
    assert not replace(report, rows=()).passed
    assert not replace(report, rows=tuple(replace(r, checks=()) for r in report.rows)).passed


def mask_metrics(expected, actual):
    return measure("masks", Pair(expected=expected, actual=actual))


def test_masks_are_compared_in_the_prompt_frame():
    """Of a mask of 90 logits one that changes sign by rounding is more than a gate of 0.99 allows at 256 x 256."""
    expected = np.full((1, 1, 256, 256), -4.0, np.float32)
    expected[..., 100:109, 100:110] = 4.0
    expected[..., 100, 100] = 0.01
    rounded = expected.copy()
    rounded[..., 100, 100] = -0.01
    assert mask_iou(expected, rounded) < 0.99 < mask_metrics(expected, rounded)["mask_iou"]
    thinner = expected.copy()
    thinner[..., 100:109, 100] = -4.0  # a whole column gone is gone at any size
    assert mask_metrics(expected, thinner)["mask_iou"] == pytest.approx(0.9, abs=0.01)


def test_default_prompts_and_images_are_of_the_kinds_that_the_model_was_trained_on():
    trained = ModelInfo(
        name="edge_sam", family="edgesam", frame=FRAME, trained_prompts=("box",), sample_images="phantoms"
    )
    reference, candidate = FakeRunner(), FakeRunner("copy")
    reference.info = trained
    report = check_parity(reference, candidate)
    assert {row.prompt for row in report.rows if row.component == "decoder"} == {"box"}
    assert {row.image for row in report.rows} == {"phantom of a body", "phantom of an echo", "noise"}
    chosen = check_parity(reference, candidate, prompts=lambda size: default_prompts(size)[:2])
    assert {row.prompt for row in chosen.rows if row.component == "decoder"} == {"point", "points"}


def test_an_unknown_kind_of_prompt_cannot_be_trained_for():
    with pytest.raises(ValueError, match=r"edge_sam: no prompt of kind 'scribble'; kinds are point, points, box"):
        ModelInfo(name="edge_sam", family="edgesam", trained_prompts=("box", "scribble"))

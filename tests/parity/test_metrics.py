"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.parity import metrics

ALL = [
    metrics.psnr_db,
    metrics.cosine,
    metrics.max_abs_error,
    metrics.rms_error,
    metrics.mask_iou,
    metrics.sign_agreement,
    metrics.sign_margin,
    metrics.best_mask_gap,
]


def test_sign_margin_is_the_largest_flipped_value_over_the_rms():
    # rms of (3, 4, -0.25, 5) is sqrt(50.0625 / 4); only -0.25 changed its sign, then all did and 5 is the largest
    reference, candidate = np.array([3.0, 4.0, -0.25, 5.0]), np.array([3.0, 4.0, 0.25, 5.0])
    assert metrics.sign_margin(reference, candidate) == pytest.approx(0.25 / math.sqrt(50.0625 / 4))
    assert metrics.sign_margin(reference, -reference) == pytest.approx(5 / math.sqrt(50.0625 / 4))


def test_sign_margin_is_zero_when_no_sign_differs_or_only_zeros_do():
    assert metrics.sign_margin(np.array([1.0, -2.0]), np.array([9.0, -0.1])) == 0.0
    assert metrics.sign_margin(np.zeros(2), np.ones(2)) == 0.0


def test_psnr_is_twenty_log_peak_over_rms_error():
    # peak 10, error 1 everywhere: 20 log10(10 / 1) = 20 dB
    assert metrics.psnr_db(np.array([10.0, -10.0]), np.array([9.0, -9.0])) == pytest.approx(20.0)


def test_psnr_takes_the_peak_of_the_reference_not_of_the_candidate():
    # peak |reference| = 1, rms error = 99 / sqrt(2)
    expected = 20 * math.log10(1 / (99 / math.sqrt(2)))
    assert metrics.psnr_db(np.array([1.0, 0.0]), np.array([100.0, 0.0])) == pytest.approx(expected)


def test_psnr_counts_a_negative_peak():
    assert metrics.psnr_db(np.array([-100.0, 0.0]), np.array([-99.0, 1.0])) == pytest.approx(40.0)


def test_psnr_of_identical_arrays_is_infinite():
    assert metrics.psnr_db(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == math.inf
    assert metrics.psnr_db(np.zeros(3), np.zeros(3)) == math.inf


def test_psnr_of_a_missed_zero_reference_is_minus_infinity():
    assert metrics.psnr_db(np.zeros(2), np.ones(2)) == -math.inf


def test_rms_and_max_error_literals():
    reference, candidate = np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.0, -1.0, 1.0, -5.0])
    assert metrics.rms_error(reference, candidate) == pytest.approx(math.sqrt(28 / 4))
    assert metrics.max_abs_error(reference, candidate) == 5.0


def test_errors_of_half_precision_arrays_do_not_overflow():
    big = np.array([60000.0, -60000.0], np.float16)
    assert metrics.max_abs_error(big, -big) == pytest.approx(2 * float(big[0]))
    assert metrics.rms_error(big, -big) == pytest.approx(2 * float(big[0]))


@pytest.mark.parametrize(
    ("right", "expected"), [([2.0, 0.0], 1.0), ([0.0, 3.0], 0.0), ([-1.0, 0.0], -1.0), ([0.0, 0.0], 0.0)]
)
def test_cosine_literals(right, expected):
    assert metrics.cosine(np.array([1.0, 0.0]), np.array(right)) == pytest.approx(expected)


def test_cosine_of_two_zero_vectors_is_one():
    assert metrics.cosine(np.zeros(4), np.zeros(4)) == 1.0


def test_iou_literal_and_threshold_zero_is_background():
    # reference {0, 1}, candidate {1, 2}: one of three; the logit 0 belongs to no mask
    reference, candidate = np.array([1.0, 1.0, -1.0, 0.0]), np.array([-1.0, 1.0, 1.0, 0.0])
    assert metrics.mask_iou(reference, candidate) == pytest.approx(1 / 3)


def test_iou_of_two_empty_masks_is_one_and_of_one_empty_mask_zero():
    empty, full = np.full((4, 4), -1.0), np.ones((4, 4))
    assert metrics.mask_iou(empty, empty - 1) == 1.0
    assert metrics.mask_iou(empty, full) == 0.0
    assert metrics.mask_iou(full, empty) == 0.0


def test_one_pixel_more_in_a_mask_of_a_hundred_is_seen():
    reference = np.full(200, -1.0)
    reference[:100] = 1.0
    candidate = reference.copy()
    candidate[100] = 1.0
    assert metrics.mask_iou(reference, candidate) == pytest.approx(100 / 101)
    assert metrics.sign_agreement(reference, candidate) == pytest.approx(199 / 200)


def test_sign_agreement_counts_zero_as_background():
    assert metrics.sign_agreement(np.array([0.0, 0.0, 1.0, -1.0]), np.array([-1.0, 1.0, 2.0, -2.0])) == 0.75


def test_best_mask_gap_is_zero_when_both_choose_the_same_mask():
    assert metrics.best_mask_gap(np.array([[0.1, 0.9, 0.5]]), np.array([[0.5, 0.6, 0.2]])) == 0.0


def test_best_mask_gap_is_measured_in_scores_of_the_reference():
    # The candidate chooses mask 2, worth 0.5 in the reference, where mask 1 is worth 0.9.
    assert metrics.best_mask_gap(np.array([0.1, 0.9, 0.5]), np.array([0.0, 0.0, 7.0])) == pytest.approx(0.4)


def test_best_mask_gap_of_one_score_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        metrics.best_mask_gap(np.array([0.4]), np.array([0.4]))


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["reference", "candidate", "both"])
def test_a_value_that_is_not_finite_makes_every_metric_nan(metric, bad, side):
    reference, candidate = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])
    if side != "candidate":
        reference[1] = bad
    if side != "reference":
        candidate[1] = bad
    assert math.isnan(metric(reference, candidate))


@pytest.mark.parametrize("metric", ALL)
def test_shapes_are_never_broadcast(metric):
    with pytest.raises(UsageError, match=r"\(1, 4\).*\(4,\)"):
        metric(np.ones((1, 4)), np.ones(4))


@pytest.mark.parametrize("metric", ALL)
def test_comparing_nothing_is_an_error(metric):
    with pytest.raises(UsageError, match="nothing"):
        metric(np.ones((0, 3)), np.ones((0, 3)))


@pytest.mark.parametrize("metric", ALL)
def test_inputs_stay_as_they_are(metric):
    reference, candidate = np.array([1.0, -2.0]), np.array([0.5, 2.0])
    metric(reference, candidate)
    assert reference.tolist() == [1.0, -2.0] and candidate.tolist() == [0.5, 2.0]

"""Statistics of agreement, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.shrink.agreement import Agreement, PromptResult

RESULTS = Agreement(
    results=(
        PromptResult(image=0, kind="box", iou=1.0, truth=0.9),
        PromptResult(image=0, kind="point", iou=0.8),
        PromptResult(image=1, kind="box", iou=0.7, truth=0.5),
        PromptResult(image=2, kind="point", iou=0.5),
    )
)


def test_an_image_counts_once_whatever_its_number_of_prompts():
    assert RESULTS.mean == pytest.approx((0.9 + 0.7 + 0.5) / 3)


def test_the_standard_error_is_that_of_the_means_of_images():
    assert RESULTS.error == pytest.approx(0.2 / 3**0.5)  # 0.9, 0.7, 0.5: standard deviation 0.2


# Student's t at 95 %, one-sided, as tables print it
@pytest.mark.parametrize(("images", "t"), [(6, 2.015), (16, 1.753), (31, 1.697), (121, 1.658)])
def test_the_lower_bound_is_one_sided_at_95_percent(images, t):
    values = np.random.default_rng(images).random(images)
    found = Agreement(results=tuple(PromptResult(image=i, kind="box", iou=v) for i, v in enumerate(values)))
    below = t * values.std(ddof=1) / images**0.5
    assert values.mean() - found.lower == pytest.approx(below, rel=0.01)


def test_kinds_and_true_masks_have_figures_of_their_own():
    assert RESULTS.kinds == ("box", "point")
    assert RESULTS.mean_of("point") == pytest.approx((0.65, 0.15))
    assert RESULTS.mean_of("box", truth=True) == pytest.approx((0.7, 0.2))
    assert RESULTS.mean_of("point", truth=True) is None and RESULTS.mean_of("mask") is None


def test_the_document_holds_what_there_is_and_rows_give_the_same_again():
    document = RESULTS.document()
    assert (document["images"], document["prompts"]) == (3, 4)
    assert "truth_mean" in document["kinds"]["box"] and "truth_mean" not in document["kinds"]["point"]
    assert Agreement.of(RESULTS.rows()) == RESULTS

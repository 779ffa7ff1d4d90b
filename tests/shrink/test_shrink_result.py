"""What a search's result says, as a table, a plot and JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from edgesam_export.rendering import rendered, renderers
from edgesam_export.shrink.agreement import Agreement, PromptResult
from edgesam_export.shrink.render.text import summary, to_table
from edgesam_export.shrink.result import Point, ShrinkResult, by_size
from edgesam_export.shrink.search import Goal
from edgesam_export.spec import Recipe


def agreement(*values: float) -> Agreement:
    """Return one box on each of some images."""
    return Agreement(
        results=tuple(PromptResult(image=index, kind="box", iou=value) for index, value in enumerate(values))
    )


def point(name: str, kind: str, size: int, *values: float) -> Point:
    return Point(name=name, kind=kind, bytes=size, held_out=agreement(*values))


FOUND = replace(point("found", "recipe", 1_500_000, 0.985, 0.987), search=agreement(0.99, 0.98))
RESULT = ShrinkResult(
    model="edge_sam_tiny",
    weights="0" * 64,
    goal=Goal(min_iou=0.98),
    images="scenes:1:4",
    target="iOS17",
    points=tuple(
        by_size(
            [
                FOUND,
                point("palettize4", "uniform", 2_200_000, 0.97, 0.96),
                point("palettize6", "uniform", 3_000_000, 0.99, 0.99),
                point("linear8", "uniform", 3_500_000, 0.999, 0.999),
                point("fp16", "fp16", 4_700_000, 1.0, 1.0),
            ]
        )
    ),
    found=FOUND,
    recipe=Recipe(name="shrink", components={"encoder": {"image_encoder.neck.2": "palettize4"}}),
    artifacts=(),
    parity_passed=True,
)


def test_the_best_uniform_scheme_is_the_smallest_that_keeps_the_bound():
    assert RESULT.best_uniform.name == "palettize6"
    by_size_asked = replace(RESULT, goal=Goal(max_bytes=1_600_000))
    assert by_size_asked.best_uniform.name == "palettize6"  # the smallest that agrees as much as what was found
    nothing = replace(RESULT, points=tuple(one for one in RESULT.points if one.kind != "uniform"))
    assert nothing.best_uniform is None and "no uniform scheme does as well" in list(summary(nothing))


def test_a_bound_that_held_out_images_do_not_keep_fails():
    missed = replace(RESULT, found=replace(FOUND, held_out=agreement(0.97, 0.98)))
    assert RESULT.passed and not missed.passed
    assert "FAIL: held-out images keep 0.9750, less than --min-iou 0.98" in list(summary(missed))


@pytest.mark.parametrize(("parity", "passed"), [(True, True), (None, True), (False, False)])
def test_parity_that_fails_fails_and_parity_left_out_does_not(parity, passed):
    result = replace(RESULT, parity_passed=parity)
    assert result.passed == passed and any("parity" in line for line in summary(result)) == (not passed)


def test_the_table_has_a_row_for_each_point_the_largest_first():
    rows = [line.split() for line in to_table(RESULT).splitlines()]
    assert [row[0] for row in rows[1:]] == ["fp16", "linear8", "palettize6", "palettize4", "found"]
    assert rows[5][1:] == ["1.50", "32%", "0.9860", "0.0010", "0.985", "0.9860"]


def test_the_summary_says_how_much_smaller_it_is():
    first, second = summary(RESULT)
    assert first == (
        "found: 1.50 MB, agreement with FP32 masks 0.9860 ± 0.0010 on held-out images"
        " (where it was searched 0.9850 ± 0.0050)"
    )
    assert second == "50% smaller than the smallest uniform scheme that does: palettize6, 3.00 MB"


def test_every_format_renders_and_the_document_says_what_was_found():
    formats = renderers("edgesam_export.shrink.render")
    assert set(formats) == {".json", ".png"}
    document = json.loads(rendered(formats[".json"], RESULT))
    assert (document["found"], document["best_uniform"], document["passed"]) == ("found", "palettize6", True)
    assert document["points"][-1]["search"]["mean"] == pytest.approx(0.985)
    with Image.open(io.BytesIO(rendered(formats[".png"], RESULT))) as plot:
        assert plot.format == "PNG" and min(plot.size) > 500

"""A compile failure takes the whole function: the third outcome beside at risk and off, its extent, how it is shown."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from PIL import Image

from edgesam_export.ane.analyzer import analyze_graph
from edgesam_export.ane.example import read_example
from edgesam_export.ane.render.markdown import render as to_markdown
from edgesam_export.ane.render.strip import COLOURS
from edgesam_export.ane.render.strip import render as draw_strip
from edgesam_export.ane.render.summary import summary_line
from edgesam_export.ane.render.text import render as to_text


def report_on(text: str, target: str):
    return analyze_graph(read_example(text)[0], target=target)


def placed(text: str, target: str) -> Counter[str]:
    return Counter(row.placement for row in report_on(text, target).placements)


STATE = """
opset = "iOS18"
x: fp16[1, 8, 64, {width}]
k: fp16[1, 8, 64, {width}] = feature(kind="state")
r: fp16[1, 8, 64, {width}] = read_state(input=k)
a: fp16[1, 8, 64, {width}] = add(x=x, y=r)
n: fp16[1, 8, 64, {width}] = cumsum(x=a, axis=1)
write_state(input=k, data=a)
output(n)
"""


def test_an_uneven_state_takes_the_whole_function_on_the_family_it_was_seen_on():
    # cumsum is off by itself and stays so; all else has nothing against it but the state
    assert placed(STATE.format(width=100), "M4") == {"rejected": 3, "off": 1}
    assert placed(STATE.format(width=96), "M4") == {"expected": 3, "off": 1}


def test_where_nobody_has_looked_a_refusal_is_a_risk_for_everything():
    assert placed(STATE.format(width=100), "iPhone 14") == {"at-risk": 3, "off": 1}


def test_for_several_families_the_worst_counts():
    assert placed(STATE.format(width=100), "all") == {"rejected": 3, "off": 1}


def test_a_rejected_function_leaves_no_segment_for_the_ane_and_is_not_cut_in_pieces():
    report = report_on(STATE.format(width=100), "M4")
    assert [segment.on_ane for segment in report.segments] == [False]
    assert "P02" not in {finding.rule for finding in report.findings}
    assert all(operation.bound != "transfer" for operation in report.costs[0].operations)
    assert report.costs[0].transfer_ms == 0


WRITE = """
opset = "iOS18"
u: fp16[1, 8, {rows}, 64]
b: int32[4]
k: fp16[1, 8, 512, 64] = feature(kind="state")
r: fp16[1, 8, 512, 64] = read_state(input=k)
w: fp16[1, 8, 512, 64] = slice_update(x=r, update=u, begin={begin}, end={begin})
write_state(input=k, data=w)
y: fp16[1, 8, {rows}, 64] = relu(x=u)
output(y)
"""


def test_a_state_written_at_a_computed_position_takes_the_whole_function():
    assert placed(WRITE.format(rows=1, begin="b"), "M5 Pro")["expected"] == 0
    assert placed(WRITE.format(rows=1, begin="[0, 0, 0, 0]"), "M5 Pro") == {"expected": 4}


def test_a_computed_position_outside_a_state_takes_its_own_operation_only():
    text = "x: fp16[1, 8, 64]\nb: int32[3]\ny: fp16[1, 8, 8] = slice_by_size(x=x, begin=b, size=[1, 8, 8])\n"
    text += "z: fp16[1, 8, 64] = relu(x=x)"
    assert placed(text, "M5 Pro") == {"off": 1, "expected": 1}


def test_a_scatter_into_a_state_at_a_computed_position_takes_the_whole_function():
    text = """
opset = "iOS18"
u: fp16[1, 8, 1, 64]
i: int32[1]
k: fp16[1, 8, 512, 64] = feature(kind="state")
r: fp16[1, 8, 512, 64] = read_state(input=k)
w: fp16[1, 8, 512, 64] = scatter(data=r, indices=i, updates=u, axis=2)
write_state(input=k, data=w)
y: fp16[1, 8, 1, 64] = relu(x=u)
output(y)
"""
    assert placed(text, "M4")["expected"] == 0


@pytest.mark.parametrize(("rows", "risk"), [(32, 0), (33, 4), (256, 4), (512, 0)])
def test_a_long_write_into_a_part_of_a_state_is_a_risk_for_everything(rows, risk):
    # 512 rows are the whole state: replacing it is what works
    assert placed(WRITE.format(rows=rows, begin="[0, 0, 0, 0]"), "M4")["at-risk"] == risk


def heavy(layers: int) -> str:
    """Return a program of half a GiB of weights a layer."""
    lines = ["y0: fp16[1, 16384, 1, 32]"]
    for n in range(layers):
        lines.append(f"w{n}: fp16[16384, 16384, 1, 1] = const()")
        lines.append(f"y{n + 1}: fp16[1, 16384, 1, 32] = conv(x=y{n}, weight=w{n})")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("target", "placement"),
    [
        ("iPhone 16", "rejected"),
        ("iPhone 15", "at-risk"),
        ("iPad Pro (M4)", "rejected"),
        ("Mac mini (M4)", "expected"),
        ("MacBook Neo", "expected"),
        ("A18 Pro", "rejected"),
        ("M5 Max", "expected"),
        ("H16", "rejected"),
        ("all", "rejected"),
    ],
)
def test_the_weight_that_is_too_much_depends_on_the_class_of_device(target, placement):
    assert placed(heavy(3), target) == {placement: 3}


def test_two_gigabytes_are_too_much_for_a_mac_too_and_one_is_not_for_a_phone():
    assert placed(heavy(4), "Mac mini (M4)") == {"expected": 4}
    assert placed(heavy(5), "Mac mini (M4)") == {"rejected": 5}
    assert placed(heavy(2), "iPhone 16") == {"expected": 2}


def test_the_summary_says_that_the_function_is_refused_and_why():
    report = report_on(heavy(3), "iPhone 16")
    line = "the ANE is expected to refuse the whole function, 3 operations (C01)"
    assert summary_line(report).startswith(line)
    assert to_text(report).splitlines()[-1].startswith(line)
    assert line.replace("(", r"(") in to_markdown(report)


def test_the_strip_shows_what_is_refused_in_a_colour_of_its_own():
    text = STATE.format(width=100)
    image = Image.open(io.BytesIO(draw_strip(report_on(text, "M4")))).convert("RGB")
    row = {image.getpixel((x, 180)) for x in range(image.width)}
    assert row & set(COLOURS["rejected"]) and row & set(COLOURS["off"]) and not row & set(COLOURS["expected"])
    assert len({shade for shades in COLOURS.values() for shade in shades}) == 2 * len(COLOURS)
    for (
        shades
    ) in COLOURS.values():  # told apart in print: lightness differs between outcomes by more than a few per cent
        others = [other for other in COLOURS.values() if other != shades]
        assert all(abs(lightness(shades[0]) - lightness(other[0])) > 8 for other in others)


def lightness(colour: tuple[int, int, int]) -> float:
    """Luma of 8-bit RGB, ITU-R BT.601."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def test_the_legend_names_refusals_only_where_there_are_some():
    plain, refused = (draw_strip(report_on(STATE.format(width=w), "M4")) for w in (96, 100))
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in (plain, refused)]
    legends = [{image.getpixel((x, 109)) for x in range(image.width)} for image in images]
    assert COLOURS["rejected"][0] not in legends[0] and COLOURS["rejected"][0] in legends[1]

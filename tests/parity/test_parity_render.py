"""What each rendering of a parity report says, and that none of them can be broken by odd names or numbers."""

import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.parity.divergence import Divergence, OpError
from edgesam_export.parity.gates import Check, Gate
from edgesam_export.parity.ranges import RangeRow
from edgesam_export.parity.render import write_reports
from edgesam_export.parity.render.html import EXTRA, MISSING, difference
from edgesam_export.parity.render.html import render as to_html
from edgesam_export.parity.render.json import load_report
from edgesam_export.parity.render.json import render as to_json
from edgesam_export.parity.render.junit import render as to_junit
from edgesam_export.parity.render.markdown import render as to_markdown
from edgesam_export.parity.render.summary import gate_lines, measured, reason_of
from edgesam_export.parity.render.table import to_table
from edgesam_export.parity.report import ArtifactDigest, Explanation, MaskImage, ParityReport, ParityRow, Prompt

PSNR = Gate(output="image_embeddings", metric="psnr_db", numerics="fp16", minimum=40.0)
IOU = Gate(output="masks", metric="mask_iou", numerics="fp16", minimum=0.99)


def encoder_row(psnr_db, **changes):
    row = ParityRow(
        candidate="mil fp16",
        numerics="fp16",
        component="encoder",
        embeddings="",
        image="cat.jpg",
        prompt="",
        output="image_embeddings",
        shape=(1, 256, 64, 64),
        metrics={"psnr_db": psnr_db, "cosine": 1.0},
        checks=(Check(gate=PSNR, value=psnr_db),),
    )
    return replace(row, **changes)


def mask_row(iou, image="cat.jpg", **changes):
    row = encoder_row(
        0.0,
        component="decoder",
        embeddings="own",
        prompt="box",
        output="masks",
        image=image,
        shape=(1, 4, 256, 256),
        metrics={"mask_iou": iou},
        checks=(Check(gate=IOU, value=iou),),
    )
    return replace(row, **changes)


SUSPECT = OpError(operation="op_b", type="mul", index=7, error=math.inf, operand_error=0.001, module="neck.1")
DIVERGENCE = Divergence(
    operation="op_b",
    type="mul",
    index=7,
    location="main/op 7",
    module="neck.1",
    kind="overflow",
    error=math.inf,
    operand_error=0.001,
    peak=123456.0,
    numerics=("fp32", "fp16"),
    suspects=(SUSPECT,),
    component="encoder",
    candidate="mil fp16",
)


def mask_image(image="cat.jpg", runner="mil fp16"):
    reference = np.zeros((12, 16), bool)
    reference[2:8, 2:8] = True
    candidate = reference.copy()
    candidate[2, 2], candidate[10, 14] = False, True
    return MaskImage(
        runner=runner,
        image=image,
        prompt=Prompt(kind="box", points=((3.0, 4.0),), labels=(1,), box=(1.0, 1.0, 9.0, 9.0)),
        source=np.full((12, 16, 3), 128, np.uint8),
        reference=reference,
        candidate=candidate,
        iou=0.9459,
        passed=False,
    )


def report(*rows, **changes):
    made = ParityReport(
        model="edge_sam",
        tool_version="0.1.0",
        reference="torch",
        artifacts=(ArtifactDigest(file="a.mlpackage", format="coreml", component="encoder", sha256="ab" * 32),),
        rows=rows,
    )
    return replace(made, **changes)


def full_report():
    return report(
        encoder_row(31.5),
        mask_row(0.999),
        mask_row(0.98, image="coffee.jpg"),
        encoder_row(math.inf, image="noise"),
        encoder_row(math.nan, image="broken", problem="3 of 9 values are not finite"),
        skipped=("mil fp16: prompt mask: the decoder was exported without mask input",),
        divergences=(DIVERGENCE,),
        explanations=(Explanation(candidate="mil ane", component="decoder", text="rounding <alone>"),),
        ranges=(
            RangeRow(operation="sq", type="square", rule="N03", magnitude=300.0, limit=256.0, of="operand"),
            RangeRow(operation="far", type="relu", rule="FP16", magnitude=1.0, limit=65504.0, of="output"),
            RangeRow(operation="log", type="log", rule="FP16", magnitude=math.inf, limit=65504.0, of="output"),
        ),
        images=(mask_image(), mask_image(runner="mil ane")),
    )


def test_json_survives_the_way_there_and_back(tmp_path):
    written = full_report()
    (tmp_path / "parity.json").write_text(to_json(written))
    read = load_report(tmp_path / "parity.json")
    assert read.images == ()
    assert to_json(read) == to_json(written)
    assert (read.divergences, read.ranges, read.artifacts) == (written.divergences, written.ranges, written.artifacts)
    assert [row.passed for row in read.rows] == [False, True, False, True, False]
    assert math.isnan(read.rows[4].checks[0].value)


def test_json_is_sorted_has_no_bare_nan_and_says_what_would_have_passed():
    text = to_json(full_report())
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert text == json.dumps(data, indent=2, sort_keys=True) + "\n"
    assert data["passed"] is False and data["schema_version"] == 1
    checks = [row["checks"][0] for row in data["rows"]]
    assert [check["would_pass_at"] for check in checks] == [31.5, 0.999, 0.98, "inf", None]
    assert [check["passed"] for check in checks] == [False, True, False, True, False]
    assert "images" not in data


def test_reader_ignores_fields_it_does_not_know(tmp_path):
    data = json.loads(to_json(full_report()))
    for part in (
        data,
        data["rows"][0],
        data["rows"][0]["checks"][0]["gate"],
        data["divergences"][0],
        data["ranges"][0],
    ):
        part["from_the_future"] = [1]
    (tmp_path / "parity.json").write_text(json.dumps(data))
    assert len(load_report(tmp_path / "parity.json").rows) == 5


def test_reader_recomputes_the_verdict_instead_of_believing_it(tmp_path):
    data = json.loads(to_json(full_report()))
    data["passed"] = data["rows"][0]["passed"] = data["rows"][0]["checks"][0]["passed"] = True
    (tmp_path / "parity.json").write_text(json.dumps(data))
    assert not load_report(tmp_path / "parity.json").passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema_version=2), "schema version 2"),
        (lambda data: data.pop("schema_version"), "schema version None"),
        (lambda data: data.pop("rows"), "rows"),
        (lambda data: data["rows"][0].pop("candidate"), "candidate"),
        (lambda data: data["rows"][0].update(metrics=3), "not a parity report"),
        (lambda data: data["rows"][0]["checks"][0]["gate"].update(metric="beauty"), "no such metric"),
        (lambda data: data["rows"][0]["checks"][0].update(value="much"), "not a parity report"),
    ],
)
def test_reader_refuses_what_is_no_report(tmp_path, change, message):
    data = json.loads(to_json(full_report()))
    change(data)
    (tmp_path / "parity.json").write_text(json.dumps(data))
    with pytest.raises(SchemaError, match=message):
        load_report(tmp_path / "parity.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"'])
def test_reader_refuses_other_json_and_no_json(tmp_path, text):
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(SchemaError):
        load_report(tmp_path / "parity.json")
    with pytest.raises(SchemaError, match="cannot be read"):
        load_report(tmp_path / "gone.json")


def test_table_is_aligned_and_ends_with_the_worst_and_the_verdict():
    made = report(encoder_row(31.5), encoder_row(55.0, image="noise"), mask_row(0.999994), divergences=(DIVERGENCE,))
    assert to_table(made).splitlines() == [
        "candidate  component           output            metric    worst    gate      at           result",
        "mil fp16   decoder end to end  masks             mask_iou  0.99999  >= 0.99   cat.jpg box  ok",
        "mil fp16   encoder             image_embeddings  psnr_db   31.5 dB  >= 40 dB  cat.jpg      FAIL",
        "parity: 1 of 3 outputs out of tolerance; first divergence: op 7 'op_b' (mul from neck.1): overflows, "
        "largest value 1.235e+05 in fp32",
    ]


def test_table_of_a_passing_report_says_so():
    assert to_table(report(encoder_row(55.0))).splitlines()[-1] == "parity: all 1 outputs within their gates"


def test_table_names_problems_that_no_gate_shows():
    made = report(encoder_row(55.0), mask_row(0.999, checks=(), problem="missing"))
    assert "mil fp16: decoder on own embedding masks cat.jpg box: missing" in to_table(made)
    assert not made.passed


def test_why_a_component_fails_without_an_operation_to_blame_is_said_everywhere():
    made = full_report()
    assert "why: mil ane: decoder: rounding <alone>" in to_table(made).splitlines()
    assert "### Why" in to_markdown(made) and "mil ane: decoder: rounding &lt;alone&gt;" in to_markdown(made)
    assert "<b>No single operation</b> in mil ane, decoder</p><p>rounding &lt;alone&gt;" in to_html(made)
    assert "### Why" not in to_markdown(replace(made, explanations=()))
    failed = mask_row(0.98, candidate="mil ane")
    (case,) = ElementTree.fromstring(to_junit(replace(made, rows=(failed,)))).iter("failure")
    assert case.text.splitlines() == ["mask_iou 0.98", "rounding <alone>"]


def test_a_failed_mask_row_tells_how_sure_the_reference_was_where_signs_differ():
    row = mask_row(0.98, metrics={"mask_iou": 0.98, "sign_margin": 0.00512})
    assert reason_of(row) == "mask_iou 0.98000, gate >= 0.99; signs differ only below 0.51% of the rms logit"
    assert reason_of(encoder_row(31.5)) == "psnr_db 31.5 dB, gate >= 40 dB"


def test_worst_value_is_the_farthest_beyond_its_gate_and_nan_is_worse_than_any():
    rows = [encoder_row(60.0), encoder_row(45.0, image="second"), encoder_row(math.inf, image="third")]
    (line,) = gate_lines(report(*rows))
    assert (line.worst.value, line.row.image, line.count) == (45.0, "second", 3)
    (line,) = gate_lines(report(*rows, encoder_row(math.nan, image="fourth"), encoder_row(-math.inf, image="fifth")))
    assert line.row.image == "fourth"


def test_a_maximum_gate_counts_upwards():
    gate = Gate(output="scores", metric="best_mask_gap", numerics="fp16", maximum=0.001)
    rows = [mask_row(1.0, output="scores", checks=(Check(gate=gate, value=value),)) for value in (0.0, 0.5, 0.0005)]
    (line,) = gate_lines(report(*rows))
    assert line.worst.value == 0.5 and not line.passed


def test_a_value_just_below_its_gate_is_not_shown_as_the_gate():
    assert measured("mask_iou", 0.989999) == "0.98999"
    assert measured("sign_agreement", 0.9999999) == "0.99999"
    assert measured("psnr_db", math.inf) == "inf"


def test_junit_has_a_case_for_every_row_and_a_failure_for_every_failed_one():
    root = ElementTree.fromstring(to_junit(full_report()).split("\n", 1)[1])
    suite, skipped = root.findall("testsuite")
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase"))) == ("5", "3", 5)
    messages = [failure.get("message") for failure in suite.iter("failure")]
    assert messages[0] == "psnr_db 31.5 dB, gate >= 40 dB"
    assert messages[2] == "3 of 9 values are not finite"
    assert skipped.get("skipped") == "1" and skipped.find("testcase/skipped").get("message").startswith("mil fp16")


ODD = "a<b>|\"'&`]]>\x00\x1b\udcff\n*_.jpg"


def test_odd_file_names_break_no_rendering(tmp_path):
    made = report(
        encoder_row(31.5, image=ODD, candidate=ODD), skipped=(ODD,), images=(mask_image(image=ODD, runner=ODD),)
    )
    paths = write_reports(made, tmp_path)
    ElementTree.parse(paths["xml"])
    assert load_report(paths["json"]).rows[0].image == ODD
    lines = paths["md"].read_text().splitlines()
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("| ")]
    assert set(cells) == {9, 4, 5}
    assert "<b>|" not in paths["html"].read_text()


def test_markdown_shows_verdict_failures_ranges_and_files():
    text = to_markdown(full_report())
    assert text.startswith("## ❌ Parity of edge\\_sam\n")
    assert "psnr\\_db 31.5 dB, gate &gt;= 40 dB" in text
    assert "sq (square)" in text and "far (relu)" not in text
    assert "ab" * 32 in text
    assert to_markdown(report(encoder_row(55.0))).startswith("## ✅")


def test_html_stands_alone_and_holds_two_images_plus_two_for_each_candidate():
    page = to_html(full_report())
    assert page.count("<img ") == 2 + 2 * 2
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "prefers-color-scheme:dark" in page
    assert page.count("<table>") == page.count("</table>") and page.count("<div") == page.count("</div>")
    for word in ("failed", "31.5 dB", "op_b", "neck.1", "Not compared", "2 of 192 pixels differ"):
        assert word in page


WINDOW, MARGINS, CELL_PADDING, LETTER = 1000, 2 * 20 + 2, 2 * 12, 9.3
"""Pixels: a window, what lies outside its tables, padding of a cell, a wide letter at 15 px (0.62 em)."""


def least_width(page):
    """Width in pixels below which the first table of a page no longer fits: its longest unbreakable texts."""
    table = page.split("<table>")[1].split("</table>")[0]
    rows = [re.findall(r"<(t[hd])( class=n)?>(.*?)</\1>", line) for line in re.findall(r"<tr>(.*?)</tr>", table)]

    def cell(numeric, content):
        if content.startswith("<div class=at>"):
            return 9 * 15
        text = re.sub(r"<[^>]+>", "", content)
        pieces = [text] if numeric or "pill" in content else text.split()
        return max(map(len, pieces)) * LETTER + (20 if "pill" in content else 0)

    return sum(max(cell(row[n][1], row[n][2]) for row in rows) + CELL_PADDING for n in range(len(rows[0])))


def test_the_result_of_every_gate_is_visible_in_a_narrow_window():
    signs = Gate(output="masks", metric="sign_agreement", numerics="fp32", minimum=0.999)
    rows = [
        encoder_row(131.5, candidate="native cpu_and_gpu", image=f"IMG_20261101_{'x' * 60}.jpeg"),
        mask_row(0.99, candidate="onnxruntime fp32", checks=(Check(gate=signs, value=0.9991),), prompt="box+point"),
    ]
    page = to_html(report(*rows))
    assert least_width(page) <= WINDOW - MARGINS
    assert re.search(r"<thead><tr><th>result</th>", page), "the first column stays visible in any window"
    unbroken = re.findall(r"([^{}]+)\{[^{}]*white-space:nowrap", page)
    assert [selector.strip() for selector in unbroken] == [".pill", "td.n,th.n"]
    assert ".at,td code{overflow-wrap:anywhere}.at{min-width:9em}" in page


def test_html_of_a_passing_report_without_images_has_no_failure_sections():
    page = to_html(report(encoder_row(55.0)))
    assert ">passed<" in page and "Out of tolerance" not in page and "<img" not in page


def test_difference_marks_missing_and_extra_pixels_and_their_neighbours():
    shown = difference(mask_image())
    assert tuple(shown[2, 2]) == MISSING and tuple(shown[1, 1]) == MISSING and tuple(shown[3, 3]) == MISSING
    assert tuple(shown[10, 14]) == EXTRA and tuple(shown[11, 15]) == EXTRA
    assert tuple(shown[5, 5]) not in (MISSING, EXTRA)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    paths = write_reports(full_report(), tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths.values()) == ["parity.html", "parity.json", "parity.md", "parity.xml"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        p.name for p in paths.values()
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_reports(full_report(), tmp_path / "file")


def test_a_page_shows_the_prompts_that_differ_most_and_says_of_how_many():
    good = [replace(mask_image(f"good{n}.jpg"), iou=0.99 + n / 10000, passed=True) for n in range(60)]
    bad = replace(mask_image("bad.jpg"), iou=0.999)
    page = to_html(report(images=(*good, bad)))
    assert "The 40 prompts that differ most, of 61." in page
    assert page.count("class='card prompt'") == 40
    assert "bad.jpg" in page and "good38.jpg" in page and "good39.jpg" not in page
    assert "differ most" not in to_html(report(images=tuple(good[:40])))

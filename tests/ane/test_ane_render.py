"""Renderers on a fixed report; SARIF against the properties that its specification requires."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from urllib.parse import unquote

import pytest
from PIL import Image

from edgesam_export.ane import render as formats
from edgesam_export.ane.baseline import load_baseline, new_findings
from edgesam_export.ane.render import write_ane_reports
from edgesam_export.ane.render.json import render as to_json
from edgesam_export.ane.render.markdown import render as to_markdown
from edgesam_export.ane.render.sarif import render as to_sarif
from edgesam_export.ane.render.strip import COLOURS
from edgesam_export.ane.render.strip import render as draw_strip
from edgesam_export.ane.render.text import render as to_text
from edgesam_export.ane.report import AneReport, CostEstimate, Finding, OpCost, OpPlacement, Segment, Totals
from edgesam_export.errors import SchemaError, UsageError

KINDS = ("conv", "gelu", "gather", "matmul")


def finding(**changes) -> Finding:
    given = {
        "rule": "A10",
        "name": "gather-on-activations",
        "severity": "error",
        "evidence": "measured",
        "message": "gather of 4096 rows | leaves the ANE; use slices",
        "operation": "var_12_cast_fp16",
        "op_type": "gather",
        "location": "main/op 12",
        "module": "mask_decoder.transformer.layers.0",
        "families": ("H13", "H14"),
        "source": "a study",
    }
    return Finding(**(given | changes))


WARNING = finding(
    rule="A24", name="last-axis", severity="warning", message="last axis 7", families=("H13",), module=None
)
NOTE = finding(rule="A32", name="working-set", severity="info", message="3 MB", operation=None, op_type=None)
NOTE = replace(NOTE, location=None, module=None)


def report(**changes) -> AneReport:
    sides = ("expected", "expected", "off", "at-risk")
    placements = tuple(
        OpPlacement(
            operation=f"v{i}", op_type=kind, location=f"main/op {i}", placement=side, rules=("A10",) if i > 1 else ()
        )
        for i, (kind, side) in enumerate(zip(KINDS, sides))
    )
    rows = tuple(
        OpCost(operation=f"v{i}", op_type=kind, time_us=time, bound="memory")
        for i, (kind, time) in enumerate(zip(KINDS, (700.0, 0.0, 0.5, 200.0)))
    )
    cost = CostEstimate(
        family="H13", time_ms=1.2005, compute_ms=0.5, memory_ms=0.4005, dispatch_ms=0.3, transfer_ms=0.0,
        operations=rows, calibration="median ratio 0.99 on 23 figures, 22 of them on H13",
    )  # fmt: skip
    given = {
        "file": "my net.mlpackage",
        "function": "main",
        "opset": "iOS17",
        "artifact_sha256": "ab" * 32,
        "tool_version": "0.1.0",
        "target": "all",
        "families": ("H13", "H14"),
        "findings": (finding(), WARNING, NOTE),
        "placements": placements,
        "segments": (
            Segment(on_ane=True, first="v0", last="v1", operations=2, bytes_in=1_000_000, bytes_out=2048),
            Segment(on_ane=False, first="v2", last="v2", operations=1, bytes_in=2048, bytes_out=16),
            Segment(on_ane=True, first="v3", last="v3", operations=1, bytes_in=16, bytes_out=8),
        ),
        "totals": Totals(
            operations=4, layout_operations=1, multiply_adds=20_100_000_000, parameters=5_490_000,
            weight_bytes=2_745_000, activation_bytes=1000, padded_activation_bytes=1250, compressed_share=0.5,
        ),
        "costs": (cost, replace(cost, family="H14", time_ms=1.0, calibration=cost.calibration.replace("H13", "H14"))),
    }  # fmt: skip
    return AneReport(**(given | changes))


CLEAN = report(
    findings=(),
    placements=tuple(replace(p, placement="expected", rules=()) for p in report().placements),
    segments=(report().segments[0],),
)


# ---------------------------------------------------------------------------------------------------------------- JSON
def test_json_has_every_field_and_the_counts():
    document = json.loads(to_json(report()))
    assert document["counts"] == {"error": 1, "warning": 1, "info": 1} and document["worst"] == "error"
    assert document["placement_counts"] == {"expected": 2, "at-risk": 1, "off": 1, "rejected": 0}
    assert document["findings"][0]["families"] == ["H13", "H14"]
    assert document["costs"][0]["operations"][3] == {
        "bound": "memory", "op_type": "matmul", "operation": "v3", "time_us": 200.0
    }  # fmt: skip
    assert set(AneReport.__dataclass_fields__) <= set(document)


def test_json_refuses_numbers_that_json_does_not_have():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(report(costs=(replace(report().costs[0], time_ms=float("nan")),)))


# ------------------------------------------------------------------------------------------------------------ terminal
def test_the_worst_findings_and_the_summary_come_last():
    lines = to_text(report()).splitlines()
    heads = [line for line in lines if re.match(r"(info|warning|error) A", line)]
    assert [line.split()[:2] for line in heads] == [["info", "A32"], ["warning", "A24"], ["error", "A10"]]
    assert lines[-1] == "1 of 4 operations expected off the ANE, 1 at risk; 3 segments; 1 error, 1 warning, 1 note"


def test_a_clean_report_says_no_known_blocker_and_never_that_it_runs():
    for text in (to_text(CLEAN), to_markdown(CLEAN), to_json(CLEAN)):
        assert "runs on the ANE" not in text
    last = to_text(CLEAN).splitlines()[-1]
    assert last == "no known blocker for H13 H14; 1 segment; 0 errors, 0 warnings, 0 notes"


def test_a_page_shows_totals_segments_and_costs_with_their_error():
    text = to_text(report())
    assert "parameters       5.49 M in 2.75 MB, 50% compressed" in text
    assert "last-axis padding adds 25.0%" in text
    assert re.search(r"^ +2  off +1 +2.05 kB +16 B  v2 .. v2$", text, re.MULTILINE)
    assert re.search(r"^H13 +1.20 +0.50 +0.40 +0.30 +0.00$", text, re.MULTILINE)
    assert "  H13 H14: median ratio 0.99 on 23 figures, 22 of them on this family" in text
    assert text.index("700 us  conv") < text.index("200 us  matmul")


def test_a_finding_that_does_not_hold_everywhere_names_its_families():
    lines = to_text(report()).splitlines()
    assert next(line for line in lines if "last axis 7" in line).endswith("last axis 7 (H13)")
    assert next(line for line in lines if "4096 rows" in line).endswith("[mask_decoder.transformer.layers.0]")


def test_many_findings_of_one_rule_are_cut_and_counted():
    text = to_text(report(findings=(finding(),) * 9))
    assert text.count("4096 rows") == 6 and "and 3 more" in text and "9 findings" in text


def test_an_empty_program_can_be_written():
    empty = report(findings=(), placements=(), segments=(), costs=())
    assert to_text(empty).splitlines()[-1].startswith("no operations")
    with pytest.raises(UsageError, match="no operations to draw"):
        draw_strip(empty)


def test_markdown_keeps_its_tables_whole():
    text = to_markdown(report())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert text.startswith("## ANE report: `my net.mlpackage`")
    assert "gather of 4096 rows \\| leaves the ANE; use slices" in text and "](my%20net_ane.png)" in text
    for line in table:
        assert len(re.findall(r"(?<!\\)\|", line)) in (7, 6), line
    first = [line.split("|")[1].strip() for line in table]
    assert [cell for cell in first if cell in ("info", "warning", "error")] == ["info", "warning", "error"]


# --------------------------------------------------------------------------------------------------------------- SARIF
def test_sarif_has_what_the_specification_requires():
    log = json.loads(to_sarif(report()))
    assert log["version"] == "2.1.0"  # 3.13.2
    (run,) = log["runs"]  # 3.13.4
    rules = run["tool"]["driver"]["rules"]  # 3.14.6, 3.18.2
    assert run["tool"]["driver"]["name"] == "edgesam-export"  # 3.19.8
    assert len({rule["id"] for rule in rules}) == len(rules) == 3  # 3.19.23: each once
    for rule in rules:
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")  # 3.50.3
        assert all(rule[key]["text"].strip() for key in ("shortDescription", "fullDescription", "help"))  # 3.12.3
    assert len(run["results"]) == 3
    for result in run["results"]:
        assert result["message"]["text"]  # 3.11.7
        assert result["level"] in ("note", "warning", "error") and result["kind"] == "fail"  # 3.27.9, 3.27.10
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.6
        (location,) = result["locations"]
        address = location["physicalLocation"]["artifactLocation"]  # 3.29.2
        assert address["uri"] == run["artifacts"][address["index"]]["location"]["uri"] == "my%20net.mlpackage"  # 3.4.3
        assert all(isinstance(value, str) and value for value in result["partialFingerprints"].values())


def test_sarif_names_operation_and_module():
    results = json.loads(to_sarif(report()))["runs"][0]["results"]
    by_rule = {result["ruleId"]: result["locations"][0].get("logicalLocations") for result in results}
    assert by_rule["A10"] == [
        {"name": "var_12_cast_fp16", "fullyQualifiedName": "main/op 12/var_12_cast_fp16", "kind": "member"},
        {"name": "0", "fullyQualifiedName": "mask_decoder.transformer.layers.0", "kind": "module"},
    ]
    assert len(by_rule["A24"]) == 1 and by_rule["A32"] is None


def test_sarif_explains_registered_rules():
    from edgesam_export.ane.rules import all_rules, explain

    known = all_rules()[0]
    driver = json.loads(to_sarif(report(findings=(finding(rule=known.id, name=known.name),))))["runs"][0]["tool"][
        "driver"
    ]
    (rule,) = driver["rules"]
    assert rule["help"]["text"] == explain(known.id)
    assert rule["shortDescription"]["text"] and "\n" not in rule["shortDescription"]["text"]


def prints(*findings: Finding) -> list[str]:
    results = json.loads(to_sarif(report(findings=findings)))["runs"][0]["results"]
    return [result["partialFingerprints"]["aneFinding/v1"] for result in results]


def test_fingerprints_survive_renumbering_and_tell_findings_apart():
    renumbered = finding(
        operation="var_977_cast_fp16", location="main/op 977", message=finding().message.replace("4096", "81")
    )
    assert prints(finding()) == prints(renumbered)
    apart = [
        finding(), finding(rule="A11"), finding(operation="other"), finding(message="words"), finding(module="neck"),
    ]  # fmt: skip
    assert len(set(prints(*apart))) == len(apart)
    assert len(set(prints(finding(), renumbered))) == 2
    assert prints(finding(severity="warning")) == prints(finding())


def test_sarif_reports_of_one_folder_have_categories_of_their_own():
    # GitHub refuses an upload in which two runs of a tool have the same category: github.blog, 2025-07-21
    variants = [report(), report(file="other.mlpackage"), report(function="prefill"), report(target="A15")]
    ids = [json.loads(to_sarif(variant))["runs"][0]["automationDetails"]["id"] for variant in variants]
    assert len(set(ids)) == len(ids)
    assert all(identity.endswith("/") for identity in ids)  # else the last part is a run's number, not its category
    assert json.loads(to_sarif(report(tool_version="9")))["runs"][0]["automationDetails"]["id"] == ids[0]


def test_sarif_says_what_is_new():
    results = json.loads(to_sarif(report(), baseline=(WARNING, NOTE)))["runs"][0]["results"]
    assert {result["ruleId"]: result["baselineState"] for result in results} == {
        "A10": "new", "A24": "unchanged", "A32": "unchanged"
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ baseline
def test_a_report_read_as_baseline_has_nothing_new(tmp_path):
    (tmp_path / "base.json").write_text(to_json(report()))
    baseline = load_baseline(tmp_path / "base.json")
    assert baseline == report().findings
    assert new_findings(report(), baseline) == ()


def test_renumbered_findings_are_not_new():
    moved = finding(operation="var_40_cast_fp16", location="main/op 40", message=finding().message.replace("4096", "7"))
    assert new_findings(report(findings=(moved,)), (finding(),)) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "A11"},
        {"operation": "mask_cast_fp16"},
        {"message": "scatter leaves the ANE"},
        {"module": "mask_decoder.transformer.layers.1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_rule_operation_or_message_is_new(change):
    changed = finding(**change)
    assert new_findings(report(findings=(finding(), changed)), (finding(),)) == (changed,)


def test_one_more_of_the_same_is_new():
    twice = (finding(), finding(operation="var_13_cast_fp16"))
    assert new_findings(report(findings=twice), (finding(),)) == (twice[1],)


def test_a_finding_that_became_graver_is_new():
    assert new_findings(report(findings=(finding(),)), (finding(severity="warning"),)) == (finding(),)


def test_modules_count_only_when_both_sides_recorded_them():
    assert new_findings(report(findings=(finding(module=None),)), (finding(),)) == ()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", UsageError, "is not JSON"),
        ("[]", SchemaError, "no ANE report"),
        ('{"findings": [], "schema_version": 2}', SchemaError, "schema version 2"),
        ('{"findings": [{"rule": "A1"}], "schema_version": 1}', SchemaError, "cannot be read"),
        ('{"findings": [3], "schema_version": 1}', SchemaError, "cannot be read"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path, content, error, message):
    path = tmp_path / "base.json"
    path.write_text(content)
    with pytest.raises(error, match=message) as caught:
        load_baseline(path)
    assert "\n" not in str(caught.value)


def test_a_baseline_with_fields_of_a_later_tool_is_read(tmp_path):
    document = json.loads(to_json(report()))
    document["later"] = document["findings"][0]["later"] = 1
    (tmp_path / "base.json").write_text(json.dumps(document))
    assert len(load_baseline(tmp_path / "base.json")) == 3


# --------------------------------------------------------------------------------------------------------------- strip
def strip_row(drawn: AneReport, family: str | None = None) -> list[str]:
    """Placement by colour of each pixel on a line through the strip, above its labels."""
    image = Image.open(io.BytesIO(draw_strip(drawn, family=family))).convert("RGB")
    meaning = {shade: name for name, shades in COLOURS.items() for shade in shades}
    return [meaning.get(image.getpixel((x, 180)), "") for x in range(image.width)]


def test_the_strip_shows_placements_in_order_and_costs_as_widths():
    row = strip_row(report())
    runs = [name for name, before in zip(row, ["", *row]) if name and name != before]
    assert runs == ["expected", "off", "at-risk"]
    assert 3 <= row.count("off") <= 4  # 0.5 of 900 us would be one pixel: kept visible
    assert row.count("expected") / row.count("at-risk") == pytest.approx(3.5, rel=0.02)
    assert row.count("expected") + row.count("off") + row.count("at-risk") == pytest.approx(1520, abs=4)


def test_without_an_estimate_operations_are_equally_wide():
    row = strip_row(report(costs=()))
    assert row.count("expected") == pytest.approx(760, abs=3) and row.count("off") == pytest.approx(380, abs=3)


def test_the_strip_can_be_drawn_for_a_family_that_was_estimated():
    assert draw_strip(report(), family="H14") != draw_strip(report(), family="H13") == draw_strip(report())
    with pytest.raises(UsageError, match="no estimate for family 'H18'; it has: H13, H14"):
        draw_strip(report(), family="H18")


# --------------------------------------------------------------------------------------------------------------- files
def test_all_reports_are_written_beside_each_other(tmp_path):
    paths = write_ane_reports(report(), tmp_path / "out")
    assert [path.name for path in paths] == [f"my net_ane.{end}" for end in ("json", "md", "sarif", "png", "txt")]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    assert paths[0].read_text() == to_json(report()) and paths[3].read_bytes() == draw_strip(report())


def test_the_image_of_the_markdown_report_is_written_beside_it(tmp_path):
    paths = {path.suffix: path for path in write_ane_reports(report(), tmp_path)}
    (link,) = re.findall(r"!\[.*?\]\((.*?)\)", paths[".md"].read_text())
    assert tmp_path / unquote(link) == paths[".png"]


def test_a_format_is_a_file_dropped_into_the_room(tmp_path, monkeypatch):
    (tmp_path / "operations.py").write_text(
        "SUFFIX = '.count'\ndef render(report): return str(report.totals.operations)\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    paths = {path.name: path for path in write_ane_reports(report(), tmp_path / "out")}
    del sys.modules["edgesam_export.ane.render.operations"]
    assert len(paths) == 6 and paths["my net_ane.count"].read_text() == "4"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to output folder"):
        write_ane_reports(report(), tmp_path / "file")

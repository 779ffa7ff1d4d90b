"""``analyze`` and ``explain`` on the command line: what is printed, which files stand there afterwards, exit codes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.export.quiet import quiet

SUFFIXES = ("json", "md", "png", "sarif", "txt")


def save(program, path: Path) -> Path:
    import coremltools as ct

    options = {"minimum_deployment_target": ct.target.iOS17, "compute_precision": ct.precision.FLOAT32}
    with quiet():  # coremltools leaves a temporary folder to the garbage collector, which Python warns about
        ct.convert(program, convert_to="mlprogram", **options).save(str(path))
    return path


def convolution(*, sums: int = 0, linear: bool = False):
    """conv and relu on (1, 3, 32, 32) FP16; then running sums, or a linear layer on the last axis."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    kernel = np.random.default_rng(0).standard_normal((64, 3, 3, 3)).astype(np.float16)
    inputs = [mb.TensorSpec((1, 3, 32, 32), dtype=types.fp16)]

    @mb.program(input_specs=inputs, opset_version=ct.target.iOS17)
    def program(x):
        y = mb.relu(x=mb.conv(x=x, weight=kernel, pad_type="same", name="features"), name="active")
        if linear:
            y = mb.linear(x=y, weight=np.ones((32, 32), dtype=np.float16), name="out")
        for number in range(sums):
            y = mb.cumsum(x=y, axis=-1, name=f"sum_{number}")
        return y

    return program


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return save(convolution(), tmp_path_factory.mktemp("clean") / "net.mlpackage")


@pytest.fixture(scope="module")
def blocked(tmp_path_factory) -> Path:
    """The same file name with one operation that has no path on the ANE."""
    return save(convolution(sums=1), tmp_path_factory.mktemp("blocked") / "net.mlpackage")


@pytest.fixture(scope="module")
def worse(tmp_path_factory) -> Path:
    return save(convolution(sums=2), tmp_path_factory.mktemp("worse") / "net.mlpackage")


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Path:
    """A package with warnings and no error."""
    return save(convolution(linear=True), tmp_path_factory.mktemp("slow") / "net.mlpackage")


def errors(document: dict) -> list[tuple[str, str]]:
    return [(f["rule"], f["operation"]) for f in document["findings"] if f["severity"] == "error"]


def plan_file(path: Path, *, preferred: dict[str, str], **changes) -> Path:
    """Write a plan of the blocked package: conv and relu on the ANE unless ``preferred`` says otherwise."""
    kinds = {"features": "ios17.conv", "active": "ios17.relu", "sum_0": "ios17.cumsum"}
    rows = [
        {"name": name, "type": kind, "preferred": preferred.get(name, "ane"), "supported": ["cpu"], "cost": 0.25}
        for name, kind in kinds.items()
    ]
    document = {
        "kind": "compute_plan", "schema_version": 1, "model": {"file": "net.mlpackage", "function": "main"},
        "compute_units": "all", "device": {"chip": "A15", "marketing_name": "iPhone 14"}, "operations": rows,
    }  # fmt: skip
    path.write_text(json.dumps(document | changes))
    return path


# -------------------------------------------------------------------------------------------------------------- output
def test_the_report_goes_to_stdout_and_the_file_names_to_stderr(command, clean, tmp_path):
    code, out, err = command("analyze", clean, "--output", tmp_path)
    assert code == 0 and out.startswith("net.mlpackage, function main")
    assert out.splitlines()[-1].startswith("no known blocker for H13 H14 H15 H16 H17 H18")
    assert "runs on the ANE" not in out
    for suffix in SUFFIXES:
        assert f"{tmp_path}/net_ane.{suffix}" in err


def test_every_report_file_is_complete(command, blocked, tmp_path):
    command("analyze", blocked, "--output", tmp_path, "--quiet")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"net_ane.{suffix}" for suffix in SUFFIXES]
    document = json.loads((tmp_path / "net_ane.json").read_text())
    assert ("A09", "sum_0") in errors(document)
    sarif = json.loads((tmp_path / "net_ane.sarif").read_text())
    assert sarif["version"] == "2.1.0"
    assert len(sarif["runs"][0]["results"]) == len(document["findings"])
    Image.open(io.BytesIO((tmp_path / "net_ane.png").read_bytes())).load()
    markdown = (tmp_path / "net_ane.md").read_text()
    assert markdown.startswith("## ANE report: `net.mlpackage`") and "A09" in markdown and markdown.endswith("\n")
    assert "net_ane.png" in markdown


def test_the_terminal_page_is_the_text_file(command, blocked, tmp_path):
    _, out, _ = command("analyze", blocked, "--output", tmp_path)
    assert out == (tmp_path / "net_ane.txt").read_text()


def test_json_is_the_report_file_verbatim(command, blocked, tmp_path):
    code, out, err = command("analyze", blocked, "--output", tmp_path, "--json", "--quiet")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "net_ane.json").read_text()
    assert json.loads(out)["placement_counts"]["off"] == 1


def test_two_runs_over_one_folder_leave_the_same_files(command, blocked, tmp_path):
    first = command("analyze", blocked, "--output", tmp_path, "--json", "--quiet")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert command("analyze", blocked, "--output", tmp_path, "--json", "--quiet") == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("name", "families"), [("iphone 14", ["H14"]), ("A17 Pro", ["H16"]), ("h13", ["H13"])])
def test_the_target_is_a_device_a_chip_or_a_family(command, clean, tmp_path, name, families):
    _, out, _ = command("analyze", clean, "--output", tmp_path, "--target", name, "--json", "--quiet")
    assert json.loads(out)["families"] == families
    assert [cost["family"] for cost in json.loads(out)["costs"]] == families


def test_a_missing_weight_file_is_analysed_all_the_same(command, blocked, tmp_path):
    bare = tmp_path / "net.mlpackage"
    shutil.copytree(blocked, bare)
    removed = list(bare.rglob("*.bin"))
    assert removed
    for path in removed:
        path.unlink()
    code, out, _ = command("analyze", bare, "--output", tmp_path / "out", "--json", "--quiet")
    assert code == 0 and ("A09", "sum_0") in errors(json.loads(out))


def test_ranges_bring_findings_that_the_graph_alone_cannot_give(command, clean, tmp_path):
    ranges = tmp_path / "parity.json"
    ranges.write_text(json.dumps({"ranges": [{"operation": "features", "magnitude": 40000.0}]}))
    output = ("--output", tmp_path, "--json", "--quiet")
    plain, known = (json.loads(command("analyze", clean, *output, *extra)[1]) for extra in ((), ("--ranges", ranges)))
    assert "N04" not in {f["rule"] for f in plain["findings"]}
    assert ("N04", "features") in {(f["rule"], f["operation"]) for f in known["findings"]}


# ---------------------------------------------------------------------------------------------------------------- gate
def test_the_gate_looks_at_its_level_and_above(command, clean, blocked, tmp_path):
    def code(package, level):
        return command("analyze", package, "--output", tmp_path, "--fail-on", level)[0]

    assert (code(blocked, "error"), code(blocked, "warning")) == (1, 1)
    assert (code(clean, "error"), command("analyze", blocked, "--output", tmp_path)[0]) == (0, 0)


def test_a_warning_fails_the_gate_for_warnings_only(command, slow, tmp_path):
    document = json.loads(command("analyze", slow, "--output", tmp_path, "--json", "--quiet")[1])
    assert document["worst"] == "warning" and {f["rule"] for f in document["findings"]} >= {"A27"}
    assert command("analyze", slow, "--output", tmp_path, "--fail-on", "error")[0] == 0
    code, _, err = command("analyze", slow, "--output", tmp_path, "--fail-on", "warning")
    assert code == 1
    assert err.splitlines()[-1] == f"analyze: {document['counts']['warning']} findings at or above warning"


def test_with_a_baseline_only_new_findings_fail(command, blocked, worse, tmp_path):
    command("analyze", blocked, "--output", tmp_path / "old", "--quiet")
    gate = ("--fail-on", "error", "--baseline", tmp_path / "old" / "net_ane.json", "--output", tmp_path / "new")
    assert command("analyze", blocked, *gate)[0] == 0
    code, out, err = command("analyze", worse, *gate)
    assert code == 1 and "A09" in out
    assert err.splitlines()[-1].startswith("analyze: 1 new findings at or above error")


def test_a_baseline_that_is_overwritten_by_the_run_still_counts(command, blocked, worse, tmp_path):
    command("analyze", blocked, "--output", tmp_path, "--quiet")
    baseline = tmp_path / "net_ane.json"
    assert command("analyze", worse, "--output", tmp_path, "--fail-on", "error", "--baseline", baseline)[0] == 1


# -------------------------------------------------------------------------------------------------------- compute plan
def test_a_stored_plan_is_compared_after_the_report(command, blocked, tmp_path):
    plan = plan_file(tmp_path / "plan.json", preferred={"active": "cpu", "sum_0": "cpu"})
    code, out, err = command("analyze", blocked, "--output", tmp_path / "out", "--compute-plan", plan)
    lines = out.splitlines()
    assert code == 0 and lines[0].endswith("for A15 (H14)")
    assert lines[-1] == (
        "plan agrees on 2 of 3 decided operations; 0 false alarms, 1 misses; 33% of the plan's cost on the ANE"
    )
    assert any(line.split() == ["A09", "off", "1", "0", "0", "0"] for line in lines)
    stored = json.loads((tmp_path / "out" / "net_ane_plan.json").read_text())
    assert stored["misses"] == ["active"] and "net_ane_plan.json" in err


def test_json_holds_report_and_comparison_in_one_document(command, blocked, tmp_path):
    plan = plan_file(tmp_path / "plan.json", preferred={"sum_0": "cpu"})
    given = ("--output", tmp_path / "out", "--compute-plan", plan, "--json", "--quiet", "--target", "H16")
    document = json.loads(command("analyze", blocked, *given)[1])
    assert document["families"] == ["H16"], "a target that was asked for stays"
    assert document["plan_comparison"] == json.loads((tmp_path / "out" / "net_ane_plan.json").read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"compute_units": "cpu_only"}, "without the ANE"),
        ({"operations": [{"name": "other", "type": "conv"}]}, "has none of the 3 operations"),
        ({"kind": "ane_report"}, "is no compute plan"),
    ],
)
def test_a_plan_that_cannot_be_used_is_one_line_and_leaves_nothing(command, blocked, tmp_path, changes, message):
    plan = plan_file(tmp_path / "plan.json", preferred={}, **changes)
    code, out, err = command("analyze", blocked, "--output", tmp_path / "out", "--compute-plan", plan)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_native_plan_needs_a_mac(command, clean, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    code, out, err = command("analyze", clean, "--output", tmp_path, "--native-plan")
    assert (code, out) == (3, "")
    assert err.startswith("edgesam-export analyze: cannot ask Core ML for its plan here") and err.count("\n") == 1


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--target", "iPhone 3G", "unknown target 'iPhone 3G'; choose one of: all, "),
        ("--function", "decode", "decode"),
        ("--ranges", "none.json", "none.json"),
        ("--baseline", "none.json", "none.json"),
        ("--compute-plan", "none.json", "none.json"),
        ("--records", "no folder", "no folder"),
        ("--fail-on", "info", "info"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(command, clean, tmp_path, option, value, message):
    code, out, err = command("analyze", clean, "--output", tmp_path / "out", option, value)
    assert (code, out) == (2, "") and message in err
    assert err.startswith("edgesam-export analyze: ") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_one_line_and_exit_code_2(command, tmp_path):
    code, out, err = command("analyze", tmp_path / "gone.mlpackage", "--output", tmp_path / "out")
    assert (code, out) == (2, "") and "gone.mlpackage" in err and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(command, clean, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("analyze", clean, "--output", tmp_path / "file" / "out")
    assert code == 2 and "cannot write to output folder" in err and err.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------- explain
def test_explain_prints_the_rule_under_its_headings(command):
    code, out, err = command("explain", "a09")
    assert (code, err) == (0, "") and out.startswith("A09 ")
    for heading in ("What it does", "Why it matters", "Example", "Write instead", "References"):
        assert f"\n{heading}\n" in out


def test_explain_of_an_unknown_rule_lists_the_known_ones(command):
    code, out, err = command("explain", "Z1")
    assert (code, out) == (2, "") and "unknown rule 'Z1'; choose one of: A01, A02" in err and err.count("\n") == 1

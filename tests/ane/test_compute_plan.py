"""Plans read from hostile documents, and their comparison with a report: every count by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesam_export.ane import compute_plan
from edgesam_export.ane.compute_plan import Actual, obtain_plan, parse_plan, read_plan, target_of
from edgesam_export.ane.inspection import Inspection
from edgesam_export.ane.plan_comparison import PlanComparison, RuleScore, compare_plan
from edgesam_export.ane.render.plan import to_document, to_text, write_comparison
from edgesam_export.ane.report import AneReport, OpPlacement, Totals
from edgesam_export.errors import RunnerUnavailableError, SchemaError, UsageError
from edgesam_export.files import json_text
from edgesam_export.runners.coreml import dump_compute_plan
from edgesam_export.spec import COMPUTE_UNITS

GOLDEN = Path(__file__).parents[1] / "goldens" / "compute_plan_v1.json"
PLACED = (
    ("stem", "conv", "expected", ()),
    ("act", "gelu", "expected", ()),
    ("odd", "erf", "expected", ()),
    ("picked", "gather", "off", ("A10",)),
    ("taken", "gather", "off", ("A10",)),
    ("moved", "reshape", "at-risk", ("A22", "A25")),
    ("last", "softmax", "expected", ()),
    ("only_in_report", "add", "expected", ()),
)


def document() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def changed(path: str, value) -> dict:
    """Return the stored document with one field replaced: ``operations.2.cost``."""
    result = document()
    *way, last = path.split(".")
    parent = result
    for key in way:
        parent = parent[int(key)] if isinstance(parent, list) else parent[key]
    parent[int(last) if isinstance(parent, list) else last] = value
    return result


def report(**changes) -> AneReport:
    placements = tuple(
        OpPlacement(operation=name, op_type=kind, location=f"main/op {n}", placement=side, rules=rules)
        for n, (name, kind, side, rules) in enumerate(PLACED)
    )
    totals = Totals(
        operations=8, layout_operations=1, multiply_adds=1, parameters=1, weight_bytes=2, activation_bytes=2,
        padded_activation_bytes=64, compressed_share=0.0,
    )  # fmt: skip
    given = {
        "file": "net.mlpackage", "function": "main", "opset": "iOS17", "artifact_sha256": "ab" * 32,
        "tool_version": "0.1.0", "target": "A15", "families": ("H14",), "findings": (), "placements": placements,
        "segments": (), "totals": totals, "costs": (),
    }  # fmt: skip
    return AneReport(**(given | changes))


def comparison(**changes):
    return compare_plan(report(**changes), read_plan(GOLDEN))


# ------------------------------------------------------------------------------------------------------------- reading
def test_a_stored_plan_of_the_first_version_is_read():
    plan = read_plan(GOLDEN)
    assert (plan.file, plan.function, plan.artifact_sha256, plan.compute_units) == (
        "net.mlpackage",
        "main",
        None,
        "all",
    )
    assert str(plan.device) == "iPhone 14 (A15), OS 17.4.1 [21E236]"
    assert [(o.name, o.op_type) for o in plan.operations[:2]] == [("stem", "conv"), ("act", "gelu")]
    assert (plan.operations[2].preferred, plan.operations[2].supported, plan.operations[2].cost) == (
        "cpu", ("cpu", "gpu"), 0.125,
    )  # fmt: skip


def test_constants_of_a_plan_are_left_out():
    assert {"weight", "unpacked"}.isdisjoint(operation.name for operation in read_plan(GOLDEN).operations)


def test_what_the_plan_says_about_the_ane_has_four_answers():
    actual = {operation.name: operation.actual for operation in read_plan(GOLDEN).operations}
    assert [actual[name] for name in ("stem", "act", "odd", "last")] == ["ane", "capable", "off", "unknown"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "ane_report"),
        ("schema_version", 2),
        ("schema_version", True),
        ("schema_version", "1"),
        ("schema_version", 0),
        ("model", None),
        ("model", []),
        ("model.file", ""),
        ("model.file", 7),
        ("model.file", "x" * 513),
        ("model.function", None),
        ("model.artifact_sha256", 12),
        ("compute_units", "ALL"),
        ("compute_units", ["all"]),
        ("device", "iPhone"),
        ("device", []),
        ("device.chip", {}),
        ("device.marketing_name", "iPhone\x1b[2J"),
        ("operations", None),
        ("operations", {}),
        ("operations", "conv"),
        ("operations.2", None),
        ("operations.2.name", None),
        ("operations.2.name", "a\nb"),
        ("operations.2.type", 3),
        ("operations.2.preferred", "npu"),
        ("operations.2.preferred", {}),
        ("operations.2.supported", "ane"),
        ("operations.2.supported", False),
        ("operations.2.supported", ["ane"] * 4),
        ("operations.2.supported", [["ane"]]),
        ("operations.2.cost", True),
        ("operations.2.cost", "0.5"),
        ("operations.2.cost", -0.1),
        ("operations.2.cost", 1.5),
        ("operations.2.cost", float("nan")),
        ("operations.2.cost", 10**400),
    ],
)
def test_a_bad_field_is_named_in_one_line(field, value):
    with pytest.raises(SchemaError) as error:
        parse_plan(changed(field, value), where="'plan.json'")
    message = str(error.value)
    assert "plan.json" in message and "\n" not in message and "\x1b" not in message and len(message) < 250
    assert field.rpartition(".")[2].replace("_", " ").split()[-1] in message or field == "operations.2"


def test_a_missing_device_and_missing_optional_fields_are_no_error():
    bare = {key: value for key, value in document().items() if key != "device"}
    bare["operations"] = [{"name": "a", "type": "conv"}]
    plan = parse_plan(bare)
    assert (plan.operations[0].actual, plan.operations[0].cost, str(plan.device)) == ("unknown", None, "unnamed device")


def test_too_many_operations_are_refused(monkeypatch):
    monkeypatch.setattr(compute_plan, "MAX_OPERATIONS", 9)
    with pytest.raises(SchemaError, match="list of at most 9"):
        read_plan(GOLDEN)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    with path.open("wb") as stream:
        stream.truncate(compute_plan.MAX_BYTES + 1)
    monkeypatch.setattr(compute_plan, "read_json", lambda path: pytest.fail("read"))
    with pytest.raises(SchemaError, match="bytes; a compute plan has at most"):
        read_plan(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b"[]", b"null", b'{"kind": NaN}'])
def test_a_file_that_is_no_plan_is_one_error_of_ours(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises((SchemaError, UsageError), match=r"plan\.json"):
        read_plan(path)


def test_a_missing_file_and_a_folder_are_one_error_of_ours(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_plan(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["kind", "schema_version", "model", "model.file", "compute_units", "device", "device.chip", "operations"]
    + [f"operations.{n}.{key}" for n in (0, 4) for key in ("name", "type", "preferred", "supported", "cost")]
)


@settings(max_examples=150, deadline=None)
@given(field=FIELDS, value=JSON)
def test_whatever_stands_in_a_field_the_plan_is_read_or_refused(field, value):
    try:
        plan = parse_plan(changed(field, value))
    except SchemaError:
        return
    assert plan.compute_units in COMPUTE_UNITS and {o.actual for o in plan.operations} <= set(get_args(Actual))
    assert all(o.cost is None or 0 <= o.cost <= 1 for o in plan.operations)
    if plan.operations:
        plan = replace(plan, compute_units="all", function="main", artifact_sha256=None)
        compared = compare_plan(report(), plan)
        assert len(compared.operations) + len(compared.not_in_report) == len(plan.operations)
        assert sum(r.ane + r.capable + r.off + r.unknown for r in compared.agreement) == len(compared.operations)
        assert json.loads(json_text(to_document(compared)))["decided"] <= len(compared.operations)


# ----------------------------------------------------------------------------------------------------------- comparing
def test_agreement_is_counted_by_prediction_and_plan():
    rows = {row.predicted: (row.ane, row.capable, row.off, row.unknown) for row in comparison().agreement}
    assert rows == {
        "expected": (1, 1, 1, 1), "at-risk": (0, 1, 0, 0), "off": (1, 0, 1, 0), "rejected": (0, 0, 0, 0)
    }  # fmt: skip


def test_an_operation_agrees_only_when_both_sides_are_decided():
    agrees = {o.operation: o.agrees for o in comparison().operations}
    assert agrees == {
        "stem": True, "act": False, "odd": False, "picked": True, "taken": False, "moved": None, "last": None
    }  # fmt: skip


def test_each_rule_gets_its_hits_and_false_alarms():
    assert comparison().rules == (
        RuleScore(rule="A10", says="off", hits=1, capable=0, false_alarms=1, unknown=0),
        RuleScore(rule="A22", says="at-risk", hits=1, capable=1, false_alarms=0, unknown=0),
        RuleScore(rule="A25", says="at-risk", hits=1, capable=1, false_alarms=0, unknown=0),
    )


def test_misses_are_operations_off_the_ane_that_no_rule_explains():
    assert [(o.operation, o.actual) for o in comparison().misses] == [("act", "capable"), ("odd", "off")]


def test_operations_of_one_side_only_are_told():
    assert (comparison().not_in_plan, comparison().not_in_report) == (("only_in_report",), ("only_in_plan",))


def test_an_operation_of_another_type_is_another_operation():
    plan = parse_plan(changed("operations.2.type", "ios17.matmul"))
    result = compare_plan(report(), plan)
    assert "stem" in result.not_in_plan and "stem" in result.not_in_report


def test_names_that_occur_twice_pair_in_order():
    placements = (report().placements[0],) * 2
    entries = [document()["operations"][2], {**document()["operations"][2], "preferred": "cpu"}]
    result = compare_plan(report(placements=placements), parse_plan({**document(), "operations": entries}))
    assert [o.actual for o in result.operations] == ["ane", "capable"]


def test_the_share_of_cost_on_the_ane_counts_weights_that_are_known():
    assert comparison().ane_cost_share == 0.5625  # 0.5 + 0.0625 of 1.0
    plan = parse_plan({**document(), "operations": [{"name": "stem", "type": "conv", "preferred": "ane"}]})
    assert compare_plan(report(), plan).ane_cost_share is None


def test_a_plan_of_another_program_is_refused():
    plan = read_plan(GOLDEN)
    compare_plan(report(), replace(plan, artifact_sha256="AB" * 32))
    cases = (
        (replace(plan, artifact_sha256="cd" * 32), "sha256 cdcdcdcdcdcd, 'net.mlpackage' has abababababab"),
        (replace(plan, function="points_2"), "function 'points_2'"),
        (replace(plan, compute_units="cpu_and_gpu"), "cpu_and_gpu, without the ANE"),
        (replace(plan, operations=plan.operations[-1:]), "has none of the 8 operations"),
    )
    for other, message in cases:
        with pytest.raises(UsageError, match=message):
            compare_plan(report(), other)


# ----------------------------------------------------------------------------------------------------------- rendering
def test_the_page_ends_with_the_summary_and_names_the_gap():
    lines = to_text(comparison()).splitlines()
    assert lines[0] == (
        "compute plan: iPhone 14 (A15), OS 17.4.1 [21E236], units all; Core ML's anticipation, not measured"
    )
    assert lines[1] == "1 operations are not in the plan: only_in_report"
    assert any(line.split() == ["A10", "off", "1", "0", "1", "0"] for line in lines)
    gaps = lines[lines.index("planned off the ANE, explained by no rule:") + 1 :][:2]
    assert [" ".join(gap.split()) for gap in gaps] == [
        "1 erf the ANE cannot, first 'odd'",
        "1 gelu gpu preferred, first 'act'",
    ]
    assert (
        lines[-1]
        == "plan agrees on 2 of 5 decided operations; 1 false alarms, 2 misses; 56% of the plan's cost on the ANE"
    )
    assert "runs on the ANE" not in to_text(comparison())


def test_a_report_for_other_families_is_pointed_out():
    assert "analyse with --target 'A15'" in to_text(comparison(target="all", families=("H13", "H14")))
    assert "--target" not in to_text(comparison())
    unknown = compare_plan(report(), parse_plan({**document(), "device": {"chip": "Z9"}}))
    assert "names no known chip" in to_text(unknown)


def test_json_holds_every_operation_and_what_follows(tmp_path):
    path = write_comparison(comparison(), tmp_path / "new")
    stored = json.loads(path.read_text())
    assert path.name == "net_ane_plan.json" and stored == json.loads(json_text(to_document(comparison())))
    assert stored["kind"] == "plan_comparison" and stored["schema_version"] == 1
    assert (stored["agreeing"], stored["decided"], stored["misses"]) == (2, 5, ["act", "odd"])
    assert stored["operations"][3]["rules"] == ["A10"] and stored["device"]["chip"] == "A15"
    assert json.loads(shown(comparison(), as_json=True))["plan_comparison"] == stored
    assert "plan_comparison" not in json.loads(shown(None, as_json=True))
    assert shown(comparison(), as_json=False) == shown(None, as_json=False) + "\n" + to_text(comparison())


def shown(compared: PlanComparison | None, *, as_json: bool) -> str:
    return Inspection(report=report(), comparison=compared, failing=(), paths=()).render(as_json=as_json)


# -------------------------------------------------------------------------------------------------------- where from
def test_the_plan_chooses_the_target_only_where_all_was_asked_for():
    plan = read_plan(GOLDEN)
    named = replace(plan, device=replace(plan.device, chip=None))
    mac = replace(plan, device=replace(plan.device, chip="Apple M2 Pro"))
    nothing = replace(plan, device=replace(plan.device, chip="Z9", marketing_name=None))
    assert [target_of(p, "all") for p in (plan, named, mac, nothing, None)] == [
        "A15",
        "iPhone 14",
        "M2 Pro",
        "all",
        "all",
    ]
    assert target_of(plan, "H16") == "H16"


def test_a_stored_plan_and_the_native_one_exclude_each_other():
    with pytest.raises(UsageError, match="exclude each other"):
        obtain_plan(GOLDEN, native=True, package=Path("a.mlpackage"))
    assert obtain_plan(None, native=False, package=Path("a.mlpackage")) is None


def test_core_ml_cannot_be_asked_off_macos(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(RunnerUnavailableError, match=r"it needs macOS 14\.4 \(this is linux\)") as error:
        obtain_plan(None, native=True, package=Path("a.mlpackage"))
    assert error.value.exit_code == 3
    with pytest.raises(UsageError, match="compute units 'ane'"):
        dump_compute_plan(Path("a.mlpackage"), "ane")


class MLNeuralEngineComputeDevice:
    """Stands for coremltools' class of this name; only the name is looked at."""


class MLCPUComputeDevice:
    """The same."""


class FakePlan:
    """The part of coremltools' plan that is used, with answers for one program: const, conv, and a nested add."""

    def __init__(self) -> None:
        def operation(kind, name, *inner):
            return SimpleNamespace(operator_name=kind, outputs=[SimpleNamespace(name=name)], blocks=inner)

        inside = SimpleNamespace(operations=[operation("ios17.add", "sum")])
        block = SimpleNamespace(
            operations=[operation("const", "w"), operation("ios17.conv", "y"), operation("cond", "z", inside)]
        )
        program = SimpleNamespace(functions={"main": SimpleNamespace(block=block)})
        self.model_structure = SimpleNamespace(program=program)

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        if operation.operator_name != "ios17.conv":
            return None
        ane, cpu = MLNeuralEngineComputeDevice(), MLCPUComputeDevice()
        return SimpleNamespace(preferred_compute_device=ane, supported_compute_devices=[cpu, ane])

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return SimpleNamespace(weight=1.0000001) if operation.operator_name == "ios17.conv" else None


def test_the_adapter_compiles_first_and_writes_a_document_that_the_reader_takes(monkeypatch, coreml_files):
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan

    asked = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("edgesam_export.runners.coreml.this_mac", lambda: {"chip": "M2 Pro", "os_version": "14.4"})
    monkeypatch.setattr(
        ct.models.utils, "compile_model", lambda source, target: asked.append((source, target)) or target
    )
    monkeypatch.setattr(
        MLComputePlan, "load_from_path", lambda path, compute_units: asked.append((path, compute_units)) or FakePlan()
    )
    package = coreml_files[1].path
    plan = obtain_plan(None, native=True, package=package)
    assert asked[0][0] == str(package) and asked[1] == (asked[0][1], ct.ComputeUnit.ALL)
    assert asked[0][1].endswith(".mlmodelc")
    assert (plan.file, plan.target, plan.artifact_sha256) == (package.name, "M2 Pro", coreml_files[1].sha256)
    rows = [(o.name, o.op_type, o.preferred, o.supported, o.cost) for o in plan.operations]
    assert rows == [
        ("y", "conv", "ane", ("ane", "cpu"), 1.0), ("z", "cond", None, (), None), ("sum", "add", None, (), None)
    ]  # fmt: skip


def test_a_failure_of_core_ml_is_one_line(monkeypatch, coreml_files):
    import coremltools as ct

    def fail(*_):
        raise RuntimeError("not supported")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ct.models.utils, "compile_model", fail)
    with pytest.raises(RunnerUnavailableError, match=r"gives no plan of '.*mlpackage' \(not supported\)"):
        dump_compute_plan(coreml_files[1].path)

"""The rules as a set: complete, documented, without numbers of their own, and safe on any program."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgesam_export.ane.rules as rules_package
from edgesam_export.ane.analyzer import check_graph, place, total
from edgesam_export.ane.example import read_example
from edgesam_export.ane.graph import Feature, GraphView, Node, StoredValue, Value
from edgesam_export.ane.rules import RULES, all_rules, explain, rule, sections
from edgesam_export.ane.segments import find_segments
from edgesam_export.errors import UsageError
from edgesam_export.hardware import load_hardware

FOLDER = Path(rules_package.__file__).parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py"))}
FAMILIES = ("H13", "H14", "H16")


def test_every_rule_of_the_catalogue_exists():
    expected = {f"A{n:02}" for n in range(1, 40)} | {f"N{n:02}" for n in range(1, 12)}
    expected |= {f"C{n:02}" for n in range(1, 8)} | {f"P{n:02}" for n in range(1, 5)}
    assert {r.id for r in all_rules()} == expected


def test_names_are_unique_and_read_like_a_smell():
    names = [r.name for r in all_rules()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert not [name for name in names if name.startswith(("use-", "avoid-", "no-", "do-not-"))]


@pytest.mark.parametrize("id", [r.id for r in all_rules()])
def test_explain_shows_five_headings_with_text_under_each(id):
    text = explain(id)
    headings = ("What it does", "Why it matters", "Example", "Write instead", "References")
    lines = text.splitlines()
    positions = [lines.index(heading) for heading in headings]
    assert positions == sorted(positions)
    assert all(lines[position + 1].startswith("  ") and lines[position + 1].strip() for position in positions)
    assert RULES[id].name in lines[0] and RULES[id].severity in lines[0] and RULES[id].evidence in lines[0]


def test_explain_takes_an_id_in_any_case_and_lists_the_known_ones():
    assert explain("a07") == explain("A07")
    with pytest.raises(UsageError, match=r"unknown rule 'Z99'; choose one of: A01, A02"):
        explain("Z99")


def test_folklore_is_never_an_error():
    assert not [r.id for r in all_rules() if r.evidence == "folklore" and r.severity == "error"]
    with pytest.raises(ValueError, match="never an error"):
        rule(id="X01", severity="error", evidence="folklore", concerns="speed", source="", flags="", passes="")


def test_a_rule_without_its_three_paragraphs_cannot_be_explained():
    def bare(graph, limits):
        """Finds nothing."""

    checked = RULES["A01"].__class__(**{**vars(RULES["A01"]), "check": bare})
    with pytest.raises(ValueError, match="A01: its docstring"):
        sections(checked)


def test_nothing_promises_the_neural_engine():
    promise = re.compile(r"runs? on the (ANE|engine|neural engine)", re.IGNORECASE)
    for r in all_rules():
        assert not re.search(r"\bwill run on\b", explain(r.id))
    assert not [name for name, text in SOURCES.items() if promise.search(text)]


def test_thresholds_are_data():
    structural = set(range(-3, 4))  # axes, counts of operands, halves of pairs
    for name, text in SOURCES.items():
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                body = [n for statement in function.body for n in ast.walk(statement)]
                numbers = {n.value for n in body if isinstance(n, ast.Constant) and type(n.value) in (int, float)}
                assert numbers <= structural | {0.0}, (name, function.name, numbers)


def test_rules_import_neither_torch_nor_coremltools():
    check = (
        "from edgesam_export.ane.rules import all_rules; all_rules()\n"
        "import sys; print([n for n in ('torch', 'coremltools', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SHAPES = (None, (), (None,), (3,), (1, 4, None, 2), (2, 3, 4, 5, 6), (0, 4))
KEYS = (
    *(
        "x",
        "y",
        "weight",
        "axis",
        "axes",
        "perm",
        "begin",
        "end",
        "begin_mask",
        "strides",
        "dilations",
        "pad",
        "groups",
    ),
    *("kernel_sizes", "values", "scale", "indices", "reps", "upscale_factor", "equation", "query", "key", "value"),
    *("pad_type", "mode", "epsilon", "shape", "alpha", "data"),
)
CONTENTS = {"computed": "x", "missing": None, "scalar": np.int32(2), "list": np.array([0, 1]), "word": "same"}
NAMED_TYPES = sorted(set(re.findall(r'"([a-z][a-z0-9_]+)"', "".join(SOURCES.values()))))


def odd_program(shape: tuple | None, content: object, outputs: int) -> GraphView:
    """Return one operation of every type that rules name, whose inputs all hold ``content``; "x" is the input."""
    computed = isinstance(content, str) and content == "x"
    load = None if content is None else lambda: content
    inputs = {key: ("x",) if computed or key in ("x", "values", "query") else (f"c_{key}",) for key in KEYS}
    nodes: dict[bool, list[Node]] = {False: [], True: []}
    for name in NAMED_TYPES:
        made = (Value(f"{name}_0", "fp16", shape), Value(f"{name}_1", "int32", shape))[:outputs]
        home = nodes[name.startswith("constexpr_")]
        home.append(Node(len(home), name, name, f"main/op {len(home)}", inputs, made))
    x = Value("x", "fp16", shape)
    return GraphView(
        opset="iOS17",
        inputs=(x,),
        outputs=("relu_0",),
        nodes=tuple(nodes[False]),
        decompressions=tuple(nodes[True]),
        constants={f"c_{key}": StoredValue(Value(f"c_{key}", "fp16", np.shape(content)), load) for key in KEYS},
        features=(Feature(x, "input"),),
    )


@pytest.mark.parametrize("outputs", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_no_rule_trips_over_odd_operations(shape, content, outputs):
    graph = odd_program(shape, content, outputs)
    hits = check_graph(graph, ("H13", "H16"))
    assert len(place(graph, hits)) == len(graph.nodes)
    assert total(graph).operations == len(graph.nodes)


def ids_of(text: str, family: str) -> list[tuple[str, str]]:
    graph, _ = read_example(text)
    return [(r.id, hit.severity or r.severity) for r, hit in check_graph(graph, (family,)) if r.id != "P03"]


PROLOGUE = """
x: fp16[1, 64, 64, 64]
p: fp32[1, 8, 2]
s: fp32[1, 8, 2] = sin(x=p)
h: fp16[1, 8, 2] = cast(x=s, dtype="fp16")
w: fp16[64, 64, 3, 3] = const()
b: fp16[1, 64, 64, 64] = conv(x=x, weight=w, pad_type="same")
m: fp16[1, 1, 2] = reduce_max(x=h, axes=[1], keep_dims=True)
y: fp16[1, 64, 64, 64] = add(x=b, y=m)
"""


def test_a_small_fp32_prologue_is_a_warning_that_leaves_one_segment():
    graph, _ = read_example(PROLOGUE)
    hits = check_graph(graph, ("H13",))
    assert [(r.id, hit.severity) for r, hit in hits if r.id != "P03"] == [("A03", "warning")]
    placed = {row.operation: row.placement for row in place(graph, hits)}
    assert [name for name, where in placed.items() if where == "off"] == ["s", "h"]


def test_the_same_operations_in_fp16_are_checked_one_by_one():
    assert ids_of(PROLOGUE.replace("fp32", "fp16"), "H14") == [("A12", "error")]
    assert ids_of(PROLOGUE.replace("fp32", "fp16"), "H15") == [("A12", "warning")]


def test_an_fp32_beginning_that_does_real_work_is_an_error():
    heavy = PROLOGUE.replace("p: fp32[1, 8, 2]", "p: fp32[1, 4096, 2]").replace("fp32[1, 8, 2]", "fp32[1, 4096, 2]")
    light = heavy.replace("fp16[1, 8, 2]", "fp16[1, 4096, 2]").replace("64, 64]", "8, 8]").replace("3, 3]", "1, 1]")
    assert ("A03", "error") in ids_of(light, "H14")


def test_a_program_in_fp32_is_an_error_not_a_border():
    text = "x: fp32[1, 64, 32, 32]\ny: fp32[1, 64, 32, 32] = relu(x=x)"
    assert ids_of(text, "H16") == [("A03", "error"), ("P01", "warning"), ("P01", "warning")]


def test_an_fp32_island_is_one_finding_and_cuts_the_program():
    text = """
x: fp16[1, 8, 32, 32]
a: fp16[1, 8, 32, 32] = relu(x=x)
b: fp32[1, 8, 32, 32] = cast(x=a, dtype="fp32")
c: fp32[1, 8, 32, 32] = abs(x=b)
d: fp32[1, 8, 32, 32] = sqrt(x=c)
e: fp16[1, 8, 32, 32] = cast(x=d, dtype="fp16")
f: fp16[1, 8, 32, 32] = relu(x=e)
"""
    assert ids_of(text, "H14") == [("A03", "error"), ("P02", "error"), ("A04", "warning"), ("A04", "warning")]


@pytest.mark.parametrize(("family", "found"), [("H13", True), ("H15", True), ("H16", False), ("H18", False)])
def test_an_axis_of_65536_is_too_long_up_to_h15(family, found):
    text = "x: fp16[1, 4, 32]\ny: fp16[1, 32, 65536]\nz: fp16[1, 4, 65536] = matmul(x=x, y=y)"
    assert (("A15", "error") in ids_of(text, family)) is found


@pytest.mark.parametrize(("width", "family", "found"), [(13, "H13", False), (15, "H13", True), (15, "H14", False)])
def test_the_widest_kernel_depends_on_the_family(width, family, found):
    text = f"""
x: fp16[1, 8, 64, 64]
w: fp16[8, 8, 1, {width}] = const()
y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, pad_type="same")
"""
    assert (("A16", "error") in ids_of(text, family)) is found


def test_a_finding_that_differs_by_family_is_told_apart():
    graph, _ = read_example(PROLOGUE.replace("fp32", "fp16"))
    found = {(r.id, hit.severity): families for (r, hit), families in check_graph(graph, FAMILIES).items()}
    assert found[("A12", None)] == ["H13", "H14"] and found[("A12", "warning")] == ["H16"]


def test_a_prologue_spread_over_the_file_is_one_segment():
    text = """
x: fp16[1, 8, 32]
p: fp16[1, 8, 32]
q: fp16[1, 8, 32]
a: fp16[1, 8, 32] = abs(x=p)
b: fp16[1, 8, 32] = relu(x=x)
c: fp16[1, 8, 32] = abs(x=q)
d: fp16[1, 8, 32] = add(x=b, y=a)
e: fp16[1, 8, 32] = add(x=d, y=c)
f: fp16[1, 8, 32] = abs(x=e)
off = ["a", "c", "f"]
"""
    graph, _ = read_example(text)
    before, ane, after = find_segments(graph)
    size = 8 * 32 * 2
    assert (before.on_ane, before.first, before.last, before.operations) == (False, "a", "c", 2)
    assert (before.bytes_in, before.bytes_out) == (2 * size, 2 * size)
    assert (ane.on_ane, ane.first, ane.last, ane.bytes_in, ane.bytes_out) == (True, "b", "e", 3 * size, size)
    assert (after.on_ane, after.bytes_in, after.bytes_out) == (False, size, size)


def test_limits_name_what_is_missing():
    with pytest.raises(AttributeError, match="no limit 'max_everything'"):
        load_hardware().limits_of("H14").max_everything  # noqa: B018

"""What people read: links lead somewhere; paths, commands, options and messages are those of the code."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

import edgesam_export
from edgesam_export.cli.app import cli
from edgesam_export.export.contract import make_contract
from edgesam_export.families import model_info, model_names
from edgesam_export.parity.gates import DEFAULT_GATES
from edgesam_export.parity.outputs import ENCODER_OUTPUT
from edgesam_export.spec import CoreMLConfig, ModelInfo, Provenance

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgesam_export"
PARITY = ROOT / "docs" / "parity.md"
README, ARCHITECTURE, CONTRIBUTING = (ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING"))
README_WORDS, ARCHITECTURE_WORDS = 1800, 1200
COLUMNS = 120
FOLDERS = ("*", "docs/*", "models/*", "swift/*", "benchmarks/**/*", "edgesam_export/**/*", "tests/**/*")
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}.md"))
GENERATED = re.compile(r"<!-- (models: begin|rules -->).*?<!-- (models: end|/rules)", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
WRITTEN = {f"{name}.json" for name in ("export", "request", "status", "result")}
"""Files that a run writes; they are in no folder of the repository."""
# what a code span must look like to be taken for a path: a folder, or a file of a kind that this repository has
PATH = re.compile(r"[\w.<>-]+(/[\w.<>-]+)*(/|\.(py|md|toml|json|swift|txt|yml|yaml|lock|npz))")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without fenced code and generated tables."""
    return FENCE.sub("", GENERATED.sub("", text_of(page)))


def fences(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text_of(page)) if name == language]


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_pages_are_found():
    assert {"README.md", "docs/contract.md", "swift/README.md", "models/README.md"} <= {relative(p) for p in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} is not there"
        assert file.is_relative_to(ROOT), f"{target} is outside of the repository"
        assert not anchor or anchor in slugs(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent in (ROOT, ROOT / "docs")], ids=relative)
def test_lines_of_prose_fit_the_screen(page):
    long = [line for line in GENERATED.sub("", text_of(page)).splitlines() if len(line) > COLUMNS]
    assert [line for line in long if not line.lstrip().startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_rows_of_a_table_have_the_cells_of_its_heading(page):
    for block in re.findall(r"(?:^\|.*\n)+", prose(page) + "\n", re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.splitlines()]
        assert len(rows) > 2 and set("".join(rows[1])) <= set("-: "), f"no table: {block[:80]}"
        assert {len(row) for row in rows} == {len(rows[0])}, block


@pytest.mark.parametrize(("page", "words"), [(README, README_WORDS), (ARCHITECTURE, ARCHITECTURE_WORDS)], ids=str)
def test_a_page_stays_short(page, words):
    assert len(text_of(page).split()) <= words


# ------------------------------------------------------------------------------------------------------------ paths


def paths_in(page: Path) -> list[str]:
    """What stands in code spans and is a path, in order."""
    return [span for span in re.findall(r"`([^`\n]+)`", prose(page)) if PATH.fullmatch(span) and span not in WRITTEN]


def exists(span: str) -> bool:
    """Whether a path is there, from the root or from the package; of ``a/<name>.py`` the folder ``a``."""
    head = span.partition("<")[0]
    fixed = head if head == span else head.rpartition("/")[0]
    return any((base / fixed).exists() for base in (ROOT, PACKAGE, ROOT / "swift"))


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING], ids=relative)
def test_every_path_exists(page):
    spans = paths_in(page)
    assert len(spans) >= 20
    assert [span for span in spans if not exists(span)] == []


def test_the_map_has_no_globs():
    assert [span for span in re.findall(r"`([^`\n]+)`", prose(ARCHITECTURE)) if "*" in span] == []


def test_the_map_has_the_floors_of_the_architecture_test():
    tree = ast.parse(text_of(ROOT / "tests" / "test_architecture.py"))
    rooms = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS"
    )
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", text_of(ARCHITECTURE), re.MULTILINE)
    floors = [tuple(sorted(name.strip("`/").removesuffix(".py") for name in row.split(", "))) for _, row in rows]
    assert floors == [tuple(sorted(floor)) for floor in rooms]
    assert [int(number) for number, _ in rows] == list(range(len(rooms), 0, -1))


def test_the_recipes_name_the_open_folders():
    headings = " ".join(re.findall(r"^## Add (.+)$", text_of(CONTRIBUTING), re.MULTILINE))
    for thing in ("family", "MIL op", "rule", "rewrite", "profile", "export format", "runner", "report format"):
        assert thing in headings
    for thing in ("benchmark field", "device backend", "command"):
        assert thing in headings


# ---------------------------------------------------------------------------------------------- commands and options


def command_lines(page: Path) -> list[list[str]]:
    """Words of every command line of this tool that a page shows, comments left out."""
    code = "\n".join(body for language in ("sh", "yaml", "") for body in fences(page, language))
    found = re.findall(r"edgesam-export ([a-z].*)$|-m edgesam_export\.cli ([a-z].*)$", code, re.MULTILINE)
    return [shlex.split(one or other, comments=True) for one, other in found]


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=relative)
def test_command_lines_have_commands_and_options_that_exist(page):
    for words in command_lines(page):
        command = cli.commands[words[0]]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options, words


def test_options_in_the_text_of_the_readme_exist():
    options = {name for command in cli.commands.values() for p in command.params for name in (*p.opts, "--help")}
    others = {"--constraint"}  # of pip
    assert set(re.findall(r"--[a-z][a-z-]+", prose(README))) <= options | others


@cache
def messages() -> str:
    """Every text literal of the package, a line each; what an f-string puts in is cut out of its text."""
    texts: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_the_messages_of_the_troubleshooting_table_are_those_of_the_code():
    section = text_of(README).partition("## When an export fails")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    quoted = [message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) >= 15
    pieces = [piece.strip() for message in quoted for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in messages()] == []


def test_the_readme_counts_the_models():
    families = {model_info(name).family for name in model_names()}
    assert f"**{len(model_names())} models** of {len(families)} families" in " ".join(text_of(README).split())


GATE_ROWS = {
    (ENCODER_OUTPUT, "psnr_db"): "PSNR, at least",
    ("masks", "psnr_db"): "PSNR of the logits of every mask, at least",
    ("masks", "visible_change"): "visible change of every mask, at most",
    ("scores", "score_error"): "error by value, at most",
    ("scores", "choice_loss"): "what the candidate's best mask gives away in the reference's scores, at most",
    ("object_score", "presence_error"): "error of the probability that an object is there, at most",
    ("boxes", "psnr_db"): "PSNR of boxes and their scores, at least",
    ("box_scores", "psnr_db"): "PSNR of boxes and their scores, at least",
    ("masks_at_source", "psnr_db"): "PSNR to the file's own small logits, resized, at least",
}
"""Output and metric -> what the table of docs/parity.md calls the gate."""


def test_the_gates_of_the_page_are_the_default_gates():
    rows = re.findall(r"^\| [^|`]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text_of(PARITY), re.MULTILINE)
    shown = {name: dict(zip(("fp32", "fp16", "ane"), bounds)) for name, *bounds in rows}
    named = set()
    for gate in DEFAULT_GATES:
        name = GATE_ROWS[gate.output, gate.metric]
        bound = gate.minimum if gate.minimum is not None else gate.maximum
        assert float(shown[name][gate.numerics].split()[0]) == bound, (name, gate)
        named.add((name, gate.numerics))
    assert named == {(name, n) for name in shown for n, bound in shown[name].items() if bound[0].isdigit()}


def test_the_make_targets_of_the_readme_exist():
    makefile = text_of(ROOT / "Makefile")
    targets = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text_of(README), re.MULTILINE))
    assert {"demo", "test", "wheel"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


# -------------------------------------------------------------------------------------------------------------- code


def test_the_swift_lines_of_the_readme_are_compiled_by_the_tests_of_the_package():
    snippet = text_of(ROOT / "swift" / "Tests" / "EdgeSAMTests" / "IntegrationSnippet.swift")
    compiled = {line.partition("//")[0].strip() for line in snippet.splitlines()}
    (block,) = fences(README, "swift")
    shown = [line.partition("//")[0].strip() for line in block.splitlines()]
    assert len(shown) == 5
    assert [line for line in shown if line not in compiled] == []


def test_the_python_lines_of_the_readme_use_public_names():
    (block,) = fences(README, "python")
    imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in imports] == ["edgesam_export"]
    assert {alias.name for node in imports for alias in node.names} <= set(edgesam_export.__all__)


def test_the_page_of_the_contract_names_every_field():
    contract = make_contract(
        info=ModelInfo(name="toy", family="toy"),
        provenance=Provenance(source="toy.pth"),
        config=CoreMLConfig(),
        component="decoder",
        inputs=(),
        outputs=(),
        details={},
    )
    named = set(re.findall(r"`(\w+)`", text_of(ROOT / "docs" / "contract.md")))
    assert {*contract, *contract["frame"], *contract["weights"]} <= named

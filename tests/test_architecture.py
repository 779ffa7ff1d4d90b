"""The borders inside the package (ARCHITECTURE.md), read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import edgesam_export
from edgesam_export.errors import UsageError
from edgesam_export.families import FAMILIES, model_names
from edgesam_export.formats import FORMATS, find_format
from edgesam_export.profiles import PROFILES, find_profile
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.rewrites import REWRITES, recommended_rewrites
from edgesam_export.runners import RUNNERS

ROOT = Path(edgesam_export.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
FUNCTION_LINES, FILE_LINES, ENTRIES = 40, 400, 30
LONG_FUNCTIONS: set[str] = set()
LONG_FILES: set[str] = set()
ROOMS = (
    ("cli",),
    ("distill",),
    ("bench", "segment_anything", "serve", "shrink"),
    ("ane", "parity", "predict"),
    ("catalogue", "runners"),
    ("artifacts",),
    ("families", "formats"),
    ("export",),
    ("coreai", "profiles", "rewrites"),
    ("checkpoints", "imaging", "mil", "modeling"),
    ("rendering",),
    ("files", "hardware"),
    ("registry", "resources", "spec"),
    ("errors",),
)
"""From the top floor down; a room imports from the floors below its own, and from itself."""
PUBLIC_FACE = "__init__"
"""``import edgesam_export`` gives the public names on first use, whatever their floor."""


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


@cache
def nodes_of(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(module)))


@cache
def calls(module: str) -> list[tuple[str, ast.Call]]:
    """The last name of what is called, with the call."""
    found = [node for node in nodes_of(module) if isinstance(node, ast.Call)]
    return [(getattr(call.func, "id", getattr(call.func, "attr", "")), call) for call in found]


@cache
def imports(module: str) -> frozenset[str]:
    """Every dotted name that a module imports, inside functions too, by statement or by ``import_module``."""
    names: set[str] = set()
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    for name, call in calls(module):
        if name in ("import_module", "find_spec", "__import__"):
            names |= {a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return frozenset(names)


def importers(package: str) -> set[str]:
    return {m for m in MODULES if any(n == package or n.startswith(package + ".") for n in imports(m))}


def room_of(dotted: str) -> str:
    """The room that a dotted name lies in."""
    return dotted.split(".")[1]


def test_every_room_stands_on_a_floor():
    entries = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    rooms = {Path(module).parts[0].removesuffix(".py") for module in MODULES} - {PUBLIC_FACE}
    assert rooms == {room for floor in ROOMS for room in floor}
    assert len(entries) <= ENTRIES


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__.py"])
def test_a_room_imports_only_from_the_floors_below(module):
    floors = {room: number for number, floor in enumerate(ROOMS) for room in floor}
    own = Path(module).parts[0].removesuffix(".py")
    rooms = {room_of(name) for name in imports(module) if name.startswith("edgesam_export.")}
    above = {room for room in rooms - {own} if floors.get(room, -1) <= floors[own]}
    assert not above, f"{module} imports from its own floor or above it"


def test_no_module_of_a_room_imports_back():
    """Modules inside the rooms form no circle either."""
    names = {f"edgesam_export.{m.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}": m for m in MODULES}

    def targets(module: str) -> set[str]:
        dotted = imports(module)
        # ``from package import module`` is an import of the module, not of what the package's face imports
        faces = {name.rpartition(".")[0] for name in dotted & names.keys()}
        return {names[name] for name in dotted & names.keys() - faces} - {module}

    graph = {module: targets(module) for module in MODULES if module != "__init__.py"}
    while leaves := [module for module, found in graph.items() if not found & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, "these modules import each other in a circle, or hang on one"


def test_only_the_command_line_imports_click():
    assert {m.split("/")[0] for m in importers("click")} == {"cli"}


def test_training_is_an_extra_that_only_its_commands_import():
    inside = {m for m in MODULES if m.startswith("distill/")}
    assert importers("edgesam_export.distill") <= inside | {"cli/distill.py", "cli/evaluate.py", "cli/shrink.py"}
    assert importers("scipy") | importers("pycocotools") <= inside


def test_only_the_command_line_prints():
    printing = {m for m in MODULES for name, call in calls(m) if name == "print" and isinstance(call.func, ast.Name)}
    assert not printing
    assert {m for m in MODULES if "sys.stdout" in (ROOT / m).read_text()} <= {"cli/streams.py"}


def rooms_of(modules: set[str]) -> set[str]:
    """The same, the modules of a format's folder taken together."""
    return {"/".join(m.split("/")[:2]) if m.startswith("formats/") and m.count("/") > 1 else m for m in modules}


def test_coremltools_is_imported_in_three_places():
    # mil/program.py only looks for its protobuf messages
    assert rooms_of(importers("coremltools")) == {"formats/coreml", "mil/program.py", "runners/coreml.py"}
    statements = {
        m
        for m in MODULES
        for node in nodes_of(m)
        if isinstance(node, ast.Import | ast.ImportFrom) and "coremltools" in ast.unparse(node)
    }
    assert rooms_of(statements) == {"formats/coreml", "runners/coreml.py"}


def test_core_ai_is_imported_by_its_format_and_in_a_child_process():
    assert rooms_of(importers("coreai")) == {"coreai/apple.py", "formats/coreai"}
    assert rooms_of(importers("coreai_torch")) == {"formats/coreai"}
    assert not any(name.startswith("edgesam_export") for name in imports("coreai/apple.py"))


def test_operations_never_see_the_program():
    hidden = {f"edgesam_export.mil.{name}" for name in ("program", "interpreter", "graph", "decode", "package")}
    for module in MODULES:
        if module.startswith("mil/ops/"):
            assert not imports(module) & hidden, module


def test_modeling_does_no_input_or_output():
    forbidden = {"os", "io", "json", "pathlib", "shutil", "tempfile", "pickle", "subprocess", "urllib", "PIL"}
    modules = [m for m in MODULES if m.startswith("modeling/")]
    assert modules
    for module in modules:
        assert not {name.split(".")[0] for name in imports(module)} & forbidden, module
        assert not {name for name, _ in calls(module)} & {"open", "load", "save", "read_text", "write_text"}, module


def test_modeling_stands_below_everything_else():
    allowed = ("edgesam_export.modeling", "edgesam_export.spec", "edgesam_export.errors")
    for module in MODULES:
        if module.startswith("modeling/"):
            ours = {name for name in imports(module) if name.startswith("edgesam_export")}
            assert all(name.startswith(allowed) for name in ours), (module, ours)


def test_nobody_patches_forward():
    for module in MODULES:
        for node in nodes_of(module):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            assert not any(isinstance(t, ast.Attribute) and t.attr == "forward" for t in targets), module
        for name, call in calls(module):
            if name == "setattr":
                assert ast.unparse(call.args[1]) != "'forward'", module


def test_the_package_stands_on_its_own():
    for module in MODULES:
        assert not {n for n in imports(module) if n.split(".")[0] in ("tests", "pytest", "hypothesis")}, module
        assert "../shared" not in (ROOT / module).read_text(), module


def test_module_names_say_what_is_inside():
    for module in MODULES:
        path = Path(module)
        assert path.name in ("__init__.py", "__main__.py") or not path.name.startswith("_"), module
        assert path.stem not in ("utils", "helpers", "misc"), module
        assert path.stem != "common" or path.parent.name == "modeling", module


def test_the_environment_is_read_for_the_cache_folder_and_the_threads_of_openmp_only():
    names = ("environ", "environb", "getenv")
    reading = {m for m in MODULES if any(getattr(n, "attr", None) in names for n in nodes_of(m))}
    assert not {m for m in MODULES if imports(m) & {f"os.{name}" for name in names}}
    assert reading == {"checkpoints/download.py", "cli/threads.py"}
    source = (ROOT / "checkpoints/download.py").read_text()
    assert source.count("environ") == source.count('environ.get("XDG_CACHE_HOME"') == 1


def test_functions_are_short():
    lengths = {
        f"{m}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for m in MODULES
        for node in nodes_of(m)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name for name, length in lengths.items() if length > FUNCTION_LINES} == LONG_FUNCTIONS


def test_files_are_short():
    assert {m for m in MODULES if len((ROOT / m).read_text().splitlines()) > FILE_LINES} == LONG_FILES


def test_every_public_name_exists():
    for module in MODULES:
        names = [node for node in tree_of(module).body if isinstance(node, ast.Assign)]
        public = next((ast.literal_eval(n.value) for n in names if getattr(n.targets[0], "id", "") == "__all__"), [])
        assert len(public) == len(set(public)), module
        defined = {getattr(node, "name", "") for node in tree_of(module).body}
        defined |= {t.id for n in names for t in n.targets if isinstance(t, ast.Name)}
        defined |= {n.target.id for n in tree_of(module).body if isinstance(n, ast.AnnAssign)}
        defined |= {name.rsplit(".", 1)[-1] for name in imports(module)}
        if module != "__init__.py":  # the top of the package imports on first use; see test_public_api.py
            assert set(public) <= defined, (module, set(public) - defined)


def stems(folder: str) -> set[str]:
    inside = [path for path in (ROOT / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return {path.stem for path in inside} - {"__init__"}


def test_a_format_is_called_like_its_module():
    find_format("onnx")
    assert set(FORMATS) == stems("formats")


def test_a_runner_is_called_like_its_module():
    import_submodules("edgesam_export.runners")
    assert {*RUNNERS, "base"} == stems("runners")


def test_a_profile_is_called_like_its_module():
    find_profile("default")
    assert {name.replace("-", "_") for name in PROFILES} == stems("profiles")
    assert all(PROFILES[name].name == name for name in PROFILES)


def test_a_family_is_called_like_its_module():
    model_names()
    assert {FAMILIES[name].info.family for name in FAMILIES} == stems("families")


def test_every_rewrites_module_registers_one():
    recommended_rewrites("coreml")
    homes = {REWRITES[name].apply.__module__.rsplit(".", 1)[-1] for name in REWRITES}
    assert homes == stems("rewrites")
    assert all(REWRITES[name].summary.endswith(".") for name in REWRITES)


def test_a_registry_refuses_a_name_twice_and_lists_what_it_has():
    fruit: Registry[int] = Registry("fruit")
    fruit.register("pear")(1)
    fruit.register("apple")(2)
    with pytest.raises(ValueError, match="fruit 'pear' is registered twice"):
        fruit.register("pear")(3)
    assert list(fruit) == ["apple", "pear"] and len(fruit) == 2 and "plum" not in fruit
    with pytest.raises(UsageError, match="unknown fruit 'plum'; choose one of: apple, pear"):
        fruit["plum"]


HEAVY = ("torch", "coremltools", "onnx", "onnxruntime", "numpy", "PIL", "rich")


@pytest.mark.parametrize(
    "code",
    [
        "import edgesam_export",
        "import edgesam_export.cli",
        "from edgesam_export.cli import main\ntry: main(['coreml', '--help'])\nexcept SystemExit: pass",
    ],
    ids=["package", "cli", "help"],
)
def test_importing_and_help_stay_quick(code):
    check = f"{code}\nimport sys; print([n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"

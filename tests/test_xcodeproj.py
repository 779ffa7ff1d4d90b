"""The apps' Xcode projects: whole, complete, the same on every machine; the benchmark's is made for measuring."""

from __future__ import annotations

import importlib.util
import plistlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

APPS = Path(__file__).resolve().parents[1] / "swift" / "Apps"
NAMES = ("EdgeSAMBench", "EdgeSAMDemo")
IGNORED = {".gitignore", ".DS_Store", "Local.xcconfig"}
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\]|\\.)*"|[{}()=;,]|[A-Za-z0-9_./$:]+|(?P<strange>\S)', re.DOTALL)
IDENTIFIER = re.compile(r"[0-9A-F]{24}")


def tokens(text: str) -> list[str]:
    found = []
    for match in TOKEN.finditer(text):
        assert not match["strange"], f"strange character {match[0]!r} at {match.start()}"
        if not match[0].startswith(("/*", "//")):
            found.append(match[0])
    return found


def parse_openstep(text: str) -> Any:
    """Read an OpenStep property list: strings, (lists), {dictionaries}."""
    rest = tokens(text)[::-1]

    def expect(token: str) -> None:
        assert rest and rest[-1] == token, f"expected {token!r}, found {rest[-1:]}"
        rest.pop()

    def value() -> Any:
        token = rest.pop()
        if token == "(":
            items = []
            while rest[-1] != ")":
                items.append(value())
                expect(",")
            rest.pop()
            return items
        if token == "{":
            entries: dict[str, Any] = {}
            while rest[-1] != "}":
                key = value()
                assert key not in entries, f"{key} stands twice"
                expect("=")
                entries[key] = value()
                expect(";")
            rest.pop()
            return entries
        assert token not in {")", "}", "=", ";", ","}, f"a value cannot start with {token!r}"
        return re.sub(r"\\(.)", r"\1", token[1:-1]) if token.startswith('"') else token

    whole = value()
    assert not rest, f"text behind the end: {rest[-3:]}"
    return whole


class App:
    """One app's folder and its parsed project."""

    def __init__(self, name: str) -> None:
        self.name, self.home = name, APPS / name
        self.bundle = self.home / f"{name}.xcodeproj"
        self.project = parse_openstep((self.bundle / "project.pbxproj").read_text(encoding="utf-8"))
        self.known: dict[str, dict[str, Any]] = self.project["objects"]
        scheme = self.bundle / "xcshareddata" / "xcschemes" / f"{name}.xcscheme"
        self.scheme = ElementTree.parse(scheme).getroot()

    def objects(self, isa: str) -> dict[str, dict[str, Any]]:
        return {key: fields for key, fields in self.known.items() if fields["isa"] == isa}

    def only(self, isa: str) -> dict[str, Any]:
        (fields,) = self.objects(isa).values()
        return fields

    def listed_files(self) -> dict[str, str]:
        """Path -> identifier of the reference, walking the groups from the top."""
        found: dict[str, str] = {}

        def walk(group: str, folder: str) -> None:
            for child in self.known[group]["children"]:
                fields = self.known[child]
                path = f"{folder}{fields['path']}" if "path" in fields else folder
                if fields["isa"] == "PBXGroup":
                    walk(child, f"{path}/" if "path" in fields else folder)
                elif fields["sourceTree"] == "<group>":
                    assert path not in found, f"{path} is listed twice"
                    found[path] = child

        walk(self.only("PBXProject")["mainGroup"], "")
        return found

    def phase_files(self, isa: str) -> list[str]:
        return [self.known[build_file].get("fileRef", "") for build_file in self.only(isa)["files"]]


@cache
def parsed(name: str) -> App:
    return App(name)


@pytest.fixture(params=NAMES)
def app(request) -> App:
    return parsed(request.param)


@pytest.fixture
def bench() -> App:
    return parsed("EdgeSAMBench")


@pytest.fixture
def demo() -> App:
    return parsed("EdgeSAMDemo")


@cache
def generator() -> ModuleType:
    sys.path.insert(0, str(APPS))
    spec = importlib.util.spec_from_file_location("make_xcodeproj", APPS / "make_xcodeproj.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_xcodeproj"] = module
    spec.loader.exec_module(module)
    return module


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for item in (value.values() if isinstance(value, dict) else value) for text in strings(item)]


def references(value: Any) -> set[str]:
    return {text for text in strings(value) if IDENTIFIER.fullmatch(text)}


def test_the_parser_reads_every_kind_of_value():
    text = '// !$*UTF8*$!\n{ a /* why */ = (x, "y; \\"z\\"", ); "b c" = { d = ../..; e = ( ); }; }'
    assert parse_openstep(text) == {"a": ["x", 'y; "z"'], "b c": {"d": "../..", "e": []}}


@pytest.mark.parametrize(
    "text", ["{ a = b }", "{ a = b; a = c; }", "( a b )", "{ a = <ff>; }", "{ a = b; } c", "{ = b; }"]
)
def test_the_parser_refuses_broken_text(text):
    with pytest.raises(AssertionError):
        parse_openstep(text)


def test_every_identifier_exists_and_every_object_is_reached(app):
    assert all(IDENTIFIER.fullmatch(key) for key in app.known)
    assert app.project["rootObject"] in app.objects("PBXProject")
    reached, waiting = set(), {app.project["rootObject"]}
    while waiting:
        key = waiting.pop()
        assert key in app.known, f"nothing is called {key}"
        reached.add(key)
        waiting |= references(app.known[key]) - reached
    assert set(app.known) == reached


def test_every_file_on_disk_is_listed_and_every_listed_file_exists(app):
    models = {path for path in app.listed_files() if path.startswith("Models/")}
    listed = set(app.listed_files()) - models
    assert all((app.home / path).exists() for path in listed)
    inside = [path.relative_to(app.home) for path in app.home.rglob("*") if path.is_file()]
    expected = {
        "Assets.xcassets" if path.parts[0] == "Assets.xcassets" else path.as_posix()
        for path in inside
        if path.parts[0] not in (app.bundle.name, "Models") and path.name not in IGNORED
    }
    assert listed == expected
    # Exported, not kept in the repository; listed whether they are there or not.
    both = {"Models/Encoder.mlpackage", "Models/Decoder.mlpackage"}
    assert models == (both if app.name == "EdgeSAMDemo" else set())


def test_sources_are_compiled_and_assets_copied_once_each(app):
    listed = app.listed_files()
    compiled = [key for path, key in listed.items() if path.endswith((".swift", ".mlpackage"))]
    assert len(compiled) >= 5
    assert sorted(app.phase_files("PBXSourcesBuildPhase")) == sorted(compiled)
    # Info.plist is named by a build setting; copied as a resource it fails the build.
    assert app.phase_files("PBXResourcesBuildPhase") == [listed["Assets.xcassets"]]


@pytest.mark.parametrize(
    ("name", "folder", "products"),
    [
        ("EdgeSAMBench", APPS.parent, {"EdgeSAM", "EdgeSAMBench"}),
        ("EdgeSAMDemo", APPS.parents[1], {"EdgeSAM", "EdgeSAMUI"}),
    ],
)
def test_the_package_lies_where_the_project_says_and_has_the_products(name, folder, products):
    app = parsed(name)
    (package,) = app.objects("XCLocalSwiftPackageReference").items()
    manifest = (app.home / package[1]["relativePath"]).resolve() / "Package.swift"
    assert manifest == folder / "Package.swift"
    found = {fields["productName"]: key for key, fields in app.objects("XCSwiftPackageProductDependency").items()}
    assert set(found) == products
    assert {fields["package"] for fields in app.objects("XCSwiftPackageProductDependency").values()} == {package[0]}
    declared = re.findall(r'\.library\(name: "(\w+)"', manifest.read_text(encoding="utf-8"))
    assert set(found) <= set(declared)
    linked = [app.known[key]["productRef"] for key in app.only("PBXFrameworksBuildPhase")["files"]]
    target = app.only("PBXNativeTarget")
    assert sorted(target["packageProductDependencies"]) == sorted(linked) == sorted(found.values())


@pytest.mark.parametrize(
    ("name", "configurations"), [("EdgeSAMBench", {"Release"}), ("EdgeSAMDemo", {"Release", "Debug"})]
)
def test_configurations_and_their_settings(name, configurations):
    app = parsed(name)
    assert app.project["objectVersion"] == "60"
    assert {fields["name"] for fields in app.objects("XCBuildConfiguration").values()} == configurations
    assert {fields["defaultConfigurationName"] for fields in app.objects("XCConfigurationList").values()} == {"Release"}
    for key in app.known[app.only("PBXProject")["buildConfigurationList"]]["buildConfigurations"]:
        assert app.known[key]["baseConfigurationReference"] == app.listed_files()["Config/Base.xcconfig"]


def test_every_action_of_a_scheme_builds_release(app):
    configured = {action.tag: action.get("buildConfiguration") for action in app.scheme if action.tag != "BuildAction"}
    actions = ("TestAction", "LaunchAction", "ProfileAction", "AnalyzeAction", "ArchiveAction")
    assert configured == dict.fromkeys(actions, "Release")


def test_the_benchmark_runs_without_a_debugger_and_the_demo_with_one(bench, demo):
    for action in ("TestAction", "LaunchAction"):
        assert bench.scheme.find(action).get("selectedDebuggerIdentifier") == ""
        assert bench.scheme.find(action).get("selectedLauncherIdentifier").endswith(".PosixSpawn")
        assert demo.scheme.find(action).get("selectedDebuggerIdentifier").endswith(".LLDB")
        assert demo.scheme.find(action).get("selectedLauncherIdentifier").endswith(".LLDB")


def test_a_scheme_means_the_apps_target(app):
    (target,) = app.objects("PBXNativeTarget")
    found = list(app.scheme.iter("BuildableReference"))
    assert len(found) == 3  # build, run, profile
    assert {reference.get("BlueprintIdentifier") for reference in found} == {target}
    assert {reference.get("ReferencedContainer") for reference in found} == {f"container:{app.name}.xcodeproj"}


def test_nothing_depends_on_a_person_or_a_machine(app):
    for path in [*app.bundle.rglob("*"), *(app.home / "Config").glob("*.*"), app.home / "Info.plist"]:
        if not path.is_file() or path.name == "Local.xcconfig" or "xcuserdata" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:Users|home|Applications|private|work|tmp)/|~/|file:", text), path
        assert not re.search(r"DEVELOPMENT_TEAM *= *[^\s;]|DevelopmentTeam|PROVISIONING_PROFILE", text), path
    plain = [text for fields in app.known.values() for text in strings(fields)]
    assert not [text for text in plain if text.startswith(("/", "~"))]


def settings(app: App) -> dict[str, str]:
    """The settings of Base.xcconfig."""
    lines = (app.home / "Config" / "Base.xcconfig").read_text(encoding="utf-8").split("\n")
    assert [line for line in lines if line.strip()][-1] == '#include? "Local.xcconfig"'
    pairs = (line.partition(" = ") for line in lines if not line.startswith("//"))
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}


def test_settings_of_a_person_come_last_and_may_be_missing(app):
    assert {"PRODUCT_BUNDLE_IDENTIFIER", "SWIFT_VERSION", "INFOPLIST_FILE"} <= set(settings(app))
    assert "Config/Local.xcconfig" in (app.home / ".gitignore").read_text(encoding="utf-8").split()


def test_an_identifier_carries_the_team(app):
    assert settings(app)["PRODUCT_BUNDLE_IDENTIFIER"].endswith(".$(DEVELOPMENT_TEAM:default=unsigned)")
    example = (app.home / "Config" / "Local.xcconfig.example").read_text(encoding="utf-8")
    assert "PRODUCT_BUNDLE_IDENTIFIER" not in example


def test_more_memory_is_asked_for_by_one_setting(bench):
    values = settings(bench)
    assert values["EDGESAM_INCREASED_MEMORY"] == "NO"
    assert values["CODE_SIGN_ENTITLEMENTS"] == "$(EDGESAM_ENTITLEMENTS_$(EDGESAM_INCREASED_MEMORY))"
    entitlements = plistlib.loads((bench.home / values["EDGESAM_ENTITLEMENTS_YES"]).read_bytes())
    assert entitlements == {"com.apple.developer.kernel.increased-memory-limit": True}
    assert "EDGESAM_ENTITLEMENTS_NO" not in values  # it is empty
    info = plistlib.loads((bench.home / "Info.plist").read_bytes())
    assert info["EdgeSAMIncreasedMemory"] == "$(EDGESAM_INCREASED_MEMORY)"


def test_an_info_plist_has_what_ios_asks_for(app):
    info = plistlib.loads((app.home / "Info.plist").read_bytes())
    assert info["UIRequiredDeviceCapabilities"] == ["arm64"]
    assert info["CFBundleIdentifier"] == "$(PRODUCT_BUNDLE_IDENTIFIER)"
    # Without a launch screen iOS letterboxes the app.
    assert info["UILaunchScreen"] == {}


def test_the_benchmarks_documents_can_be_reached_without_developer_tools(bench):
    info = plistlib.loads((bench.home / "Info.plist").read_bytes())
    assert info["UIFileSharingEnabled"] is True
    assert info["LSSupportsOpeningDocumentsInPlace"] is True


def test_the_demo_says_why_it_wants_the_camera_and_needs_no_generated_classes(demo):
    assert plistlib.loads((demo.home / "Info.plist").read_bytes())["NSCameraUsageDescription"]
    assert settings(demo)["COREML_CODEGEN_LANGUAGE"] == "None"
    assert "Models/" in (demo.home / ".gitignore").read_text(encoding="utf-8").split()


def test_a_package_gets_no_scheme_of_the_apps_name(app):
    path = app.bundle / "project.xcworkspace" / "xcshareddata" / "WorkspaceSettings.xcsettings"
    assert plistlib.loads(path.read_bytes()) == {"IDEWorkspaceSharedSettings_AutocreateContextsIfNeeded": False}


def test_the_projects_on_disk_are_what_the_generator_writes():
    module = generator()
    assert {app.name for app in module.APPS} == {path.parent.name for path in APPS.glob("*/Sources")}
    for made in module.APPS:
        for name, text in module.make_files(made).items():
            path = made.home / name
            assert path.read_bytes() == text.encode(), f"{path}: run python swift/Apps/make_xcodeproj.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_new_file_changes_only_lines_about_itself(monkeypatch, name):
    module = generator()
    (made,) = (made for made in module.APPS if made.name == name)
    before = module.make_project(made)[0].splitlines()
    names = module.app_files(made)
    monkeypatch.setattr(module, "app_files", lambda app: sorted([*names, "Sources/Zebra.swift"]))
    after = module.make_project(made)[0].splitlines()
    assert [line for line in after if "Zebra.swift" not in line] == before
    assert sum("Zebra.swift" in line for line in after) == 4  # build file, reference, group, phase


def test_the_generator_checks_and_rewrites(tmp_path):
    module = generator()
    apps = (replace(module.BENCH, folder=tmp_path),)
    for name in ("Config/Base.xcconfig", "Sources/A.swift", "Info.plist", "Assets.xcassets/Contents.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert module.main(["--check"], apps) == 1
    assert not list(tmp_path.glob("*.xcodeproj"))
    assert module.main([], apps) == 0
    assert module.main(["--check"], apps) == 0
    (tmp_path / "Sources" / "B.swift").write_text("")
    assert module.main(["--check"], apps) == 1


def test_the_generator_refuses_what_it_does_not_know(tmp_path):
    module = generator()
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(ValueError, match=r"model\.bin"):
        module.app_files(replace(module.BENCH, folder=tmp_path))
    assert module.main(["--force"]) == 2


def test_models_of_an_export_are_copied_whole_under_names_of_the_apps(tmp_path, capsys):
    module = generator()
    demo = replace(module.DEMO, folder=tmp_path / "app")
    export = tmp_path / "export"

    def package(name: str, content: str) -> None:
        (export / name / "Data").mkdir(parents=True)
        (export / name / "Manifest.json").write_text("{}")
        (export / name / "Data" / "weight.bin").write_text(content)

    export.mkdir()
    assert module.main(["--models", str(export)], (module.BENCH, demo)) == 1
    package("edge_sam_tiny_encoder.mlpackage", "encoder")
    package("edge_sam_tiny_decoder.mlpackage", "decoder")
    old = demo.home / "Models" / "Encoder.mlpackage"
    old.mkdir(parents=True)
    (old / "left-over").write_text("")
    assert module.main(["--models", str(export)], (module.BENCH, demo)) == 0
    copied = {path.relative_to(demo.home).as_posix() for path in demo.home.rglob("*") if path.is_file()}
    assert copied == {
        f"Models/{name}.mlpackage/{file}"
        for name in ("Encoder", "Decoder")
        for file in ("Manifest.json", "Data/weight.bin")
    }
    assert (demo.home / "Models/Encoder.mlpackage/Data/weight.bin").read_text() == "encoder"
    package("edge_sam_3x_encoder.mlpackage", "another")
    capsys.readouterr()
    assert module.main(["--models", str(export)], (demo,)) == 1
    problem = capsys.readouterr().err
    assert "edge_sam_3x_encoder.mlpackage, edge_sam_tiny_encoder.mlpackage" in problem and problem.count("\n") == 1
    assert (demo.home / "Models/Encoder.mlpackage/Data/weight.bin").read_text() == "encoder"  # nothing was touched

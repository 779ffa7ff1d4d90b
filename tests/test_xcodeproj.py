"""The app's Xcode project: whole, complete, the same on every machine, and made for measuring."""

from __future__ import annotations

import importlib.util
import plistlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

APPS = Path(__file__).resolve().parents[1] / "swift" / "Apps"
APP = APPS / "EdgeSAMBench"
PROJECT = APP / "EdgeSAMBench.xcodeproj"
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


@cache
def project() -> dict[str, Any]:
    return parse_openstep((PROJECT / "project.pbxproj").read_text(encoding="utf-8"))


def objects(isa: str) -> dict[str, dict[str, Any]]:
    return {key: fields for key, fields in project()["objects"].items() if fields["isa"] == isa}


@cache
def scheme() -> ElementTree.Element:
    return ElementTree.parse(PROJECT / "xcshareddata" / "xcschemes" / "EdgeSAMBench.xcscheme").getroot()


@cache
def generator() -> ModuleType:
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


def listed_files() -> dict[str, str]:
    """Path -> identifier of the reference, walking the groups from the top."""
    found: dict[str, str] = {}

    def walk(group: str, folder: str) -> None:
        for child in project()["objects"][group]["children"]:
            fields = project()["objects"][child]
            path = f"{folder}{fields['path']}" if "path" in fields else folder
            if fields["isa"] == "PBXGroup":
                walk(child, f"{path}/" if "path" in fields else folder)
            elif fields["sourceTree"] == "<group>":
                assert path not in found, f"{path} is listed twice"
                found[path] = child

    walk(next(iter(objects("PBXProject").values()))["mainGroup"], "")
    return found


def phase_files(isa: str) -> list[str]:
    (phase,) = objects(isa).values()
    return [project()["objects"][build_file].get("fileRef", "") for build_file in phase["files"]]


def test_the_parser_reads_every_kind_of_value():
    text = '// !$*UTF8*$!\n{ a /* why */ = (x, "y; \\"z\\"", ); "b c" = { d = ../..; e = ( ); }; }'
    assert parse_openstep(text) == {"a": ["x", 'y; "z"'], "b c": {"d": "../..", "e": []}}


@pytest.mark.parametrize(
    "text", ["{ a = b }", "{ a = b; a = c; }", "( a b )", "{ a = <ff>; }", "{ a = b; } c", "{ = b; }"]
)
def test_the_parser_refuses_broken_text(text):
    with pytest.raises(AssertionError):
        parse_openstep(text)


def test_every_identifier_exists_and_every_object_is_reached():
    known = project()["objects"]
    assert all(IDENTIFIER.fullmatch(key) for key in known)
    assert project()["rootObject"] in objects("PBXProject")
    reached, waiting = set(), {project()["rootObject"]}
    while waiting:
        key = waiting.pop()
        assert key in known, f"nothing is called {key}"
        reached.add(key)
        waiting |= references(known[key]) - reached
    assert set(known) == reached


def test_every_file_on_disk_is_listed_and_every_listed_file_exists():
    listed = listed_files()
    assert all((APP / path).exists() for path in listed)
    inside = [path.relative_to(APP) for path in APP.rglob("*") if path.is_file()]
    expected = {
        "Assets.xcassets" if path.parts[0] == "Assets.xcassets" else path.as_posix()
        for path in inside
        if path.parts[0] != PROJECT.name and path.name not in {".gitignore", ".DS_Store", "Local.xcconfig"}
    }
    assert set(listed) == expected


def test_sources_are_compiled_and_assets_copied_once_each():
    listed = listed_files()
    swift = [key for path, key in listed.items() if path.endswith(".swift")]
    assert len(swift) >= 5
    assert sorted(phase_files("PBXSourcesBuildPhase")) == sorted(swift)
    # Info.plist is named by a build setting; copied as a resource it fails the build.
    assert phase_files("PBXResourcesBuildPhase") == [listed["Assets.xcassets"]]


def test_the_package_lies_where_the_project_says_and_has_the_products():
    (package,) = objects("XCLocalSwiftPackageReference").items()
    manifest = (APP / package[1]["relativePath"]).resolve() / "Package.swift"
    assert manifest == APPS.parent / "Package.swift"
    products = {fields["productName"]: key for key, fields in objects("XCSwiftPackageProductDependency").items()}
    assert set(products) == {"EdgeSAM", "EdgeSAMBench"}
    assert {fields["package"] for fields in objects("XCSwiftPackageProductDependency").values()} == {package[0]}
    declared = re.findall(r'\.library\(name: "(\w+)"', manifest.read_text(encoding="utf-8"))
    assert set(products) <= set(declared)
    (target,) = objects("PBXNativeTarget").values()
    (frameworks,) = objects("PBXFrameworksBuildPhase").values()
    linked = [project()["objects"][key]["productRef"] for key in frameworks["files"]]
    assert sorted(target["packageProductDependencies"]) == sorted(linked) == sorted(products.values())


def test_the_only_configuration_is_release():
    assert project()["objectVersion"] == "60"
    assert {fields["name"] for fields in objects("XCBuildConfiguration").values()} == {"Release"}
    assert {fields["defaultConfigurationName"] for fields in objects("XCConfigurationList").values()} == {"Release"}
    (top,) = objects("PBXProject").values()
    (key,) = project()["objects"][top["buildConfigurationList"]]["buildConfigurations"]
    assert project()["objects"][key]["baseConfigurationReference"] == listed_files()["Config/Base.xcconfig"]


def test_every_action_of_the_scheme_builds_release_without_a_debugger():
    configured = {action.tag: action.get("buildConfiguration") for action in scheme() if action.tag != "BuildAction"}
    actions = ("TestAction", "LaunchAction", "ProfileAction", "AnalyzeAction", "ArchiveAction")
    assert configured == dict.fromkeys(actions, "Release")
    for action in ("TestAction", "LaunchAction"):
        assert scheme().find(action).get("selectedDebuggerIdentifier") == ""
        assert scheme().find(action).get("selectedLauncherIdentifier").endswith(".PosixSpawn")


def test_the_scheme_means_the_apps_target():
    (target,) = objects("PBXNativeTarget")
    found = list(scheme().iter("BuildableReference"))
    assert len(found) == 3  # build, run, profile
    assert {reference.get("BlueprintIdentifier") for reference in found} == {target}
    assert {reference.get("ReferencedContainer") for reference in found} == {"container:EdgeSAMBench.xcodeproj"}


def test_nothing_depends_on_a_person_or_a_machine():
    for path in [*PROJECT.rglob("*"), *(APP / "Config").glob("*.*"), APP / "Info.plist"]:
        if not path.is_file() or path.name == "Local.xcconfig" or "xcuserdata" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:Users|home|Applications|private|work|tmp)/|~/|file:", text), path
        assert not re.search(r"DEVELOPMENT_TEAM *= *[^\s;]|DevelopmentTeam|PROVISIONING_PROFILE", text), path
    plain = [text for fields in project()["objects"].values() for text in strings(fields)]
    assert not [text for text in plain if text.startswith(("/", "~"))]


def test_settings_of_a_person_come_last_and_may_be_missing():
    lines = (APP / "Config" / "Base.xcconfig").read_text(encoding="utf-8").split("\n")
    assert [line for line in lines if line.strip()][-1] == '#include? "Local.xcconfig"'
    settings = {key.strip() for key, sign, _ in (line.partition("=") for line in lines) if sign}
    assert {"DEVELOPMENT_TEAM", "PRODUCT_BUNDLE_IDENTIFIER", "SWIFT_VERSION", "INFOPLIST_FILE"} <= settings
    assert "Config/Local.xcconfig" in (APP / ".gitignore").read_text(encoding="utf-8").split()


def test_the_apps_documents_can_be_reached_without_developer_tools():
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    assert info["UIFileSharingEnabled"] is True
    assert info["LSSupportsOpeningDocumentsInPlace"] is True
    assert info["UIRequiredDeviceCapabilities"] == ["arm64"]
    assert info["CFBundleIdentifier"] == "$(PRODUCT_BUNDLE_IDENTIFIER)"
    # Without a launch screen iOS letterboxes the app.
    assert info["UILaunchScreen"] == {}


def test_the_package_gets_no_scheme_of_the_apps_name():
    path = PROJECT / "project.xcworkspace" / "xcshareddata" / "WorkspaceSettings.xcsettings"
    assert plistlib.loads(path.read_bytes()) == {"IDEWorkspaceSharedSettings_AutocreateContextsIfNeeded": False}


def test_the_project_on_disk_is_what_the_generator_writes():
    for name, text in generator().make_files().items():
        assert (APP / name).read_bytes() == text.encode(), f"{name}: run python swift/Apps/make_xcodeproj.py"


def test_a_new_file_changes_only_lines_about_itself(monkeypatch):
    module = generator()
    before = module.make_project()[0].splitlines()
    names = module.app_files()
    monkeypatch.setattr(module, "app_files", lambda: sorted([*names, "Sources/Zebra.swift"]))
    after = module.make_project()[0].splitlines()
    assert [line for line in after if "Zebra.swift" not in line] == before
    assert sum("Zebra.swift" in line for line in after) == 4  # build file, reference, group, phase


def test_the_generator_checks_and_rewrites(tmp_path, monkeypatch):
    module = generator()
    monkeypatch.setattr(module, "APP", tmp_path)
    for name in ("Config/Base.xcconfig", "Sources/A.swift", "Info.plist", "Assets.xcassets/Contents.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert module.main(["--check"]) == 1
    assert not list(tmp_path.glob("*.xcodeproj"))
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    (tmp_path / "Sources" / "B.swift").write_text("")
    assert module.main(["--check"]) == 1


def test_the_generator_refuses_what_it_does_not_know(tmp_path, monkeypatch):
    module = generator()
    monkeypatch.setattr(module, "APP", tmp_path)
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(ValueError, match=r"model\.bin"):
        module.app_files()
    assert module.main(["--force"]) == 2

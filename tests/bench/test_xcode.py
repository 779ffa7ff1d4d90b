"""Finding Xcode through its tools, building and signing with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesam_export.bench.devices import BackendOptions
from edgesam_export.bench.devices.commands import CommandLog
from edgesam_export.bench.devices.xcode import (
    build_app,
    bundle_identifier,
    find_swift_folder,
    find_xcode,
    verify_signature,
)
from edgesam_export.errors import BuildFailure, DeviceSetupFailure, UsageError


@pytest.fixture
def log(tools) -> CommandLog:
    return CommandLog(tools.run / "log")


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder that looks like the Swift package."""
    folder = tmp_path / "swift"
    (folder / "Apps/EdgeSAMBench/EdgeSAMBench.xcodeproj").mkdir(parents=True)
    (folder / "Package.swift").write_text("")
    return folder


def test_xcode_is_found_and_named(tools, log):
    xcode = find_xcode(log, platform="darwin")
    assert (xcode.version, xcode.build, xcode.devicectl, xcode.major) == ("16.2", "16C5032a", "397.24", 16)
    assert tools.argv(0, "xcode-select") == ["-p"]
    assert tools.argv(0, "xcodebuild") == ["-version"]
    assert tools.argv(0) == ["devicectl", "--version"]


@pytest.mark.parametrize(
    ("replies", "kind", "words"),
    [
        (
            {"xcode-select": [{"exit": 2, "stderr": "error: unable to get active developer directory"}]},
            "no_xcode",
            "unable to get",
        ),
        ({"xcode-select": [{"stdout": "/Library/Developer/CommandLineTools\n"}]}, "tools_only", "Command Line Tools"),
        ({"xcodebuild": [{"exit": 69, "stderr": "agree to the Xcode license"}]}, "no_xcode", "license"),
        ({"xcodebuild": [{"stdout": "Xcode 14.3.1\nBuild version 14E300c\n"}]}, "old_xcode", "Xcode 14.3.1"),
        ({"version": [{"exit": 72, "stderr": "unable to find utility"}]}, "old_xcode", "Xcode 15 or later"),
    ],
    ids=["none-selected", "command-line-tools", "licence", "xcode-14", "no-devicectl"],
)
def test_an_environment_that_will_not_do(tools, log, replies, kind, words):
    tools.answer(**replies)
    with pytest.raises(DeviceSetupFailure, match=words) as caught:
        find_xcode(log, platform="darwin")
    assert caught.value.kind == kind and caught.value.exit_code == 3
    assert "xcode-select -s" in str(caught.value)


def test_another_system_is_told_before_any_tool_runs(tools, log):
    with pytest.raises(DeviceSetupFailure, match=r"needs macOS \(this is linux\)") as caught:
        find_xcode(log, platform="linux")
    assert caught.value.exit_code == 3 and tools.calls("xcode-select") == []


def test_without_any_tool(log, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(DeviceSetupFailure, match="cannot start xcode-select"):
        find_xcode(log, platform="darwin")


def test_the_command_line_of_a_build(tools, log, project, tmp_path):
    options = BackendOptions(team="ABCDE12345", bundle_id="org.me.bench", swift_folder=project)
    app = build_app(log, options, tmp_path / "DD", None)
    assert tools.argv(0, "xcodebuild") == [
        "build", "-project", "Apps/EdgeSAMBench/EdgeSAMBench.xcodeproj", "-scheme", "EdgeSAMBench",
        "-configuration", "Release", "-destination", "generic/platform=iOS",
        "-derivedDataPath", str(tmp_path / "DD"), "-allowProvisioningUpdates",
        "DEVELOPMENT_TEAM=ABCDE12345", "PRODUCT_BUNDLE_IDENTIFIER=org.me.bench", "CODE_SIGN_STYLE=Automatic",
    ]  # fmt: skip
    assert bundle_identifier(app) == "org.me.bench"


def test_more_memory_is_one_setting_of_the_project(tools, log, project, tmp_path):
    options = BackendOptions(team="ABCDE12345", increased_memory=True, swift_folder=project)
    build_app(log, options, tmp_path / "DD", None)
    assert tools.argv(0, "xcodebuild")[-3:] == [
        "DEVELOPMENT_TEAM=ABCDE12345", "EDGESAM_INCREASED_MEMORY=YES", "CODE_SIGN_STYLE=Automatic",
    ]  # fmt: skip


def test_registering_a_device_names_it_by_udid(tools, log, project, tmp_path):
    key = (Path("/keys/k.p8"), "KEYID", "ISSUER")
    options = BackendOptions(register_device=True, authentication_key=key, swift_folder=project)
    build_app(log, options, tmp_path / "DD", "UDID-1")
    assert tools.argv(0, "xcodebuild")[7:] == [
        "-destination", "platform=iOS,id=UDID-1", "-derivedDataPath", str(tmp_path / "DD"),
        "-allowProvisioningUpdates", "-allowProvisioningDeviceRegistration",
        "-authenticationKeyPath", "/keys/k.p8", "-authenticationKeyID", "KEYID", "-authenticationKeyIssuerID", "ISSUER",
        "CODE_SIGN_STYLE=Automatic",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="udid"):
        build_app(log, options, tmp_path / "DD", None)


def test_a_build_that_fails_is_explained_and_its_log_kept(tools, log, project, tmp_path):
    text = 'error: Signing for "EdgeSAMBench" requires a development team.\n'
    tools.answer(**{"xcodebuild build": [{"exit": 65, "stdout": text}]})
    with pytest.raises(BuildFailure, match="no development team is set") as caught:
        build_app(log, BackendOptions(swift_folder=project), tmp_path / "DD", None)
    assert caught.value.kind == "no_team" and caught.value.exit_code == 5
    assert Path(str(caught.value).rsplit("log: ", 1)[1]).read_text() == text


def test_a_compiler_error_is_quoted(tools, log, project, tmp_path):
    reply = {
        "exit": 65,
        "stdout": "CompileSwift x\n/a/App.swift:3:1: error: cannot find 'x' in scope\n** BUILD FAILED **\n",
    }
    tools.answer(**{"xcodebuild build": [reply]})
    with pytest.raises(BuildFailure, match=r"App.swift:3:1: error: cannot find 'x' in scope") as caught:
        build_app(log, BackendOptions(swift_folder=project), tmp_path / "DD", None)
    assert caught.value.kind == "build_failed" and caught.value.exit_code == 5


def test_a_build_without_a_product_is_a_failure(tools, log, project, tmp_path):
    tools.answer(**{"xcodebuild build": [{"stdout": "** BUILD SUCCEEDED **"}]})
    with pytest.raises(BuildFailure, match=r"left no .*EdgeSAMBench\.app"):
        build_app(log, BackendOptions(swift_folder=project), tmp_path / "DD", None)


def test_without_a_project_the_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no Package\.swift in"):
        find_swift_folder(BackendOptions(swift_folder=tmp_path))


def test_the_signature_is_checked(tools, log, tmp_path):
    verify_signature(log, tmp_path / "A.app")
    assert tools.argv(0, "codesign") == ["--verify", "--deep", "--strict", str(tmp_path / "A.app")]
    tools.answer(codesign=[{"exit": 1, "stderr": "A.app: code object is not signed at all"}])
    with pytest.raises(BuildFailure, match=r"not signed at all.*--team") as caught:
        verify_signature(log, tmp_path / "A.app")
    assert caught.value.kind == "not_signed"


@pytest.mark.parametrize("content", [None, b"", b"<plist><dict>", b"junk", b"<plist><array/></plist>"])
def test_an_app_without_an_identifier(tmp_path, content):
    if content is not None:
        (tmp_path / "Info.plist").write_bytes(content)
    with pytest.raises(BuildFailure, match="bundle identifier"):
        bundle_identifier(tmp_path)

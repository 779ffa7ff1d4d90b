"""Fake Apple tools first on PATH, driven by a scenario."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from edgesam_export.bench.devices import BackendOptions
from edgesam_export.bench.devices.backends.devicectl import Devicectl
from edgesam_export.bench.devices.xcode import Xcode

HERE = Path(__file__).parent
XCODE = {
    "xcode-select": [{"stdout": "/Applications/Xcode.app/Contents/Developer\n"}],
    "xcodebuild": [{"stdout": "Xcode 16.2\nBuild version 16C5032a\n"}],
    "version": [{"stdout": "397.24\n"}],
}


class Tools:
    """The fake tools of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.container = folder / "container"
        self.run = folder / "run"
        self.folder.mkdir()
        self.container.mkdir()
        self.replies: dict[str, Any] = {}
        self.app: dict[str, Any] = {}
        source = (HERE / "fake_tools.py").read_text()
        for name in ("xcrun", "xcodebuild", "codesign", "xcode-select"):
            path = self.folder / name
            path.write_text(f"#!{sys.executable} -IS\n{source}")
            path.chmod(0o755)
        self.answer(**XCODE)

    def answer(self, **replies: Any) -> None:
        """Set replies by command; ``_`` in a keyword stands for a blank."""
        self.replies |= {name.replace("_", " "): reply for name, reply in replies.items()}
        scenario = {"replies": self.replies, "container": str(self.container)} | self.app
        (self.folder / "scenario.json").write_text(json.dumps(scenario))

    def calls(self, tool: str = "xcrun") -> list[dict[str, Any]]:
        path = self.folder / "calls.ndjson"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in found if call["tool"] == tool]

    def argv(self, index: int = -1, tool: str = "xcrun") -> list[str]:
        """Return a call's arguments with the path of its JSON file as J."""
        argv = list(self.calls(tool)[index]["argv"])
        if "--json-output" in argv:
            argv[argv.index("--json-output") + 1] = "J"
        return argv

    def devicectl(self, platform: str = "darwin", find_xcode: bool = False, **options: Any) -> Devicectl:
        """Return a backend; unless it is to find Xcode by itself, it knows one already."""
        backend = Devicectl(
            options=BackendOptions(**{"bundle_id": "com.example.Bench"} | options),
            run_folder=self.run,
            platform=platform,
        )
        if not find_xcode:
            backend.xcode = Xcode(folder="/Xcode.app", version="16.2", build="16C5032a", devicectl="397.24")
        return backend


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    found = Tools(tmp_path)
    monkeypatch.setenv("PATH", f"{found.folder}{os.pathsep}{os.environ['PATH']}")
    return found


@pytest.fixture
def listed() -> dict[str, Any]:
    """What ``list devices`` wrote."""
    return json.loads((HERE / "scenarios" / "list_devices.json").read_text())


@pytest.fixture
def listed_v5() -> dict[str, Any]:
    """What ``list devices`` writes in JSON version 5 once the fields that it calls deprecated are gone."""
    return json.loads((HERE / "scenarios" / "list_devices_v5.json").read_text())


@pytest.fixture
def locked() -> dict[str, Any]:
    """What ``process launch`` wrote for a locked phone."""
    return json.loads((HERE / "scenarios" / "launch_locked.json").read_text())

"""Hooks and workflows agree with the Makefile and with what the package says it needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from edgesam_export.resources import read_toml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """The commands of a target."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip().removeprefix("@") for line in lines.splitlines()]


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def test_hooks_are_the_checks_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    checks = {
        line.replace("$(RUN)", ".venv/bin").replace("$(VENV)", ".venv").removesuffix(" .") for line in recipe("lint")
    }
    assert {hook["entry"].removesuffix(" --force-exclude") for hook in hooks} == checks


def test_the_workflow_runs_every_python_that_the_package_allows():
    first, end = re.findall(r"3\.(\d+)", read_toml(ROOT / "pyproject.toml")["project"]["requires-python"])
    versions = workflow("ci")["jobs"]["python"]["strategy"]["matrix"]["python"]
    assert versions == [f"3.{minor}" for minor in range(int(first), int(end))]


def test_the_workflow_runs_every_part_of_make_test():
    steps = [step.get("run", "") for job in workflow("ci")["jobs"].values() for step in job["steps"]]
    targets = {word for step in steps for word in re.findall(r"make ([a-z-]+)", step)}
    assert set(re.findall(r"^PARTS := (.*)$", MAKEFILE, re.MULTILINE)[0].split()) <= targets


def test_the_apple_workflow_runs_on_push_with_one_xcode_and_what_the_tests_open():
    file = workflow("ios")
    triggers = file[True]  # YAML reads the key "on" as a truth value
    assert set(triggers) == {"push", "pull_request", "workflow_dispatch"}
    assert re.fullmatch(r"/Applications/Xcode_\d+\.\d+\.app/Contents/Developer", file["env"]["DEVELOPER_DIR"])
    runs = [step.get("run", "") for step in file["jobs"]["package"]["steps"]]
    order = [
        next(i for i, run in enumerate(runs) if word in run)
        for word in ("make setup", "swift_fixtures", "make swift-test")
    ]
    assert order == sorted(order)
    apps = file["jobs"]["app"]["strategy"]["matrix"]["app"]
    assert apps == sorted(path.parent.name for path in (ROOT / "swift" / "Apps").glob("*/Sources"))


def test_the_apple_workflow_uses_the_identifier_of_a_build_without_a_team():
    settings = (ROOT / "swift/Apps/EdgeSAMBench/Config/Base.xcconfig").read_text(encoding="utf-8")
    (identifier,) = re.findall(r"^PRODUCT_BUNDLE_IDENTIFIER = (\S+)$", settings, re.MULTILINE)
    without_team = re.sub(r"\$\(DEVELOPMENT_TEAM:default=(\w+)\)", r"\1", identifier)
    assert workflow("ios")["env"]["BUNDLE_ID"] == without_team


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the lock's other half is for this version")
def test_every_requirement_is_locked_once_for_each_python():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r'([\w.-]+)==([\w.]+)(?:; python_version (<|>=) "3\.11")?', line) for line in lines]
    assert all(pins), [line for line, pin in zip(lines, pins) if not pin]
    for marker in ("<", ">="):
        names = [pin[1].lower() for pin in pins if pin[3] in (None, marker)]
        assert len(names) == len(set(names))
        project = read_toml(ROOT / "pyproject.toml")["project"]
        needed = [*project["dependencies"], *project["optional-dependencies"]["distill"]]
        assert {re.match(r"[\w-]+", need)[0] for need in needed if "python_version" not in need} <= set(names)

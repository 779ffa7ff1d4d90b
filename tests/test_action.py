"""The composite action: its steps as a runner's shell executes them, its inputs as the documentation names them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from edgesam_export.resources import SAMPLES

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
STAND_IN = """#!/bin/sh
echo "$@" >> "$CALLS"
while [ "$1" ] && [ "$1" != --output ]; do shift; done
mkdir -p "$2"
echo "## a report" > "$2/parity.md"
exit "$CODE"
"""


@dataclass
class Job:
    """A job whose steps share a folder, a summary and outputs."""

    folder: Path
    inputs: dict[str, str]
    environment: dict[str, str]

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Execute one step as GitHub's runner does with ``shell: bash``."""
        step = STEPS[name]
        assert step["shell"] == "bash"
        script = self.folder / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        given = {key: EXPRESSION.sub(self.value, text) for key, text in step["env"].items()}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.folder,
            env={**self.environment, **given},
            capture_output=True,
            text=True,
            check=False,
        )

    def value(self, expression: re.Match[str]) -> str:
        """Return what the runner puts in the place of an expression."""
        kind, _, name = expression[1].partition(".")
        if (kind, name) == ("github", "action_path"):
            return str(ROOT)
        assert kind == "inputs", expression[0]
        default = ACTION["inputs"][name]["default"]
        return self.inputs.get(name, EXPRESSION.sub(self.value, default))

    def written(self, name: str) -> str:
        path = Path(self.environment[name])
        return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.fixture
def job(tmp_path: Path):
    """``job(**inputs)`` -> a job; ``-`` of an input's name is written as ``_``."""
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if key in ("HOME", "PYTHONPATH", "XDG_CACHE_HOME", "LANG")}
    files = {
        name: str(tmp_path / name.lower()) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_PATH", "CALLS")
    }

    def make(**inputs: str) -> Job:
        named = {name.replace("_", "-"): value for name, value in inputs.items()}
        return Job(folder=tmp_path, inputs=named, environment={**kept, **files, "PATH": scripts, "CODE": "0"})

    return make


@pytest.fixture
def stand_in(job, tmp_path: Path):
    """The same with a program that only writes down how it was called, and ends with ``CODE``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "edgesam-export"
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)

    def make(code: int = 0, **inputs: str) -> Job:
        made = job(**inputs)
        made.environment |= {"PATH": f"{folder}{os.pathsep}{made.environment['PATH']}", "CODE": str(code)}
        return made

    return make


def small_images(folder: Path) -> str:
    """Two small images as options of ``parity``."""
    options = []
    for name in ("cat", "coffee"):
        with Image.open(SAMPLES / f"{name}.jpg") as image:
            image.resize((96, 64)).save(folder / f"{name}.png")
        options.append(f"--image {name}.png")
    return " ".join(options)


def test_a_model_is_exported_and_checked_and_the_summary_shows_it(job, tmp_path):
    one = job(model="edge_sam_tiny", formats="onnx", output="out", parity_options=small_images(tmp_path))
    for name in ("Export", "Analyse", "Parity"):
        done = one.run(name)
        assert done.returncode == 0, done.stderr + done.stdout
    assert one.written("GITHUB_OUTPUT") == "passed=true\n"
    assert one.written("GITHUB_STEP_SUMMARY").startswith("## ✅ Parity of edge\\_sam\\_tiny\n\nparity: all ")
    assert ElementTree.parse(tmp_path / "out" / "parity.xml").getroot().tag == "testsuites"


def test_packages_are_analysed_each_with_a_report_for_code_scanning(job, coreml_files, tmp_path):
    shutil.copytree(coreml_files[1].path, tmp_path / "my files" / "decoder.mlpackage")
    one = job(files="my files", output="out", target="iPhone 14")
    done = one.run("Analyse")
    assert done.returncode == 0, done.stderr
    assert "decoder.mlpackage" in one.written("GITHUB_STEP_SUMMARY")
    assert list((tmp_path / "out").glob("*.sarif"))
    one.inputs["fail-on"] = "warning"
    assert one.run("Analyse").returncode == 1


def test_a_failed_gate_fails_the_step_and_is_still_in_the_summary(stand_in):
    one = stand_in(
        code=1, files="theirs.onnx\nmore of theirs.onnx", model="mobile_sam", profile="sam6", checkpoint="w.pt"
    )
    done = one.run("Parity")
    assert done.returncode == 1 and "::error::edgesam-export: a parity gate failed" in done.stdout
    assert one.written("GITHUB_OUTPUT") == "passed=false\n"
    assert one.written("GITHUB_STEP_SUMMARY") == "## a report\n"
    called = "parity theirs.onnx more of theirs.onnx --checkpoint w.pt --model mobile_sam --profile sam6 --quiet"
    assert one.written("CALLS") == f"{called} --output build/edgesam-export\n"


def test_an_error_is_no_failed_gate(stand_in):
    one = stand_in(code=2, files="theirs.onnx")
    assert one.run("Parity").returncode == 2
    assert one.written("GITHUB_OUTPUT") == ""


def test_an_export_takes_options_and_a_failure_ends_it(stand_in):
    one = stand_in(model="edge_sam_3x", export_options="--points 5 --mask-input", checkpoint="my weights.pth")
    assert one.run("Export").returncode == 0
    shared = "edge_sam_3x --points 5 --mask-input --checkpoint my weights.pth --no-verify --quiet"
    lines = [f"{name} {shared} --output build/edgesam-export" for name in ("coreml", "onnx")]
    assert one.written("CALLS").splitlines() == lines
    one.environment["CODE"] = "2"
    assert one.run("Export").returncode == 2
    assert len(one.written("CALLS").splitlines()) == 3  # the second format is not tried


def test_options_may_stand_on_lines_of_their_own(stand_in):
    lines = "--prompts tests/prompts.json\n--gates strict.toml\n"
    one = stand_in(
        model="edge_sam_3x", formats="coreml\nonnx\n", export_options="--points 5\n--mask-input", parity_options=lines
    )
    assert one.run("Export").returncode == 0 and one.run("Parity").returncode == 0
    coreml, onnx, parity = one.written("CALLS").splitlines()
    assert coreml.startswith("coreml edge_sam_3x --points 5 --mask-input --no-verify")
    assert onnx.startswith("onnx edge_sam_3x --points 5 --mask-input --no-verify")
    assert "--prompts tests/prompts.json --gates strict.toml --quiet" in parity


def test_reports_of_an_earlier_run_are_not_shown_as_this_ones(stand_in, tmp_path):
    out = tmp_path / "out"
    (out / "net.mlpackage").mkdir(parents=True)
    stale = [out / name for name in ("net_ane.md", "gone_ane.sarif", "parity.xml", "parity.html")]
    for path in (*stale, out / "parity.json"):
        path.write_text("an earlier run's", encoding="utf-8")
    one = stand_in(code=2, model="edge_sam_tiny", output="out")
    assert (one.run("Analyse").returncode, one.run("Parity").returncode) == (2, 2)
    assert not [path.name for path in stale if path.exists()]
    assert "an earlier run's" not in one.written("GITHUB_STEP_SUMMARY")
    assert (out / "parity.json").exists()  # it may be the baseline


def test_neither_a_model_nor_files_is_said_so(stand_in):
    done = stand_in().run("Export")
    assert done.returncode == 2 and "::error::edgesam-export: give model, to export, or files, to check" in done.stdout


def test_values_are_never_run_as_code(stand_in, tmp_path):
    hostile = "$(touch hacked) `touch hacked`; touch hacked"
    one = stand_in(files=hostile, model=hostile, profile=hostile, checkpoint=hostile, parity_options=hostile)
    for name in ("Export", "Parity"):
        one.run(name)
    assert not (tmp_path / "hacked").exists()
    assert not [step["name"] for step in STEPS.values() if "${{" in step["run"]]


def test_the_package_is_installed_from_the_actions_own_checkout(job, tmp_path):
    one = job(python=sys.executable)
    site = tmp_path / "site"
    # into a folder of its own, with the build tools that are here
    one.environment |= {"PIP_TARGET": str(site), "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    done = one.run("Install")
    assert done.returncode == 0, done.stderr
    assert (site / "edgesam_export" / "models" / "manifest.toml").is_file()
    assert str(Path(sys.executable).parent) in one.written("GITHUB_PATH").splitlines()
    one.inputs["package"] = ""
    shutil.rmtree(site)
    assert one.run("Install").returncode == 0 and not site.exists()


def test_every_input_is_used_and_every_expression_is_an_input():
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(ACTION["inputs"])
    assert all("description" in entry and "default" in entry for entry in ACTION["inputs"].values())

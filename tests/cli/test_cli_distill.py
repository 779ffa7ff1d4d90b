"""The command ``distill``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from edgesam_export.cli.app import cli
from edgesam_export.cli.distill import CONFIG_OPTIONS
from edgesam_export.distill.config import DistillConfig, parse_schedule, schedule_text

NAME = "edge_sam_tiny"
SMALL = ("--schedule", "64:1:2", "--objects", 1, "--rounds", 1, "--workers", 0, "--checkpoint-every", 1, "--quiet")


def test_a_run_is_described_resumed_and_repeated_from_its_configuration(command, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    code, out, err = command("distill", NAME, *SMALL, "--seed", 4, "--freeze", "prompt_encoder", "--output", first)
    assert (code, err) == (0, "") and f"weights  {first / NAME}.safetensors" in out
    saved = json.loads((first / "config.json").read_text())
    assert (saved["seed"], saved["freeze"], saved["rounds"]) == (4, ["prompt_encoder"], 1)
    code, out, _ = command("distill", NAME, "--config", first / "config.json", "--output", again, "--json")
    assert code == 0 and json.loads(out)["steps"] == 2
    one, other = (load_file(folder / f"{NAME}.safetensors") for folder in (first, again))
    assert all(bool((one[name] == other[name]).all()) for name in one)
    code, _, err = command("distill", NAME, "--config", first / "config.json", "--output", again)
    assert code == 2 and "holds this run already; go on with --resume" in err
    newest = again / "checkpoints" / "step_00000001.pt"
    for words in (("--resume",), ("--resume-from", newest)):
        code, _, err = command("distill", NAME, "--config", first / "config.json", "--output", again, *words)
        assert code == 0, err
    for seed in (5, 0):  # 0 is the default: given on the command line it counts, left out it does not
        words = ("--config", first / "config.json", "--seed", seed, "--output", again)
        code, _, err = command("distill", NAME, *words)
        assert code == 2 and f"holds a run with seed 4, not {seed}" in err


def test_the_defaults_in_the_help_are_those_of_the_configuration(command):
    config = DistillConfig(student=NAME)
    code, out, _ = command("distill", "--help")
    page = " ".join(out.split())
    assert code == 0
    options = {parameter.name: parameter for parameter in cli.commands["distill"].params}
    for name in CONFIG_OPTIONS:
        default = getattr(config, name)
        shown = schedule_text(default) if name == "schedule" else default
        assert options[name].default == (shown or None if isinstance(shown, tuple) else shown), name
        if shown not in (None, (), False):
            assert f"[default: {shown}" in page.partition(f"--{name.replace('_', '-')} ")[2][:300], name
    assert parse_schedule(options["schedule"].default) == config.schedule


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no_such_model",), "no_such_model"),
        ((NAME, "--schedule", "500:1:1"), "schedule part '500:1:1'"),
        ((NAME, "--stage", "encoder"), "name one with --teacher"),
        ((NAME, "--stage", "recover"), "belong together"),
        ((NAME, "--stage", "recover", "--compress", "palettize5", "--checkpoint", "x"), "palettize5"),
        ((NAME, "--stage", "recover", "--compress", "missing.toml"), "missing.toml"),
        ((NAME, "--teacher-random-weights", "0"), "but no teacher"),
        ((NAME, "--freeze", "neck"), "freeze names 'neck'"),
        ((NAME, "--data", "scenes:x"), "scenes:x"),
        ((NAME, "--data", "missing/folder"), "missing/folder"),
        ((NAME, "--config", "missing.json"), "missing.json"),
        ((NAME, "--resume-from", "missing.pt"), "missing.pt"),
        ((NAME, "--checkpoint", "missing.pth"), "missing.pth"),
        ((NAME, "--amp", "fp16", "--device", "cpu"), "fp16"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_no_run(command, tmp_path, words, message):
    output = tmp_path / "run"
    code, out, err = command("distill", *words, "--workers", "0", "--output", output)
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1
    assert not list(Path(output).glob("*.safetensors")) and not (output / "checkpoints").exists()


@pytest.mark.parametrize(("capability", "reported"), [("AVX2", True), ("AVX512", False)])
def test_emulated_bf16_is_reported_before_it_costs_hours(command, tmp_path, monkeypatch, capability, reported):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    code, _, err = command("distill", NAME, "--amp", "bf16", "--device", "cpu", "--checkpoint", tmp_path / "none.pth")
    assert code == 2 and ("--amp off is faster here" in err) is reported
    code, _, err = command("distill", NAME, "--device", "cpu", "--checkpoint", tmp_path / "none.pth")
    assert code == 2 and "faster here" not in err

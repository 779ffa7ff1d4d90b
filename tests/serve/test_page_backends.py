"""Which ways to answer a folder offers, and the command that offers them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import small_model

from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.runners import Runner
from edgesam_export.serve import backends, server
from edgesam_export.serve.backends import OpenRunners, backend_of_model, find_backends

PATIENCE_S = 300


def test_a_folder_offers_every_format_numerics_and_the_model_itself(export_folder):
    found = find_backends([export_folder])
    coreml = [f"edge_sam_tiny/coreml/{numerics}" for numerics in ("fp32", "fp16", "ane")]
    assert [backend.id for backend in found if "native" not in backend.id] == [
        *coreml,
        "edge_sam_tiny/onnx",
        "edge_sam_tiny/torch",
    ]
    assert {backend.model for backend in found} == {"edge_sam_tiny"} and all(backend.size_bytes for backend in found)
    runner = found[-1].open()
    assert (runner.name, runner.score_kind) == ("torch", "iou")


def test_a_mac_offers_core_ml_itself(export_folder, monkeypatch):
    monkeypatch.setattr(backends.sys, "platform", "darwin")
    names = [backend.label for backend in find_backends([export_folder])]
    assert "Core ML on this Mac, all" in names and "Core ML on this Mac, cpu_and_ne" in names


def test_the_model_is_offered_when_its_very_weights_are_here(exported, tmp_path, monkeypatch):
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, precision="fp16")
    assert [b.id for b in find_backends([folder])] == ["edge_sam_tiny/onnx", "edge_sam_tiny/torch"]
    monkeypatch.setattr(backends, "checkpoint_for", lambda name: None)
    assert [b.id for b in find_backends([folder])] == ["edge_sam_tiny/onnx"]
    monkeypatch.undo()
    (artifact,) = (a for a in map(backends.open_artifact, folder.glob("*_decoder.onnx")))
    other = {**artifact.contract, "weights": {**artifact.contract["weights"], "sha256": "0" * 64}}
    assert not backends.has_weights([backends.Artifact(**{**vars(artifact), "contract": other})])


def test_half_an_export_is_refused(export_folder, tmp_path):
    shutil.copy(export_folder / "edge_sam_tiny_decoder.onnx", tmp_path)
    with pytest.raises(UsageError, match=r"no encoder beside '.*decoder\.onnx'; give both, or their folder"):
        find_backends([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no .*\.mlpackage"):
        find_backends([tmp_path / "empty"])


def test_runners_beyond_the_size_are_closed_but_two_stay():
    models = [backend_of_model(small_model()) for _ in range(4)]
    named = [backends.Backend(**{**vars(one), "id": str(number)}) for number, one in enumerate(models)]
    runners = OpenRunners(1)
    opened: list[Runner] = [runners.runner(backend) for backend in named]
    assert [runners.is_open(backend) for backend in named] == [False, False, True, True]
    assert runners.runner(named[2]) is opened[2] and runners.runner(named[0]) is opened[0]
    assert [runners.is_open(backend) for backend in named] == [True, False, True, False]
    plenty = OpenRunners(1 << 30)
    for backend in named:
        plenty.runner(backend)
    assert all(plenty.is_open(backend) for backend in named)


# ------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "nothing to serve; give the folder of exported files, or --model NAME"),
        (("nowhere",), "'nowhere' is no exported file"),
        (("x.onnx", "--random-weights", "1"), "--random-weights is for --model; exported files have their weights"),
        (("--model", "edge_sam_tiny", "--port", "70000"), "70000 is not in the range"),
        (("--model", "edge_sam_tiny", "--host", "no such host"), "--host no such host: "),
        (("--model", "edge_sam_tiny", "--host", "192.0.2.1"), "--host 192.0.2.1 is no address of this machine"),
        (("--model", "edge_sam_nano"), "unknown model 'edge_sam_nano'"),
    ],
)
def test_options_that_cannot_be(command: Callable, words, line):
    words = words if "--port" in words else (*words, "--port", "0")
    code, out, err = command("serve", *words)
    assert code == 2 and out == "" and line in err and len(err.splitlines()) == 1


def test_a_port_in_use_and_a_missing_extra_are_one_line(command: Callable, monkeypatch):
    with server.bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        code, _, err = command("serve", "--model", "edge_sam_tiny", "--port", port)
    assert code == 2 and f"port {port} of 127.0.0.1 is in use, perhaps by another serve; choose one with --port" in err
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(RunnerUnavailableError, match="starlette and uvicorn not installed; pip install"):
        server.require_extra()
    assert command("serve", "--model", "edge_sam_tiny")[0] == 3


def test_the_server_answers_until_it_is_interrupted(tmp_path: Path):
    words = [sys.executable, "-m", "edgesam_export.cli", "serve", "--model", "edge_sam_tiny", "--port", "0"]
    with subprocess.Popen(
        [*words, "--host", "0.0.0.0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            document = json.loads("".join(next(lines) for _ in range(7)))
            assert document["backends"] == ["edge_sam_tiny/torch"]
            assert re.fullmatch(r"http://localhost:\d+/", document["url"])
            with urllib.request.urlopen(document["url"], timeout=PATIENCE_S) as answer:
                assert b"edgesam-export" in answer.read()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    lines = err.splitlines()
    assert process.returncode == 0 and out == "" and list(tmp_path.iterdir()) == []
    assert lines[-1] == "edgesam-export serve: ended" and "Traceback" not in err
    assert "warning: --host 0.0.0.0: everyone who reaches this machine can use the page" in err

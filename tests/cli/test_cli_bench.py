"""The commands ``bench`` and ``compare`` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgesam_export.bench import host_record, run, sources
from edgesam_export.bench.devices import DeviceDescription
from edgesam_export.bench.record import make_record, write_record
from edgesam_export.errors import CheckpointError, DeviceNotReady, InvalidResult


def invented_record(samples=3, **device):
    stage = {"warmup_n": 0, "warmup_ns": [], "samples_ns": [200_000_000] * samples}
    raw = {
        "schema_version": 1,
        "protocol_version": 1,
        "run_id": "0a1b2c3d-0000-4000-8000-000000000000",
        "nonce": "0" * 32,
        "started_at": "2026-11-20T10:00:00+00:00",
        "device": {"marketing_name": "iPhone 14", "os_version": "18.1", **device},
        "models": [{"id": "edge_sam_encoder", "role": "encoder", "sha256": "a" * 64, "model": "edge_sam"}],
        "cases": [
            {
                "id": "all/all/n1",
                "runtime": "coreml",
                "compute_units": {"encoder": "all", "decoder": "all"},
                "n_points": 1,
                "stages": {"encoder": stage},
                "validity": {"reasons": []},
                "outcome": "ok",
            }
        ],
    }
    return make_record(raw, host={"os": "macOS 15", "backend": "invented"})


@pytest.fixture
def driven(monkeypatch, tmp_path):
    """``run_benchmark`` answers with an invented record; what it was called with."""
    calls = []

    def run_benchmark(plan, device=None, **options):
        calls.append((plan, device, options))
        options["on_status"]({"phase": "running", "case_index": 0, "case_count": 1, "iteration": 5})
        return write_record(invented_record(), tmp_path)

    monkeypatch.setattr(run, "run_benchmark", run_benchmark)
    return calls


def test_a_phone_is_measured_as_the_options_say(command, driven, coreml_files, tmp_path):
    words = ["--device", "My Phone", "--units", "all,cpu_and_ne", "--points", "1,4", "--iterations", 7, "--quick"]
    more = ["--sustained", 5, "--team", "ABCDE12345", "--allow-wifi", "--runs", tmp_path / "runs", "--no-parity"]
    code, out, err = command("bench", *(artifact.path for artifact in coreml_files), *words, *more)
    assert code == 0
    assert out.splitlines()[1].split()[:2] == ["all/all/n1", "200"]
    assert "record: " in err and "3 iterations, edgesam-bench/1 asks for 100" in err
    (plan, device, options), = driven  # fmt: skip
    assert device == "My Phone" and options["backend"] == "devicectl" and options["runs"] == tmp_path / "runs"
    assert options["options"].team == "ABCDE12345" and options["options"].allow_wifi and not options["strict"]
    assert plan.workload.n_points == (1, 4) and [row.encoder for row in plan.matrix] == ["all", "cpu_and_ne"]
    assert (plan.schedule.min_iterations, plan.schedule.sustained_duration_s) == (7, 5.0)
    assert plan.reference is None


def test_json_is_the_record_and_nothing_else(command, driven, coreml_files):
    code, out, err = command("bench", coreml_files[0].path, "--json", "--quiet", "--no-parity")
    assert code == 0 and err == ""
    assert json.loads(out)["cases"][0]["id"] == "all/all/n1"
    assert driven[0][0].workload.stages == ("encoder",)


def test_outputs_are_compared_with_the_model_the_files_came_from(command, driven, coreml_files):
    assert command("bench", coreml_files[1].path, "--quiet")[0] == 0
    assert driven[0][0].reference.provenance.random_seed == 11


def test_files_without_their_checkpoint_are_measured_and_not_compared(command, driven, coreml_files, monkeypatch):
    def missing(*_, **__):
        raise CheckpointError("edge_sam_3x.pth cannot be downloaded")

    monkeypatch.setattr("edgesam_export.parity.inputs.load_reference", missing)
    code, _, err = command("bench", coreml_files[1].path)
    assert code == 0 and driven[0][0].reference is None
    assert "not compared with PyTorch: edge_sam_3x.pth cannot be downloaded; give --checkpoint" in err
    code, _, err = command("bench", coreml_files[1].path, "--checkpoint", "mine.pth")
    assert code == 2 and len(driven) == 1 and err.endswith("edge_sam_3x.pth cannot be downloaded\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "nothing to measure"),
        (("no_such_model",), 2, "'no_such_model' is neither a file nor a model"),
        (("x", "--mac", "--host"), 2, "--mac and --host are different devices"),
        (("x", "--list", "--host"), 2, "--host and --list are different devices"),
        (("collect",), 2, "collect takes one RUN_ID"),
        (("collect", "0a1b2c3d", "--runs", "nowhere"), 2, "names no run"),
        (("x", "--iterations", "0"), 2, "iterations"),
        (("x", "--sustained", "-1"), 2, "sustained"),
    ],
)
def test_misuse_is_one_line(command, words, code, said):
    found, out, err = command("bench", *words)
    assert (found, out) == (code, "") and said in err
    assert len(err.splitlines()) == 1 and err.startswith("edgesam-export bench: ")


def test_wrong_values_of_options_are_named(command, coreml_files):
    for words, said in (
        (("--points", "one"), "--points 'one' is no list of integers"),
        (("--units", "npu"), "compute units 'npu'"),
        (("--points", "9", "--no-parity"), "need 10 slots"),
    ):
        code, _, err = command("bench", *(artifact.path for artifact in coreml_files), "--host", "--no-swift", *words)
        assert code == 2 and said in err


def test_a_mac_is_needed_for_core_ml(command, coreml_files, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    code, _, err = command("bench", coreml_files[0].path, "--mac", "--no-parity")
    assert code == 3 and "--mac needs macOS" in err and "--host" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 3, "an iPhone is reached through Xcode, which needs macOS (this is linux)"),
        (("--device", "My Phone"), 3, "or measure this machine with --host"),
        (("--mac",), 3, "--mac needs macOS with Core ML (this is linux)"),
    ],
)
def test_a_machine_that_cannot_measure_says_so_before_it_exports(command, monkeypatch, words, code, said):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("edgesam_export.cli.bench.load", lambda *_: pytest.fail("the model was loaded"))
    found, out, err = command("bench", "edge_sam", "--random-weights", 1, *words)
    assert (found, out) == (code, "") and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("rejection", "wanted", "code", "said"),
    [
        ("it is not paired", None, 4, "no device can be used: Mine: it is not paired"),
        ("it is not paired", "mine", 4, "Mine cannot be used: it is not paired"),
        (None, "Yours", 4, "no device is called 'Yours': Mine: ready"),
    ],
)
def test_without_a_phone_to_measure_nothing_is_exported(command, monkeypatch, rejection, wanted, code, said):
    phone = DeviceDescription(backend="devicectl", identifier="1", name="Mine", rejection=rejection)
    monkeypatch.setattr(run, "list_devices", lambda *_, **__: (phone,))
    monkeypatch.setattr("edgesam_export.cli.bench.load", lambda *_: pytest.fail("the model was loaded"))
    words = () if wanted is None else ("--device", wanted)
    found, out, err = command("bench", "edge_sam", "--random-weights", 1, *words)
    assert (found, out) == (code, "") and said in err and len(err.splitlines()) == 1


def test_a_model_is_exported_for_the_phone_that_is_there(command, driven, monkeypatch, model, coreml_files):
    phone = DeviceDescription(backend="devicectl", identifier="1", name="Mine")
    monkeypatch.setattr(run, "list_devices", lambda *_, **__: (phone,))
    monkeypatch.setattr("edgesam_export.cli.bench.load", lambda *_: model)
    monkeypatch.setattr(sources, "export_model", lambda *_: [file.path for file in coreml_files])
    assert command("bench", "edge_sam_tiny", "--random-weights", 11, "--no-parity", "--quiet")[0] == 0
    assert driven[0][1] is None


def test_errors_of_a_device_keep_their_exit_code(command, coreml_files, monkeypatch):
    for error, expected in ((DeviceNotReady("it is locked"), 4), (InvalidResult("1 of 1 cases are not valid"), 7)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(run, "run_benchmark", fail)
        code, out, err = command("bench", coreml_files[0].path, "--no-parity", "--strict")
        assert (code, out) == (expected, "") and err == f"edgesam-export bench: {error}\n"


def test_phones_are_listed_with_what_keeps_them_from_being_used(command, monkeypatch):
    phones = (
        DeviceDescription(backend="devicectl", identifier="1", name="Mine", marketing_name="iPhone 14", udid="U1"),
        DeviceDescription(backend="devicectl", identifier="2", name="Old", rejection="it is not paired"),
    )
    monkeypatch.setattr(run, "list_devices", lambda **_: phones)
    code, out, _ = command("bench", "--list")
    assert code == 0 and out.splitlines()[1].split() == ["Mine", "iPhone", "14", "-", "U1", "-", "ready"]
    assert out.splitlines()[2].endswith("it is not paired")
    assert [d["usable"] for d in json.loads(command("bench", "--list", "--json")[1])["devices"]] == [True, False]


def test_a_lost_run_is_collected(command, monkeypatch, tmp_path):
    seen = []

    def collect_run(run_id, **options):
        seen.append((run_id, options["runs"], options["strict"]))
        return write_record(invented_record(), tmp_path)

    monkeypatch.setattr(run, "collect_run", collect_run)
    assert command("bench", "collect", "0a1b", "--runs", tmp_path, "--strict")[0] == 0
    assert seen == [("0a1b", tmp_path, True)]


def test_a_model_is_exported_first_and_measured_here(command, monkeypatch, model, onnx_files, tmp_path):
    plans = []

    def measure_host(plan, **_):
        plans.append(plan)
        return {name: value for name, value in invented_record().items() if name not in ("method", "tool", "host")}

    monkeypatch.setattr(host_record, "measure_host", measure_host)
    monkeypatch.setattr("edgesam_export.cli.bench.load", lambda *_: model)
    monkeypatch.setattr(sources, "export_model", lambda *_: [file.path for file in onnx_files])
    words = ["--host", "--quick", "--iterations", 1, "--records", tmp_path, "--runs", tmp_path, "--json"]
    code, out, err = command("bench", "edge_sam_tiny", "--random-weights", 11, *words)
    assert code == 0 and json.loads(out)["host"]["backend"] == "host" and json.loads(out)["host"]["versions"]["torch"]
    (plan,) = plans
    assert plan.model is model and plan.files("coreml") == ()
    assert [file.sha256 for file in plan.files("onnx")] == [file.sha256 for file in onnx_files]
    assert plan.schedule.min_iterations == 1 and plan.schedule.sustained_duration_s == 0
    assert "3 iterations, edgesam-bench/1 asks for 100" in err
    assert [path.parent.name for path in tmp_path.glob("*/*.json")] == ["iphone-14"]


def test_compare_prints_a_table_and_draws_a_plot(command, tmp_path):
    write_record(invented_record(samples=100), tmp_path / "records")
    code, out, err = command("compare", tmp_path / "records", "--output", tmp_path / "plot.png")
    assert code == 0 and "200" in out.splitlines()[1] and "plot.png" in err
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(command("compare", tmp_path / "records", "--json")[1])
    assert rows["ranked"][0]["p50_ms"] == 200.0 and rows["schema_version"] == 1
    assert command("compare", tmp_path / "records", "--markdown")[1].startswith("| # | model |")
    code, out, err = command("compare", tmp_path / "records", "--json", "--output", tmp_path / "plot.gif")
    assert (code, out) == (2, "") and "plot.gif'; formats are .md" in err, "a command that fails prints no result"


def test_compare_refuses_to_mix(command, tmp_path):
    for name in ("iPhone 14", "iPhone 15"):
        write_record(invented_record(samples=100, marketing_name=name), tmp_path)
    code, out, err = command("compare", tmp_path)
    assert (code, out) == (2, "") and "not measured alike" in err
    assert command("compare", tmp_path, "--across-methods")[0] == 0


def test_compare_takes_the_usual_folder_or_says_that_there_is_none(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("compare")
    assert code == 2 and "nothing to compare; give records, or --published" in err
    write_record(invented_record(samples=100), tmp_path / "benchmarks" / "records")
    assert command("compare")[0] == 0
    code, out, _ = command("compare", "--published", "--model", "edgesam")
    assert code == 0 and "38.7" in out


def test_a_file_that_is_no_record_is_named(command, tmp_path):
    (tmp_path / "r.json").write_text('{"schema_version": NaN}')
    code, _, err = command("compare", tmp_path / "r.json")
    assert code == 2 and "r.json: found NaN, expected finite numbers only" in err


@pytest.mark.parametrize("word", ["bench", "compare"])
def test_help_imports_nothing_heavy(word):
    heavy = ("torch", "coremltools", "onnx", "onnxruntime", "numpy", "PIL", "rich", "matplotlib", "jsonschema")
    code = (
        f"from edgesam_export.cli import main\ntry: main(['{word}', '--help'])\nexcept SystemExit: pass\n"
        f"import sys; print([n for n in {heavy} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]" and done.stdout.startswith("Usage: ")

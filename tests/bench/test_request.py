"""What a plan allows, and the folder that goes to the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgesam_export.bench.parity import case_parity, compare_outputs, write_parity_inputs
from edgesam_export.bench.request import (
    METHOD_SCHEDULE,
    QUICK_SCHEDULE,
    BenchPlan,
    MatrixRow,
    Schedule,
    Workload,
    make_plan,
    parse_matrix,
    pick_artifacts,
    write_bundle,
)
from edgesam_export.bench.schema import read_document
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.files import sha256_of
from edgesam_export.runners import open_runner


def test_the_methods_schedule_is_the_documented_one():
    assert Schedule() == METHOD_SCHEDULE
    found = (METHOD_SCHEDULE.warmup_iterations, METHOD_SCHEDULE.min_iterations, METHOD_SCHEDULE.min_duration_s)
    assert found == (10, 100, 10.0)
    assert METHOD_SCHEDULE.sustained_duration_s == 60.0 and METHOD_SCHEDULE.load_repeats == 3
    assert QUICK_SCHEDULE.min_iterations < METHOD_SCHEDULE.min_iterations
    assert METHOD_SCHEDULE.with_iterations(7).min_iterations == 7
    assert METHOD_SCHEDULE.with_iterations(7).min_duration_s == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_iterations": 0}, "min_iterations is 0; it goes from 1"),
        ({"cooldown_s": -1.0}, "cooldown_s is -1.0"),
        ({"min_duration_s": float("nan")}, "min_duration_s is nan"),
        ({"max_duration_s": 5.0}, "max_duration_s is 5, min_duration_s 10"),
        ({"start_when_thermal_at_most": "warm"}, "'warm'; choose one of: nominal"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Schedule(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stages": ("encode",)}, "stage 'encode'"),
        ({"stages": ()}, "at least one"),
        ({"n_points": (1, 1)}, "each once"),
        ({"n_points": (65,)}, "65 points"),
    ],
)
def test_a_workload_that_makes_no_sense_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Workload(**fields)


def test_a_matrix_is_a_list_of_units_or_pairs():
    assert parse_matrix("all,cpu_and_ne") == (MatrixRow(), MatrixRow(encoder="cpu_and_ne", decoder="cpu_and_ne"))
    assert parse_matrix("cpu_and_ne/cpu_only") == (MatrixRow(encoder="cpu_and_ne", decoder="cpu_only"),)
    for text, said in (("gpu", "compute units 'gpu'"), ("all,all/all", "same pair twice"), ("", "compute units ''")):
        with pytest.raises(UsageError, match=said):
            parse_matrix(text)


def test_a_plan_takes_packages_that_belong_together(coreml_files, onnx_files, export_folder):
    assert [artifact.component for artifact in pick_artifacts(export_folder)] == ["encoder", "decoder"]
    with pytest.raises(UsageError, match="a device runs Core ML packages only"):
        BenchPlan(artifacts=tuple(onnx_files))
    encoder_only = make_plan(coreml_files[0])
    assert encoder_only.workload.stages == ("encoder",)
    with pytest.raises(UsageError, match="stage 'decoder' needs the decoder"):
        BenchPlan(artifacts=(coreml_files[0],))
    with pytest.raises(UsageError, match="no coreml files among"):
        pick_artifacts(onnx_files[0])


def test_a_decoder_with_eight_slots_takes_seven_points_and_the_padding_point(coreml_files):
    make_plan(coreml_files, workload=Workload(n_points=(7,)))
    with pytest.raises(UsageError, match=r"8 points and SAM's padding point need 9 slots, .* has 8"):
        make_plan(coreml_files, workload=Workload(n_points=(1, 8)))


@pytest.fixture(scope="module")
def bundle(coreml_files, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    plan = make_plan(coreml_files, matrix=parse_matrix("all,cpu_only/cpu_and_ne"), reference=model)
    return folder, write_bundle(plan, folder / "in", folder / "expected")


def test_the_folder_holds_what_the_request_names(bundle):
    folder, request = bundle
    assert read_document(folder / "in" / "request.json", "request") == request
    for entry in request["models"]:
        assert sha256_of(folder / "in" / entry["relative_path"]) == entry["sha256_tree"]
    assert request["matrix"][1]["compute_units"] == {"encoder": "cpu_only", "decoder": "cpu_and_ne"}
    assert [entry["role"] for entry in request["models"]] == ["encoder", "decoder"]
    assert request["models"][0]["input_spec"] == [{"name": "image", "shape": [1, 3, 512, 512], "dtype": "image"}]


def test_two_requests_are_two_runs(coreml_files, tmp_path):
    plan = make_plan(coreml_files[1])
    first, second = (write_bundle(plan, tmp_path / name) for name in ("a", "b"))
    assert first["run_id"] != second["run_id"] and first["nonce"] != second["nonce"]
    with pytest.raises(UsageError, match="exists already"):
        write_bundle(plan, tmp_path / "a")


def test_parity_inputs_are_arrays_in_the_types_of_the_contract(bundle):
    folder, request = bundle
    entries = request["collect"]["parity_inputs"]
    assert request["collect"]["parity_outputs"] is True
    assert [entry["stage"] for entry in entries].count("encoder") == 2
    assert len({entry["outputs_dir"] for entry in entries}) == len(entries) == 8
    image = np.load(folder / "in" / entries[0]["feed"]["image"])
    assert image.shape == (512, 512, 3) and image.dtype == np.uint8
    feed = {name: np.load(folder / "in" / path) for name, path in entries[1]["feed"].items()}
    assert feed["image_embeddings"].dtype == np.float16 and feed["image_embeddings"].shape == (1, 128, 64, 64)
    assert feed["point_labels"].tolist() == [[1, -1, -2, -2, -2, -2, -2, -2]]


def outputs_of(folder, request, runner, spoil=lambda array: array):
    """What a runner of the packages leaves behind: a case with its parity outputs."""
    described = []
    for entry in request["collect"]["parity_inputs"][:2]:
        feed = {name: np.load(folder / "in" / path) for name, path in entry["feed"].items()}
        for name, array in runner.run(entry["stage"], feed).items():
            path = folder / "out" / "outputs" / "all" / entry["outputs_dir"] / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, spoil(array))
            file = path.relative_to(folder / "out").as_posix()
            described.append({"stage": entry["stage"], "name": name, "file": file, "sha256": sha256_of(path)})
    return {"parity_outputs": described}


def test_outputs_of_the_executor_are_close_to_what_pytorch_was_expected_to_give(bundle, coreml_files):
    folder, request = bundle
    case = outputs_of(folder, request, open_runner(coreml_files, numerics="fp32"))
    found = case_parity(case, folder / "out", folder / "expected")
    assert found["encoder"]["inputs"] == 1 and found["encoder"]["finite"]
    # Weights are rounded to FP16; the decoder's worst output is four scores, not an average over many numbers.
    assert found["encoder"]["psnr_db"] > 60 and found["decoder"]["psnr_db"] > 40
    assert found["decoder"]["mask_iou"] > 0.99
    assert case_parity({}, folder / "out", folder / "expected") is None
    described = case["parity_outputs"][0]
    np.save(folder / "out" / described["file"], np.zeros(3))
    with pytest.raises(SchemaError, match="another SHA-256"):
        case_parity(case, folder / "out", folder / "expected")
    with pytest.raises(SchemaError, match="lies outside"):
        escaping = {
            **described,
            "name": "../../in/inputs/encoder-0/image",
            "sha256": sha256_of(folder / "out" / described["file"]),
        }
        case_parity({"parity_outputs": [escaping]}, folder / "out", folder / "expected")


def test_parity_figures_of_small_arrays_computed_by_hand():
    masks = np.array([[[[1.0, -1.0]], [[1.0, 1.0]]]])  # (1, 2, 1, 2)
    other = np.array([[[[1.0, -1.0]], [[1.0, -2.0]]]])
    expected = {"masks": masks, "scores": np.array([[0.1, 0.9]])}
    found = compare_outputs([("decoder", expected, {"masks": other})])["decoder"]
    assert found["max_abs"] == 3.0
    assert found["mask_iou"] == 0.5  # of the second mask, which scores higher
    assert found["psnr_db"] == pytest.approx(20 * np.log10(1 / np.sqrt(9 / 4)))
    same = compare_outputs([("decoder", expected, {"masks": masks})])["decoder"]
    assert same["psnr_db"] is None and same["mask_iou"] == 1.0 and same["max_abs"] == 0.0


def test_outputs_that_are_not_finite_are_told_not_hidden():
    found = compare_outputs([("encoder", {"e": np.ones(2)}, {"e": np.array([1.0, np.nan])})])["encoder"]
    assert found["finite"] is False


def test_outputs_of_another_shape_are_no_outputs():
    with pytest.raises(SchemaError, match=r"found shape \(2,\), expected \(3,\)"):
        compare_outputs([("encoder", {"e": np.ones(3)}, {"e": np.ones(2)})])


def test_prompts_that_need_more_slots_are_left_out(coreml_files, model, tmp_path, monkeypatch):
    blank = {"image_embeddings": np.zeros((1, 128, 64, 64), np.float32)}
    monkeypatch.setattr("edgesam_export.runners.torch.TorchRunner.encode", lambda *_: blank)
    decoder = coreml_files[1]
    narrow = replace(decoder, contract={**decoder.contract, "slots": 2})
    names = [entry["outputs_dir"] for entry in write_parity_inputs([narrow], model, tmp_path / "a", tmp_path / "b")]
    assert names == ["decoder-0-point", "decoder-0-box", "decoder-1-point", "decoder-1-box"]

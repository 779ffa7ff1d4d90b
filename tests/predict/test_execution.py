"""The library calls behind ``run`` and ``segment``: reading inputs, saving values, choosing files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesam_export.errors import EdgeSAMExportWarning, ProgramError, UsageError
from edgesam_export.imaging.reading import read_array
from edgesam_export.predict.run import run_package
from edgesam_export.predict.segment import choose_files
from edgesam_export.predict.values import ValueFiles, read_inputs


@pytest.mark.parametrize("text", ["image", "=photo.png", "image=", ""])
def test_an_input_is_name_and_file(text):
    with pytest.raises(UsageError, match=r"is not NAME=FILE, for example image=photo\.jpg"):
        read_inputs([text], {})


def test_a_file_name_may_hold_an_equals_sign(tmp_path):
    np.save(tmp_path / "a=b.npy", np.arange(3))
    assert read_inputs([f"x={tmp_path / 'a=b.npy'}"], {})["x"].tolist() == [0, 1, 2]


def test_arrays_that_are_pickles_run_nothing(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    np.save(tmp_path / "bad.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"bad\.npy' is not a \.npy array of numbers"):
        read_array(tmp_path / "bad.npy")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'"])
def test_what_is_no_array_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "bad.npy").write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.npy' is not a \.npy array") as caught:
        read_array(tmp_path / "bad.npy")
    assert "\n" not in str(caught.value)


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read '.*none\.npy': No such file"):
        read_array(tmp_path / "none.npy")


def test_a_value_is_saved_under_a_name_that_is_a_file_name(tmp_path):
    files = ValueFiles(tmp_path, Path("final"))
    saved = files.save("probe", "../layer/1:x", np.array([[-2.0, 3.5]], np.float16))
    assert saved.path == Path("final/.._layer_1_x.npy") and saved.shape_text == "1x2"
    assert (saved.smallest, saved.largest, saved.range_text) == (-2.0, 3.5, "-2 .. 3.5")
    assert np.load(tmp_path / saved.path.name).tolist() == [[-2.0, 3.5]]
    assert files.save("output", "s", np.float32(2)).shape_text == "scalar"


def test_values_whose_names_make_one_file_name_get_one_each(tmp_path):
    files = ValueFiles(tmp_path, Path("final"))
    paths = [files.save("output", name, np.full(1, n)).path.name for n, name in enumerate(("a/b", "a:b", "A_b"))]
    assert paths == ["a_b.npy", "a_b_2.npy", "A_b_3.npy"]
    assert [int(np.load(tmp_path / path)[0]) for path in paths] == [0, 1, 2]


def test_values_that_are_not_finite_become_text_in_json(make_relu, tmp_path):
    path, _ = make_relu
    np.save(tmp_path / "x.npy", np.array([np.inf, np.nan, -1, 2], np.float32))
    with pytest.warns(EdgeSAMExportWarning, match="output 'out': 2 of 4 values are NaN or infinite"):
        result = run_package(path, inputs=(f"x={tmp_path / 'x.npy'}",), output=tmp_path / "out")
    text = json.dumps(result.document(), allow_nan=False)
    assert '"nan"' in text


@pytest.fixture(scope="module")
def make_relu(tmp_path_factory):
    """A package that somebody else made: one relu of four numbers."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((4,))], opset_version=ct.target.iOS16)
    def program(x):
        return mb.relu(x=mb.mul(x=x, y=2.0, name="twice"), name="out")

    path = tmp_path_factory.mktemp("relu") / "relu.mlpackage"
    converted = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    converted.save(str(path))
    return path, "twice"


def test_any_package_runs_with_probes_and_times(make_relu, tmp_path):
    path, probe = make_relu
    np.save(tmp_path / "x.npy", np.array([-1, 0, 1, 2], np.float32))
    inputs = (f"x={tmp_path / 'x.npy'}",)
    result = run_package(path, inputs=inputs, output=tmp_path / "out", probes=(probe,), repeats=3)
    found = {value.name: np.load(value.path).tolist() for value in result.values}
    assert found == {"out": [0, 0, 2, 4], "twice": [-2, 0, 2, 4]}
    assert [value.kind for value in result.values] == ["output", "probe"] and len(result.times_ms) == 3


@pytest.mark.parametrize(
    ("options", "error", "line"),
    [
        ({"probes": ("three",)}, UsageError, "has no value 'three' to probe"),
        ({"repeats": 0}, UsageError, "time is 0; choose 1 to 10000 runs"),
        ({"repeats": 10_001}, UsageError, "time is 10001"),
        ({"function": "other"}, ProgramError, "no function 'other'; it has main"),
        ({"inputs": ()}, ProgramError, "'x'"),
        ({"inputs": ("y=x.npy",)}, ProgramError, "'(x|y)'"),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_writes_nothing(make_relu, tmp_path, monkeypatch, options, error, line):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros(4, np.float32))
    arguments = {"inputs": ("x=x.npy",), "output": tmp_path / "out", **options}
    with pytest.raises(error, match=line):
        run_package(make_relu[0], **arguments)
    assert not (tmp_path / "out").exists()


def test_backend_and_files_must_fit(tmp_path):
    (tmp_path / "a.onnx").write_text("")
    assert choose_files((), None) == [] == choose_files((), "torch")
    assert choose_files((tmp_path,), None) == [tmp_path / "a.onnx"] == choose_files((tmp_path,), "onnx")
    with pytest.raises(UsageError, match="no coreml files among"):
        choose_files((tmp_path,), "coreml")
    with pytest.raises(UsageError, match="backend onnx needs exported files; add --artifact FOLDER"):
        choose_files((), "onnx")
    with pytest.raises(UsageError, match="backend torch runs a model, not exported files"):
        choose_files((tmp_path,), "torch")

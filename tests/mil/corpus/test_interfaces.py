"""Inputs, outputs and kinds of model as coremltools writes them: each runs, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from conversions import quiet_conversion
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

from edgesam_export import analyze, load_program
from edgesam_export.errors import ProgramError


class TwicePlusOne(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """``package(model, source, **options)`` -> path of what coremltools makes of a module or a MIL program."""

    def convert(model: Any, example: torch.Tensor | None = None, name: str = "model", **options: Any) -> Path:
        options.setdefault("minimum_deployment_target", ct.target.iOS17)
        with quiet_conversion():
            traced = model if example is None else torch.jit.trace(model.eval(), example)
            converted = ct.convert(traced, convert_to="mlprogram", skip_model_load=True, **options)
            converted.save(str(tmp_path / f"{name}.mlpackage"))
        return tmp_path / f"{name}.mlpackage"

    return convert


@pytest.mark.parametrize(
    ("layout", "pixels", "expected"),
    [
        ("GRAYSCALE", np.uint8([[0, 1, 255], [7, 8, 9]]), [[1, 3, 511], [15, 17, 19]]),
        ("GRAYSCALE_FLOAT16", np.float16([[0, 0.25, -3], [7, 8, 9]]), [[1, 1.5, -5], [15, 17, 19]]),
    ],
)
def test_grey_image_goes_in_as_it_is(package, layout: str, pixels: np.ndarray, expected: list) -> None:
    image = ct.ImageType(name="x", shape=(1, 1, 2, 3), color_layout=ct.colorlayout[layout])
    path = package(TwicePlusOne(), torch.rand(1, 1, 2, 3), inputs=[image], outputs=[ct.TensorType(name="y")])
    np.testing.assert_array_equal(load_program(path).predict({"x": pixels})["y"], [[expected]])
    assert analyze(path).totals.operations


def test_grey_image_comes_out_as_an_image(package) -> None:
    image = ct.ImageType(name="x", shape=(1, 1, 2, 2), color_layout=ct.colorlayout.GRAYSCALE)
    result = ct.ImageType(name="y", color_layout=ct.colorlayout.GRAYSCALE)
    path = package(TwicePlusOne(), torch.rand(1, 1, 2, 2), inputs=[image], outputs=[result])
    actual = load_program(path).predict({"x": np.uint8([[0, 3], [127, 200]])})["y"]
    assert actual.dtype == np.uint8 and actual.tolist() == [[1, 7], [255, 255]]


@pytest.mark.parametrize(
    ("dtype", "array", "expected"),
    [
        (types.fp16, np.float16([0.1, 65504, -2]), np.float16([0.1, 65504, -2]) + np.float16(1)),
        (types.fp32, np.float32([0.1, 1e30, -2]), np.float32([1.1, 1e30, -1])),
        (types.int32, np.int32([2**31 - 2, -5, 0]), np.int32([2**31 - 1, -4, 1])),
    ],
    ids=["fp16", "fp32", "int32"],
)
def test_array_of_each_type_goes_in_and_comes_out(package, dtype: Any, array: np.ndarray, expected: np.ndarray) -> None:
    @mb.program(input_specs=[mb.TensorSpec((3,), dtype=dtype)], opset_version=ct.target.iOS17)
    def program(x):
        return mb.add(x=x, y=array.dtype.type(1), name="y")

    loaded = load_program(package(program, compute_precision=ct.precision.FLOAT32))
    actual = loaded.predict({"x": array}, numerics="fp16")["y"]
    assert loaded.inputs[0].dtype == loaded.outputs[0].dtype
    assert actual.dtype == array.dtype
    np.testing.assert_array_equal(actual, expected)


def test_int8_array_goes_in_and_comes_out(package) -> None:
    @mb.program(input_specs=[mb.TensorSpec((3,), dtype=types.int8)], opset_version=ct.target.iOS26)
    def program(x):
        return mb.reverse(x=x, axes=[0], name="y")

    loaded = load_program(package(program, minimum_deployment_target=ct.target.iOS26))
    actual = loaded.predict({"x": np.int8([-128, 0, 127])})["y"]
    assert actual.dtype == np.int8 and actual.tolist() == [127, 0, -128]


class Pooled(torch.nn.Module):
    """Shapes follow from those of the input: (1, 2, H, W) -> (1, 2 * H * W) and its mean."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.nn.functional.pad(x, (1, 1, 0, 0))
        return padded.reshape(1, -1), padded.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("shape", "allowed", "refused"),
    [
        (
            ct.Shape((1, 2, ct.RangeDim(2, 6, default=4), ct.RangeDim(3, 50, default=3))),
            [(2, 3), (6, 50)],
            [(7, 3), (2, 2), (2, 51)],
        ),
        (ct.EnumeratedShapes([(1, 2, 4, 4), (1, 2, 3, 8)], default=(1, 2, 4, 4)), [(4, 4), (3, 8)], [(4, 8), (3, 4)]),
    ],
    ids=["range", "enumerated"],
)
def test_flexible_shapes_are_honoured(package, shape: Any, allowed: list, refused: list) -> None:
    outputs = [ct.TensorType(name="flat"), ct.TensorType(name="mean")]
    path = package(
        Pooled(),
        torch.rand(1, 2, 4, 4),
        inputs=[ct.TensorType(name="x", shape=shape)],
        outputs=outputs,
        compute_precision=ct.precision.FLOAT32,
    )
    program = load_program(path)
    for size in allowed:
        x = torch.rand(1, 2, *size)
        actual = program.predict({"x": x.numpy()})
        for name, value in zip(("flat", "mean"), Pooled()(x), strict=True):
            np.testing.assert_allclose(actual[name], value.numpy(), rtol=1e-6)
    for size in refused:
        with pytest.raises(ProgramError, match=r"input 'x' has shape \(1, 2, \d+, \d+\); expected "):
            program.predict({"x": np.zeros((1, 2, *size), np.float32)})
    assert analyze(path).findings  # the shapes themselves are one


def test_each_of_several_functions_runs(package, tmp_path: Path) -> None:
    functions = ct.utils.MultiFunctionDescriptor()
    for name, scale in (("twice", 2), ("thrice", 3)):

        @mb.program(input_specs=[mb.TensorSpec((2,))], opset_version=ct.target.iOS18)
        def program(x):
            return mb.mul(x=x, y=np.float32(scale), name="y")  # noqa: B023  # called at once

        functions.add_function(
            str(package(program, name=name, minimum_deployment_target=ct.target.iOS18)), "main", name
        )
    functions.default_function_name = "thrice"
    with quiet_conversion():
        ct.utils.save_multifunction(functions, str(tmp_path / "both.mlpackage"))
    package_of_both, feed = tmp_path / "both.mlpackage", {"x": np.float32([1, -2])}
    for name, expected in {"twice": [2, -4], "thrice": [3, -6], None: [3, -6]}.items():
        program = load_program(package_of_both, function=name)
        assert program.functions == ("thrice", "twice")
        assert program.predict(feed)["y"].tolist() == expected
    assert analyze(package_of_both).function == "thrice"
    with pytest.raises(ProgramError, match=r"no function 'main'; it has thrice, twice"):
        load_program(package_of_both, function="main")


def test_a_pipeline_is_refused_in_one_line(package, tmp_path: Path, command) -> None:
    parts = []
    for name, (before, after) in {"first": ("x", "y"), "second": ("y", "z")}.items():
        features = {"inputs": [ct.TensorType(name=before, shape=(1, 2))], "outputs": [ct.TensorType(name=after)]}
        path = package(TwicePlusOne(), torch.rand(1, 2), name=name, **features)
        parts.append(ct.models.MLModel(str(path), skip_model_load=True))
    with quiet_conversion():
        ct.utils.make_pipeline(*parts).save(str(tmp_path / "pipeline.mlpackage"))
    check_refused(command, tmp_path / "pipeline.mlpackage", "this is a pipeline model; load the ML Programs inside it")


def test_a_neural_network_is_refused_in_one_line(tmp_path: Path, command) -> None:
    with quiet_conversion():
        traced = torch.jit.trace(TwicePlusOne(), torch.rand(1, 2))
        network = ct.convert(traced, inputs=[ct.TensorType(shape=(1, 2))], convert_to="neuralnetwork")
        network.save(str(tmp_path / "network.mlmodel"))
    check_refused(command, tmp_path / "network.mlmodel", "this is a neuralNetwork model; convert it to an ML Program")


def check_refused(command, path: Path, reason: str) -> None:
    """Check that every command that reads a package says the same on one line, and leaves with code 2."""
    with pytest.raises(ProgramError, match=reason):
        load_program(path)
    for word in ("run", "analyze"):
        code, out, err = command(word, path, "--quiet", "--output", path.parent / "out")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and reason in err

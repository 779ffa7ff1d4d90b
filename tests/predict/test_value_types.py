"""``run`` through files of every input and output type that Core ML has; the table is in docs/entrances.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.errors import EdgeSAMExportWarning, ProgramError, UsageError
from edgesam_export.mil.features import FeatureSpec
from edgesam_export.predict.run import run_package
from edgesam_export.predict.values import ValueFiles, read_inputs

MODEL = "Data/com.apple.CoreML/model.mlmodel"
DOUBLE, INT8 = 65600, 131080
"""``ArrayDataType`` of FeatureTypes.proto."""
SIZE = (3, 5)
"""Height and width of the images."""


def saved(folder: Path, program, **options) -> Path:
    """Convert a MIL builder's program with coremltools and save it."""
    import coremltools as ct

    options = {"minimum_deployment_target": ct.target.iOS18, "compute_precision": ct.precision.FLOAT32, **options}
    path = folder / "model.mlpackage"
    ct.convert(program, convert_to="mlprogram", skip_model_load=True, **options).save(str(path))
    return path


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A program that returns its inputs, one of each kind of image and array."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from coremltools.proto import Model_pb2

    colour, grey = (1, 3, *SIZE), (1, 1, *SIZE)
    shapes = {"rgb": colour, "bgr": colour, "grey": grey, "half": grey, "single": (2, 3), "double": (2,), "small": (4,)}
    specs = [mb.TensorSpec(shape, dtype=types.fp16 if name == "half" else types.fp32) for name, shape in shapes.items()]

    @mb.program(input_specs=[*specs, mb.TensorSpec((3,), dtype=types.int32)], opset_version=ct.target.iOS18)
    def program(rgb, bgr, grey, half, single, double, small, integer):
        values = {
            "rgb": rgb,
            "bgr": bgr,
            "grey": grey,
            "half": half,
            "single": single,
            "double": double,
            "small": small,
        }
        same = [mb.identity(x=value, name=f"{name}_out") for name, value in values.items()]
        return *same, mb.identity(x=integer, name="integer_out")

    layouts = {"rgb": ct.colorlayout.RGB, "bgr": ct.colorlayout.BGR, "grey": ct.colorlayout.GRAYSCALE}
    layouts |= {"half": ct.colorlayout.GRAYSCALE_FLOAT16}
    images = [ct.ImageType(name=name, shape=shapes[name], color_layout=layout) for name, layout in layouts.items()]
    arrays = [
        ct.TensorType(name="single", shape=(2, 3), default_value=np.full((2, 3), 7.0, np.float32)),
        ct.TensorType(name="double", shape=(2,)),
        ct.TensorType(name="small", shape=(4,)),
        ct.TensorType(name="integer", shape=(3,), dtype=np.int32),
    ]
    path = saved(tmp_path_factory.mktemp("everything"), program, inputs=[*images, *arrays])
    message = Model_pb2.Model.FromString((path / MODEL).read_bytes())
    images = {feature.name: feature.type.imageType for feature in message.description.input[:4]}
    for feature in (*message.description.input, *message.description.output):
        name = feature.name.removesuffix("_out")
        kind = {"double": DOUBLE, "small": INT8}.get(name)
        if kind is not None:  # coremltools writes neither of the two
            feature.type.multiArrayType.dataType = kind
        elif name in images:  # nor images that a builder's program returns
            feature.type.imageType.CopyFrom(images[name])
    (path / MODEL).write_bytes(message.SerializeToString())
    return path


PIXELS = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
LUMA = np.asarray(Image.fromarray(PIXELS).convert("L"))
HALVES = np.linspace(-2, 300, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
ARRAYS = {
    "double": np.array([1e-300, 3.0]),
    "small": np.array([-128, 0, 5, 127], np.int8),
    "integer": np.array([-(2**31), 0, 2**31 - 1], np.int64),
}


@pytest.fixture(scope="module")
def feed(tmp_path_factory) -> dict[str, Path]:
    """A file for each input but the optional one."""
    folder = tmp_path_factory.mktemp("feed")
    for name in ("rgb", "bgr"):
        Image.fromarray(PIXELS).save(folder / f"{name}.png")
    Image.fromarray(PIXELS).save(folder / "grey.bmp")
    Image.fromarray(HALVES).save(folder / "half.tiff")
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    return {file.stem: file for file in folder.iterdir()}


def words(feed: dict[str, Path]) -> tuple[str, ...]:
    return tuple(f"{name}={file}" for name, file in feed.items())


def test_every_image_and_array_goes_through_files(everything, feed, command: Callable, tmp_path):
    arguments = [word for text in words(feed) for word in ("--input", text)]
    code, out, err = command("run", everything, *arguments, "--output", tmp_path, "--numerics", "fp32", "--json")
    assert code == 0, err
    rows = {row["name"].removesuffix("_out"): row for row in json.loads(out)["values"]}
    found = {name: np.load(row["path"]) for name, row in rows.items()}
    for name in ("rgb", "bgr"):  # the program's channels are the other way round, a file's never
        np.testing.assert_array_equal(found[name], PIXELS)
        np.testing.assert_array_equal(np.asarray(Image.open(rows[name]["image"])), PIXELS)
    np.testing.assert_array_equal(found["grey"], LUMA)
    with Image.open(rows["grey"]["image"]) as image:
        assert image.mode == "L" and (np.asarray(image) == LUMA).all()
    np.testing.assert_array_equal(found["half"], HALVES.astype(np.float16))
    assert "image" not in rows["half"], "a PNG has no half floats"
    assert (found["single"] == 7).all(), "the default of an optional input that was left out"
    types = {
        "single": "float32",
        "double": "float64",
        "small": "int8",
        "integer": "int32",
        "rgb": "uint8",
        "half": "float16",
    }
    assert {name: rows[name]["dtype"] for name in types} == types
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32) if name == "double" else array)


def test_colours_arrive_in_the_order_of_the_program(everything, feed, tmp_path):
    result = run_package(
        everything, inputs=words(feed), output=tmp_path, probes=("rgb_out", "bgr_out"), numerics="fp32"
    )
    probed = {value.name: np.load(value.path) for value in result.values if value.kind == "probe"}
    np.testing.assert_array_equal(probed["rgb_out"][0], PIXELS.transpose(2, 0, 1))
    np.testing.assert_array_equal(probed["bgr_out"][0], PIXELS.transpose(2, 0, 1)[::-1])


@pytest.mark.parametrize("kind", ["npy", "png of 8 bits"])
def test_grey_images_come_from_arrays_and_from_files_of_any_kind(everything, feed, tmp_path, kind):
    if kind == "npy":
        np.save(tmp_path / "g.npy", LUMA)
        np.save(tmp_path / "h.npy", HALVES.astype(np.float16))
        given, expected = {"grey": tmp_path / "g.npy", "half": tmp_path / "h.npy"}, HALVES.astype(np.float16)
    else:
        Image.fromarray(LUMA).save(tmp_path / "g.png")
        given, expected = {"grey": tmp_path / "g.png", "half": tmp_path / "g.png"}, LUMA
    result = run_package(everything, inputs=words({**feed, **given}), output=tmp_path / "out", numerics="fp32")
    found = {value.name: np.load(value.path) for value in result.values}
    np.testing.assert_array_equal(found["grey_out"], LUMA)
    np.testing.assert_array_equal(found["half_out"], expected)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rgb", np.zeros((4, 5, 3), np.uint8), r"input 'rgb' is 5x4 pixels; expected RGB image of 5x3"),
        ("grey", np.zeros((3, 5, 3), np.uint8), r"input 'grey' has shape \(3, 5, 3\); expected GRAYSCALE image"),
        ("small", np.array([200, 0, 0, 0]), "input 'small' leaves the range -128 to 127 of int8"),
        ("integer", np.array([0.5, 0, 0]), "input 'integer' has fractions"),
        ("double", np.array(["a", "b"]), "input 'double' has type <U1; expected fp64"),
    ],
)
def test_a_file_that_does_not_fit_its_input_is_refused(everything, feed, tmp_path, name, content, said):
    np.save(tmp_path / "bad.npy", content)
    with pytest.raises(ProgramError, match=said):
        run_package(everything, inputs=words({**feed, name: tmp_path / "bad.npy"}), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_for_an_array_and_an_input_given_twice_are_refused(everything, feed, tmp_path):
    with pytest.raises(UsageError, match=r"is an image, input 'single' takes fp32 of shape \(2, 3\); save the array"):
        run_package(everything, inputs=words({**feed, "single": feed["rgb"]}), output=tmp_path / "out")
    with pytest.raises(UsageError, match="input 'rgb' is given twice"):
        run_package(everything, inputs=(*words(feed), f"rgb={feed['rgb']}"), output=tmp_path / "out")


@pytest.mark.parametrize("labels", [["cat", "dog", "cow"], [10, 20, 30]])
def test_a_classifier_gives_label_and_probabilities(labels, command: Callable, tmp_path):
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1, 3))], opset_version=ct.target.iOS16)
    def program(x):
        return mb.softmax(x=x, axis=-1, name="probabilities")

    path = saved(tmp_path, program, classifier_config=ct.ClassifierConfig(labels, "label"))
    np.save(tmp_path / "x.npy", np.log(np.array([[0.25, 0.5, 0.25]], np.float32)))
    arguments = ("run", path, "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "out", "--numerics", "fp32")
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    rows = {row["dtype"]: row for row in json.loads(out)["values"]}
    kind = "string" if labels[0] == "cat" else "integer"
    assert rows[kind]["value"] == labels[1] and rows[kind]["name"] == "label"
    assert rows["dictionary"]["value"] == pytest.approx(dict(zip(map(str, labels), (0.25, 0.5, 0.25))))
    assert json.loads(Path(rows["dictionary"]["path"]).read_text()) == rows["dictionary"]["value"]
    code, out, _ = command(*arguments)
    assert code == 0 and f"{labels[1]} 0.5, {labels[0]} 0.25, {labels[2]} 0.25" in out and "3 entries" in out


def test_a_state_is_read_and_saved(command: Callable, tmp_path):
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(
        input_specs=[mb.TensorSpec((2,), dtype=types.fp16), mb.StateTensorSpec((2,), dtype=types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x, total):
        added = mb.add(x=mb.read_state(input=total), y=x)
        return mb.coreml_update_state(state=total, value=added, name="sum")

    path = saved(tmp_path, program)
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    arguments = ("run", path, "--input", f"x={tmp_path / 'x.npy'}", "--json", "--time", 3)
    code, out, err = command(*arguments, "--output", tmp_path / "a")
    assert code == 0, err
    (state,) = [row for row in json.loads(out)["values"] if row["kind"] == "state"]
    assert (state["name"], state["dtype"]) == ("total", "float16")
    assert np.load(state["path"]).tolist() == [1, 2], "of one run, not of those that were timed"
    code, out, err = command(*arguments, "--input", f"total={state['path']}", "--output", tmp_path / "b")
    assert code == 0 and np.load(tmp_path / "b" / "total.npy").tolist() == [2, 4]
    np.save(tmp_path / "bad.npy", np.array(["a", "b"]))
    code, _, err = command(*arguments, "--input", f"total={tmp_path / 'bad.npy'}", "--output", tmp_path / "c")
    assert code == 2 and "state 'total' has type <U1; expected fp16 of shape (2,)" in err


@pytest.mark.parametrize(
    ("value", "kind", "content"),
    [
        ("cat", "string", "cat"),
        (7, "integer", 7),
        (0.5, "number", 0.5),
        (float("nan"), "string", "nan"),
        ({"cat": 0.5, 3: float("inf")}, "dictionary", {"cat": 0.5, "3": "inf"}),
        (["a", [1.5, 2.0]], "list", ["a", [1.5, 2.0]]),
    ],
)
def test_what_is_no_array_is_saved_as_json(tmp_path, value, kind, content):
    saved_value = ValueFiles(tmp_path, tmp_path).save("output", "y", value)
    assert (saved_value.dtype, saved_value.value) == (kind, content)
    assert json.loads((tmp_path / "y.json").read_text()) == content
    json.dumps(saved_value.document(), allow_nan=False)
    assert saved_value.shape_text and saved_value.range_text is not None


def test_numbers_beyond_an_inputs_type_and_outputs_that_are_none_are_warned_of(tmp_path):
    spec = FeatureSpec(name="x", kind="tensor", dtype="fp16", shape=(4,))
    np.save(tmp_path / "x.npy", np.array([65519.0, 65520.0, -1e6, np.inf]))  # 65520 is the first that becomes infinite
    with pytest.warns(EdgeSAMExportWarning, match=r"x\.npy': 2 of 4 values are beyond 65504, .* of fp16"):
        read_inputs([f"x={tmp_path / 'x.npy'}"], {"x": spec})
    files = ValueFiles(tmp_path, tmp_path)
    with pytest.warns(EdgeSAMExportWarning, match=r"output 'y': 2 of 3 values are NaN or infinite"):
        files.save("output", "y", np.array([1, np.nan, -np.inf], np.float16))
    files.save("probe", "z", np.array([np.nan]))  # what is inside may be so on purpose, a mask of attention say

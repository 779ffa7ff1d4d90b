"""Inputs and outputs: what Core ML accepts, what it refuses, and in which words we say so."""

import numpy as np
import pytest
import torch
from PIL import Image

from edgesam_export.errors import ProgramError
from edgesam_export.mil import load_program
from edgesam_export.spec import NUMERICS

X = np.array([[1.0, 2.0, 3.0]], np.float32)


def passing(handmade, dtype="fp32", shape=(1, 3)):
    """A program that returns its input ``x``."""
    feature = handmade.input("x", dtype, shape)
    handmade.output("x", dtype, shape)
    return feature


@pytest.mark.parametrize(
    "given", [X, X.astype(np.float64), X.astype(np.float16), X.astype(np.int64), X.tolist(), torch.tensor(X)]
)
def test_numbers_of_any_width_are_converted(handmade, given) -> None:
    passing(handmade)
    out = load_program(handmade.save()).predict({"x": given})["x"]
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, X)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, r"input 'x' is missing; expected fp32 of shape \(1, 3\)"),
        ({"x": X, "y": X}, r"unknown input 'y'; this program takes: x"),
        ({"x": X[0]}, r"input 'x' has shape \(3,\); expected fp32 of shape \(1, 3\)"),
        ({"x": X[:, :2]}, r"input 'x' has shape \(1, 2\); expected fp32 of shape \(1, 3\)"),
        ({"x": X.astype(complex)}, r"input 'x' has type complex128; expected fp32"),
        ({"x": np.array([["a", "b", "c"]])}, r"input 'x' has type <U1; expected fp32"),
        ({"x": [[1, 2], [3]]}, r"input 'x' is not an array of numbers; expected fp32"),
        ({"x": np.array([[None] * 3])}, r"input 'x' has type object; expected fp32"),
    ],
)
def test_feed_that_does_not_fit_is_refused(handmade, feed, message) -> None:
    passing(handmade)
    with pytest.raises(ProgramError, match="^" + message):
        load_program(handmade.save()).predict(feed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X + 0.5, "has fractions"),
        (X * np.nan, "has fractions"),
        (X * 2.0**40, "leaves the range"),
        (X.astype(str), "type <U"),
    ],
)
def test_integer_input_takes_integers_only(handmade, given, message) -> None:
    passing(handmade, "int32")
    program = load_program(handmade.save())
    assert program.predict({"x": X})["x"].dtype == np.int32
    with pytest.raises(ProgramError, match=message):
        program.predict({"x": given})


def test_fp16_input_is_rounded_as_it_enters(handmade) -> None:
    passing(handmade, "fp16", (2,))
    out = load_program(handmade.save()).predict({"x": np.array([1 + 2**-20, 1e6])})["x"]
    assert out.dtype == np.float16 and out.tolist() == [1, np.inf]


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


HALVES = np.array([[1.5, -np.inf, 6e-8], [65504, np.nan, -0.0]], np.float16)


@pytest.mark.parametrize(
    "given",
    [
        HALVES,
        frozen(HALVES.copy()),
        HALVES[::-1, ::-1].copy()[::-1, ::-1],
        HALVES.astype(">f2"),
        np.asfortranarray(HALVES),
        np.repeat(HALVES, 2, axis=1)[:, ::2],
        HALVES.astype(np.float64),
        torch.tensor(HALVES),
    ],
    ids=["plain", "read-only", "reversed", "big-endian", "columns", "strided", "float64", "torch"],
)
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_fp16_array_of_any_kind_gives_its_numbers(handmade, given, numerics, dtype) -> None:
    passing(handmade, dtype, (2, 3))
    expected = np.array(HALVES, np.float32)
    if numerics == "ane" and dtype == "fp16":
        expected[0, 2] = 0  # the only subnormal
    np.testing.assert_array_equal(load_program(handmade.save()).predict({"x": given}, numerics=numerics)["x"], expected)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_callers_fp16_array_is_never_written_to(handmade, test_op, numerics) -> None:
    test_op(name="t_double")(lambda x: x.mul_(2))  # an op that breaks the rules
    handmade.input("x", "fp16", (2, 3))
    handmade.op("t_double", {"out": ("fp16", (2, 3))}, x="x")
    handmade.output("out", "fp16", (2, 3))
    given = HALVES.copy()
    load_program(handmade.save()).predict({"x": given}, numerics=numerics)
    np.testing.assert_array_equal(given, HALVES)


def test_narrow_types_that_are_not_fp16_give_their_numbers(handmade) -> None:
    passing(handmade, "fp16", (3,))
    program = load_program(handmade.save())
    assert program.predict({"x": np.array([True, False, True])})["x"].tolist() == [1, 0, 1]
    assert program.predict({"x": np.array([255, 0, 7], np.uint8)})["x"].tolist() == [255, 0, 7]


def test_scalar_program_input_is_fed_as_one_element(handmade) -> None:
    handmade.input("x", "fp32", ())
    handmade.output("x", "fp32", ())
    for feature in (handmade.model.description.input[0], handmade.model.description.output[0]):
        feature.type.multiArrayType.shape.append(1)
    program = load_program(handmade.save())
    assert program.predict({"x": np.float32([3])})["x"].tolist() == [3]
    assert program.predict({"x": 3.0})["x"].tolist() == [3]


def test_range_of_shapes_is_honoured(handmade) -> None:
    feature = passing(handmade, shape=(1, None))
    for low, high in ((1, 1), (2, 5)):
        feature.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    feature.type.multiArrayType.shape[1] = 2
    program = load_program(handmade.save())
    assert program.inputs[0].ranges == ((1, 1), (2, 5)) and program.inputs[0].is_flexible
    for size in (2, 5):
        assert program.predict({"x": np.zeros((1, size))})["x"].shape == (1, size)
    for size in (1, 6):
        with pytest.raises(ProgramError, match=rf"has shape \(1, {size}\); expected fp32 of shape \(1, 2\.\.5\)"):
            program.predict({"x": np.zeros((1, size))})


def test_unbounded_range_takes_any_size(handmade) -> None:
    feature = passing(handmade, shape=(None,))
    feature.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=2, upperBound=-1)
    program = load_program(handmade.save())
    assert program.predict({"x": np.zeros(1000)})["x"].shape == (1000,)
    assert "(2..)" in program.inputs[0].expected


def test_enumerated_shapes_are_honoured(handmade) -> None:
    feature = passing(handmade, shape=(1, None))
    for size in (2, 4):
        feature.type.multiArrayType.enumeratedShapes.shapes.add(shape=[1, size])
    program = load_program(handmade.save())
    assert program.predict({"x": np.zeros((1, 4))})["x"].shape == (1, 4)
    with pytest.raises(ProgramError, match=r"has shape \(1, 3\); expected fp32 of shape \(1, 2\) or \(1, 4\)"):
        program.predict({"x": X})


def test_left_out_optional_input_takes_its_default(handmade) -> None:
    feature = passing(handmade)
    feature.type.isOptional = True
    feature.type.multiArrayType.floatDefaultValue = 2.5
    program = load_program(handmade.save())
    assert program.predict({})["x"].tolist() == [[2.5, 2.5, 2.5]]
    assert program.predict({"x": X})["x"].tolist() == X.tolist()


def image_program(handmade, colour: int, shape=(1, 3, 2, 4)):
    """A program that returns the tensor of its image ``x`` (height 2, width 4)."""
    feature = handmade.input("x", "fp32", shape)
    feature.type.imageType.width, feature.type.imageType.height, feature.type.imageType.colorSpace = 4, 2, colour
    handmade.output("x", "fp32", shape)
    return feature


PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
GRAY = np.arange(8, dtype=np.uint8).reshape(2, 4)


@pytest.mark.parametrize("given", [PIXELS, Image.fromarray(PIXELS)], ids=["array", "pil"])
@pytest.mark.parametrize(("colour", "order"), [(20, [0, 1, 2]), (30, [2, 1, 0])], ids=["RGB", "BGR"])
def test_colour_image_becomes_planes_in_the_declared_order(handmade, given, colour, order) -> None:
    image_program(handmade, colour)
    out = load_program(handmade.save()).predict({"x": given})["x"]
    np.testing.assert_array_equal(out, PIXELS.transpose(2, 0, 1)[None][:, order].astype(np.float32))


@pytest.mark.parametrize("given", [GRAY, Image.fromarray(GRAY)], ids=["array", "pil"])
def test_grayscale_image_becomes_one_plane(handmade, given) -> None:
    image_program(handmade, 10, (1, 1, 2, 4))
    np.testing.assert_array_equal(load_program(handmade.save()).predict({"x": given})["x"][0, 0], GRAY)


def test_float_grayscale_image_keeps_its_fractions(handmade) -> None:
    image_program(handmade, 40, (1, 1, 2, 4))
    given = GRAY.astype(np.float32) / 8
    np.testing.assert_array_equal(
        load_program(handmade.save()).predict({"x": Image.fromarray(given)})["x"][0, 0], given
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PIXELS.transpose(1, 0, 2), r"is 2x4 pixels; expected RGB image of 4x2 pixels"),
        (PIXELS.astype(np.float32), r"has type float32, not uint8"),
        (PIXELS.astype(np.uint16), r"has type uint16, not uint8"),
        (GRAY, r"has shape \(2, 4\); expected RGB image"),
        (np.zeros((2, 4, 4), np.uint8), r"has shape \(2, 4, 4\)"),
        (Image.fromarray(GRAY), r"image of mode L; expected .*convert\('RGB'\) it first"),
        ("cat.jpg", r"has type <U7"),
    ],
)
def test_image_that_does_not_fit_is_refused(handmade, given, message) -> None:
    image_program(handmade, 20)
    with pytest.raises(ProgramError, match="^input 'x' (is an )?" + message):
        load_program(handmade.save()).predict({"x": given})


def test_flexible_image_sizes_are_honoured(handmade) -> None:
    feature = image_program(handmade, 20, (1, 3, None, None))
    for width, height in ((4, 2), (8, 6)):
        feature.type.imageType.enumeratedSizes.sizes.add(width=width, height=height)
    program = load_program(handmade.save())
    assert program.predict({"x": np.zeros((6, 8, 3), np.uint8)})["x"].shape == (1, 3, 6, 8)
    with pytest.raises(ProgramError, match="is 6x6 pixels; expected RGB image of 4x2 or 8x6 pixels"):
        program.predict({"x": np.zeros((6, 6, 3), np.uint8)})
    feature.type.imageType.imageSizeRange.widthRange.lowerBound = 1
    feature.type.imageType.imageSizeRange.widthRange.upperBound = -1
    feature.type.imageType.imageSizeRange.heightRange.lowerBound = 2
    feature.type.imageType.imageSizeRange.heightRange.upperBound = 3
    program = load_program(handmade.save())
    assert program.predict({"x": np.zeros((3, 99, 3), np.uint8)})["x"].shape == (1, 3, 3, 99)
    with pytest.raises(ProgramError, match=r"is 4x4 pixels; expected RGB image of 1\.\.x2\.\.3 pixels"):
        program.predict({"x": np.zeros((4, 4, 3), np.uint8)})


@pytest.mark.parametrize(("colour", "order"), [(20, [0, 1, 2]), (30, [2, 1, 0])], ids=["RGB", "BGR"])
def test_image_output_is_clamped_and_in_rgb_order(handmade, colour, order) -> None:
    image_program(handmade, 20)
    output = handmade.model.description.output[0].type.imageType
    output.width, output.height, output.colorSpace = 4, 2, colour
    out = load_program(handmade.save()).predict({"x": PIXELS})["x"]
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, PIXELS[..., order])


def test_callers_array_is_never_written_to(handmade, test_op) -> None:
    test_op(name="t_double")(lambda x: x.mul_(2))  # an op that breaks the rules
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_double", {"out": ("fp32", (1, 3))}, x="x")
    handmade.output("out", "fp32", (1, 3))
    given = X.copy()
    load_program(handmade.save()).predict({"x": given})
    np.testing.assert_array_equal(given, X)


def test_inputs_and_outputs_describe_themselves(handmade) -> None:
    passing(handmade).shortDescription = "three numbers"
    program = load_program(handmade.save())
    (spec,) = program.inputs
    assert (spec.name, spec.kind, spec.dtype, spec.shape) == ("x", "tensor", "fp32", (1, 3))
    assert spec.description == "three numbers" and not spec.is_flexible and not spec.optional


def change_shape(handmade) -> None:
    handmade.model.description.input[0].type.multiArrayType.shape[1] = 4


def change_name(handmade) -> None:
    handmade.model.description.input[0].name = "y"


def change_output(handmade) -> None:
    handmade.model.description.output[0].name = "y"


def drop_input(handmade) -> None:
    handmade.model.description.input.pop()


def repeat_input(handmade) -> None:
    handmade.model.description.input.add().CopyFrom(handmade.model.description.input[0])


def absurd_shape(handmade) -> None:
    handmade.model.description.input[0].type.multiArrayType.shape[:] = [2**40, 2**20]


def negative_shape(handmade) -> None:
    handmade.model.description.input[0].type.multiArrayType.shape[:] = [-1, 3]


def unknown_array(handmade) -> None:
    handmade.model.description.input[0].type.multiArrayType.dataType = 77


def call_it_state(handmade) -> None:
    array = handmade.model.description.input[0].type.stateType.arrayType
    array.shape[:], array.dataType = [1, 3], 65552


def call_it_text(handmade) -> None:
    handmade.model.description.input[0].type.stringType.SetInParent()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_shape, r"input 'x' is described with shape \(1, 4\), the program declares fp32\(1, 3\)"),
        (change_name, "input 'y' is described, but the program has none of that name"),
        (change_output, "output 'y' is described, but the program has none of that name"),
        (drop_input, "the description does not list the program's input 'x'"),
        (repeat_input, "lists an input twice"),
        (absurd_shape, "would take more than 16 GiB"),
        (negative_shape, r"is described as an array of shape \(-1, 3\)"),
        (unknown_array, "unknown array type 77"),
        (call_it_state, "is described as a state, the program declares fp32"),
        (call_it_text, "is described as stringType, the program declares fp32"),
    ],
)
def test_description_that_contradicts_the_program_is_refused(handmade, change, message) -> None:
    passing(handmade)
    change(handmade)
    with pytest.raises(ProgramError, match=message):
        load_program(handmade.save())


def test_sequence_comes_back_as_a_list(handmade) -> None:
    passing(handmade, shape=(2,))
    made = handmade.op(
        "make_list", {}, init_length=np.int32(2), elem_shape=[np.int32(2)], dynamic_length=np.bool_(False)
    )
    handmade.op("list_write", {}, ls="l", index=np.int32(1), value="x")
    for name, operation in (("l", made), ("out", handmade.block.operations[-1])):
        declared = operation.outputs.add(name=name).type.listType
        declared.length.constant.size = 2
        handmade.declare(declared.type, "fp32", (2,))
    handmade.block.outputs.append("out")
    handmade.model.description.output.add(name="out").type.sequenceType.int64Type.SetInParent()
    program = load_program(handmade.save())
    assert program.outputs[-1].kind == "sequence"
    assert program.predict({"x": np.array([3.0, 4.0])})["out"] == [[0.0, 0.0], [3.0, 4.0]]


def test_integer_and_double_features_are_numbers(handmade) -> None:
    handmade.input("x", "fp32", ())
    handmade.model.description.input[0].type.multiArrayType.shape.append(1)
    handmade.output("x", "fp32", ())
    feature = handmade.model.description.output[0]
    feature.type.doubleType.SetInParent()
    value = load_program(handmade.save()).predict({"x": 2.5})["x"]
    assert value == 2.5 and isinstance(value, float)

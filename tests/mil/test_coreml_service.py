"""The Python side of Swift's stand-in for Core ML: frames, answers, and what it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesam_export.mil.coreml_service import FrameError, read_frame, serve, write_frame


def frame(header: Any, payload: bytes = b"") -> bytes:
    text = json.dumps({"payload_bytes": len(payload), **header} if isinstance(header, dict) else header).encode()
    return len(text).to_bytes(4, "little") + text + payload


def frames(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    stream, found = io.BytesIO(data), []
    while (one := read_frame(stream)) is not None:
        found.append(one)
    return found


def ask(*requests: bytes) -> list[tuple[dict[str, Any], bytes]]:
    answers = io.BytesIO()
    assert serve(io.BytesIO(b"".join(requests)), answers) == 0
    return frames(answers.getvalue())


def array(name: str, value: np.ndarray, dtype: str, offset: int = 0) -> dict[str, Any]:
    place = {"offset": offset, "bytes": value.nbytes}
    return {"name": name, "kind": "array", "dtype": dtype, "shape": list(value.shape), **place}


def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgesam_export.mil.coreml_service"]
    return subprocess.run(command, input=data, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x fp32 (1, 2, 3) -> doubled fp32; h fp16 (2,) -> sum fp16, (1,) for a scalar; with metadata."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((1, 2, 3)), mb.TensorSpec((2,), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS16)
    def program(x, h):
        total = mb.reduce_sum(x=h, axes=[0], keep_dims=True, name="total")
        return mb.mul(x=x, y=np.float32(2), name="doubled"), total

    options = {"compute_precision": ct.precision.FLOAT32, "minimum_deployment_target": ct.target.iOS16}
    model = ct.convert(program, convert_to="mlprogram", **options)
    model.author = "A. Uthor"
    model.user_defined_metadata["org.example.key"] = "value"
    path = tmp_path_factory.mktemp("service") / "model.mlpackage"
    model.save(str(path))
    return path


X, H = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([1.5, 2.25], np.float16)


def test_a_program_is_loaded_run_and_unloaded(package: Path):
    payload = H.tobytes() + X.tobytes()
    features = [array("x", X, "fp32", offset=4), array("h", H, "fp16")]
    predict = {"method": "predict", "id": 2, "handle": 1, "features": features}
    unload = frame({"method": "unload", "id": 3, "handle": 1})
    load = frame({"method": "load", "id": 1, "path": str(package), "numerics": "fp16"})
    loaded, predicted, gone, again = ask(load, frame(predict, payload), unload, unload)
    assert loaded[0]["ok"] and loaded[0]["id"] == 1 and loaded[0]["handle"] == 1
    assert [(i["name"], i["kind"], i["dtype"], i["shape"]) for i in loaded[0]["inputs"]] == [
        ("x", "array", "fp32", [1, 2, 3]),
        ("h", "array", "fp16", [2]),
    ]
    assert loaded[0]["metadata"]["author"] == "A. Uthor" and loaded[0]["metadata"]["org.example.key"] == "value"
    outputs = {f["name"]: f for f in predicted[0]["features"]}
    data = predicted[1]
    doubled, total = outputs["doubled"], outputs["total"]
    assert doubled["shape"] == [1, 2, 3] and doubled["dtype"] == "fp32"
    part = data[doubled["offset"] : doubled["offset"] + doubled["bytes"]]
    assert np.frombuffer(part, np.float32).tolist() == [0, 2, 4, 6, 8, 10]
    part = data[total["offset"] : total["offset"] + total["bytes"]]
    assert total["dtype"] == "fp16" and np.frombuffer(part, np.float16).tolist() == [3.75]
    assert gone[0]["ok"] and not again[0]["ok"]
    assert again[0]["error"] == {"type": "UsageError", "message": "no loaded model 1"}


def test_outputs_keep_their_declared_type_with_other_numerics(package: Path):
    features = [array("x", X, "fp32", offset=4), array("h", H, "fp16")]
    predict = frame({"method": "predict", "handle": 1, "features": features}, H.tobytes() + X.tobytes())
    load = frame({"method": "load", "path": str(package), "numerics": "fp32"})
    predicted = ask(load, predict)[1][0]
    assert {f["name"]: f["dtype"] for f in predicted["features"]} == {"doubled": "fp32", "total": "fp16"}


def test_pictures_travel_in_the_orders_of_core_video(handmade_picture: Path):
    red_green_blue = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    alpha = np.full((1, 2, 1), 255, np.uint8)
    bgra, argb = [red_green_blue[..., ::-1], alpha], [alpha, red_green_blue]
    load = frame({"method": "load", "path": str(handmade_picture), "numerics": "fp16"})
    for layout, parts in (("BGRA", bgra), ("ARGB", argb)):
        data = np.concatenate(parts, axis=-1).tobytes()
        place = {"name": "image", "kind": "image", "format": layout, "width": 2, "height": 1, "offset": 0, "bytes": 8}
        _, (answer, payload) = ask(load, frame({"method": "predict", "handle": 1, "features": [place]}, data))
        (output,) = answer["features"]
        assert (output["kind"], output["format"], output["width"], output["height"]) == ("image", "BGRA", 2, 1)
        assert list(payload) == [30, 20, 10, 255, 60, 50, 40, 255]


@pytest.fixture
def handmade_picture(tmp_path: Path) -> Path:
    """A program that returns its picture, RGB 2 x 1."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model(specificationVersion=8)
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML7"
    block = function.block_specializations["CoreML7"]
    operation = block.operations.add(type="relu")
    operation.inputs["x"].arguments.add().name = "image"
    for value in (function.inputs.add(name="image"), operation.outputs.add(name="out")):
        value.type.tensorType.dataType, value.type.tensorType.rank = 11, 4
        for size in (1, 3, 1, 2):
            value.type.tensorType.dimensions.add().constant.size = size
    block.outputs.append("out")
    for features, name in ((model.description.input, "image"), (model.description.output, "out")):
        picture = features.add(name=name).type.imageType
        picture.width, picture.height, picture.colorSpace = 2, 1, picture.RGB
    path = tmp_path / "picture.mlmodel"
    path.write_bytes(model.SerializeToString())
    return path


def test_structure_names_operations_without_running_them(package: Path):
    ((answer, _),) = ask(frame({"method": "structure", "path": str(package)}))
    main = answer["functions"]["main"]
    assert main["inputs"] == ["x", "h"] and set(main["block"]["outputs"]) == {"doubled", "total"}
    operations = [op for op in main["block"]["operations"] if op["type"] != "const"]
    assert {op["type"]: op["outputs"] for op in operations} == {"mul": ["doubled"], "reduce_sum": ["total"]}


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "the request's 'method' is missing or not of type str"),
        ({"method": "fly"}, "unknown method 'fly'; choose one of: load, predict, structure, unload, ping, shutdown"),
        ({"method": "load", "numerics": "fp16"}, "the request's 'path' is missing or not of type str"),
        ({"method": "load", "path": "/nowhere", "numerics": "fp16"}, "/nowhere: no such file or folder; expected a"),
        ({"method": "predict", "handle": 3}, "no loaded model 3"),
        ({"method": "predict", "handle": True}, "the request's 'handle' is missing or not of type int"),
        ({"method": "structure", "path": "a\0b"}, "a\0b: no such file or folder; expected a"),
    ],
)
def test_a_wrong_request_is_answered_on_one_line(request_fields, message):
    (answer, payload), (ping, _) = ask(frame({"id": 5, **request_fields}), frame({"method": "ping"}))
    assert answer["ok"] is False and answer["id"] == 5 and payload == b""
    assert answer["error"]["message"].startswith(message) and "\n" not in answer["error"]["message"]
    assert ping["ok"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [1, 3, 2]}, r"input 'x' has shape (1, 3, 2); expected fp32 of shape (1, 2, 3)"),
        ({"name": "y"}, "unknown input 'y'; this program takes: h, x"),
        ({"shape": [7]}, "feature 'x': 24 bytes are not float32 of shape (7,)"),
        ({"shape": [-1, -6]}, "feature 'x': (-1, -6) is not a shape"),
        ({"shape": [1.0, 6]}, "feature 'x': (1.0, 6) is not a shape"),
        ({"shape": [1] * 40}, "feature 'x': (1, 1"),
        ({"offset": 1}, "feature 'x': bytes 1 to 25 are not in 24 of payload"),
        ({"offset": -8}, "feature 'x': bytes -8 to 16 are not in 24 of payload"),
        ({"dtype": "object"}, "feature 'x': array of 'object'; known are: fp16, fp32, fp64, int32, int8"),
        ({"kind": "video"}, "feature 'x': video of 'fp32'; known are:"),
        ({"kind": "image"}, "the request's 'format' is missing or not of type str"),
        ({}, "input 'h' is missing; expected fp16 of shape (2,)"),
    ],
)
def test_wrong_features_are_named(package: Path, changes, message):
    load = frame({"method": "load", "path": str(package), "numerics": "fp16"})
    feature = {**array("x", X, "fp32"), **changes}
    answer = ask(load, frame({"method": "predict", "handle": 1, "features": [feature]}, X.tobytes()))[1][0]
    assert answer["ok"] is False and answer["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05", "the input ended after 1 of 4 bytes of a length"),
        (b"\xff\xff\xff\xff", "a header of 4294967295 bytes; 2 to 16777216 are taken"),
        (b"\0\0\0\0", "a header of 0 bytes; 2 to 16777216 are taken"),
        (b"\x05\0\0\0ab", "the input ended after 2 of 5 bytes of a header"),
        (b"\x05\0\0\0abcde", "a header that is not JSON"),
        (b"\x02\0\0\0\xff\xfe", "a header that is not JSON"),
        (b"\xa0\x86\x01\0" + b"[" * 100000, "a header that is not JSON"),
        (frame([1]), "a header without 'payload_bytes' from 0 to 1073741824"),
        (frame({"payload_bytes": -1}), "a header without 'payload_bytes' from 0 to 1073741824"),
        (frame({"payload_bytes": True}), "a header without 'payload_bytes' from 0 to 1073741824"),
        (frame({"payload_bytes": 1 << 40}), "a header without 'payload_bytes' from 0 to 1073741824"),
        (frame({"payload_bytes": 9}) + b"abc", "the input ended after 3 of 9 bytes of a payload"),
    ],
)
def test_what_is_no_frame_is_refused(data, message):
    with pytest.raises(FrameError) as caught:
        read_frame(io.BytesIO(data))
    assert str(caught.value) == message


def test_a_frame_survives_writing_and_reading():
    stream = io.BytesIO()
    write_frame(stream, {"a": "é"}, [b"12", b"345"])
    assert frames(stream.getvalue()) == [({"a": "é", "payload_bytes": 5}, b"12345")]
    assert read_frame(io.BytesIO(b"")) is None


def test_the_process_ends_with_its_input():
    done = run(frame({"method": "ping", "id": 7}))
    ((answer, _),) = frames(done.stdout)
    assert done.returncode == 0 and done.stderr == b"" and answer["ok"] and answer["id"] == 7 and answer["pid"] > 0


def test_the_process_ends_when_asked_to():
    done = run(frame({"method": "shutdown"}) + frame({"method": "ping"}))
    assert done.returncode == 0 and len(frames(done.stdout)) == 1


def test_the_process_ends_with_2_at_garbage():
    done = run(frame({"method": "ping"}) + b"GET / HTTP/1.1\r\n")
    assert done.returncode == 2 and len(frames(done.stdout)) == 1
    assert done.stderr.decode().splitlines() == [
        "edgesam coreml service: a header of 542393671 bytes; 2 to 16777216 are taken"
    ]


def test_standard_output_holds_frames_alone():
    code = (
        "import edgesam_export.mil.coreml_service as service, os\n"
        "def noisy(path, **options):\n"
        "    print('from Python'); os.write(1, b'from C'); raise ValueError('a\\nb')\n"
        "service.load_program = noisy\n"
        "raise SystemExit(service.main())"
    )
    request = frame({"method": "structure", "path": "x"})
    done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True, timeout=120)
    ((answer, _),) = frames(done.stdout)
    assert answer["error"] == {"type": "ValueError", "message": "ValueError: a"}
    assert b"from Python" in done.stderr and b"from C" in done.stderr

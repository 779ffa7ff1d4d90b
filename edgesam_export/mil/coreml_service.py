"""Core ML's part on Linux: loads and runs ML Programs for a process that talks to it over pipes.

``python -m edgesam_export.mil.coreml_service`` reads requests from its standard input and answers each on its standard
output. Swift's stand-in for ``CoreML`` (swift/StandIns) is the other end.

A frame is a 4-byte little-endian length, that many bytes of JSON (an object, the header), and as many bytes of payload
as the header's ``payload_bytes`` says. A request names a ``method``; its ``id`` comes back in the answer, with
``"ok": true`` and the results, or ``"ok": false`` and ``error: {type, message}``, the message on one line.

    load       path, function, numerics                 -> handle, inputs, outputs, metadata, functions
    predict    handle, features (their bytes: payload)  -> features
    structure  path, function                           -> functions: {name: {inputs, block}}
    unload     handle
    ping
    shutdown

An array travels dense in row-major order: ``{name, kind: "array", dtype, shape, offset, bytes}``; an image row by row:
``{name, kind: "image", format, width, height, offset, bytes}`` in one of ``PIXELS``.

The service ends with 0 at the end of its input or after ``shutdown``, and with 2 at a frame that is none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgesam_export.errors import EdgeSAMExportError, ProgramError, UsageError, first_line
from edgesam_export.mil.features import ARRAY_TYPES, FeatureSpec
from edgesam_export.mil.graph import Block, Output
from edgesam_export.mil.program import Program, load_program

__all__ = ["FrameError", "Service", "main", "read_frame", "serve", "write_frame"]

MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 1 << 30
PIXELS: Mapping[str, tuple[Any, tuple[int, ...]]] = {
    "BGRA": (np.uint8, (4,)),
    "ARGB": (np.uint8, (4,)),
    "L008": (np.uint8, ()),
    "L00h": (np.float16, ()),
}
"""Format -> element type and shape of one pixel."""
OUTPUT_PIXELS = {"RGB": "BGRA", "BGR": "BGRA", "GRAYSCALE": "L008", "GRAYSCALE_FLOAT16": "L00h"}
"""Colour layout of an image -> format in which it is sent."""


class FrameError(Exception):
    """What came in is no frame: nothing after it can be understood."""


@dataclass(frozen=True)
class Answer:
    """Results of one request, and the bytes that travel behind them."""

    fields: dict[str, Any]
    payload: list[bytes]


class Service:
    """The methods, and the programs that are loaded."""

    def __init__(self) -> None:
        self.loaded: dict[int, tuple[Program, str]] = {}
        self.last_handle = 0
        self.methods: dict[str, Callable[[dict[str, Any], bytes], Answer]] = {
            "load": self.load,
            "predict": self.predict,
            "structure": self.structure,
            "unload": self.unload,
            "ping": lambda *_: Answer({"pid": os.getpid()}, []),
            "shutdown": lambda *_: Answer({}, []),
        }

    def answer(self, request: dict[str, Any], payload: bytes) -> Answer:
        """Return the answer to a request; whatever goes wrong in it is an answer too."""
        try:
            method = field(request, "method", str)
            if method not in self.methods:
                raise UsageError(f"unknown method '{method[:40]}'; choose one of: {', '.join(self.methods)}")
            result = self.methods[method](request, payload)
            return Answer({"ok": True, "id": request.get("id"), **result.fields}, result.payload)
        except Exception as error:  # whatever a library raises about one request must not end the others
            problem = {"type": type(error).__name__, "message": message_of(error)}
            return Answer({"ok": False, "id": request.get("id"), "error": problem}, [])

    def load(self, request: dict[str, Any], payload: bytes) -> Answer:
        program = open_program(request)
        for spec in (*program.inputs, *program.outputs, *program.states):
            if spec.kind not in ("tensor", "image"):
                raise ProgramError(f"{program.path}: feature '{spec.name}' is a {spec.kind}; only arrays and images")
        numerics = field(request, "numerics", str)
        program.prepare(numerics)  # an operation that is not known shows when a model is loaded
        self.last_handle += 1
        self.loaded[self.last_handle] = (program, numerics)
        description = {
            "handle": self.last_handle,
            "inputs": [describe(spec) for spec in program.inputs],
            "outputs": [describe(spec) for spec in program.outputs],
            "metadata": program.metadata,
            "functions": list(program.functions),
        }
        return Answer(description, [])

    def predict(self, request: dict[str, Any], payload: bytes) -> Answer:
        program, numerics = self.find(request)
        feed = {field(f, "name", str): read_feature(f, payload) for f in field(request, "features", list)}
        results = program.predict(feed, numerics=numerics)
        features, parts, offset = [], [], 0
        for spec in program.outputs:
            header, data = write_feature(spec, results[spec.name])
            features.append({"name": spec.name, **header, "offset": offset, "bytes": len(data)})
            parts.append(data)
            offset += len(data)
        return Answer({"features": features}, parts)

    def structure(self, request: dict[str, Any], payload: bytes) -> Answer:
        function = open_program(request, require_weights=False).function
        block = describe_block(function.block)
        return Answer({"functions": {function.name: {"inputs": names(function.inputs), "block": block}}}, [])

    def unload(self, request: dict[str, Any], payload: bytes) -> Answer:
        self.find(request)
        del self.loaded[request["handle"]]
        return Answer({}, [])

    def find(self, request: dict[str, Any]) -> tuple[Program, str]:
        handle = field(request, "handle", int)
        if handle not in self.loaded:
            raise UsageError(f"no loaded model {handle}")
        return self.loaded[handle]


def message_of(error: BaseException) -> str:
    """Return the message of an error; with its type where it is another library's, which often says too little."""
    text, kind = first_line(error), type(error).__name__
    return text if isinstance(error, EdgeSAMExportError) or text == kind else f"{kind}: {text}"


def field(holder: Any, key: str, kind: type) -> Any:
    """Return ``holder[key]``.

    Raises:
        UsageError: it is not there, or of another type.
    """
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f"the request's '{key}' is missing or not of type {kind.__name__}")
    return value


def open_program(request: dict[str, Any], *, require_weights: bool = True) -> Program:
    function = None if request.get("function") is None else field(request, "function", str)
    return load_program(Path(field(request, "path", str)), function=function, require_weights=require_weights)


def describe(spec: FeatureSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": "image" if spec.kind == "image" else "array",
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "format": None if spec.colour is None else OUTPUT_PIXELS[spec.colour],
        "optional": spec.optional,
    }


def names(values: tuple[Output, ...]) -> list[str]:
    return [value.name for value in values]


def describe_block(block: Block) -> dict[str, Any]:
    operations = [
        {"type": op.type, "outputs": names(op.outputs), "blocks": [describe_block(inner) for inner in op.blocks]}
        for op in block.operations
    ]
    return {"inputs": names(block.inputs), "outputs": list(block.outputs), "operations": operations}


def read_feature(feature: Any, payload: bytes) -> np.ndarray:
    """Return one feature of a request: an array as it is, an image as ``Program.predict`` takes it.

    Raises:
        UsageError: the bytes are not where the feature says, or too few or too many for its shape.
    """
    name, kind = field(feature, "name", str), field(feature, "kind", str)
    if kind == "image":
        known: Mapping[str, Any] = PIXELS
        choice, shape = field(feature, "format", str), (field(feature, "height", int), field(feature, "width", int))
    else:
        known, choice, shape = ARRAY_TYPES, field(feature, "dtype", str), tuple(field(feature, "shape", list))
    if choice not in known or kind not in ("image", "array"):
        raise UsageError(f"feature '{name}': {kind} of '{choice}'; known are: {', '.join(known)}")
    dtype, pixel = known[choice] if kind == "image" else (known[choice], ())
    shape = (*shape, *pixel)
    if len(shape) > 16 or any(type(size) is not int or size < 0 for size in shape):
        raise UsageError(f"feature '{name}': {shape} is not a shape")
    offset, count = field(feature, "offset", int), field(feature, "bytes", int)
    if offset < 0 or count < 0 or offset + count > len(payload):
        raise UsageError(f"feature '{name}': bytes {offset} to {offset + count} are not in {len(payload)} of payload")
    if prod(shape) * np.dtype(dtype).itemsize != count:
        raise UsageError(f"feature '{name}': {count} bytes are not {np.dtype(dtype)} of shape {shape}")
    array = np.frombuffer(payload, dtype, prod(shape), offset).reshape(shape)
    return {"BGRA": array[..., 2::-1], "ARGB": array[..., 1:]}[choice] if pixel else array


def write_feature(spec: FeatureSpec, value: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Return header and bytes of one output."""
    if spec.kind != "image":
        array = np.asarray(value, ARRAY_TYPES[spec.dtype], order="C")
        return {"kind": "array", "dtype": spec.dtype, "shape": list(array.shape)}, array.tobytes()
    assert spec.colour is not None
    if value.ndim == 3:  # RGB
        value = np.concatenate([value[..., ::-1], np.full((*value.shape[:2], 1), 255, np.uint8)], axis=-1)
    header = {"kind": "image", "format": OUTPUT_PIXELS[spec.colour], "width": value.shape[1], "height": value.shape[0]}
    return header, value.tobytes()


def read_exactly(stream: IO[bytes], count: int, what: str) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise FrameError(f"the input ended after {len(data)} of {count} bytes of {what}")
    return data


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return header and payload of the next frame, or None at the end of the stream.

    Raises:
        FrameError: it is cut short, too large, or its header is not a JSON object with ``payload_bytes``.
    """
    start = stream.read(4)
    if not start:
        return None
    if len(start) < 4:
        raise FrameError(f"the input ended after {len(start)} of 4 bytes of a length")
    length = int.from_bytes(start, "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise FrameError(f"a header of {length} bytes; 2 to {MAX_HEADER_BYTES} are taken")
    try:
        header = json.loads(read_exactly(stream, length, "a header"))
    except (ValueError, RecursionError):
        raise FrameError("a header that is not JSON") from None
    count = header.get("payload_bytes") if isinstance(header, dict) else None
    if type(count) is not int or not 0 <= count <= MAX_PAYLOAD_BYTES:
        raise FrameError(f"a header without 'payload_bytes' from 0 to {MAX_PAYLOAD_BYTES}")
    return header, read_exactly(stream, count, "a payload")


def write_frame(stream: IO[bytes], header: Mapping[str, Any], payload: list[bytes] | None = None) -> None:
    parts = payload or []
    text = json.dumps({**header, "payload_bytes": sum(map(len, parts))}).encode()
    stream.write(len(text).to_bytes(4, "little") + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def serve(requests: IO[bytes], answers: IO[bytes]) -> int:
    """Answer requests until they end; return the exit code."""
    service = Service()
    try:
        while (frame := read_frame(requests)) is not None:
            answer = service.answer(*frame)
            write_frame(answers, answer.fields, answer.payload)
            if frame[0].get("method") == "shutdown":
                break
    except FrameError as error:
        sys.stderr.write(f"edgesam coreml service: {error}\n")
        return 2
    except BrokenPipeError:
        pass  # the caller is gone
    return 0


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the caller's; its end closes our input
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error: standard output holds frames alone
    return serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    sys.exit(main())

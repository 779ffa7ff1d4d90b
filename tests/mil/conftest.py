"""Programs for the executor's tests: made by hand as protobuf, or converted by coremltools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesam_export.mil.ops import OPS, register_op

DATA_TYPES = {"bool": 1, "string": 2, "fp16": 10, "fp32": 11, "int8": 21, "int32": 23, "int64": 24, "int4": 25}
ARRAY_TYPES = {"fp16": 65552, "fp32": 65568, "int32": 131104}


class Handmade:
    """A model message with one function ``main``, filled in call by call, saved as a bare ``.mlmodel``."""

    def __init__(self, folder: Path, opset: str = "CoreML7", version: int = 8) -> None:
        from coremltools.proto import Model_pb2

        self.folder = folder
        self.model = Model_pb2.Model(specificationVersion=version)
        self.function = self.model.mlProgram.functions["main"]
        self.function.opset = opset
        self.block = self.function.block_specializations[opset]

    def declare(self, message: Any, dtype: str, shape: tuple[int | None, ...]) -> None:
        tensor = message.tensorType
        tensor.dataType, tensor.rank = DATA_TYPES[dtype], len(shape)
        for size in shape:
            dimension = tensor.dimensions.add()
            if size is None:
                dimension.unknown.variadic = False
            else:
                dimension.constant.size = size

    def input(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        value = self.function.inputs.add(name=name)
        self.declare(value.type, dtype, shape)
        return self.describe(self.model.description.input, name, dtype, shape)

    def output(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        self.block.outputs.append(name)
        return self.describe(self.model.description.output, name, dtype, shape)

    def describe(self, features: Any, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        feature = features.add(name=name)
        feature.type.multiArrayType.dataType = ARRAY_TYPES[dtype]
        feature.type.multiArrayType.shape.extend(size or 1 for size in shape)
        return feature

    def op(self, type: str, outputs: dict[str, tuple[str, tuple]], block: Any = None, **inputs: Any) -> Any:
        operation = (self.block if block is None else block).operations.add(type=type)
        for key, given in inputs.items():
            for value in given if isinstance(given, list) else [given]:
                binding = operation.inputs[key].arguments.add()
                if isinstance(value, str):
                    binding.name = value
                else:
                    self.immediate(binding.value, value)
        for name, (dtype, shape) in outputs.items():
            self.declare(operation.outputs.add(name=name).type, dtype, shape)
        return operation

    def immediate(self, message: Any, value: Any) -> None:
        array = np.asarray(value)
        dtype, field = {"f": ("fp32", "floats"), "i": ("int32", "ints"), "b": ("bool", "bools")}[array.dtype.kind]
        self.declare(message.type, dtype, array.shape)
        getattr(message.immediateValue.tensor, field).values.extend(array.ravel().tolist())

    def const(self, name: str, value: Any) -> Any:
        operation = self.block.operations.add(type="const")
        self.immediate(operation.attributes["val"], value)
        operation.outputs.add(name=name).type.CopyFrom(operation.attributes["val"].type)
        return operation

    def save(self) -> Path:
        path = self.folder / "handmade.mlmodel"
        path.write_bytes(self.model.SerializeToString())
        return path


@pytest.fixture
def handmade(tmp_path: Path) -> Handmade:
    return Handmade(tmp_path)


@pytest.fixture
def make_handmade(tmp_path: Path) -> Callable[..., Handmade]:
    return lambda **options: Handmade(tmp_path, **options)


@pytest.fixture
def test_op() -> Iterator[Callable[..., Callable]]:
    """``register_op`` whose ops are forgotten after the test."""
    OPS.load()
    names: list[str] = []

    def register(*, name: str, **options: Any) -> Callable:
        names.append(name)
        return register_op(name=name, **options)

    yield register
    for name in set(names):
        OPS.versions.pop(name, None)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Convert a MIL builder program with coremltools and save it as a package."""

    def convert(program: Any, **options: Any) -> Path:
        import coremltools as ct

        options.setdefault("minimum_deployment_target", ct.target.iOS18)
        path = tmp_path_factory.mktemp("converted") / "model.mlpackage"
        ct.convert(program, convert_to="mlprogram", **options).save(str(path))
        return path

    return convert


@pytest.fixture(scope="session")
def conv_package(converted: Callable[..., Path]) -> tuple[Path, np.ndarray]:
    """A package with a weight file, and the FP32 weight of its 3x3 convolution."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 3, 8, 8))], opset_version=ct.target.iOS16)
    def program(x):
        return mb.relu(x=mb.conv(x=x, weight=weight, pad_type="same"), name="out")

    return converted(program, minimum_deployment_target=ct.target.iOS16), weight

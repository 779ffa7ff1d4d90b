"""pytest plugin that runs coremltools' own op tests against our executor.

coremltools installs its op tests, expected values included. On a machine without Core ML they convert and stop. This
plugin says that the machine is a Mac, answers ``MLModel.predict`` and ``make_state`` with the executor, and counts per
test how often a prediction was asked for and how often one of its outputs was looked at: a test that never predicts
proves nothing about us and is *not applicable*, whatever pytest calls it.

Use: ``pytest -p plugin --conformance-json=FILE TEST_FILE`` with this folder on the path; ``run.py`` does it.
"""

from __future__ import annotations

import functools
import inspect
import json
import platform
import random
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coremltools.converters.mil.mil.ops.tests.testing_utils as op_testing
import numpy as np
import pytest
import torch
from coremltools.models import MLModel

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS
from edgesam_export.mil.program import load_program

MACOS = (15, 0)
"""The version we claim: the first with iOS18's op set; later ones make coremltools skip tests for bugs of Core ML."""

COUNTS: Counter[str] = Counter()
"""What the running test did: ``predictions``, ``reads`` of outputs, ``refusals`` (predictions that raised)."""
OPS_RUN: set[str] = set()
"""Types of the ops in the programs that the running test predicted with."""
NUMERICS = {"current": "fp16"}
FP16_STEP = 1e-3
"""A little more than one step of FP16 at 1.0 (2 ** -10)."""
FP16_SUM = 4e-3
"""Of 64 products of numbers below 1 that were each rounded to FP16, five times the standard deviation of the error."""
SUMMING = "TestRNN"
"""Class whose tests of FP16 weights add 64 products and compare with the sum of the unrounded ones."""
TORCH_TESTING = "coremltools.converters.mil.frontend.torch.test.testing_utils"
FLOOR = {"current": 0.0}
"""Smallest absolute and relative tolerance of the running test."""
RECORDS: dict[str, dict[str, Any]] = {}


class Outputs(dict):
    """Result of a prediction that counts how often a test looks at it."""

    def __getitem__(self, key: str) -> Any:
        COUNTS["reads"] += 1
        return super().__getitem__(key)

    def values(self) -> Any:
        COUNTS["reads"] += 1
        return super().values()

    def items(self) -> Any:
        COUNTS["reads"] += 1
        return super().items()


class State:
    """What coremltools calls ``MLState``, around the executor's state."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def read_state(self, name: str) -> np.ndarray:
        COUNTS["reads"] += 1
        return self.inner.read_state(name)

    def write_state(self, name: str, value: np.ndarray) -> None:
        self.inner.write_state(name, value)


def program_of(model: MLModel) -> Any:
    """Load the package that ``model`` was saved to, once per model."""
    if not hasattr(model, "conformance_program"):
        model.conformance_program = load_program(model.package_path, function=model.function_name)
    return model.conformance_program


def predict(self: MLModel, data: dict[str, Any] | list[dict[str, Any]], state: State | None = None) -> Any:
    """Stand in for ``MLModel.predict``."""
    MLModel._check_predict_data(data)
    if isinstance(data, list):
        return [predict(self, feed) for feed in data]
    self._verify_input_dict(data)
    self._convert_tensor_to_numpy(data)
    if self.get_spec().WhichOneof("Type") != "mlProgram":
        pytest.skip("not an ML Program")
    COUNTS["predictions"] += 1
    inner = None if state is None else state.inner
    try:
        program = program_of(self)
        OPS_RUN.update(operation.type for operation in program.operations)
        return Outputs(program.predict(data, numerics=NUMERICS["current"], state=inner))
    except ProgramError as error:
        COUNTS["refusals"] += 1
        raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error  # Core ML's words


def make_state(self: MLModel) -> State:
    """Stand in for ``MLModel.make_state``."""
    return State(program_of(self).make_state())


def pretend_to_be_a_mac() -> None:
    """Replace the platform checks everywhere coremltools has already imported them."""
    stand_ins = {"_IS_MACOS": True, "_is_macos": lambda: True, "_macos_version": lambda: MACOS}
    for name, module in list(sys.modules.items()):
        if name == "coremltools" or name.startswith("coremltools."):
            for attribute, stand_in in stand_ins.items():
                if hasattr(module, attribute):
                    setattr(module, attribute, stand_in)
    MLModel.predict, MLModel.make_state = predict, make_state
    op_testing.compare_backend = with_floor(op_testing.compare_backend)
    torch_testing = sys.modules.get(TORCH_TESTING)  # there with the PyTorch conversion tests only
    if torch_testing:
        torch_testing.convert_and_compare = with_floor(torch_testing.convert_and_compare)
    # coremltools marks stateful models as known failures on Intel Macs; the bug is theirs, not ours
    platform.machine = lambda: "arm64"


def has_fp16_data(item: pytest.Item) -> bool:
    """Whether a test's parameters or its name ask for FP16 inputs or weights, whatever precision it converts in."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    values = [value for name, value in parameters.items() if name != "backend"]
    return "float16" in str(values) or "fp16" in values or "fp16" in getattr(item, "originalname", "")


def floor_of(item: pytest.Item) -> float:
    """Smallest tolerance for a test: what rounding its data to FP16 costs."""
    if not has_fp16_data(item):
        return 0.0
    return FP16_SUM if f"::{SUMMING}::" in item.nodeid else FP16_STEP


def numerics_of(item: pytest.Item) -> str:
    """Numerics for a test: ``fp32`` if it converts in FP32 and has no FP16 data of its own, else as typed."""
    backend = getattr(getattr(item, "callspec", None), "params", {}).get("backend")
    precision = getattr(backend, "precision", None) or (backend[1] if isinstance(backend, tuple) else None)
    return "fp32" if precision == "fp32" and not has_fp16_data(item) else "fp16"


def with_floor(compare: Any) -> Any:
    """Wrap a comparison of coremltools, once: FP16 data cannot meet FP32's tolerance of 1e-4."""
    if hasattr(compare, "__wrapped__"):
        return compare

    @functools.wraps(compare)
    def compare_with_floor(*args: Any, **kwargs: Any) -> Any:
        if FLOOR["current"]:
            kwargs |= {name: max(kwargs.get(name, 0.0), FLOOR["current"]) for name in ("atol", "rtol")}
        return compare(*args, **kwargs)

    return compare_with_floor


def break_op(name: str) -> None:
    """Make every version of one op return its result plus one: proof that the tests can fail."""
    OPS.load()
    for opset, version in OPS.versions[name].items():

        def broken(*args: Any, fn: Any = version.fn, **kwargs: Any) -> Any:
            return fn(*args, **kwargs) + 1

        broken.__signature__ = inspect.signature(version.fn)
        OPS.versions[name][opset] = type(version)(name=name, opset=opset, fn=broken, exact=version.exact)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-json", metavar="FILE", help="write one record per test here")
    group.addoption(
        "--conformance-only", metavar="FILE", help="run only the tests listed in this file, one id per line"
    )
    group.addoption("--conformance-one-in", metavar="N", type=int, default=1, help="run a fixed choice of one in N")
    group.addoption("--conformance-break", metavar="OP", help="break this op on purpose")


def pytest_configure(config: pytest.Config) -> None:
    pretend_to_be_a_mac()
    if config.getoption("--conformance-break"):
        break_op(config.getoption("--conformance-break"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = config.getoption("--conformance-only")
    if listed:
        selected = set(Path(listed).read_text(encoding="utf-8").splitlines())
        items[:] = [item for item in items if item.nodeid in selected]
    share = config.getoption("--conformance-one-in")  # the smallest, among which --record finds the sample
    items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) * share < 1 << 32]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    COUNTS.clear()
    OPS_RUN.clear()
    NUMERICS["current"] = numerics_of(item)
    FLOOR["current"] = floor_of(item)
    # the tests draw their data and some of their weights: the same numbers in every run, whatever ran before
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    pretend_to_be_a_mac()  # modules that were imported since then
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.when == "call" or report.outcome != "passed":
        message = "" if report.passed or call.excinfo is None else f"{call.excinfo.typename}: {call.excinfo.value}"
        RECORDS[item.nodeid] = {
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
            "message": " ".join(message.split())[:400],
            "ops": sorted(OPS_RUN - {"const"}),
            **{name: COUNTS[name] for name in ("predictions", "reads", "refusals")},
        }
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--conformance-json")
    if target:
        Path(target).write_text(json.dumps(RECORDS, indent=1, sort_keys=True), encoding="utf-8")

"""The profile of a program: one row for each step of the plan that really runs."""

import time

import numpy as np

from edgesam_export.mil import load_program
from edgesam_export.mil.profiling import profile


def test_every_step_is_timed_and_named_in_order(handmade, test_op) -> None:
    calls = []

    @test_op(name="t_slow")
    def t_slow(x):
        calls.append(x)
        time.sleep(0.2)
        return x * 2

    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_slow", {"a": ("fp32", (1, 3))}, x="x")
    handmade.op("add", {"b": ("fp32", (1, 3))}, x="a", y="a")
    handmade.op("relu", {"out": ("fp32", (1, 3))}, x="b")
    handmade.output("out", "fp32", (1, 3))
    found = profile(load_program(handmade.save()), {"x": np.zeros((1, 3), np.float32)}, numerics="fp32", runs=1)
    assert [(step.kind, step.name, step.location) for step in found.steps] == [
        ("t_slow", "a", "main/op 0"),
        ("add+relu", "out", "main/op 1"),
    ]
    assert len(calls) == 2  # a warm-up and one run
    assert found.slowest[0].name == "a" and found.slowest[0].time_ms >= 200
    assert found.kinds[0].kind == "t_slow" and found.kinds[1].count == 1
    assert found.total_ms > sum(step.time_ms for step in found.steps) > 0


def test_an_operation_without_outputs_is_profiled(make_handmade, test_op) -> None:
    handmade = make_handmade()
    test_op(name="t_none")(lambda x: ())
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_none", {}, x="x")
    handmade.op("relu", {"out": ("fp32", (1, 3))}, x="x")
    handmade.output("out", "fp32", (1, 3))
    found = profile(load_program(handmade.save()), {"x": np.ones((1, 3), np.float32)}, numerics="fp16", runs=1)
    assert [step.output for step in found.steps] == ["nothing", "fp32(1, 3)"]

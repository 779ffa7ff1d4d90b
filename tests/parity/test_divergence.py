"""The operation that an error is blamed on, on small programs whose fault is known because it was planted."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.parity.divergence import first_divergence
from edgesam_export.parity.ranges import range_report


@dataclasses.dataclass
class Op:
    """What the executor shows of one operation."""

    type: str
    name: str
    inputs: dict
    function: Callable = None
    location: str = "main/block0"

    @property
    def outputs(self):
        return (self.name,)


class FakeProgram:
    """Executes its operations in order with NumPy; ``fp16`` rounds every result, infinite beyond 65504."""

    def __init__(self, *operations):
        self.operations = list(operations)
        self.runs = 0
        self.outputs = (operations[-1].name,)

    def predict(self, feed, *, numerics="fp16", state=None, probe=None):
        self.runs += 1
        values = dict(feed)
        for op in self.operations:
            operands = [values[name] for name in op.inputs.values()]
            with np.errstate(all="ignore"):
                value = np.asarray(op.function(*operands), np.float32)
                if numerics != "fp32":
                    value = value.astype(np.float16).astype(np.float32)
            values[op.name] = value
            probe(op, op.name, value)
        return {name: values[name] for name in self.outputs}


def const(name, value):
    return Op("const", name, {}, lambda: value)


def weights(seed=0, shape=(64, 64)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 8


def chain(*, change=None, gain=1.0):
    """Eight matrix products with a leaky relu after each; ``change`` alters one weight of that layer."""
    ops, previous = [], "x"
    for layer in range(8):
        weight = weights(layer)
        if layer == change:
            weight[3, 5] += 0.5
        scale = gain if layer == 4 else 1.0
        ops += [
            const(f"w{layer}", weight),
            Op("linear", f"y{layer}", {"x": previous, "w": f"w{layer}"}, lambda x, w, s=scale: s * (x @ w)),
            Op("leaky_relu", f"r{layer}", {"x": f"y{layer}"}, lambda x: np.maximum(x, x / 10)),
        ]
        previous = f"r{layer}"
    return FakeProgram(*ops, Op("mul", "out", {"x": previous, "y": previous}, lambda x, y: x * y))


@pytest.fixture
def feed():
    return {"x": np.random.default_rng(9).normal(size=(32, 64)).astype(np.float32)}


def test_an_overflow_is_blamed_on_the_operation_that_overflows(feed):
    found = first_divergence(chain(gain=1e6), feed, modules={"y4": "neck.4"})
    assert (found.operation, found.type, found.kind, found.module) == ("y4", "linear", "overflow", "neck.4")
    assert found.peak > 65504
    assert found.location == "main/block0"
    assert "op 13 'y4' (linear from neck.4): overflows" in str(found)


def test_saturation_at_the_largest_half_is_an_overflow_too(feed):
    program = FakeProgram(
        Op("mul", "big", {"x": "x"}, lambda x: x * 1e5),
        Op("clip", "cut", {"x": "big"}, lambda x: x * 1e-5),
    )
    saturated = program.predict

    def predict(feed, *, numerics, probe):
        def cut(op, name, value):
            probe(op, name, np.clip(value, -65504, 65504) if numerics != "fp32" else value)

        return saturated(feed, numerics=numerics, probe=cut)

    program.predict = predict
    found = first_divergence(program, feed)
    assert (found.operation, found.kind) == ("big", "overflow")


@pytest.mark.parametrize("layer", range(8))
def test_one_changed_weight_is_blamed_on_the_operation_that_uses_it(feed, layer):
    found = first_divergence(chain(), feed, other=chain(change=layer), a="fp32", b="fp32")
    assert (found.operation, found.kind, found.operand_error) == (f"y{layer}", "introduced", 0.0)


def test_one_changed_weight_is_found_between_half_precision_runs_as_well(feed):
    found = first_divergence(chain(), feed, other=chain(change=2), a="fp16", b="fp16")
    assert (found.operation, found.kind) == ("y2", "introduced")


def test_equal_programs_do_not_diverge(feed):
    assert first_divergence(chain(), feed, other=chain(), a="fp32", b="fp32") is None


def test_rounding_alone_is_no_divergence(feed):
    assert first_divergence(chain(), feed) is None


def test_an_overflow_that_reaches_no_output_is_not_blamed(feed):
    """A mask of -1e9 becomes minus infinity in FP16 and zero after exp, in both runs."""
    program = FakeProgram(
        Op("mul", "masked", {"x": "x"}, lambda x: np.where(np.arange(64) < 32, x, -1e9)),
        Op("exp", "weights", {"x": "masked"}, np.exp),
        Op("mul", "broken", {"x": "weights"}, lambda x: x * 1e6),
        Op("mul", "out", {"x": "broken"}, lambda x: x * 1e-6),
    )
    found = first_divergence(program, feed)
    assert (found.operation, found.kind) == ("broken", "overflow")


def test_cancellation_is_blamed_on_the_subtraction_not_on_what_follows(feed):
    program = FakeProgram(
        Op("add", "shifted", {"x": "x"}, lambda x: x + 1000),
        Op("sub", "centred", {"x": "shifted"}, lambda x: x - 1000),
        Op("relu", "out", {"x": "centred"}, lambda x: np.maximum(x, 0)),
    )
    found = first_divergence(program, feed)
    assert (found.operation, found.kind) == ("centred", "introduced")
    assert found.suspects[0].operation == "centred"


def times(factors):
    """One multiplication after the other; in FP16, 1.001 is one step of 2^-10 above 1."""
    names = ["x", *(f"m{i}" for i in range(len(factors)))]
    steps = enumerate(factors)
    return FakeProgram(*(Op("mul", f"m{i}", {"x": names[i]}, lambda x, f=factor: x * f) for i, factor in steps))


ONES = {"x": np.ones(8, np.float32)}


def test_errors_that_gather_slowly_blame_no_single_operation():
    found = first_divergence(times([1.0] * 40), ONES, other=times([1.001] * 40))
    assert found.kind == "accumulated"
    assert found.error == pytest.approx(0.01, abs=0.001)
    assert "gathered" in str(found)


def test_a_step_just_below_the_threshold_is_preferred_to_the_rounding_that_crosses_it():
    drifting = times([1.008] + [1.001] * 10)
    found = first_divergence(times([1.0] * 11), ONES, other=drifting, threshold=0.0095)
    assert (found.operation, found.kind) == ("m0", "introduced")


def test_a_changed_weight_that_no_output_shows_is_still_found_between_packages(feed):
    def program(weight):
        return FakeProgram(
            Op("mul", "hidden", {"x": "x"}, lambda x: x * weight),
            Op("sign", "out", {"x": "hidden"}, np.sign),
        )

    assert first_divergence(program(1.0), feed, other=program(1.1), a="fp32", b="fp32").operation == "hidden"
    assert first_divergence(program(1.0), feed, other=program(1.1), a="fp32", b="fp16") is None


def test_a_value_that_is_nan_in_the_exact_run_is_named():
    program = FakeProgram(
        Op("sub", "negative", {"x": "x"}, lambda x: x - 5),
        Op("sqrt", "root", {"x": "negative"}, np.sqrt),
        Op("relu", "out", {"x": "root"}, lambda x: x + 0),
    )
    found = first_divergence(program, {"x": np.ones((2, 2), np.float32)})
    assert (found.operation, found.kind) == ("root", "not finite")


def test_an_output_that_is_read_again_still_counts_as_an_output(feed):
    program = FakeProgram(
        Op("mul", "masks", {"x": "x"}, lambda x: x * 1e6),
        Op("sign", "scores", {"x": "masks"}, lambda x: np.ones_like(x)),
    )
    program.outputs = ("masks", "scores")
    assert first_divergence(program, feed).operation == "masks"


@pytest.mark.parametrize("memory_bytes", [1, 20_000, 1 << 30])
def test_the_answer_does_not_depend_on_the_memory_bound(feed, memory_bytes):
    program = chain(gain=1e6)
    found = first_divergence(program, feed, memory_bytes=memory_bytes)
    assert (found.operation, found.kind) == ("y4", "overflow")
    assert (program.runs > 2) == (memory_bytes < 1 << 30)


def test_memory_bound_limits_what_is_held(feed):
    """Values are 8192 bytes each, so 20000 bytes hold two of them per pass: 17 values in 9 passes of two runs."""
    program = chain()
    first_divergence(program, feed, memory_bytes=20_000)
    assert program.runs == 18


def test_programs_without_common_values_are_refused(feed):
    other = FakeProgram(Op("relu", "other", {"x": "x"}, lambda x: x))
    with pytest.raises(UsageError, match="no value of the same name"):
        first_divergence(chain(), feed, other=other)


def test_tensors_that_are_not_numpy_are_read(feed):
    torch = pytest.importorskip("torch")
    program = chain(gain=1e6)
    plain = program.predict

    def predict(feed, *, numerics, probe):
        """The executor's own types: half precision where a value was rounded to it."""
        dtype = torch.float32 if numerics == "fp32" else torch.float16
        return plain(
            feed, numerics=numerics, probe=lambda op, name, value: probe(op, name, torch.from_numpy(value).to(dtype))
        )

    program.predict = predict
    found = first_divergence(program, feed, a="fp32")
    assert (found.operation, found.kind, found.index) == ("y4", "overflow", 13)


@pytest.mark.parametrize(
    ("kind", "inputs", "rule", "limit", "magnitude"),
    [
        ("square", {"x": "x"}, "N03", 256.0, 300.0),
        ("pow", {"x": "x"}, "N03", 256.0, 300.0),
        ("mul", {"x": "x", "y": "x"}, "N03", 256.0, 300.0),
        ("mul", {"x": "x", "y": "z"}, "FP16", 65504.0, 900.0),
        ("exp", {"x": "x"}, "N05", 11.09, 20.0),
        ("softplus", {"x": "x"}, "N05", 11.09, 20.0),
        ("matmul", {"x": "x", "y": "z"}, "N04", 32750.0, 900.0),
        ("conv", {"x": "x"}, "N04", 32750.0, 900.0),
        ("split", {"x": "x"}, "A26", 4094.0, 300.0),
        ("relu", {"x": "x"}, "FP16", 65504.0, 900.0),
    ],
)
def test_range_report_applies_the_limit_of_the_operation(kind, inputs, rule, limit, magnitude):
    """Operand -300..20, output -900..1: operand rules see 300 (20 for exp, upwards only), output rules 900."""
    feed = {"x": np.array([-300.0, 20.0], np.float32), "z": np.array([1.0, 1.0], np.float32)}
    program = FakeProgram(Op(kind, "y", inputs, lambda *_: np.array([-900.0, 1.0])))
    (row,) = range_report(program, feed, modules={"y": "neck"})
    assert (row.rule, row.limit, row.magnitude, row.module) == (rule, limit, magnitude, "neck")
    assert row.share == pytest.approx(magnitude / limit)


def test_range_report_puts_the_nearest_to_its_limit_first_and_leaves_out_constants():
    program = FakeProgram(
        const("w", np.array([7e4], np.float32)),
        Op("relu", "small", {"x": "x"}, lambda x: x),
        Op("square", "large", {"x": "small"}, lambda x: x * 100),
    )
    rows = range_report(program, {"x": np.array([500.0], np.float32)})
    assert [row.operation for row in rows] == ["large", "small"]
    assert rows[0].share > 1


def test_range_report_shows_what_is_not_finite_as_infinite():
    program = FakeProgram(Op("log", "y", {"x": "x"}, np.log))
    (row,) = range_report(program, {"x": np.array([0.0], np.float32)})
    assert row.magnitude == math.inf

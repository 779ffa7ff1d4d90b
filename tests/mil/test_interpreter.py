"""The loop: plumbing of arguments, declared types, errors, lifetimes, blocks, states, constants."""

import weakref

import numpy as np
import pytest
import torch

from edgesam_export.errors import ProgramError, UnsupportedOpError
from edgesam_export.hardware import cores
from edgesam_export.mil import load_program
from edgesam_export.mil.ops import OPS, PREPARATIONS, VARIADIC, OpTable, OpVersion, prepares

X = np.array([[1.0, 2.0, 3.0]], np.float32)


def unary(handmade, op: str, *, declared=("fp32", (1, 3)), **inputs):
    """A program ``out = op(x)`` with x fp32 (1, 3)."""
    handmade.input("x", "fp32", (1, 3))
    handmade.op(op, {"out": declared}, x="x", **inputs)
    handmade.output("out", declared[0] if declared[0] != "bool" else "fp32", declared[1])
    return load_program(handmade.save())


def test_positional_gets_a_tensor_and_keyword_only_gets_plain_values(handmade, test_op) -> None:
    seen = {}

    @test_op(name="t_plumb")
    def t_plumb(x, y, *, scale, sizes=None, flag=False, mode="soft", lambda_=1.0):
        seen.update(y=y, scale=scale, sizes=sizes, flag=flag, mode=mode, lambda_=lambda_)
        return x * y

    handmade.const("y0", np.float32(2))
    program = unary(handmade, "t_plumb", y="y0", scale=np.float32(0.5), sizes=np.int32([3, 4]), flag=np.bool_(True))
    np.testing.assert_array_equal(program.predict({"x": X})["out"], X * 2)
    assert isinstance(seen.pop("y"), torch.Tensor)
    assert seen == {"scale": 0.5, "sizes": [3, 4], "flag": True, "mode": "soft", "lambda_": 1.0}
    assert type(seen["flag"]) is bool and type(seen["sizes"][0]) is int


def test_keyword_only_takes_values_computed_at_run_time(handmade, test_op) -> None:
    test_op(name="t_size", opset="iOS15")(lambda x: torch.tensor([x.shape[0], x.shape[1]], dtype=torch.int32))

    @test_op(name="t_fill")
    def t_fill(*, shape):
        assert shape == [1, 3]
        return torch.full(shape, 7.0)

    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_size", {"size": ("int32", (2,))}, x="x")
    handmade.op("t_fill", {"out": ("fp32", (None, None))}, shape="size")
    handmade.output("out", "fp32", (None, None))
    handmade.model.description.output[0].type.multiArrayType.ClearField("shape")
    assert load_program(handmade.save()).predict({"x": X})["out"].tolist() == [[7, 7, 7]]


def test_variadic_input_arrives_as_a_list_even_with_one_value(handmade, test_op) -> None:
    counts = []

    @test_op(name="t_join")
    def t_join(values, *, axis=0):
        counts.append(len(values))
        return torch.cat(values, axis)

    handmade.input("x", "fp32", (1, 3))
    handmade.const("c", np.float32([[9, 9, 9]]))
    handmade.op("t_join", {"one": ("fp32", (1, 3))}, values=["x"])
    handmade.op("t_join", {"out": ("fp32", (3, 3))}, values=["x", "c", "one"])
    handmade.output("out", "fp32", (3, 3))
    out = load_program(handmade.save()).predict({"x": X})["out"]
    assert counts == [1, 3]
    np.testing.assert_array_equal(out, [X[0], [9, 9, 9], X[0]])


def test_several_outputs_are_bound_in_order_and_counted(handmade, test_op) -> None:
    test_op(name="t_pair")(lambda x: (x + 1, x + 2))
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_pair", {"a": ("fp32", (1, 3)), "b": ("fp32", (1, 3))}, x="x")
    handmade.output("b", "fp32", (1, 3))
    np.testing.assert_array_equal(load_program(handmade.save()).predict({"x": X})["b"], X + 2)
    handmade.block.operations[0].outputs.add(name="c").type.CopyFrom(handmade.block.operations[0].outputs[0].type)
    with pytest.raises(ProgramError, match=r"t_pair 'a' at main/op 0: the op gives 2 outputs, the program declares 3"):
        load_program(handmade.save()).predict({"x": X})


def test_out_types_are_given_to_an_op_that_asks(handmade, test_op) -> None:
    @test_op(name="t_typed")
    def t_typed(x, *, out_types):
        assert str(out_types[0]) == "fp32(1, 3)"
        return x

    unary(handmade, "t_typed").predict({"x": X})


def test_newest_version_that_the_opset_contains_is_taken() -> None:
    table = OpTable()
    for opset in ("iOS15", "iOS17"):
        table.add(OpVersion(name="gather", opset=opset, fn=lambda o=opset: o, exact=True))
    found = [table.lookup("gather", opset)() for opset in ("iOS15", "iOS16", "iOS17", "iOS26")]
    assert found == ["iOS15", "iOS15", "iOS17", "iOS17"]
    with pytest.raises(ValueError, match="registered twice"):
        table.add(OpVersion(name="gather", opset="iOS17", fn=print, exact=True))
    with pytest.raises(UnsupportedOpError, match=r"operation 'scatter_nd' \(iOS15\) cannot .*chapter 'scatter_gather'"):
        table.lookup("scatter_nd", "iOS15")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"t_two 'out' at main/op 0: required input 'y' is missing"),
        ({"y": "x", "zz": "x"}, r"t_two 'out' at main/op 0: unknown input 'zz'; it takes x, y"),
        ({"y": ["x", "x"]}, r"input 'y' takes one value, the program gives 2"),
    ],
)
def test_inputs_that_do_not_fit_the_signature_are_refused_before_running(handmade, test_op, inputs, message) -> None:
    ran = []
    test_op(name="t_two")(lambda x, y: ran.append(1))
    program = unary(handmade, "t_two", **inputs)
    with pytest.raises(ProgramError, match=message):
        program.predict({"x": X})
    assert not ran


@pytest.mark.parametrize(
    ("result", "declared", "message"),
    [
        (lambda x: x[:, :2], ("fp32", (1, 3)), r"has shape \(1, 2\), the program declares fp32\(1, 3\)"),
        (lambda x: x[0], ("fp32", (None, None)), r"has shape \(3,\), the program declares fp32\(\?, \?\)"),
        (lambda x: x.int(), ("fp32", (1, 3)), r"has element type int32, the program declares fp32"),
        (lambda x: x > 0, ("int32", (1, 3)), r"has element type bool, the program declares int32"),
        (lambda x: 3.0, ("fp32", (1, 3)), r"is a float, the program declares fp32"),
    ],
)
def test_result_that_contradicts_the_declared_type_is_an_error(handmade, test_op, result, declared, message) -> None:
    test_op(name="t_wrong")(lambda x: result(x))
    with pytest.raises(ProgramError, match=r"^t_wrong 'out' at main/op 0: output 'out' " + message):
        unary(handmade, "t_wrong", declared=declared).predict({"x": X})


def test_integer_width_follows_the_declaration(handmade, test_op) -> None:
    test_op(name="t_index")(lambda x: x.argsort())
    assert unary(handmade, "t_index", declared=("int32", (1, 3))).predict({"x": X})["out"].dtype == np.int32


def test_any_error_of_an_op_becomes_one_line_with_its_place(handmade, test_op) -> None:
    def fail(x):
        raise ValueError("first line\n  second line")

    test_op(name="t_fail")(fail)
    with pytest.raises(ProgramError, match=r"^t_fail 'out' at main/op 0: first line second line$"):
        unary(handmade, "t_fail").predict({"x": X})


def test_missing_ops_are_reported_before_anything_runs(handmade, test_op) -> None:
    ran = []
    test_op(name="t_ok")(lambda x: ran.append(1) or x)
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_ok", {"a": ("fp32", (1, 3))}, x="x")
    handmade.op("t_unknown", {"b": ("fp32", (1, 3))}, x="a")
    handmade.op("t_nowhere", {"out": ("fp32", (1, 3))}, x="b")
    handmade.output("out", "fp32", (1, 3))
    program = load_program(handmade.save())  # an analyser may still look at it
    expected = (
        r"^operation 't_unknown' \(iOS17\) cannot be executed here, at main/op 1 'b'\. It is not in coremltools' "
        r"documentation; `analyze` reads the package all the same, .*\. Also missing: t_nowhere$"
    )
    with pytest.raises(UnsupportedOpError, match=expected):
        program.predict({"x": X})
    assert not ran


def test_value_is_freed_after_its_last_use(handmade, test_op) -> None:
    alive = []

    def first(x):
        value = x + 1
        alive.append(weakref.ref(value))
        return value

    test_op(name="t_first", exact=True)(first)
    test_op(name="t_second", exact=True)(lambda x: x * 2)
    test_op(name="t_third", exact=True)(lambda x: x * float(alive[0]() is None))
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_first", {"a": ("fp32", (1, 3))}, x="x")
    handmade.op("t_second", {"b": ("fp32", (1, 3))}, x="a")
    handmade.op("t_third", {"out": ("fp32", (1, 3))}, x="b")
    handmade.output("out", "fp32", (1, 3))
    np.testing.assert_array_equal(load_program(handmade.save()).predict({"x": X})["out"], (X + 1) * 2)


def test_value_read_by_a_later_block_is_not_freed_before(handmade, test_op) -> None:
    test_op(name="t_add", exact=True)(lambda x: x + 1)
    test_op(name="t_block", exact=True)(lambda x, *, blocks: blocks[0](x)[0] + blocks[0](x)[0])
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_add", {"a": ("fp32", (1, 3))}, x="x")
    handmade.op("t_add", {"b": ("fp32", (1, 3))}, x="a")
    outer = handmade.op("t_block", {"out": ("fp32", (1, 3))}, x="b")
    block = outer.blocks.add()
    handmade.declare(block.inputs.add(name="i").type, "fp32", (1, 3))
    handmade.op("t_add", {"c": ("fp32", (1, 3))}, block=block, x="a")
    block.outputs.append("c")
    handmade.output("out", "fp32", (1, 3))
    np.testing.assert_array_equal(load_program(handmade.save()).predict({"x": X})["out"], 2 * (X + 2))


def test_error_inside_a_block_names_the_inner_op_only(handmade, test_op) -> None:
    test_op(name="t_block")(lambda x, *, blocks: blocks[0]()[0])
    test_op(name="t_bad")(lambda x: x @ x)
    handmade.input("x", "fp32", (1, 3))
    block = handmade.op("t_block", {"out": ("fp32", (1, 3))}, x="x").blocks.add()
    handmade.op("t_bad", {"c": ("fp32", (1, 3))}, block=block, x="x")
    block.outputs.append("c")
    handmade.output("out", "fp32", (1, 3))
    with pytest.raises(ProgramError, match=r"^t_bad 'c' at main/op 0/block 0/op 0: mat1"):
        load_program(handmade.save()).predict({"x": X})


def test_rounding_never_reaches_the_callers_array_or_another_value(handmade, test_op) -> None:
    test_op(name="t_same")(lambda x: x)  # an op may return its argument: here an FP32 value declared FP16
    fine = np.array([[1 + 2**-20, 2, 3]], np.float32)
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_same", {"half": ("fp16", (1, 3))}, x="x")
    handmade.op("t_same", {"full": ("fp32", (1, 3))}, x="x")
    for name, dtype in (("half", "fp16"), ("full", "fp32")):
        handmade.output(name, dtype, (1, 3))
    out = load_program(handmade.save()).predict({"x": fine})
    assert out["half"].dtype == np.float16 and out["half"][0, 0] == 1
    assert out["full"][0, 0] == fine[0, 0] == np.float32(1 + 2**-20)


def test_fp16_outputs_keep_their_precision_under_fp32_numerics(handmade, test_op) -> None:
    test_op(name="t_third")(lambda x: x / 3)
    program = unary(handmade, "t_third", declared=("fp16", (1, 3)))
    exact, rounded = (program.predict({"x": X}, numerics=mode)["out"] for mode in ("fp32", "fp16"))
    assert (exact.dtype, rounded.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(exact, X / 3)
    np.testing.assert_array_equal(rounded, (X / 3).astype(np.float16))


def test_exact_ops_are_not_rounded_again(handmade, test_op) -> None:
    test_op(name="t_exact", exact=True)(lambda x: x / 3)
    program = unary(handmade, "t_exact", declared=("fp16", (1, 3)))
    values = []
    program.predict({"x": X}, probe=lambda op, name, value: values.append(value.clone()))
    np.testing.assert_array_equal(values[0].numpy(), X / 3)


def test_probe_sees_every_produced_value_with_its_operation(handmade, test_op) -> None:
    test_op(name="t_add")(lambda x: x + 1)
    handmade.const("unused", np.float32(1))
    handmade.input("x", "fp32", (1, 3))
    handmade.op("t_add", {"a": ("fp32", (1, 3))}, x="x")
    handmade.op("t_add", {"out": ("fp32", (1, 3))}, x="a")
    handmade.output("out", "fp32", (1, 3))
    seen = []
    load_program(handmade.save()).predict(
        {"x": X}, probe=lambda op, n, v: seen.append((op.type, op.location, n, v.sum().item()))
    )
    assert seen == [("t_add", "main/op 1", "a", 9.0), ("t_add", "main/op 2", "out", 12.0)]


def test_constant_is_prepared_once_for_the_input_that_asks(handmade, test_op) -> None:
    calls = []
    test_op(name="t_scale")(lambda x, weight: x * weight)
    prepares("t_scale", "weight")(lambda tensor: calls.append(1) or tensor.clone())
    try:
        handmade.const("w", np.float32([[2, 2, 2]]))
        program = unary(handmade, "t_scale", weight="w")
        for _ in range(3):
            np.testing.assert_array_equal(program.predict({"x": X})["out"], X * 2)
    finally:
        PREPARATIONS.pop(("t_scale", "weight"))
    assert len(calls) == 1


@pytest.mark.parametrize(("shared", "size", "expected"), [(True, 3, 1), (True, 1 << 20, 2), (False, 3, 2)])
def test_small_values_take_one_thread_beside_other_processes(
    handmade, test_op, monkeypatch, shared, size, expected
) -> None:
    seen = []

    @test_op(name="t_threads")
    def t_threads(x):
        seen.append(torch.get_num_threads())
        return x.new_zeros(1, size)

    program = unary(handmade, "t_threads", declared=("fp32", (1, size)))
    monkeypatch.setattr(cores, "state", {"shared": shared})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        program.predict({"x": X})
        assert seen == [expected] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_output_is_a_copy_that_may_be_written_to(handmade, test_op) -> None:
    test_op(name="t_const")(lambda x, weight: weight)
    handmade.const("w", np.float32([[2, 2, 2]]))
    program = unary(handmade, "t_const", weight="w")
    program.predict({"x": X})["out"][:] = 5
    np.testing.assert_array_equal(program.predict({"x": X})["out"], [[2, 2, 2]])


def test_constant_or_input_may_be_an_output(handmade) -> None:
    handmade.input("x", "fp32", (1, 3))
    handmade.const("w", np.float32([4, 5]))
    handmade.output("w", "fp32", (2,))
    handmade.output("x", "fp32", (1, 3))
    out = load_program(handmade.save()).predict({"x": X})
    assert out["w"].tolist() == [4, 5] and out["x"].tolist() == X.tolist()


def test_op_function_must_name_its_inputs(handmade, test_op) -> None:
    test_op(name="t_star")(lambda *values: values[0])
    with pytest.raises(TypeError, match="must name its inputs"):
        unary(handmade, "t_star").predict({"x": X})


def test_every_variadic_input_of_coremltools_is_known() -> None:
    pytest.importorskip("coremltools")
    from coremltools.converters.mil.mil.input_type import TupleInputType
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    found = {
        key
        for versions in SSAOpRegistry.core_ops.values()
        for op in versions.values()
        for key, kind in op.input_spec.input_types.items()
        if isinstance(kind, TupleInputType)
    }
    assert found == VARIADIC


def test_every_op_of_coremltools_has_its_chapter() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    from edgesam_export.mil.chapters import CHAPTERS, chapter_of

    renamed = {"compression": "constexpr_ops"}
    for name, versions in SSAOpRegistry.core_ops.items():
        documented = {op.__module__.rpartition(".")[2] for op in versions.values()}
        if not name.startswith("_"):
            assert chapter_of(name) in {renamed.get(chapter, chapter) for chapter in documented}, name
    assert chapter_of("no_such_op") == "custom" and len(CHAPTERS) == 20


def test_registered_ops_live_in_their_chapter() -> None:
    from edgesam_export.mil.chapters import chapter_of

    misplaced = [
        v.name for v in OPS if v.fn.__module__.startswith("edgesam_export.mil.ops.") and chapter_of(v.name) == "custom"
    ]
    assert not misplaced


def test_cond_while_and_state_work_end_to_end(converted) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((1,), dtype=types.fp16), mb.StateTensorSpec((1,), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x, memory):
        before = mb.read_state(input=memory)
        below_five = lambda a: mb.squeeze(x=mb.less(x=a, y=np.float16(5)))  # noqa: E731
        count = mb.while_loop(_cond=below_five, _body=lambda a: mb.add(x=a, y=np.float16(1)), loop_vars=(x,))
        is_small = mb.squeeze(x=mb.less(x=count, y=np.float16(6)))
        chosen = mb.cond(
            pred=is_small, _true_fn=lambda: mb.add(x=count, y=before), _false_fn=lambda: mb.identity(x=count)
        )
        after = mb.coreml_update_state(state=memory, value=chosen)
        return mb.add(x=after, y=before, name="out")

    loaded = load_program(converted(program))
    state = loaded.make_state()
    # 1 counts to 5; the state adds what it held, and holds the sum
    assert [loaded.predict({"x": [1]}, state=state)["out"].item() for _ in range(3)] == [5, 15, 25]
    assert loaded.predict({"x": [7]}, state=state)["out"].item() == 7 + 15
    assert state.read_state("memory").tolist() == [7] and state.read_state("memory").dtype == np.float16
    assert loaded.make_state().read_state("memory").tolist() == [0]
    with pytest.raises(ProgramError, match=r"keeps state \(memory\): pass state=program.make_state\(\)"):
        loaded.predict({"x": [1]})


def test_convolution_package_agrees_with_torch_in_fp32(conv_package) -> None:
    path, weight = conv_package
    x = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    half = torch.from_numpy(weight.astype(np.float16).astype(np.float32))
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), half, padding=1).relu().numpy()
    program = load_program(path)
    np.testing.assert_allclose(program.predict({"x": x}, numerics="fp32")["out"], expected, atol=1e-5)
    rounded = program.predict({"x": x}, numerics="fp16")["out"]
    assert 1e-5 < np.abs(rounded - expected).max() < 2e-2
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))


def test_palettized_weights_are_decompressed_once(conv_package, tmp_path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    path, weight = conv_package
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0))
    cto.palettize_weights(ct.models.MLModel(str(path), skip_model_load=True), config).save(
        str(tmp_path / "lut.mlpackage")
    )
    program = load_program(tmp_path / "lut.mlpackage")
    assert any(op.type == "constexpr_lut_to_dense" for op in program.operations)
    x, seen = np.ones((1, 3, 8, 8), np.float32), []
    out = program.predict({"x": x}, numerics="fp32", probe=lambda op, name, value: seen.append(op.type))["out"]
    assert "constexpr_lut_to_dense" not in seen
    levels = (weight.max() - weight.min()) / 15
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding=1).relu().numpy()
    assert np.abs(out - expected).max() < 27 * levels / 2 + 0.05


def test_device_that_is_not_there_is_reported(handmade, test_op) -> None:
    from edgesam_export.errors import RunnerUnavailableError

    test_op(name="t_add")(lambda x: x + 1)
    program = unary(handmade, "t_add")
    with pytest.raises(RunnerUnavailableError, match="cannot compute on device 'nonsense' here"):
        program.predict({"x": X}, device="nonsense")

"""Loading: packages, references, types and constants of a program, and everything hostile that can stand in a file."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from edgesam_export.errors import ProgramError
from edgesam_export.mil import load_program

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def package(conv_package, tmp_path: Path) -> Path:
    """A copy of a good package, to be damaged."""
    return Path(shutil.copytree(conv_package[0], tmp_path / "model.mlpackage"))


def identity(handmade, shape=(2,), dtype="fp32"):
    handmade.input("x", dtype, shape)
    handmade.output("x", dtype, shape)
    return handmade


def test_program_tells_what_it_is(conv_package) -> None:
    program = load_program(conv_package[0])
    assert (program.opset, program.path, program.functions) == ("iOS16", conv_package[0], ("main",))
    assert [(s.name, s.dtype, s.shape) for s in program.inputs] == [("x", "fp32", (1, 3, 8, 8))]
    assert [(s.name, s.dtype, s.shape) for s in program.outputs] == [("out", "fp32", (1, 4, 8, 8))]
    assert program.metadata["com.github.apple.coremltools.version"]
    conv = next(op for op in program.operations if op.type == "conv")
    assert conv.location.startswith("main/op ") and str(conv.outputs[0].type) == "fp16(1, 4, 8, 8)"
    assert conv.inputs["x"] == ("x_to_fp16",)
    weight = next(op for op in program.operations if op.outputs[0].name == conv.inputs["weight"][0])
    value = weight.attributes["val"]
    assert value.in_weight_file
    np.testing.assert_array_equal(value.load(), conv_package[1].astype(np.float16))


def test_digest_covers_names_and_contents(package: Path, conv_package) -> None:
    digest = load_program(package).sha256
    assert digest == load_program(conv_package[0]).sha256 and len(digest) == 64
    (package / WEIGHTS).write_bytes((package / WEIGHTS).read_bytes() + b"\0")
    assert load_program(package).sha256 != digest


def test_released_weights_are_prepared_again(conv_package) -> None:
    program = load_program(conv_package[0])
    feed = {"x": np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)}
    first, prepared = program.predict(feed)["out"], program.prepare()
    assert program.prepare() is prepared
    program.release()
    assert program.prepare() is not prepared
    np.testing.assert_array_equal(program.predict(feed)["out"], first)


def test_path_may_be_text(package: Path) -> None:
    assert load_program(str(package)).path == package


def test_functions_of_a_multifunction_package_are_chosen_by_name(converted, tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    paths = []
    for scale in np.float32([2, 3]):

        @mb.program(input_specs=[mb.TensorSpec((2,))], opset_version=ct.target.iOS18)
        def program(x):
            return mb.mul(x=x, y=scale, name="out")  # noqa: B023  # called at once by the decorator

        paths.append(converted(program, compute_precision=ct.precision.FLOAT32))
    description = ct.utils.MultiFunctionDescriptor()
    for name, path in zip(("double", "triple"), paths):
        description.add_function(str(path), src_function_name="main", target_function_name=name)
    description.default_function_name = "triple"
    ct.utils.save_multifunction(description, str(tmp_path / "both.mlpackage"))
    x = {"x": np.ones(2, np.float32)}
    assert load_program(tmp_path / "both.mlpackage").predict(x)["out"].tolist() == [3, 3]
    double = load_program(tmp_path / "both.mlpackage", function="double")
    assert double.functions == ("double", "triple") and double.predict(x)["out"].tolist() == [2, 2]
    with pytest.raises(ProgramError, match="no function 'half'; it has double, triple"):
        load_program(tmp_path / "both.mlpackage", function="half")


def test_loading_imports_neither_coremltools_nor_the_ops(conv_package) -> None:
    script = f"""
        import sys
        from edgesam_export.mil import load_program
        load_program({str(conv_package[0])!r})
        sys.exit("coremltools" in sys.modules or "edgesam_export.mil.ops.conv" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)]).returncode == 0


# ---------------------------------------------------------------- the folder


def test_missing_path_and_compiled_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no such file or folder"):
        load_program(tmp_path / "none.mlpackage")
    with pytest.raises(ProgramError, match="no such file or folder"):
        load_program(tmp_path / ("x" * 5000))
    (tmp_path / "model.mlmodelc").mkdir()
    with pytest.raises(ProgramError, match=r"compiled model; give the .mlpackage"):
        load_program(tmp_path / "model.mlmodelc")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ProgramError, match=r"this is an ONNX file; expected a \.mlpackage"):
        load_program(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no readable Manifest.json"),
        ("{", "Manifest.json is not JSON"),
        ("[" * 100000, "Manifest.json is not JSON"),
        ("[]", "Manifest.json is not an object"),
        ("{}", "names no root model"),
        ('{"rootModelIdentifier": [], "itemInfoEntries": {}}', "names no root model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}', "names no root model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x\\u0000"}}}', "names no root model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "gone.mlmodel"}}}', "which is not there"),
        pytest.param(
            json.dumps({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x" * 5000}}}),
            "which is not there",
            id="a name too long for a file",
        ),
    ],
)
def test_damaged_manifest_is_refused(package: Path, text: str | None, message: str) -> None:
    (package / "Manifest.json").unlink()
    if text is not None:
        (package / "Manifest.json").write_text(text)
    with pytest.raises(ProgramError, match=message):
        load_program(package)


def test_a_folder_of_packages_names_them(package: Path) -> None:
    with pytest.raises(ProgramError, match=rf"no readable Manifest.json; give one of those in it: {package.name}$"):
        load_program(package.parent)


def test_manifest_that_cannot_be_read_whole_is_refused_at_once(package: Path) -> None:
    """Opening a pipe would wait for good, reading a device would never end."""
    manifest = package / "Manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(ProgramError, match=r"no readable Manifest.json"):
        load_program(package)
    manifest.unlink()
    manifest.symlink_to("/dev/zero")
    with pytest.raises(ProgramError, match=r"no readable Manifest.json"):
        load_program(package)
    manifest.unlink()
    with manifest.open("wb") as stream:
        stream.truncate(4 << 30)
    with pytest.raises(ProgramError, match=r"Manifest.json is larger than 16 MiB"):
        load_program(package)


@pytest.mark.parametrize(
    "reference", ["../../outside.mlmodel", "/etc/hostname", "com.apple.CoreML/../../../outside.mlmodel"]
)
def test_manifest_that_leaves_the_package_is_refused(package: Path, reference: str) -> None:
    shutil.copy(package / MODEL, package.parent / "outside.mlmodel")
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = reference
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProgramError, match="refers to a file outside of itself"):
        load_program(package)


def test_link_that_leaves_the_package_is_refused(package: Path) -> None:
    outside = shutil.move(package / WEIGHTS, package.parent / "weight.bin")
    (package / WEIGHTS).symlink_to(outside)
    with pytest.raises(ProgramError, match="refers to a file outside of itself"):
        load_program(package)


def hub_cache(package: Path, folder: Path) -> Path:
    """Return a package as the Hugging Face Hub's cache lays it out: every file a relative link into ``blobs``."""
    repository = folder / "models--someone--something"
    snapshot = repository / "snapshots" / "0123abcd" / package.name
    (repository / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(member for member in package.rglob("*") if member.is_file())):
        blob = Path(shutil.copy(file, repository / "blobs" / f"{number:064x}"))
        link = snapshot / file.relative_to(package)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_package_in_the_cache_of_the_hub_is_read(package: Path, tmp_path: Path, monkeypatch) -> None:
    feed = {spec.name: np.ones(spec.shape, np.float32) for spec in load_program(package).inputs}
    expected = load_program(package).predict(feed)
    linked = hub_cache(package, tmp_path / "hub")
    monkeypatch.chdir(linked.parent)
    for path in (linked, Path(linked.name)):  # as an absolute and as a relative path
        program = load_program(path)
        assert program.sha256 == load_program(package).sha256
        found = program.predict(feed)
        assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize("target", ["any file", "another repository", "below the blobs"])
def test_link_out_of_the_blobs_of_the_hubs_cache_is_refused(package: Path, tmp_path: Path, target: str) -> None:
    linked = hub_cache(package, tmp_path / "hub")
    weights, blobs = linked / WEIGHTS, linked.parents[2] / "blobs"
    folder = {"another repository": tmp_path / "hub" / "other" / "blobs", "below the blobs": blobs / "deeper"}
    elsewhere = folder.get(target, tmp_path) / "w"
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, elsewhere)
    weights.unlink()
    weights.symlink_to(elsewhere)
    with pytest.raises(ProgramError, match=r"refers to a file outside of itself.*cp -rL"):
        load_program(linked)


def test_blobs_that_are_a_link_themselves_are_refused(package: Path, tmp_path: Path) -> None:
    linked = hub_cache(package, tmp_path / "hub")
    blobs = linked.parents[2] / "blobs"
    shutil.move(blobs, tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProgramError, match="refers to a file outside of itself"):
        load_program(linked)


# ---------------------------------------------------------------- the weight file


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda good: good[:100], "lies outside the file"),
        (lambda good: good[:-1], "needs bytes"),
        (lambda good: b"", "truncated"),
        (lambda good: good[:64] + b"\0" * (len(good) - 64), "no weight record at offset 64"),
        (None, "cannot read the weight file"),
    ],
)
def test_missing_short_and_damaged_weight_files_are_refused(package: Path, damage, message: str) -> None:
    good = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).unlink()
    if damage is not None:
        (package / WEIGHTS).write_bytes(damage(good))
    with pytest.raises(ProgramError, match=r"^const at main/op \d+: 'val': .*" + message):
        load_program(package)


@pytest.mark.parametrize(
    "name", ["@model_path/../../../w.bin", "w.bin", "/etc/hostname", "@model_path/\0", "@model_path/"]
)
def test_weight_reference_outside_the_model_is_refused(handmade, name: str) -> None:
    constant = identity(handmade).const("w", np.zeros(20, np.float32))
    constant.attributes["val"].blobFileValue.fileName = name
    with pytest.raises(ProgramError):
        load_program(handmade.save())


# ---------------------------------------------------------------- the model file


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"not a model at all", b"\x08\x08"])
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.mlmodel").write_bytes(content)
    with pytest.raises(ProgramError, match="is not a Core ML model"):
        load_program(tmp_path / "m.mlmodel")


def test_truncated_model_is_refused_at_every_length(package: Path) -> None:
    good = (package / MODEL).read_bytes()
    for length in range(0, len(good), 97):
        (package / MODEL).write_bytes(good[:length])
        with pytest.raises(ProgramError):
            load_program(package)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("neuralNetwork", "this is a neuralNetwork model; convert it to an ML Program"),
        ("neuralNetworkClassifier", "convert it to an ML Program"),
        ("pipeline", "load the ML Programs inside it one by one"),
        ("treeEnsembleClassifier", "only ML Programs can be executed"),
    ],
)
def test_other_types_of_model_are_named(handmade, kind: str, message: str) -> None:
    getattr(handmade.model, kind).SetInParent()
    with pytest.raises(ProgramError, match=message):
        load_program(handmade.save())


@pytest.mark.parametrize("version", [0, 5, 11, -1])
def test_unknown_specification_version_is_refused(make_handmade, version: int) -> None:
    with pytest.raises(ProgramError, match=f"specification version {version} is not known"):
        load_program(identity(make_handmade(version=version)).save())


@pytest.mark.parametrize(("opset", "name"), [("CoreML5", "iOS15"), ("CoreML8", "iOS18"), ("CoreML9", "iOS26")])
def test_opsets_get_the_name_of_their_system(make_handmade, opset: str, name: str) -> None:
    assert load_program(identity(make_handmade(opset=opset)).save()).opset == name


def test_opset_names_are_those_of_coremltools() -> None:
    import coremltools as ct

    from edgesam_export.mil.decode import OPSET_NAMES
    from edgesam_export.mil.ops import OPSETS
    from edgesam_export.mil.program import SPEC_VERSIONS

    known = {version: name for version, name in ct._OPSET.items() if version >= 6}
    assert sorted(known) == list(SPEC_VERSIONS)
    assert {name: ct.target(version).name for version, name in known.items()} == OPSET_NAMES
    assert tuple(OPSET_NAMES.values()) == OPSETS


def test_element_types_are_those_of_the_format() -> None:
    from coremltools.proto import MIL_pb2

    from edgesam_export.mil.decode import ELEMENT_TYPES

    names = {
        number: name.lower().replace("bfloat", "bf").replace("float", "fp") for name, number in MIL_pb2.DataType.items()
    }
    assert {n: t for n, t in names.items() if t != "unused_type" and not t.startswith("fp8")} == ELEMENT_TYPES


def test_unknown_opset_and_missing_function_are_refused(make_handmade) -> None:
    with pytest.raises(ProgramError, match="written for op set 'CoreML99'; this version knows CoreML5"):
        load_program(identity(make_handmade(opset="CoreML99")).save())
    model = identity(make_handmade())
    model.function.opset = "CoreML6"
    with pytest.raises(ProgramError, match="has no block for its op set CoreML6"):
        load_program(model.save())
    model.model.mlProgram.functions.clear()
    with pytest.raises(ProgramError, match="no function 'main'"):
        load_program(model.save())


# ---------------------------------------------------------------- references


def chain(handmade, *ops):
    handmade.input("x", "fp32", (2,))
    for output, source in ops:
        handmade.op("relu", {output: ("fp32", (2,))}, x=source)
    handmade.output(ops[-1][0], "fp32", (2,))
    return handmade.save()


def test_undefined_cyclic_and_duplicate_names_are_refused(make_handmade) -> None:
    with pytest.raises(ProgramError, match="relu 'a' at main/op 0: input 'x' refers to 'ghost', which is not defined"):
        load_program(chain(make_handmade(), ("a", "ghost")))
    with pytest.raises(ProgramError, match="input 'x' refers to 'b', which is used before it is defined"):
        load_program(chain(make_handmade(), ("a", "b"), ("b", "a")))
    with pytest.raises(ProgramError, match="refers to 'a', which is used before it is defined"):
        load_program(chain(make_handmade(), ("a", "a")))
    with pytest.raises(ProgramError, match="relu 'a' at main/op 1: the name 'a' is defined twice"):
        load_program(chain(make_handmade(), ("a", "x"), ("a", "x")))
    with pytest.raises(ProgramError, match="the name 'x' is defined twice"):
        load_program(chain(make_handmade(), ("x", "x")))


def test_block_cannot_be_seen_from_outside(handmade) -> None:
    handmade.input("x", "fp32", (2,))
    block = handmade.op("cond", {"a": ("fp32", (2,))}, pred="x").blocks.add()
    handmade.op("relu", {"inner": ("fp32", (2,))}, block=block, x="x")
    block.outputs.append("inner")
    handmade.op("relu", {"b": ("fp32", (2,))}, x="inner")
    handmade.output("b", "fp32", (2,))
    with pytest.raises(ProgramError, match="relu 'b' at main/op 1: input 'x' refers to 'inner'"):
        load_program(handmade.save())


def test_block_that_returns_nothing_known_is_refused(handmade) -> None:
    handmade.input("x", "fp32", (2,))
    handmade.output("ghost", "fp32", (2,))
    with pytest.raises(ProgramError, match="returns 'ghost', which is not defined"):
        load_program(handmade.save())


def test_blocks_nested_too_deep_are_refused(handmade) -> None:
    identity(handmade)
    block = handmade.block
    for depth in range(18):
        block = handmade.op("cond", {f"o{depth}": ("fp32", (2,))}, block=block, pred="x").blocks.add()
    with pytest.raises(ProgramError, match="blocks are nested more than 16 deep"):
        load_program(handmade.save())


def test_messages_nested_deeper_than_protobuf_allows_are_refused(handmade) -> None:
    identity(handmade)
    block = handmade.block
    for _ in range(60):
        block = block.operations.add(type="cond").blocks.add()
    with pytest.raises(ProgramError, match="is not a Core ML model, or is damaged"):
        load_program(handmade.save())


# ---------------------------------------------------------------- types and constants


def test_absurd_declared_value_is_refused(make_handmade) -> None:
    for shape in ((2**40, 2**40), (2**63, 2), (65536, 65536, 2)):
        model = make_handmade()
        model.input("x", "fp32", (2,))
        model.op("fill", {"a": ("fp32", shape)}, x="x")
        with pytest.raises(ProgramError, match=r"fill at main/op 0: output 'a': .* would take more than 16 GiB"):
            load_program(model.save())


def test_absurd_constant_is_refused_without_being_allocated(handmade) -> None:
    constant = identity(handmade).const("w", np.zeros(4, np.float32))
    constant.attributes["val"].type.tensorType.dimensions[0].constant.size = 2**30
    with pytest.raises(ProgramError, match=r"4 elements for a constant of type fp32\(1073741824\)"):
        load_program(handmade.save())


def damage_rank(type_message, value) -> None:
    type_message.tensorType.rank = 7


def damage_type(type_message, value) -> None:
    type_message.tensorType.dataType = 99


def damage_dimension(type_message, value) -> None:
    type_message.tensorType.dimensions[0].Clear()


def open_dimension(type_message, value) -> None:
    type_message.tensorType.dimensions[0].unknown.variadic = False


def no_type(type_message, value) -> None:
    type_message.Clear()


def no_value(type_message, value) -> None:
    value.ClearField("immediateValue")


def short_value(type_message, value) -> None:
    value.immediateValue.tensor.floats.values.pop()


def other_field(type_message, value) -> None:
    value.immediateValue.tensor.ints.values.extend([1, 2, 3, 4])


def short_bytes(type_message, value) -> None:
    value.immediateValue.tensor.bytes.values = b"123"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_rank, "rank 7 declared with 1 sizes"),
        (damage_type, "element type number 99 is not known"),
        (damage_dimension, "a dimension without a size"),
        (open_dimension, r"a constant of type fp32\(\?\); it must be a tensor of known shape"),
        (no_type, "value without a type"),
        (no_value, "a constant without a value"),
        (short_value, r"3 elements for a constant of type fp32\(4\)"),
        (other_field, r"a constant of type fp32\(4\) cannot be stored as ints"),
        (short_bytes, r"3 bytes for a constant of type fp32\(4\)"),
    ],
)
def test_damaged_constant_is_refused(handmade, damage, message: str) -> None:
    value = identity(handmade).const("w", np.zeros(4, np.float32)).attributes["val"]
    damage(value.type, value)
    with pytest.raises(ProgramError, match="^const at main/op 0: .*" + message):
        load_program(handmade.save())


def test_constant_that_contradicts_its_own_output_is_refused(handmade) -> None:
    constant = identity(handmade).const("w", np.zeros(4, np.float32))
    constant.outputs[0].type.tensorType.dimensions[0].constant.size = 5
    with pytest.raises(ProgramError, match=r"declared fp32\(5\), but its value is fp32\(4\)"):
        load_program(handmade.save())


def test_constant_without_value_or_output_is_refused(make_handmade) -> None:
    model = identity(make_handmade())
    model.const("w", np.zeros(4, np.float32)).attributes.clear()
    with pytest.raises(ProgramError, match="a const needs one output and a value"):
        load_program(model.save())
    model = identity(make_handmade())
    model.const("w", np.zeros(4, np.float32)).outputs.pop()
    with pytest.raises(ProgramError, match="a const needs one output and a value, this one has 0"):
        load_program(model.save())


def test_name_without_end_is_refused(handmade) -> None:
    identity(handmade).op("relu", {"y" * 1000: ("fp32", (2,))}, x="x")
    assert load_program(handmade.save()).operations[0].label == "y" * 1000
    handmade.op("relu", {"z" * 1001: ("fp32", (2,))}, x="x")
    with pytest.raises(ProgramError, match=r"the name 'z{200}\.\.\.' has more than 1000 characters"):
        load_program(handmade.save())


def test_messages_stay_on_one_line_whatever_the_file_says(handmade) -> None:
    for position in ("type", "output", "input", "key"):
        handmade.block.operations.clear()
        names = {key: "a\u2028b" if key == position else "a" for key in ("type", "output", "input", "key")}
        handmade.op(names["type"], {names["output"]: ("fp32", (2,))}, **{names["key"]: names["input"]})
        with pytest.raises(ProgramError, match=r"the name 'a.b' contains control characters") as caught:
            load_program(handmade.save())
        assert len(str(caught.value).splitlines()) == 1

"""Assets on disk: read, executed bit for bit, several functions, damaged in thirty ways, with nothing left behind."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from assets import feed_of, graph_text, needs_apple, save
from operations import CASES, WHOLE_AXIS_BACKWARDS, Case, f

from edgesam_export.artifacts import load_program
from edgesam_export.cli import main
from edgesam_export.coreai import availability, child
from edgesam_export.coreai.apple import Constants, Refusal
from edgesam_export.coreai.asset import find_bytecode
from edgesam_export.coreai.child import Interpreter
from edgesam_export.coreai.program import load_asset
from edgesam_export.errors import ProgramError, RunnerUnavailableError

pytestmark = needs_apple
FLOAT_CASES = [
    case
    for case in CASES
    if all(np.asarray(array).dtype == np.float32 for array in (*case.data, *case.results))
    and case.note != WHOLE_AXIS_BACKWARDS  # lost when Apple's code writes the program, see test_apple.py
]


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch) -> Path:
    """Where this process and its children put files, checked at the end: none may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def asset(tmp_path_factory) -> Path:
    functions = graph_text(FLOAT_CASES), graph_text([Case("exp", (f(1),), f(np.e))], "other")
    return save(tmp_path_factory.mktemp("assets") / "cases.aimodel", *functions)


def by_apple(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    interpreter = Interpreter(path, find_bytecode(path), "main")
    try:
        return interpreter.predict(feed)
    finally:
        interpreter.close()


def test_what_apples_reader_hands_over_gives_the_literal_results(asset):
    found = load_program(asset).predict(feed_of(FLOAT_CASES), numerics="fp32")
    for index, case in enumerate(FLOAT_CASES):
        for position, expected in enumerate(case.results):
            np.testing.assert_allclose(found[f"c{index}_y{position}"], expected, rtol=2e-6, atol=2e-6, err_msg=case.id)


def test_a_relative_path_reaches_the_child_which_works_elsewhere(asset, monkeypatch):
    monkeypatch.chdir(asset.parent)
    path = Path(asset.name)
    assert load_asset(path).functions == ("main", "other")
    assert by_apple(path, feed_of(FLOAT_CASES))


def test_a_function_is_chosen_by_name(asset):
    assert load_asset(asset).functions == ("main", "other")
    other = load_asset(asset, function="other")
    assert [spec.name for spec in other.inputs] == ["c0_x0"] and other.opset == "CoreAI"
    assert np.allclose(other.predict({"c0_x0": f(1)}, numerics="fp32")["c0_y0"], np.e)
    with pytest.raises(ProgramError, match=r"no function 'x'; it has main, other"):
        load_asset(asset, function="x")


COMPRESSED = """coreai.graph @main(%x: tensor<4x6xf16> {{coreai.name = "x"}}) -> (
  tensor<4x6xf16> {{coreai.name = "palette"}}, tensor<4x6xf16> {{coreai.name = "vectors"}},
  tensor<4x6xf16> {{coreai.name = "blocks"}}, tensor<4x6xf32> {{coreai.name = "bytes"}}) {{
  %i = coreai.constant dense<{indices}> : tensor<4x6xui4>
  %l = coreai.constant dense<{palettes}> : tensor<2x1x16x1xf16>
  %a = coreai.constant dense<0> : tensor<si16>
  %p = "coreai.lut_to_dense"(%i, %l, %a) : (tensor<4x6xui4>, tensor<2x1x16x1xf16>, tensor<si16>) -> tensor<4x6xf16>
  %iv = coreai.constant dense<{pairs}> : tensor<4x3xui4>
  %lv = coreai.constant dense<{vectors}> : tensor<1x1x16x2xf16>
  %av = coreai.constant dense<1> : tensor<si16>
  %v = "coreai.lut_to_dense"(%iv, %lv, %av) : (tensor<4x3xui4>, tensor<1x1x16x2xf16>, tensor<si16>) -> tensor<4x6xf16>
  %d = coreai.constant dense<{nibbles}> : tensor<4x6xsi4>
  %s = coreai.constant dense<{scales}> : tensor<4x2xf16>
  %o = coreai.constant dense<{offsets}> : tensor<4x2xsi4>
  %z = coreai.constant dense<0.0> : tensor<4x2xf16>
  %b = "coreai.blockwise_shift_scale"(%d, %s, %o, %z)
    : (tensor<4x6xsi4>, tensor<4x2xf16>, tensor<4x2xsi4>, tensor<4x2xf16>) -> tensor<4x6xf16>
  %d8 = coreai.constant dense<{bytes}> : tensor<4x6xsi8>
  %s8 = coreai.constant dense<{byte_scales}> : tensor<4x1xf32>
  %o8 = coreai.constant dense<0> : tensor<4x1xsi8>
  %z8 = coreai.constant dense<0.0> : tensor<4x1xf32>
  %c = "coreai.blockwise_shift_scale"(%d8, %s8, %o8, %z8)
    : (tensor<4x6xsi8>, tensor<4x1xf32>, tensor<4x1xsi8>, tensor<4x1xf32>) -> tensor<4x6xf32>
  %r0 = "coreai.add"(%p, %x) : (tensor<4x6xf16>, tensor<4x6xf16>) -> tensor<4x6xf16>
  coreai.output %r0, %v, %b, %c : tensor<4x6xf16>, tensor<4x6xf16>, tensor<4x6xf16>, tensor<4x6xf32>
}}"""


def test_compressed_weights_are_decoded_bit_for_bit_as_apple_does(tmp_path):
    random = np.random.default_rng(0)
    values = {
        "indices": random.integers(0, 16, (4, 6)).tolist(),
        "palettes": random.standard_normal((2, 1, 16, 1)).astype(np.float16).tolist(),
        "pairs": random.integers(0, 16, (4, 3)).tolist(),
        "vectors": random.standard_normal((1, 1, 16, 2)).astype(np.float16).tolist(),
        "nibbles": random.integers(-8, 8, (4, 6)).tolist(),
        "scales": random.uniform(0.01, 1, (4, 2)).astype(np.float16).tolist(),
        "offsets": random.integers(-8, 8, (4, 2)).tolist(),
        "bytes": random.integers(-128, 128, (4, 6)).tolist(),
        "byte_scales": random.uniform(0.01, 1, (4, 1)).astype(np.float32).tolist(),
    }
    path = save(tmp_path / "compressed.aimodel", COMPRESSED.format(**values))
    feed = {"x": np.zeros((4, 6), np.float16)}
    ours, theirs = load_asset(path).predict(feed), by_apple(path, feed)
    for name in ("palette", "vectors", "blocks", "bytes"):
        assert ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]), name
    palettes, indices = np.array(values["palettes"], np.float16), np.array(values["indices"])
    rows = np.arange(4)[:, None] // 2  # a palette for two rows
    assert np.array_equal(ours["palette"], palettes[rows, 0, indices, 0])


def rehashed(path: Path) -> None:
    """Write the digest that the program has now: only Apple's reader can notice the damage."""
    (path / "main.hash").write_bytes(hashlib.sha256((path / "main.mlirb").read_bytes()).digest())


def cut(share: float, digest: bool) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        stored = (path / "main.mlirb").read_bytes()
        (path / "main.mlirb").write_bytes(stored[: int(len(stored) * share)])
        if digest:
            rehashed(path)

    return damage


def overwrite(share: float, digest: bool) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        stored = bytearray((path / "main.mlirb").read_bytes())
        position = int(len(stored) * share)
        stored[position : position + 4] = b"\xff\x00\xff\x00"
        (path / "main.mlirb").write_bytes(bytes(stored))
        if digest:
            rehashed(path)

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def replaced(name: str, content: bytes, digest: bool = False) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        (path / name).write_bytes(content)
        if digest:
            rehashed(path)

    return damage


def linked(path: Path) -> None:
    (path / "main.mlirb").rename(path.parent / "elsewhere.mlirb")
    (path / "main.mlirb").symlink_to(path.parent / "elsewhere.mlirb")


def folder_instead(path: Path) -> None:
    (path / "main.mlirb").unlink()
    (path / "main.mlirb").mkdir()


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"ML\xefR")


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{f"cut at {share:.0%}": cut(share, digest=False) for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    **{f"four bytes at {share:.0%}": overwrite(share, digest=False) for share in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)},
    "no program": without("main.mlirb"),
    "no digest": without("main.hash"),
    "empty digest": replaced("main.hash", b""),
    "digest as text": replaced("main.hash", b"0" * 64),
    "linked elsewhere": linked,
    "a folder as program": folder_instead,
    "a file as asset": file_instead,
    "no asset": shutil.rmtree,
    "empty program, own digest": replaced("main.mlirb", b"", digest=True),
    "other bytes, own digest": replaced("main.mlirb", b"PK\x03\x04" + bytes(400), digest=True),
    "magic alone, own digest": replaced("main.mlirb", b"ML\xefR", digest=True),
    **{f"cut at {share:.0%}, own digest": cut(share, digest=True) for share in (0.2, 0.6)},
    **{f"four bytes at {share:.0%}, own digest": overwrite(share, digest=True) for share in (0.05, 0.3, 0.6)},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_asset_gives_one_line_and_leaves_nothing(asset, tmp_path, capsys, damage):
    path = tmp_path / "damaged.aimodel"
    shutil.copytree(asset, path)
    damage(path)
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), "--quiet", "--output", str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert stop.value.code == 2 and shown.out == "" and not (tmp_path / "out").exists()
    assert shown.err.count("\n") == 1 and shown.err.startswith(f"edgesam-export run: {path}: ")


def test_there_are_thirty_damages():
    assert len(DAMAGES) == 30


def test_a_reader_that_takes_too_long_is_ended(asset, monkeypatch):
    monkeypatch.setattr(child, "READ_SECONDS", 0.01)
    monkeypatch.setattr(child, "READ_BYTES_PER_SECOND", 1e12)
    with pytest.raises(ProgramError, match=r"cases.aimodel: Apple's reader had not finished after 0 s and was ended"):
        load_asset(asset)


def test_a_reader_that_takes_too_much_memory_is_ended(asset, monkeypatch):
    monkeypatch.setattr(child, "MEMORY_BYTES", 64 << 20)
    with pytest.raises(ProgramError, match=r"cases.aimodel: .*Apple's code"):
        load_asset(asset)


def test_constants_larger_than_the_file_can_hold_are_refused():
    stream = io.BytesIO()
    for shape, dtype in (([100, 100], "f32"), ([2], "token")):
        with pytest.raises(Refusal, match="is too large for this file, or of a type that is not known"):
            Constants(stream, 1000).write(None, shape, dtype)
    assert not stream.getvalue()


def test_the_interpreter_names_what_it_refuses_and_goes_on(asset):
    interpreter = Interpreter(asset, find_bytecode(asset), "other")
    with pytest.raises(ProgramError, match="Apple's interpreter: "):
        interpreter.predict({"wrong": f(1)})
    assert interpreter.predict({"c0_x0": f(0)})["c0_y0"] == 1
    interpreter.close()
    assert interpreter.predict({"c0_x0": f(0)})["c0_y0"] == 1  # another child
    interpreter.close()


def test_an_interpreter_that_dies_or_hangs_is_an_error(asset, monkeypatch):
    interpreter = Interpreter(asset, find_bytecode(asset), "other")
    interpreter.start().kill()
    with pytest.raises(ProgramError, match=r"died of the program \(SIGKILL\)"):
        interpreter.predict({"c0_x0": f(0)})
    monkeypatch.setattr(child, "RUN_SECONDS", 0.01)
    with pytest.raises(ProgramError, match="had not finished after 0 s"):
        interpreter.predict({"c0_x0": f(0)})
    absent = Interpreter(asset, find_bytecode(asset), "absent")
    monkeypatch.setattr(child, "RUN_SECONDS", 60)
    with pytest.raises(ProgramError, match="Apple's code refused the program"):
        absent.predict({})


def test_without_apples_package_the_reason_is_given(asset, monkeypatch):
    monkeypatch.setattr(availability, "why_not_installed", lambda: "coreai-core is not installed")
    with pytest.raises(RunnerUnavailableError, match=r"^Core AI \(experimental\) is not available: coreai-core is not"):
        load_asset(asset)


def test_run_takes_an_asset(asset, tmp_path, capsys):
    np.save(tmp_path / "x.npy", f(1))
    command = ["run", str(asset), "--function", "other", "--input", f"c0_x0={tmp_path / 'x.npy'}", "--json", "--quiet"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--output", str(tmp_path / "out")])
    assert stop.value.code == 0 and json.loads(capsys.readouterr().out)["values"][0]["name"] == "c0_y0"
    assert np.allclose(np.load(tmp_path / "out" / "c0_y0.npy"), np.e)

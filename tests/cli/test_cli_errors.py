"""Bad input: one line on stderr, the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from edgesam_export.cli import main
from edgesam_export.cli.options import numerics_of
from edgesam_export.families import build_model
from edgesam_export.formats.coreml import convert as coreml_format
from edgesam_export.formats.onnx import convert as onnx_format
from edgesam_export.predict import segment as execution
from edgesam_export.resources import SAMPLES

TINY = "edge_sam_tiny"


def contents(folder: Path) -> dict[str, int]:
    """Relative path and change time of everything below a folder."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


# --------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("onnx", "edge_sma", "--random-weights", "1"),
            "unknown model 'edge_sma'; choose one of: edge_sam, edge_sam_3x",
        ),
        (("coreml", "edge_sam", "--points", "0", "--random-weights", "1"), "points is 0; a decoder has 2 to 64"),
        (("coreml", "edge_sam", "--points", "1", "--random-weights", "1"), "since a box takes 2"),
        (
            ("coreml", "edge_sam", "--also-points", "1", "--target", "iOS18", "--random-weights", "1"),
            "points is 1; a decoder has 2 to 64",
        ),
        (("onnx", "edge_sam", "--points", "1", "--random-weights", "1"), "points is 1; a decoder has 2 to 64"),
        (("onnx", "edge_sam", "--points", "999", "--random-weights", "1"), "points is 999"),
        (("coreml", "edge_sam", "--target", "iOS12"), "'iOS12' is not one of 'iOS16', 'iOS17', 'iOS18'"),
        (("coreml", "edge_sam", "--also-points", "2", "--random-weights", "1"), "need target iOS18"),
        (("onnx", "edge_sam", "--opset", "9", "--random-weights", "1"), "opset is 9; 17 to 20 are supported"),
        (("onnx", "edge_sam", "--candidates", "2"), "'2' is not one of"),
        (("onnx",), "Missing argument 'MODEL'"),
        (("onnx", "edge_sam", "--unknown"), "No such option"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("onnx", "edge_sam", "--random-weights", "-1"), "seed of random weights is -1; pass 0 or more"),
        (("onnx", "edge_sam", "--random-weights", "1", "--checkpoint", "a.pth"), "pass one"),
        (("parity", "none.onnx"), "'none.onnx' is no exported file; give an existing"),
        (("parity",), "Missing argument"),
        (
            ("segment", SAMPLES / "scene.png", "--point", "1,2", "--backend", "onnx"),
            "backend onnx needs exported files",
        ),
        (("segment", "none.png", "--point", "one,2"), "'one,2' is not x,y in source pixels"),
        (("segment", "none.png", "--box", "1,2,3"), "'1,2,3' is not x0,y0,x1,y1 in source pixels"),
        (("run", "none.mlpackage", "--input", "x=none.npy"), "none.mlpackage: no such file or folder"),
    ],
)
def test_words_that_make_no_sense(command, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert line in last and last.startswith("edgesam-export") and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_profile_lists_the_known_ones(refused, tmp_path):
    line = refused("onnx", TINY, "--random-weights", 1, "--profile", "sam7", "--output", tmp_path / "out")
    assert "unknown profile 'sam7'; choose one of: apple-sam2, default, official, sam2, sam6, " in line
    assert contents(tmp_path) == {}
    line = refused("coreml", TINY, "--random-weights", 1, "--profile", "sam6", "--output", tmp_path / "out")
    assert "profile 'sam6' is for onnx, not for coreml" in line


# --------------------------------------------------------------------------------------- checkpoints


class Exploding:
    """Unpickled, it would make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def spoil(kind: str, checkpoint: Path, folder: Path) -> Path:
    """Write a checkpoint that cannot be used."""
    path = folder / "bad.pth"
    if kind == "truncated":
        path.write_bytes(checkpoint.read_bytes()[:100_000])
    elif kind == "text":
        path.write_text("not a checkpoint at all\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "web page":
        path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    elif kind == "pickle":
        torch.save({"image_encoder.weight": Exploding(folder / "ran")}, path)
    elif kind == "other family":
        torch.save({"image_encoder.blocks.0.attn.rel_pos_h": torch.zeros(127, 64)}, path)
    else:
        state = torch.load(checkpoint, weights_only=True)
        if kind == "nan":
            state["mask_decoder.iou_token.weight"][0, 3] = float("nan")
        elif kind == "missing":
            del state["mask_decoder.iou_token.weight"]
        elif kind == "shape":
            state["mask_decoder.iou_token.weight"] = torch.zeros(1, 64)
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("truncated", "damaged|cut short|truncated|not complete|incomplete"),
        ("text", "bad.pth"),
        ("empty", "is empty; fetch it again"),
        ("web page", "is a web page; download the file itself"),
        ("pickle", "bad.pth"),
        ("other family", r"does not fit the model.*\bsam\b"),
        ("nan", "'mask_decoder.iou_token.weight' has 1 of 128 values NaN or infinite"),
        ("missing", "missing.*mask_decoder.iou_token.weight"),
        ("shape", "mask_decoder.iou_token.weight.*64"),
    ],
)
def test_checkpoints_that_cannot_be_used(refused, own_weights, tmp_path, kind, line):
    path = spoil(kind, own_weights, tmp_path)
    out = tmp_path / "out"
    text = refused("onnx", TINY, "--checkpoint", path, "--output", out, "--no-verify")
    assert re.search(line, text), text
    assert not out.exists() or not list(out.iterdir())
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_is_not_there(refused, tmp_path):
    line = refused("coreml", TINY, "--checkpoint", tmp_path / "none.pth", "--output", tmp_path / "out")
    assert "none.pth" in line and "No such file" in line


def test_numerics_that_a_runner_does_not_have_are_refused(refused, onnx_pair):
    words = ("segment", SAMPLES / "scene.png", "--point", "1,1", "--numerics", "fp16")
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    assert "numerics is 'fp16', but ONNX files decide theirs; leave --numerics out" in refused(*words, *files)
    assert "numerics is 'fp16', but PyTorch computes in FP32" in refused(*words, "--model", TINY)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("segment", "none.png", "--point", "1,1"), "none.png: no such file"),
        (("segment", "https://example.org/a.png", "--point", "1,1"), "an address, not a file; fetch it first"),
        (("segment", SAMPLES / "scene.png"), "no prompt: give at least one point, a box or a mask"),
        (("segment", SAMPLES / "scene.png", "--point", "999,1"), "point (999, 1) is outside the image of 512x512"),
        (("segment", SAMPLES / "scene.png", "--mask-input", "none.npy"), "cannot read 'none.npy'"),
        (
            ("segment", SAMPLES / "scene.png", "--mask-input", SAMPLES / "scene.png"),
            "scene.png' is not a .npy array; save",
        ),
        (
            ("segment", SAMPLES / "scene.png", "--point", "1,1", "--artifact", ".", "--model", TINY),
            "--model has no effect",
        ),
        (
            ("everything", SAMPLES / "scene.png", "--artifact", ".", "--random-weights", "1"),
            "--random-weights has no effect on exported files; leave --random-weights or --artifact out",
        ),
        (("everything", "none.png"), "none.png: no such file"),
        (("everything", SAMPLES / "scene.png", "--output", SAMPLES / "scene.png"), "cannot write to output folder"),
        (("onnx", TINY, "--output", SAMPLES / "scene.png"), "cannot write to output folder"),
        (
            ("coreml", TINY, "--checkpoint", "https://example.org/a.pth"),
            "a.pth' is an address, not a file; download it and give",
        ),
    ],
)
def test_what_can_be_seen_without_weights_is_seen_before_they_are_fetched(refused, monkeypatch, words, line):
    monkeypatch.setattr("edgesam_export.families.build_model", build := Mock(wraps=build_model))
    assert line in refused(*words)
    assert build.called == (words[0] == "coreml")


# --------------------------------------------------------------------------------------- output


def test_an_output_folder_that_cannot_be_made(refused, tmp_path):
    (tmp_path / "file").write_text("a file")
    for format in ("coreml", "onnx"):
        line = refused(format, TINY, "--random-weights", 1, "--output", tmp_path / "file" / "out")
        assert "cannot write to output folder" in line and "choose another --output" in line
    assert (tmp_path / "file").read_text() == "a file" and len(list(tmp_path.iterdir())) == 1


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def earlier(export_folder, tmp_path) -> Path:
    """A folder with an earlier export of both formats."""
    shutil.copytree(export_folder, tmp_path / "build")
    return tmp_path / "build"


def write_half(component, config, path) -> None:
    """What a converter does before it is stopped: the encoder is there, of the decoder one half."""
    if path.suffix == ".onnx":
        path.write_text("half")
    else:
        path.mkdir()
        (path / "Manifest.json").write_text("half")


@pytest.mark.parametrize("format", ["coreml", "onnx"])
@pytest.mark.parametrize("how", ["full disk", "interrupt"])
def test_an_export_that_is_stopped_leaves_the_earlier_one_alone(command, monkeypatch, earlier, format, how):
    module, name = {"coreml": (coreml_format, "save_package"), "onnx": (onnx_format, "save_onnx")}[format]

    def stopped(component, config, path):
        write_half(component, config, path)
        if component.name == "decoder":
            if how == "interrupt":
                raise KeyboardInterrupt
            full_disk()
        return {}

    monkeypatch.setattr(module, name, stopped)
    before = contents(earlier)
    words = (format, TINY, "--random-weights", 2, "--output", earlier, "--no-verify", "--quiet")
    code, out, err = command(*words)
    assert (code, out) == ({"full disk": 2, "interrupt": 130}[how], "")
    assert {"full disk": "No space left on device", "interrupt": "interrupted"}[how] in err
    assert len(err.strip().splitlines()) == 1  # click ends the line in which a terminal shows ^C
    assert contents(earlier) == before


def test_a_full_disk_while_onnx_is_saved(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx, "save", full_disk)
    line = refused("onnx", TINY, "--random-weights", 2, "--output", tmp_path / "out", "--no-verify")
    assert "cannot write to output folder" in line and "No space left on device" in line
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_while_masks_are_saved(refused, monkeypatch, onnx_pair, photo, tmp_path):
    monkeypatch.setattr(execution.np, "save", full_disk)
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    line = refused("segment", photo, *files, "--point", "150,120", "--output", tmp_path / "out")
    assert "No space left on device" in line
    assert list((tmp_path / "out").iterdir()) == []


# --------------------------------------------------------------------------------------- images and prompts


def write_images(folder: Path) -> None:
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    # BMP headers: an image without pixels, and one of 400 megapixels in 60 bytes
    for name, width, height in (("none.bmp", 0, 0), ("huge.bmp", 20_000, 20_000)):
        header = np.array([40, width, height], "<u4").tobytes() + np.array([1, 24], "<u2").tobytes() + bytes(24)
        (folder / name).write_bytes(b"BM" + np.array([60, 0, 54], "<u4").tobytes() + header + bytes(6))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing.png", "missing.png: no such file"),
        ("zero.png", "zero.png: not an image that can be read"),
        ("text.png", "text.png: not an image that can be read"),
        ("none.bmp", "none.bmp: (not an image|has size 0x0|cannot be)"),
        ("huge.bmp", "huge.bmp: .*(large|megapixel|pixels)"),
    ],
)
def test_images_that_cannot_be_used(refused, onnx_pair, tmp_path, name, line):
    write_images(tmp_path)
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    text = refused("segment", tmp_path / name, *files, "--point", "1,1", "--output", tmp_path / "out")
    assert re.search(line, text), text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--point", "320,10"), "point (320, 10) is outside the image of 320x240 pixels"),
        (("--point", "10,-1"), "point (10, -1) is outside"),
        (("--background", "nan,1"), "is outside the image"),
        (("--box", "0,0,400,100"), "is outside the image of 320x240"),
        (("--box", "50,50,50,60"), "is reversed or empty"),
        ((), "no prompt: give at least one point, a box or a mask"),
        (("--mask-input", "none.npy"), "cannot read 'none.npy'"),
    ],
)
def test_prompts_that_cannot_be_used(refused, onnx_pair, photo, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    assert line in refused("segment", photo, *files, *words, "--output", "out")
    assert list(tmp_path.iterdir()) == []


def test_more_points_than_slots_says_how_to_export(refused, coreml_pair, photo, tmp_path):
    points = [word for x in range(9) for word in ("--point", f"{100 + x},100")]
    files = [word for path in coreml_pair for word in ("--artifact", path)]
    line = refused("segment", photo, *files, *points, "--output", tmp_path / "out")
    assert "needs 10 slots" in line and "the decoder has 8; export it again with --points 10" in line


def test_files_of_both_formats_are_not_mixed(refused, export_folder, photo, tmp_path):
    line = refused("segment", photo, "--artifact", export_folder, "--point", "1,1", "--output", tmp_path / "out")
    assert "several formats (coreml, onnx)" in line


# --------------------------------------------------------------------------------------- parity and run


def test_parity_with_other_weights_than_were_exported(refused, onnx_pair, own_weights, tmp_path):
    decoder = onnx_pair[1]
    line = refused("parity", decoder, "--checkpoint", own_weights, "--output", tmp_path / "out")
    assert "reference is mine.pth (sha256 " in line and "random weights (seed 11)" in line
    line = refused("parity", decoder, "--random-weights", 12, "--output", tmp_path / "out")
    assert "reference is random weights (seed 12)" in line
    assert not (tmp_path / "out").exists()


def test_parity_with_one_image_or_an_empty_folder(refused, onnx_pair, photo, tmp_path):
    line = refused("parity", onnx_pair[1], "--image", photo, "--output", tmp_path / "out")
    assert "1 images to compare on; every prompt type needs at least 2" in line
    (tmp_path / "empty").mkdir()
    line = refused("parity", tmp_path / "empty", "--output", tmp_path / "out")
    assert "holds no .aimodel and no .mlpackage and no .onnx" in line
    line = refused("parity", onnx_pair[1], photo, "--output", tmp_path / "out")
    assert "is no exported file" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "named"), [("fp8", "fp8"), ("", ""), ("fp16,", ""), ("FP32", "FP32")])
def test_parity_and_eval_with_unknown_numerics(refused, coreml_pair, onnx_pair, tmp_path, given, named):
    # an empty variable of a script: half precision alone would be compared; ONNX in FP16 would skip exact arithmetic
    for files in (coreml_pair, onnx_pair):
        line = refused("parity", *files, "--numerics", given, "--output", tmp_path / "out")
        assert f"numerics is '{named}'; choose one of: fp32, fp16, ane" in line
    line = refused("eval", *coreml_pair, "--data", "scenes:1:1", "--numerics", given)
    assert f"numerics is '{named}'; choose one of: fp32, fp16, ane" in line


def test_numerics_may_be_listed_with_spaces_and_twice():
    assert numerics_of("fp32, fp16 ,fp32,native:all") == ("fp32", "fp16", "native:all")


@pytest.mark.skipif(sys.platform == "darwin", reason="says what happens on a machine without Core ML")
def test_parity_on_native_core_ml_elsewhere_exits_3(refused, coreml_pair, tmp_path):
    line = refused("parity", coreml_pair[1], "--numerics", "native:all", "--output", tmp_path / "out", code=3)
    assert "it needs macOS" in line


def test_parity_of_a_foreign_file(refused, tmp_path):
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", tensor[:1], tensor[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "f.onnx")
    assert "carries no contract of edgesam-export" in refused("parity", tmp_path / "f.onnx")
    line = refused("segment", tmp_path / "any.png", "--artifact", tmp_path / "f.onnx", "--point", "1,1")
    assert "any.png: no such file" in line or "carries no contract" in line


def test_an_image_of_another_size_is_refused_by_run(refused, coreml_pair, photo, tmp_path):
    line = refused("run", coreml_pair[0], "--input", f"image={photo}", "--output", tmp_path / "out")
    assert "'image'" in line and "512x512" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "image"),
        (("--input", "photo"), "input 'photo' is not NAME=FILE"),
        (("--input", "photo=x.npy"), "photo"),
        (("--function", "other"), "no function 'other'; it has main"),
        (("--numerics", "fp8"), "'fp8' is not one of"),
    ],
)
def test_a_run_that_cannot_be(refused, coreml_pair, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(3))
    text = refused("run", coreml_pair[0], *words, "--output", "out")
    assert re.search(line, text), text
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------- the rest


def test_debug_shows_the_traceback():
    with pytest.raises(Exception, match="unknown model 'x'") as caught:
        main(["onnx", "x", "--random-weights", "1", "--debug"])
    assert not isinstance(caught.value, SystemExit)


def test_an_error_nobody_thought_of_is_still_one_line(command, monkeypatch, photo):
    monkeypatch.setattr(execution, "choose_files", lambda *_: 1 / 0)
    code, out, err = command("segment", photo, "--point", "1,1")
    assert (code, out) == (2, "")
    assert err == (
        "edgesam-export segment: unexpected ZeroDivisionError: division by zero; run with --debug and report it\n"
    )


def test_a_file_that_ends_early_is_no_interruption(command, monkeypatch, photo):
    def cut_short(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(execution, "choose_files", cut_short)
    code, out, err = command("segment", photo, "--point", "1,1")
    assert (code, out) == (2, "") and "unexpected EOFError: Ran out of input; run with --debug" in err


def test_an_image_in_unusual_colours_is_segmented(command, onnx_pair, tmp_path):
    Image.new("CMYK", (40, 30), (10, 200, 30, 0)).save(tmp_path / "print.tiff")
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    code, _, _ = command("segment", tmp_path / "print.tiff", *files, "--point", "20,15", "--output", tmp_path / "out")
    assert code == 0
    with Image.open(tmp_path / "out" / "print_mask.png") as mask:
        assert mask.size == (40, 30)

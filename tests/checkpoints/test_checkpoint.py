"""Checkpoint files: the ones people have, and the ones that mean harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgesam_export import resources as resources_module
from edgesam_export.checkpoints import manifest as manifest_module
from edgesam_export.checkpoints import reading as checkpoint
from edgesam_export.checkpoints.reading import (
    CheckpointFile,
    ChecksumWarning,
    check_keys,
    family_of_keys,
    load_state_dict,
    read_state_dict,
    sha256_of,
)
from edgesam_export.errors import CheckpointError

LEGACY = {"_use_new_zipfile_serialization": False}


def weights() -> dict[str, torch.Tensor]:
    return {
        "encoder.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
        "encoder.bias": torch.tensor([0.5, -0.25, 3.0]),
        "encoder.steps": torch.tensor(17, dtype=torch.int64),
    }


def saved(path: Path, value: object, **options: bool) -> Path:
    torch.save(value, path, **options)
    return path


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


def rewritten_zip(source: Path, target: Path, change, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the records of a checkpoint again, each passed through ``change(name, contents)``; None drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            contents = change(name, old.read(name))
            if contents is not None:
                new.writestr(name, contents)
    return target


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# What people have


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_plain_state_dict_comes_back_exactly(tmp_path, options):
    assert_same(read_state_dict(saved(tmp_path / "a.pth", weights(), **options)), weights())


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_a_modules_own_state_dict_with_metadata_is_read(tmp_path, options):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    assert hasattr(module.state_dict(), "_metadata")
    assert_same(read_state_dict(saved(tmp_path / "a.pth", module.state_dict(), **options)), dict(module.state_dict()))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_safetensors_is_known_by_its_contents(tmp_path, name):
    save_file(weights(), tmp_path / name)
    found = read_state_dict(tmp_path / name)
    assert_same({key: found[key] for key in weights()}, weights())


def test_torch_file_is_known_by_its_contents(tmp_path):
    assert_same(read_state_dict(saved(tmp_path / "a.safetensors", weights())), weights())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3, "note": "fine-tuned"},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "lr": 0.1}},
        lambda state: {"state_dict": {"model": state}, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {f"module.model.{key}": value for key, value in state.items()},
    ],
)
def test_wrappers_and_common_prefixes_are_taken_off(tmp_path, wrap):
    assert_same(read_state_dict(saved(tmp_path / "a.pth", wrap(weights()))), weights())


def test_a_prefix_that_not_every_key_has_stays(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(read_state_dict(saved(tmp_path / "a.pth", state))) == ["module.a", "b"]


def test_parameters_come_back_as_tensors_without_gradients(tmp_path):
    state = {"w": torch.nn.Parameter(torch.ones(2, 2))}
    found = read_state_dict(saved(tmp_path / "a.pth", state))["w"]
    assert type(found) is torch.Tensor and not found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_every_floating_type_becomes_float32_with_the_same_values(tmp_path, dtype, save):
    values = [0.5, -1.25, 96.0]  # exact in all of them
    save({"w": torch.tensor(values, dtype=dtype)}, tmp_path / "a")
    found = read_state_dict(tmp_path / "a")["w"]
    assert found.dtype == torch.float32 and found.tolist() == values


def test_views_tied_and_expanded_tensors_get_memory_of_their_own(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    state = {"base": base, "tied": base, "turned": base.t(), "wide": torch.tensor([[2.0]]).expand(4, 5)}
    found = read_state_dict(saved(tmp_path / "a.pth", state))
    assert all(value.is_contiguous() for value in found.values())
    assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["wide"].tolist() == [[2.0] * 5] * 4
    found["base"].zero_()
    assert found["tied"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_a_file_saved_on_cuda_is_read_on_the_cpu(tmp_path, options):
    path = saved(tmp_path / "cpu.pth", weights(), **options)

    def on_cuda(contents: bytes) -> bytes:
        old, new = (b"X" + len(name).to_bytes(4, "little") + name for name in (b"cpu", b"cuda:0"))
        assert contents.count(old) >= 1
        return contents.replace(old, new)

    if options:
        path.write_bytes(on_cuda(path.read_bytes()))
    else:
        path = rewritten_zip(
            path, tmp_path / "cuda.pth", lambda name, data: on_cuda(data) if name.endswith("data.pkl") else data
        )
    with pytest.raises(RuntimeError, match="CUDA"):  # the file does say what it should
        torch.load(path, weights_only=True)
    assert_same(read_state_dict(path), weights())


# What means harm


class Exploding:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def exploding_files(folder: Path, marker: Path) -> dict[str, Path]:
    payload = {"model": weights(), "extra": Exploding(marker)}
    files = {
        "zip": saved(folder / "zip.pth", payload),
        "legacy": saved(folder / "legacy.pth", payload, **LEGACY),
        "protocol 4": folder / "p4.pth",
        "plain pickle": folder / "plain.pth",
        "text pickle": folder / "text.pth",
    }
    torch.save(payload, files["protocol 4"], pickle_protocol=4)
    files["plain pickle"].write_bytes(pickle.dumps(payload))
    files["text pickle"].write_bytes(pickle.dumps(Exploding(marker), protocol=0))
    return files


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 4", "plain pickle", "text pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_never_runs(tmp_path, kind):
    marker = tmp_path / "marker"
    path = exploding_files(tmp_path, marker)[kind]
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    assert not marker.exists()
    text = one_line(error)
    assert str(path) in text
    if kind in ("zip", "legacy", "protocol 4"):
        assert "mkdir" in text and "may run code" in text
    if kind == "zip":  # the trap works: an ordinary unpickler would have sprung it
        torch.load(path, weights_only=False)
        assert marker.is_dir()


def pickled_zip(path: Path, data: bytes, records: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
        for key, contents in records.items():
            archive.writestr(f"archive/data/{key}", contents)
    return path


def hand_made_pickle(*, count: int, size: str, stride: str, offset: int = 0) -> bytes:
    """A state dict of one float32 tensor, written opcode by opcode (text forms)."""
    storage = f"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nL{count}L\ntQ"
    view = f"{storage}L{offset}L\n({size}t({stride}tI00\nccollections\nOrderedDict\n(tR"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({view}tR"
    return b"\x80\x02" + f"(dVw\n{tensor}s.".encode()


def test_hand_made_pickle_of_a_sound_tensor_is_understood(tmp_path):
    data = hand_made_pickle(count=4, size="L2L\nL2L\n", stride="L2L\nL1L\n")
    path = pickled_zip(tmp_path / "a.pth", data, {"0": struct.pack("<4f", 1, 2, 3, 4)})
    assert read_state_dict(path)["w"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("claims", "record", "message"),
    [
        ({"count": 10**12, "size": "L4L\n", "stride": "L1L\n"}, 16, "storage 0 claims 4000000000000 bytes"),
        ({"count": 4, "size": "L1000000000000L\n", "stride": "L1L\n"}, 16, "tensor of 1000000000000 in a storage of 4"),
        ({"count": 4, "size": "L1000000000000L\n", "stride": "L0L\n"}, 16, "its tensors claim 4000000000000"),
        ({"count": 4, "size": "L2L\n", "stride": "L1L\n", "offset": 3}, 16, "tensor of 2 in a storage of 4"),
        ({"count": 4, "size": "L-2L\n", "stride": "L1L\n"}, 16, "other than a storage and sizes"),
        ({"count": -4, "size": "L2L\n", "stride": "L1L\n"}, 16, "unknown type or size"),
        ({"count": 4, "size": "L2L\nL2L\n", "stride": "L1L\n"}, 16, "2 sizes and 1 strides"),
    ],
)
def test_absurd_sizes_are_refused_before_torch_reads(tmp_path, monkeypatch, claims, record, message):
    path = pickled_zip(tmp_path / "a.pth", hand_made_pickle(**claims), {"0": bytes(record)})
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("torch.load was reached"))
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    assert message in one_line(error)


def test_a_legacy_storage_larger_than_the_file_is_refused_before_torch_reads(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.pth", {"w": torch.zeros(300)}, **LEGACY)
    old = b"M" + (300).to_bytes(2, "little")
    assert path.read_bytes().count(old) == 2  # the storage and the tensor's size
    path.write_bytes(path.read_bytes().replace(old, b"J" + (2**31 - 1).to_bytes(4, "little")))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("torch.load was reached"))
    with pytest.raises(CheckpointError, match="storages claim 8589934588 bytes"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02r\xff\xff\xff\x7fN.", "memo index out of range"),
        (b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"x.", "damaged or was cut short"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "damaged or was cut short"),
    ],
    ids=["memo index", "string of 2^60 bytes", "string of 2^31 bytes"],
)
def test_a_pickle_that_declares_huge_things_is_refused(tmp_path, data, message):
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(pickled_zip(tmp_path / "a.pth", data, {}))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    source = saved(tmp_path / "zeros.pth", {"w": torch.zeros(1_000_000)})
    path = rewritten_zip(source, tmp_path / "bomb.pth", lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="claim to become 4000000"):
        read_state_dict(path)


def test_two_records_of_one_name_are_refused(tmp_path):
    path = saved(tmp_path / "a.pth", weights())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, about exactly this
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="two records"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (
            b"Access to this model is restricted\n" * 40,
            "is text, not a checkpoint: 'Access to this model is restricted",
        ),
        (b"\x07 is no beginning of anything" * 40, "neither a torch.save file nor safetensors"),
        (
            b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}',
            "index of weights in several files",
        ),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "web page"),
        (bytes(4096), "begins with 512 zeros"),
        (struct.pack("<Q", 5000) + b'{"a":', "safetensors and was cut short: it has 13 bytes"),
        (gzip.compress(b"PK\x03\x04", mtime=0), "packed with gzip; unpack it"),
        (bytes(257) + b"ustar\x0000" + bytes(300), "a tar archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "a 7z archive; unpack it"),
        (b"\x93NUMPY\x01\x00", "a NumPy array; save the PyTorch model"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x89PNG\r\n\x1a\n", "is an image"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (b"\x08\x08\x12\x07pytorch", "is an ONNX model"),
        (b"\xde\x01\xea\xadimage_encoder", "MessagePack, as Flax saves"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 38807540\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n<html></html>", "web page"),
        (b"\x80", "damaged or was cut short"),
        (b"PK\x03\x04", "no zip directory"),
        (pickle.dumps({"w": [1.0]}, protocol=2), "not one that torch.save wrote"),
    ],
)
def test_files_that_are_something_else_get_a_line_that_says_so(tmp_path, contents, message):
    path = tmp_path / "a.pth"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    assert message in one_line(error) and str(path) in str(error.value)


def test_a_folder_and_a_missing_file_get_a_line(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_state_dict(tmp_path)
    with pytest.raises(CheckpointError, match=r"cannot read .*none\.pth: No such file"):
        read_state_dict(tmp_path / "none.pth")


def test_a_zip_around_a_checkpoint_says_to_unpack_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt.zip", "w") as archive:
        archive.writestr("efficient_sam.pt", b"x")
    with pytest.raises(CheckpointError, match=r"unpack it and use efficient_sam\.pt"):
        read_state_dict(tmp_path / "a.pt.zip")


def test_a_torchscript_program_is_refused(tmp_path):
    path = saved(tmp_path / "a.pth", weights())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    with pytest.raises(CheckpointError, match="is a TorchScript program, not a state dict"):
        read_state_dict(path)


def test_an_archive_with_a_comment_is_refused(tmp_path):
    path = saved(tmp_path / "a.pth", weights())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"room for a second directory"
    with pytest.raises(CheckpointError, match="or a comment"):
        read_state_dict(path)


def test_a_tar_archive_that_begins_like_a_pickle_is_refused(tmp_path):
    import tarfile

    info = tarfile.TarInfo("PPP")
    header = bytearray(info.tobuf())
    header[0:3] = b"\x80\x02."
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:512]))
    (tmp_path / "a.pth").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(CheckpointError, match="tar archive"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short_anywhere_gives_one_line(tmp_path, kind):
    path = tmp_path / "whole"
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        torch.save(weights(), path, **(LEGACY if kind == "legacy" else {}))
    whole, cut = path.read_bytes(), tmp_path / "cut.pth"
    for length in [*range(1, len(whole), 23), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as error:
            read_state_dict(cut)
        one_line(error)


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_gives_tensors_or_one_line_and_nothing_else(tmp_path, options, position, value):
    buffer = io.BytesIO()
    torch.save(weights(), buffer, **options)
    damaged = bytearray(buffer.getvalue())
    damaged[int(position * len(damaged))] = value
    path = tmp_path / "a.pth"
    path.write_bytes(damaged)
    try:
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_state_dict(path).values())
    except CheckpointError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
        {"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        {"w": 3},
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(CheckpointError) as error:
        read_state_dict(tmp_path / "a.safetensors")
    assert "damaged safetensors" in one_line(error)


# What is no set of weights


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_by_key_and_count(tmp_path, bad):
    state = weights()
    state["encoder.bias"][1:] = bad
    with pytest.raises(CheckpointError) as error:
        read_state_dict(saved(tmp_path / "a.pth", state))
    assert "'encoder.bias' has 2 of 3 values NaN or infinite" in one_line(error)
    assert "1 of 3 tensors" in str(error.value)


def test_a_float64_value_too_large_for_float32_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="'w' has 1 of 2 values"):
        read_state_dict(saved(tmp_path / "a.pth", {"w": torch.tensor([1.0, 1e300], dtype=torch.float64)}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": torch.ones(2), "epoch": 3}, "'epoch' is a int, not a tensor"),
        ({"w": torch.ones(2), 7: torch.ones(2)}, "key 7 is a int"),
        ({}, "empty state dict"),
        ({"model": OrderedDict()}, "empty state dict"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"module.": torch.ones(2)}, "has no parameter name"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "ComplexFloatStorage"),
        ({"w": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor"),
    ],
)
def test_what_is_not_a_state_dict_is_refused_with_the_reason(tmp_path, value, message):
    with pytest.raises(CheckpointError) as error:
        read_state_dict(saved(tmp_path / "a.pth", value))
    assert message in one_line(error)


def test_complex_numbers_in_safetensors_are_refused(tmp_path):
    save_file({"w": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="'w' is not a dense real tensor"):
        read_state_dict(tmp_path / "a.safetensors")


def test_a_dict_that_holds_itself_ends(tmp_path):
    value: dict = {"w": torch.ones(2)}
    value["model"] = value
    with pytest.raises(CheckpointError, match="not a tensor"):
        read_state_dict(saved(tmp_path / "a.pth", value))


# Keys


def test_keys_and_shapes_that_fit_pass():
    module = torch.nn.Linear(3, 2)
    check_keys(module, module.state_dict(), where="here")
    check_keys({"weight": (2, 3), "bias": (2,)}, module.state_dict(), where="here")


def test_missing_unexpected_and_misshapen_keys_are_named_and_counted():
    expected = {"a": (1,), "b": (2, 3), "c": (1,), "d": (1,), "e": (1,), "f": (1,), "s": ()}
    found = {"b": torch.ones(3, 2), "a": torch.ones(1), "x": torch.ones(1), "s": torch.ones(4)}
    with pytest.raises(CheckpointError) as error:
        check_keys(expected, found, where="edge_sam from x.pth")
    assert one_line(error) == (
        "edge_sam from x.pth: the checkpoint does not fit the model; 4 missing: c, d, e, ...; 1 unexpected: x; "
        "2 misshapen: b (expected 2x3, found 3x2), s (expected a single number, found 4)"
    )


FAMILY_KEYS = {
    "edge_sam": ["image_encoder.features.0.0.c.weight", "image_encoder.fuse_stage2.weight"],
    "edge_sam_tiny": [
        "image_encoder.features.0.0.c.weight",
        "image_encoder.fuse_stage1.weight",
        "image_encoder.fuse_stage2.weight",
    ],
    "mobile_sam (or TinySAM)": [
        "image_encoder.patch_embed.seq.0.c.weight",
        "image_encoder.layers.0.blocks.0.conv1.c.weight",
    ],
    "sam": ["image_encoder.patch_embed.proj.weight", "image_encoder.blocks.0.attn.rel_pos_h"],
    "efficientvit_sam": ["image_encoder.backbone.stages.0.op_list.0.conv.weight"],
    "efficient_sam": [
        "image_encoder.blocks.0.attn.qkv.weight",
        "mask_decoder.final_output_upscaling_layers.0.0.weight",
    ],
    "sam2": ["image_encoder.trunk.patch_embed.proj.weight", "memory_encoder.fuser.layers.0.gamma"],
    "edgetam": ["image_encoder.trunk.body.stem.conv1.c.weight", "spatial_perceiver.latents"],
    "sam2 or edgetam (the video part)": ["memory_encoder.fuser.layers.0.gamma"],
    "repvit_sam": ["image_encoder.features.0.0.c.weight", "image_encoder.neck.0.weight"],
}


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_each_family_is_known_by_its_keys(family):
    assert family_of_keys(FAMILY_KEYS[family]) == family


@pytest.mark.parametrize("family", [name for name in FAMILY_KEYS if name != "edge_sam"])
def test_another_familys_checkpoint_is_named(family):
    expected = dict.fromkeys(FAMILY_KEYS["edge_sam"], (1,))
    with pytest.raises(CheckpointError) as error:
        check_keys(expected, dict.fromkeys(FAMILY_KEYS[family], (1,)), where="edge_sam")
    assert f"look like {family};" in one_line(error)


def test_the_right_family_is_not_called_another():
    expected = dict.fromkeys(FAMILY_KEYS["edge_sam"], (1,))
    with pytest.raises(CheckpointError) as error:
        check_keys(expected, {**expected, "more": (1,)}, where="edge_sam")
    assert "look like" not in str(error.value)


def test_unknown_keys_belong_to_no_family():
    assert family_of_keys(["conv1.weight"]) is None


# The manifest and where weights come from


def test_sha256_is_that_of_the_contents(tmp_path):
    contents = bytes(range(256)) * 9000  # more than one piece
    (tmp_path / "a").write_bytes(contents)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(contents).hexdigest()


def test_the_manifest_answers_without_torch():
    code = "import sys, edgesam_export.checkpoints.reading as c; assert c.manifest(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_manifest_is_complete_and_consistent():
    files = checkpoint.manifest()
    assert len({file.name for file in files}) == len(files)
    checkpoints = [file.model for file in files if file.kind == "checkpoint"]
    assert len(set(checkpoints)) == len(checkpoints)
    assert all(file.url is None or file.url.startswith("https://") for file in files)
    assert all(file.url is None or file.url.endswith("/" + file.name) for file in files)
    edge_sam = [file for file in files if file.family == "edge_sam"]
    assert len(edge_sam) == 10
    for file in edge_sam:
        assert file.bytes and file.sha256 and file.url and "non-commercial" in file.licence and file.notice
    hashes = [file.sha256 for file in files if file.sha256]
    assert len(set(hashes)) == len(hashes)
    for file in files:
        path = resources_module.shipped_file(f"models/{file.name}") if file.bundled else None
        assert path is None or (path.stat().st_size, sha256_of(path)) == (file.bytes, file.sha256)


def test_checkpoint_for_finds_checkpoints_only():
    assert checkpoint.checkpoint_for("edge_sam_3x").name == "edge_sam_3x.pth"
    assert checkpoint.checkpoint_for("no_such_model") is None


def with_manifest(monkeypatch, *files: CheckpointFile) -> None:
    monkeypatch.setattr(checkpoint, "manifest", lambda: files)
    monkeypatch.setattr(
        checkpoint, "checkpoint_for", lambda name: next((file for file in files if file.model == name), None)
    )


def row(path: Path, **changes: object) -> CheckpointFile:
    values = {"name": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, **changes}
    return CheckpointFile(
        model="tiny", family="tiny", kind="checkpoint", home="here", licence="L", evidence="test", **values
    )


def test_a_released_file_has_the_manifests_licence(tmp_path, monkeypatch, recwarn):
    path = saved(tmp_path / "tiny.pth", weights())
    with_manifest(monkeypatch, row(path))
    state_dict, provenance = load_state_dict("tiny", path)
    assert_same(state_dict, weights())
    assert (provenance.source, provenance.sha256, provenance.licence) == ("tiny.pth", sha256_of(path), "L")
    assert provenance.random_seed is None and not recwarn.list


def test_a_released_name_with_other_contents_warns_and_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "tiny.pth", weights())
    with_manifest(monkeypatch, row(path, sha256="0" * 64))
    with pytest.warns(ChecksumWarning, match=r"tiny\.pth has the name of a released file"):
        state_dict, provenance = load_state_dict("tiny", path)
    assert_same(state_dict, weights())
    assert provenance.licence == "L (weights derived from tiny)"


def test_a_fine_tuned_file_does_not_warn_and_derives_its_licence(tmp_path, monkeypatch, recwarn):
    path = saved(tmp_path / "mine.pth", weights())
    with_manifest(monkeypatch, row(path, name="tiny.pth", sha256="0" * 64))
    assert load_state_dict("tiny", path)[1].licence == "L (weights derived from tiny)"
    assert load_state_dict("other", path)[1].licence == "unknown"
    assert not recwarn.list


def test_without_a_path_the_cache_is_used(tmp_path, monkeypatch):
    path = saved(tmp_path / "tiny.pth", weights())
    with_manifest(monkeypatch, row(path))
    state_dict, provenance = load_state_dict("tiny", cache_dir=tmp_path)
    assert_same(state_dict, weights())
    assert provenance.source == "tiny.pth"


def test_bundled_weights_are_read_from_the_folder_of_the_manifest(tmp_path, monkeypatch):
    package = tmp_path / "edgesam_export"
    (package / "models").mkdir(parents=True)
    path = package / "models" / "tiny.safetensors"
    stored = {key: value.half() for key, value in weights().items() if value.is_floating_point()}
    save_file(stored, path)
    table = {"name": path.name, "model": "tiny", "family": "tiny", "kind": "checkpoint", "home": "here"}
    table |= {"licence": "Apache-2.0", "evidence": "test", "sha256": sha256_of(path)}
    lines = [f'{key} = "{value}"' for key, value in table.items()]
    text = "\n".join(["[[file]]", *lines, f"bytes = {path.stat().st_size}", "bundled = true"])
    (package / "models" / "manifest.toml").write_text(text)
    monkeypatch.setattr(resources_module, "__file__", str(package / "resources" / "__init__.py"))
    with_manifest(monkeypatch, *manifest_module.manifest.__wrapped__())
    state_dict, provenance = load_state_dict("tiny", cache_dir=tmp_path / "cache")
    assert_same(dict(sorted(state_dict.items())), {key: stored[key].float() for key in sorted(stored)})
    assert (provenance.source, provenance.licence) == ("tiny.safetensors", "Apache-2.0")
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors has sha256 .* install the package again"):
        load_state_dict("tiny")


def test_a_model_without_released_weights_asks_for_a_path():
    with pytest.raises(CheckpointError, match=r"no released checkpoint of 'mine'.*--checkpoint"):
        load_state_dict("mine")

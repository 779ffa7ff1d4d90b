"""Checkpoints that hold no usable weights, as frameworks leave them: refused with what they are and what to do."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgesam_export.checkpoints.reading import load_state_dict
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model
from tests.checkpoints.test_layouts import prefixed, read, refused, saved, weights


def changed(change) -> dict[str, torch.Tensor]:
    """Return the weights with every floating-point tensor changed."""
    return {key: change(value) if value.is_floating_point() else value for key, value in weights().items()}


def quantised(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda value: (value * 127).to(torch.int8),
            "quantised: 'image_encoder.0.weight' is of int8 (10 of 11 tensors",
        ),
        (lambda value: (value * 127).to(torch.int32), "quantised: 'image_encoder.0.weight' is of int32"),
        (lambda value: value > 0, "quantised: 'image_encoder.0.weight' is of bool"),
        (lambda value: value.to(torch.float8_e4m3fn), "of 8-bit or other small types, image_encoder.0.weight for one"),
        (quantised, "10 of its tensors are quantised, image_encoder.0.weight for one, and are not read"),
        (
            torch.Tensor.to_sparse,
            "are sparse, image_encoder.0.weight for one, and are not read; save tensor.to_dense()",
        ),
        (lambda value: value.to("meta"), "are on the meta device, without values"),
        (lambda value: value.to(torch.complex64), "are complex"),
        (torch.Tensor.numpy, "10 of its tensors are NumPy arrays, image_encoder.0.weight for one"),
    ],
)
def test_weights_of_types_without_plain_values_are_never_read_as_numbers(tmp_path, change, text):
    message = refused(saved(tmp_path / "a.pth", {"model": changed(change)}))
    assert text.replace("image_encoder.0", "model.image_encoder.0") in message
    assert "look like" not in message and "missing" not in message


def test_safetensors_of_small_types_are_refused_too(tmp_path):
    for kind in (torch.int8, torch.float8_e5m2):
        save_file(changed(lambda value, kind=kind: value.to(kind)), tmp_path / "a.safetensors")
        assert f"its weights are quantised: 'image_encoder.0.weight' is of {str(kind)[6:]}" in refused(
            tmp_path / "a.safetensors"
        )


def test_counters_that_were_cast_with_the_weights_do_not_matter(tmp_path):
    """``{key: value.half() ...}`` makes infinity of a count above 65504."""
    state = {key: value.half() for key, value in weights().items()}
    state["image_encoder.1.num_batches_tracked"] = torch.tensor(100_000).half()
    assert state["image_encoder.1.num_batches_tracked"].isinf()
    found, note = read(saved(tmp_path / "a.pth", state))
    assert found["image_encoder.1.num_batches_tracked"] == 0
    assert note == "weights of a.pth: batch norm's 1 counters are missing or were cast, and only training needs them"


def peft() -> dict[str, torch.Tensor]:
    state = {key: value for key, value in weights().items() if "layers" not in key}
    for copy in ("original_module", "modules_to_save.default"):
        state |= {
            key.replace("layers.", f"layers.{copy}."): value for key, value in weights().items() if "layers" in key
        }
    return prefixed("base_model.model.", state)


FRAMEWORKS = {
    "PEFT, modules to save": (peft(), "merge_and_unload()"),
    "torch's pruning": (
        {key.replace("0.weight", "0.weight_orig"): value for key, value in weights().items()}
        | {"image_encoder.0.weight_mask": torch.ones(4, 3, 1, 1)},
        "torch.nn.utils.prune.remove()",
    ),
    "weight norm": (
        {key.replace("layers.weight", "layers.weight_v"): value for key, value in weights().items()}
        | {"mask_decoder.layers.weight_g": torch.ones(2, 1)},
        "remove_parametrizations()",
    ),
    "FSDP, flat": ({"_fsdp_wrapped_module._flat_param": torch.ones(40)}, "flattened by FSDP: save the full state dict"),
    "ZeRO-3": ({"module": {key: torch.empty(0) for key in weights()}}, "DeepSpeed ZeRO-3"),
    "ZeRO's optimizer": (
        {"optimizer_state_dict": {"single_partition_of_fp32_groups": [torch.ones(40)]}},
        "zero_to_fp32.py",
    ),
    "a list": (list(weights().values()), "its tensors have no names: save model.state_dict()"),
    "one tensor": (torch.ones(40), "its tensors have no names: save model.state_dict(), not a list"),
    "a head of its own": (weights() | {"classifier.weight": torch.ones(2, 4)}, "if its masks do not depend on them"),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_frameworks_leave_is_named_with_the_way_out(tmp_path, framework):
    value, text = FRAMEWORKS[framework]
    message = refused(saved(tmp_path / "a.pth", value))
    assert text in message and "in several places" not in message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_encoder.pos_embed": (1, 32, 32, 768)}, "its table of positions has 32x32 cells, the model's 64x64"),
        ({"mask_decoder.mask_tokens.weight": (2, 256)}, "has 2 mask tokens, the model's 4 (num_multimask_outputs=1 in"),
        ({"image_encoder.neck.0.weight": (9, 768, 1, 1)}, "the checkpoint does not fit the model; 1 misshapen:"),
    ],
)
def test_other_sizes_of_training_are_named(tmp_path, changes, text):
    with torch.device("meta"):
        expected = build_model("sam_vit_b").state_dict()
    state = {key: torch.zeros(1).expand(changes.get(key, value.shape)) for key, value in expected.items()}
    path = saved(tmp_path / "a.pth", state)
    with pytest.raises(CheckpointError) as error:
        load_state_dict("sam_vit_b", path, forms=[expected])
    assert text in str(error.value) and "in several places" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.pkl", "it is a torch.save file that was unpacked"),
        (".metadata", "dcp_to_torch"),
        ("zero_to_fp32.py", "python zero_to_fp32.py . out"),
        ("adapter_config.json", "it is a PEFT adapter: merge it"),
        ("Manifest.json", "it is a Core ML package"),
        ("model.safetensors.index.json", "it is weights in several files"),
    ],
)
def test_folders_of_weights_say_how_they_become_a_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"{}")
    assert text in refused(tmp_path)


def test_of_several_files_in_a_folder_the_weights_are_named(tmp_path):
    for name in ("a_scheduler.bin", "model.safetensors", "optimizer.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert f"for example {tmp_path / 'model.safetensors'}" in refused(tmp_path)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (["image_encoder.npy"], "it is a NumPy archive (.npz); save the PyTorch model"),
        (
            ["m/archive_format", "m/models/model.json", "m/data/sample_inputs/model.pt"],
            "it is a program of torch.export",
        ),
        (["x.mlpackage/Manifest.json"], "it is a zipped Core ML package"),
        (["w/model.safetensors"], "unpack it and use w/model.safetensors"),
        (["data.pkl", "version"], "it is a torch.save file packed again in another way"),
    ],
)
def test_zip_archives_of_other_programs_are_named(tmp_path, members, text):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in members:
            archive.writestr(name, b"x")
    assert text in refused(tmp_path / "a.zip")


def test_what_is_no_file_is_named_and_nothing_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device" in refused(tmp_path / "pipe")
    assert "is a pipe or a device" in refused(Path("/dev/null"))
    assert "is an address, not a file; download it" in refused(Path("https://example.com/a.pth"))
    assert "no checkpoint is named" in refused(Path(""))


def test_a_pickle_of_tensors_says_how_it_becomes_a_checkpoint(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(weights()))
    assert "load it where it was made, then torch.save() it" in refused(tmp_path / "a.pkl")

"""Checkpoints as programs of others leave them: the same weights, or a refusal that says what to do; never in part."""

from __future__ import annotations

import argparse
import collections
import copy
import pathlib
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgesam_export.checkpoints.reading import load_state_dict, read_state_dict
from edgesam_export.checkpoints.selection import read_weights
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model, load_model
from tests.checkpoints.test_checkpoint import hand_made_pickle, pickled_zip

LEGACY = {"_use_new_zipfile_serialization": False}
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")


class Toy(nn.Module):
    """The three parts of SAM, one layer each; batch norm has counters."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.prompt_encoder = nn.ModuleDict({"no_mask_embed": nn.Embedding(1, 4)})
        self.mask_decoder = nn.ModuleDict({"iou_token": nn.Embedding(1, 4), "layers": nn.Linear(4, 2)})


class Config:
    """Of a class that no reader can know."""

    def __init__(self) -> None:
        self.rate, self.folder = 0.1, pathlib.PurePosixPath("/data")


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(Toy(seed).state_dict())


def prefixed(prefix: str, state: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in (state or weights()).items()}


def split(names: tuple[str, ...], state: dict[str, torch.Tensor] | None = None) -> dict[str, dict[str, torch.Tensor]]:
    state = state or weights()
    return {
        name: {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{part}.")}
        for part, name in zip(PARTS, names)
    }


def read(path: pathlib.Path, key: str | None = None) -> tuple[dict[str, torch.Tensor], str | None]:
    return read_weights(path, [weights()], key=key, constants={"pixel_mean": (123.0, 116.0, 103.0)})


def saved(path: pathlib.Path, value: object, **options: bool) -> pathlib.Path:
    torch.save(value, path, **options)
    return path


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


def refused(path: pathlib.Path, key: str | None = None) -> str:
    with pytest.raises(CheckpointError) as error:
        read(path, key)
    assert "\n" not in str(error.value)
    return str(error.value)


# Rows of the field


LIGHTNING = {
    "epoch": 3,
    "state_dict": {**prefixed("model."), "loss.weight": torch.ones(3)},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 0.1}]}],
    "hyper_parameters": argparse.Namespace(a=pathlib.PurePosixPath("/x"), config=Config()),
    "callbacks": collections.defaultdict(list, {"x": [1]}),
}
LAYOUTS = {
    "plain": (weights(), None),
    "sam.": (prefixed("sam."), "found under 'sam'"),
    "net.": (prefixed("net."), "found under 'net'"),
    "compiled": (prefixed("_orig_mod."), None),
    "parallel and compiled": (prefixed("module._orig_mod."), "found under 'module'"),
    "Lightning": (LIGHTNING, "found under 'state_dict.model'; not read: state_dict.loss (1 tensor), optimizer_states"),
    "averaged model": (prefixed("module.") | {"n_averaged": torch.tensor(3)}, "not read: n_averaged (1 tensor)"),
    **{
        key: ({key: weights()}, f"found under '{key}'")
        for key in ("model_state", "net", "weights", "params", "student")
    },
    "no counters": ({k: v for k, v in weights().items() if "num_batches" not in k}, "1 counters are missing"),
    "three dictionaries": (split(PARTS), None),
    "three dictionaries of other names": (split(("enc", "prompts", "dec")), "found under 'enc + prompts + dec'"),
    "compiled encoder": ({k.replace("encoder.0", "encoder._orig_mod.0"): v for k, v in weights().items()}, None),
    "parallel encoder": (
        {k.replace("image_encoder.", "image_encoder.module."): v for k, v in weights().items()},
        "image_encoder.module + prompt_encoder + mask_decoder",
    ),
    "a whole module": (Toy(), None),
    "a module beside its configuration": ({"model": Toy(), "args": Config()}, "found under 'model'"),
    "EMA beside": ({"model": weights(), "model_ema": weights(1)}, "EMA weights are there too, as a.pth#ema"),
    "EMA alone, elsewhere": ({"ema_state_dict": weights(), "step": 5}, "'ema_state_dict', a running average (EMA)"),
    "twice the same": ({"first": weights(), "second": copy.deepcopy(weights())}, "not read: second"),
    "other wrapper first": ({"model": {"x": torch.ones(2)}, "state_dict": weights()}, "not read: model (1 tensor)"),
    "a video part": (
        prefixed("model.", weights() | {"memory_encoder.x": torch.ones(1), "no_obj_ptr": torch.ones(1)}),
        "not read: model.memory_encoder (1 tensor), model.no_obj_ptr (1 tensor)",
    ),
    "a video part, and a parallel encoder": (
        {k.replace("image_encoder.", "image_encoder.module."): v for k, v in weights().items()}
        | {"maskmem_tpos_enc": torch.ones(1)},
        "not read: maskmem_tpos_enc (1 tensor)",
    ),
    "repeated statistics": (weights() | {"pixel_mean": torch.tensor([123.0, 116.0, 103.0])}, "not read: pixel_mean"),
    "statistics of images to 1": (weights() | {"pixel_mean": torch.tensor([123.0, 116.0, 103.0]) / 255}, "pixel_mean"),
}


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_are_found_and_the_note_says_where(tmp_path, layout, options):
    value, text = LAYOUTS[layout]
    found, note = read(saved(tmp_path / "a.pth", value, **options))
    assert_equal(found, weights() | {"image_encoder.1.num_batches_tracked": torch.tensor(0)})
    assert note is None if text is None else text in note


def test_the_average_is_read_on_request_only(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": weights(), "model_ema": weights(1)})
    assert_equal(read(path)[0], weights())
    assert_equal(read(path, "ema")[0], weights(1))
    assert_equal(load_state_dict("mine", f"{path}#ema", forms=[weights()])[0], weights(1))
    state, provenance = load_state_dict("mine", f"{path}#model", forms=[weights()])
    assert_equal(state, weights())
    assert provenance.source == "a.pth#model" and "not read: model_ema" in provenance.note


def test_a_file_with_the_mark_in_its_own_name_is_that_file(tmp_path):
    path = saved(tmp_path / "run#7.pth", weights())
    assert load_state_dict("mine", path, forms=[weights()])[1].source == "run#7.pth"


REFUSALS = {
    "two sets": (
        {"student": weights(), "teacher": weights(1)},
        "2 different sets of weights fit the model: 'student', 'teacher'; choose one by its name, as in FILE#student",
    ),
    "a key missing": ({k: v for k, v in prefixed("net.").items() if "iou" not in k}, "1 missing: mask_decoder.iou_to"),
    "a key too many": (weights() | {"surplus.weight": torch.ones(1)}, "1 unexpected: surplus.weight"),
    "a key too many behind a prefix": (prefixed("net.") | {"net.more": torch.ones(1)}, "1 unexpected: more"),
    "a key too many in a part": (weights() | {"mask_decoder.x": torch.ones(1)}, "1 unexpected: mask_decoder.x"),
    "another shape": (weights() | {"mask_decoder.layers.bias": torch.ones(3)}, "(expected 2, found 3)"),
    "a part alone": (split(PARTS)["image_encoder"], "no whole prompt_encoder and no whole mask_decoder"),
    "LoRA inside": (weights() | {"image_encoder.0.lora_A.weight": torch.ones(1)}, "merge_and_unload"),
    "LoRA beside": ({"model": weights(), "extra": {"q.lora_A.weight": torch.ones(1)}}, "merge_and_unload"),
    "adapters": (weights() | {"image_encoder.adapter.0.weight": torch.ones(1)}, "it has adapters"),
    "adapters of another spelling": (
        weights() | {"image_encoder.0.MLP_Adapter.weight": torch.ones(1)},
        "it has adapters",
    ),
    "HQ-SAM of transformers": (weights() | {"mask_decoder.hq_token.weight": torch.ones(1)}, "HQ-SAM"),
    "parameters alone": (dict(Toy().named_parameters()), "it holds parameters and no buffers: save model.state_dict()"),
    "HQ-SAM": (weights() | {"mask_decoder.hf_token.weight": torch.ones(1)}, "HQ-SAM"),
    "other statistics": (weights() | {"pixel_mean": torch.zeros(3)}, "pixel_mean is 0, 0, 0, the model's images have"),
    "an encoder twice": (
        {
            "a": {k: v for k, v in weights().items() if "image" in k},
            "b": prefixed("x."),
            "c": prefixed("y.", weights(2)),
        },
        "2 different sets",
    ),
    "parts of two files": (
        {"a": split(PARTS)["image_encoder"], "b": split(PARTS)["image_encoder"], "c": split(PARTS)["mask_decoder"]},
        "it has no whole prompt_encoder",
    ),
    "parts that may not belong together": (
        split(("x", "y", "z")) | {"c": split(PARTS, weights(1))["image_encoder"]},
        "its parts are in several places, and which belong together is not certain: image_encoder at",
    ),
    "a list of nothing": ([1, 2], "holds no tensors (a list)"),
    "an object of nothing": (Config(), "holds no tensors (a test_layouts.Config)"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_settle_the_weights_is_refused_with_the_reason(tmp_path, case):
    value, text = REFUSALS[case]
    assert text in refused(saved(tmp_path / "a.pth", value))


def test_a_key_that_names_no_set_lists_the_sets(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": weights(), "epoch": 1})
    assert refused(path, "ema") == "a.pth: no weights are called 'ema'; complete sets are 'model'"
    with pytest.raises(CheckpointError, match="names no weights after #"):
        load_state_dict("mine", f"{path}#", forms=[weights()])


def test_another_model_is_named(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": build_model("mobile_sam").state_dict()})
    with pytest.raises(CheckpointError, match=r"a\.pth: these are weights of mobile_sam: give that as the model; the "):
        load_model("edge_sam", path)


def test_training_state_is_neither_read_nor_checked(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": weights(), "optimizer": {"exp_avg": torch.full((4,), torch.nan)}})
    assert_equal(read(path)[0], weights())


# Every way to write them, drawn


DRAWN = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.sampled_from(["model", "module", "net", "sam", "state_dict", "weights", "a", "x1", "student", "generator_2"])
BESIDE = {
    "epoch": 3,
    "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 0.1}]},
    "args": argparse.Namespace(config=Config()),
    "loss": {"weight": torch.ones(3)},
    "metrics": collections.OrderedDict(best=0.5),
    "nothing": None,
}
FAULTS = {
    "missing": (lambda state: {k: v for k, v in state.items() if k != "mask_decoder.layers.bias"}, "missing"),
    "shape": (lambda state: state | {"mask_decoder.layers.bias": torch.ones(7)}, "expected 2, found 7"),
    "surplus": (lambda state: state | {"image_encoder.2.weight": torch.ones(7)}, "unexpected: image_encoder.2.weight"),
    "NaN": (lambda state: state | {"mask_decoder.layers.bias": torch.full((2,), torch.nan)}, "2 of 2 values NaN"),
}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[object, str | None, bool]:
    """Return what is saved, the text of the refusal or None, and whether it is saved in the old format."""
    state = weights()
    if draw(st.booleans()):
        state = {key: value for key, value in state.items() if "num_batches" not in key}
    fault = draw(st.sampled_from([None, None, *FAULTS]))
    text = None
    if fault is not None:
        change, text = FAULTS[fault]
        state = change(state)
    if draw(st.booleans()):
        inserted = draw(st.sampled_from([*PARTS, "image_encoder.0", "mask_decoder.layers"]))
        state = {key.replace(f"{inserted}.", f"{inserted}._orig_mod."): value for key, value in state.items()}
    value: object = state
    shape = draw(st.sampled_from(["flat", "prefix", "parts"]))
    if shape == "prefix":
        value = prefixed(".".join(draw(st.lists(NAMES, min_size=1, max_size=3))) + ".", state)
    elif shape == "parts":
        value = split(PARTS, state)
    for _ in range(draw(st.integers(0, 3))):
        value = {draw(NAMES): value}
        value |= {key: BESIDE[key] for key in draw(st.sets(st.sampled_from(sorted(BESIDE)), max_size=3))}
    if fault is None and draw(st.sampled_from([False, False, True])):
        value, text = {"first": value, "second": weights(1)}, "different sets of weights"
    elif draw(st.booleans()):
        value = {"inner": value, "model_ema": weights(2)} if fault is None else value
    return value, text, draw(st.booleans())


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layout=layouts())
def test_any_layout_gives_equal_weights_or_a_refusal_that_says_why(tmp_path, layout):
    value, text, legacy = layout
    path = saved(tmp_path / "a.pth", value, **(LEGACY if legacy else {}))
    if text is None:
        assert_equal(read(path)[0], weights() | {"image_encoder.1.num_batches_tracked": torch.tensor(0)})
    else:
        assert text in refused(path)


# What a file holds beside the weights does nothing


class Marking:
    """Would leave a folder if it were unpickled, by names that are not refused outright."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.mkdir, (self.marker,)


def test_objects_beside_the_weights_are_never_made(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": weights(), "hook": Marking(tmp_path / "marker")})
    assert_equal(read(path)[0], weights())
    assert not (tmp_path / "marker").exists()
    torch.load(path, weights_only=False)  # the trap works
    assert (tmp_path / "marker").is_dir()


class Shadowing(collections.OrderedDict):
    """Restored as a plain ordered dictionary whose attributes hide its methods."""

    def __reduce__(self):
        hidden = {"items": None, "values": None, "keys": None, "get": None}
        return collections.OrderedDict, (), hidden, None, iter(dict.items(self))


def test_attributes_that_hide_a_dictionarys_methods_do_nothing(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": Shadowing(weights())})
    assert_equal(read(path)[0], weights())
    assert_equal(read_state_dict(path), weights())


def test_attributes_of_the_readers_own_functions_cannot_be_set(tmp_path):
    build = b"ctorch._utils\n_rebuild_tensor_v2\n(N}Vcall\nNstb."
    assert "damaged" in refused(pickled_zip(tmp_path / "a.pth", b"\x80\x02" + build, {}))
    assert_equal(read(saved(tmp_path / "b.pth", weights()))[0], weights())


def test_a_pickle_of_very_many_class_names_is_refused(tmp_path):
    data = b"\x80\x02(" + b"".join(b"ca\nb%d\n" % number for number in range(5000)) + b"l."
    assert "more than 4096 classes" in refused(pickled_zip(tmp_path / "a.pth", data, {}))


def test_lists_that_multiply_end(tmp_path):
    value: list = [None]
    for _ in range(8):
        value = [value] * 10
    assert "it is no checkpoint" in refused(saved(tmp_path / "a.pth", {"model": weights(), "more": value}))


def test_keys_and_sizes_beyond_64_bits_are_left_or_refused(tmp_path):
    path = saved(tmp_path / "a.pth", {"model": weights(), 10**5000: {"x": torch.ones(1)}, 3: torch.ones(1)})
    assert_equal(read(path)[0], weights())
    with pytest.raises(CheckpointError, match="key is a int"):
        read_state_dict(saved(tmp_path / "b.pth", {10**5000: torch.ones(1)}))
    for size, stride in (("L0L\nL99999999999999999999L\n", "L1L\nL1L\n"), ("L1L\n", "L99999999999999999999L\n")):
        with pytest.raises(CheckpointError, match="a tensor cannot be made"):
            data = hand_made_pickle(count=4, size=size, stride=stride)
            read_state_dict(pickled_zip(tmp_path / "c.pth", data, {"0": bytes(16)}))


def test_a_dictionary_that_holds_itself_is_left_unread(tmp_path):
    value: dict = {"model": weights()}
    value["again"] = value
    assert_equal(read(saved(tmp_path / "a.pth", value))[0], weights())


def test_a_file_without_checksums_is_read_and_a_changed_byte_is_not(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path / "a.pth", weights())
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(read(path)[0], weights())
    path = saved(tmp_path / "b.pth", weights())
    contents = path.read_bytes()
    bias = weights()["mask_decoder.layers.bias"].numpy().tobytes()
    assert contents.count(bias) == 1
    path.write_bytes(contents.replace(bias, bytes(8)))
    assert "damaged" in refused(path) and "fetch the file again" in refused(path)


@pytest.mark.parametrize(("code", "values"), [("f", [1.5, -2.0]), ("e", [0.5, 3.0]), ("q", [7, -9])])
def test_bytes_in_the_other_order_are_turned(tmp_path, code, values):
    kind = {"f": "Float", "e": "Half", "q": "Long"}[code]
    path = tmp_path / "a.pth"
    storage = f"(Vstorage\nctorch\n{kind}Storage\nV0\nVcpu\nL2L\ntQ"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}L0L\n(L2L\nt(L1L\ntI00\nccollections\nOrderedDict\n(tRtR"
    pickled_zip(path, b"\x80\x02" + f"(dVw\n{tensor}s.".encode(), {"0": struct.pack(f">2{code}", *values)})
    swapped = tmp_path / "b.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(swapped, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    assert read_state_dict(swapped)["w"].tolist() == values


def test_a_module_of_the_old_format_is_entered(tmp_path):
    path = saved(tmp_path / "a.pth", {"net": Toy()}, **LEGACY)
    assert b"Toy" in path.read_bytes()
    assert_equal(read(path)[0], weights())


def test_buffers_that_a_module_does_not_save_are_left_out(tmp_path):
    toy = Toy()
    toy.mask_decoder.register_buffer("offsets", torch.ones(3), persistent=False)
    assert_equal(read(saved(tmp_path / "a.pth", toy))[0], weights())
    toy.mask_decoder.register_buffer("kept", torch.ones(3))
    assert "1 unexpected: mask_decoder.kept" in refused(saved(tmp_path / "b.pth", toy))


def test_safetensors_with_a_prefix_are_found_too(tmp_path):
    save_file(prefixed("base_model."), tmp_path / "a.safetensors")
    assert_equal(read(tmp_path / "a.safetensors")[0], weights())


def test_a_folder_names_a_file_in_it(tmp_path):
    saved(tmp_path / "model.pt", weights())
    assert f"is a folder; give the checkpoint file in it, for example {tmp_path / 'model.pt'}" in refused(tmp_path)


def test_numpy_scalars_and_plain_pickles_of_state_say_what_they_are(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"w": 1}))
    assert "not one that torch.save wrote" in refused(path)

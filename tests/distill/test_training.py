"""Training runs of a few steps: what they leave, how they stop, how they go on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgesam_export.distill.cache import EmbeddingCache
from edgesam_export.distill.config import DistillConfig, Phase, configured, parse_schedule, read_config
from edgesam_export.distill.forward import network_input
from edgesam_export.distill.loop import PromptStep
from edgesam_export.distill.processes import Processes
from edgesam_export.distill.run import recover_recipe
from edgesam_export.distill.start import start_run
from edgesam_export.distill.teacher import Teacher
from edgesam_export.distill.trainer import learning_rate
from edgesam_export.distill.training import distill
from edgesam_export.errors import CheckpointError, SchemaError, UsageError
from edgesam_export.export.compression import kernel_modules
from edgesam_export.export.folding import folded_model
from edgesam_export.families import load_model, model_info
from edgesam_export.spec import Recipe

NAME = "edge_sam_tiny"
CONFIG = DistillConfig(
    student=NAME,
    data="scenes:5",
    schedule=(Phase(size=64, batch=2, steps=3), Phase(size=96, batch=1, steps=2)),
    objects=2,
    rounds=1,
    warmup=2,
    checkpoint_every=2,
    calibrate=2,
    workers=0,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order, and small work is not spread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder: Path, config: DistillConfig = CONFIG, **options) -> dict[str, torch.Tensor]:
    student, teacher = start_run(config, checkpoint=options.pop("start", None))
    return load_file(distill(config, student, folder, teacher=options.pop("teacher", teacher), **options).weights)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: its folder and weights."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(folder)


def test_a_run_leaves_what_it_should(whole):
    folder, weights = whole
    assert read_config(folder / "config.json") == CONFIG
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        f"step_{step:08d}.pt" for step in (2, 4, 5)
    ]
    history = json.loads((folder / "history.json").read_text())["steps"]
    assert history[-1]["step"] == 5 and {"loss", "bce", "dice", "iou_first", "learning_rate"} <= set(history[-1])
    for name in ("curves.png", "samples/step_00000005.png"):
        assert np.asarray(Image.open(folder / name).convert("L")).std() > 5
    model = load_model(NAME, folder / f"{NAME}.safetensors")  # without a warning, although the name is a bundled one's
    start, _ = start_run(CONFIG)
    moved = [name for name, value in start.state_dict().items() if not torch.equal(value, weights[name])]
    assert len(moved) > 0.9 * len(weights) and same(model.state_dict(), weights)


@pytest.mark.parametrize(
    ("last", "error", "saved"),
    [
        (3, RuntimeError, 2),  # what came after the last checkpoint is lost
        (1, KeyboardInterrupt, 1),  # saved on the way out
    ],
)
def test_a_stopped_run_resumes_to_the_same_weights_and_history(whole, tmp_path, last, error, saved):
    def stop(done: int, total: int, text: str) -> None:
        if done == last:
            raise error("stopped")

    folder = tmp_path / "run"
    with pytest.raises(error, match="stopped"):
        run(folder, progress=stop)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step_{saved:08d}.pt"]
    assert not (folder / f"{NAME}.safetensors").exists()
    assert same(run(folder, resume=True), whole[1])
    assert (folder / "history.json").read_text() == (whole[0] / "history.json").read_text()


def test_any_checkpoint_leads_to_the_same_end(whole, tmp_path):
    folder, weights = whole
    assert same(run(folder, checkpoint=folder / "checkpoints" / "step_00000002.pt"), weights)


def test_another_seed_is_another_result(whole, tmp_path):
    assert not same(run(tmp_path / "other", replace(CONFIG, seed=1)), whole[1])


def test_worker_processes_change_nothing(whole, tmp_path):
    config = replace(CONFIG, workers=2)
    assert same(run(tmp_path / "workers", config), whole[1])


def test_a_folder_with_a_run_is_not_overwritten(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(UsageError, match="holds this run already; go on with --resume"):
        run(folder)
    with pytest.raises(UsageError, match="holds a run with seed 0, not 7"):
        run(folder, replace(CONFIG, seed=7), resume=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        run(tmp_path / "file")


def test_damaged_and_foreign_checkpoints(whole, tmp_path):
    folder, _ = whole
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 not whole")
    torch.save({"student": {}}, tmp_path / "foreign.pt")
    state = torch.load(folder / "checkpoints" / "step_00000002.pt", weights_only=True)
    torch.save(state | {"config": state["config"] | {"seed": 4}}, tmp_path / "another.pt")
    for path, text in (
        (tmp_path / "damaged.pt", "is damaged"),
        (tmp_path / "foreign.pt", "is no checkpoint of a training run; there are: step_00000002.pt"),
        (tmp_path / "another.pt", "is of a run with seed 4, not 0"),
        (tmp_path / "missing.pt", "no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=text):
            run(folder, checkpoint=path)


def test_a_checkpoint_runs_no_code(whole, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"student": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        run(whole[0], checkpoint=tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_embeddings_of_a_teacher_are_matched_and_kept(tmp_path):
    config = replace(
        CONFIG, stage="encoder", teacher=NAME, data="scenes:5:2", schedule=(Phase(size=512, batch=1, steps=2),)
    )
    config = replace(config, channel=0.5, correlation=0.5, learning_rate=2e-3)
    student, _ = start_run(replace(config, teacher=None, stage="prompts"))
    teacher = load_model(NAME, random_weights=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    result = distill(config, student, tmp_path / "run", teacher=teacher, cache=tmp_path / "cache")
    assert {"mse", "channel", "correlation"} <= set(result.history[-1])
    after = student.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("image_encoder"))
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["00000000.npy", "00000001.npy"]


def test_kept_embeddings_are_used_and_broken_ones_made_again(tmp_path):
    teacher = load_model(NAME, random_weights=1)
    cache = EmbeddingCache(tmp_path, Teacher(teacher), "scenes:5:2", 512)
    images = torch.zeros(1, 3, 512, 512, dtype=torch.uint8)
    (fresh,), _ = cache.see(images, [3], [(512, 512)])
    expected = teacher.encode(network_input(images, teacher, 512))
    assert float((fresh - expected).abs().max()) < 2e-3 * float(expected.abs().max())
    cache.teacher = replace(cache.teacher, model=torch.nn.Identity())  # nobody to ask any more
    assert torch.equal(cache.see(images, [3], [(512, 512)]).maps[0], fresh)
    cache.path(3).write_bytes(cache.path(3).read_bytes()[:100])
    cache.teacher = Teacher(teacher)
    assert torch.equal(cache.see(images, [3], [(512, 512)]).maps[0], fresh)
    other = Teacher(load_model(NAME, random_weights=2))
    assert EmbeddingCache(tmp_path, other, "scenes:5:2", 512).folder != cache.folder


def test_embeddings_of_another_shape_are_refused(tmp_path):
    config = replace(CONFIG, stage="encoder", teacher=NAME)
    student, _ = start_run(replace(config, teacher=None, stage="prompts"))
    with pytest.raises(UsageError, match=r"embedding is \(128, 8, 8\), the teacher's \(128, 64, 64\)"):
        distill(config, student, tmp_path / "run", teacher=load_model(NAME, random_weights=1))


def test_a_teacher_says_what_is_right(tmp_path):
    """The same network as teacher and student: nothing to learn but what batch statistics change."""
    teacher = load_model(NAME, random_weights=1)
    student = load_model(NAME, random_weights=1)
    config = replace(CONFIG, teacher=NAME, schedule=(Phase(size=512, batch=1, steps=1),), iou=0.0)
    step = PromptStep(student, teacher, config)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 512, 512), np.uint8))
    masks = torch.zeros(1, 2, 512, 512, dtype=torch.bool)
    masks[:, :, 100:200, 150:300] = True
    generator = torch.Generator().manual_seed(0)
    _, figures = step(images, masks, config.schedule[0], generator, Teacher(teacher).see(images))
    assert float(figures["iou_last"]) > 0.999


def test_images_without_masks_ask_the_teacher(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (48, 80, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    config = replace(CONFIG, data=str(folder), schedule=(Phase(size=64, batch=2, steps=1),))
    with pytest.raises(UsageError, match="has no masks and no teacher makes them"):
        run(tmp_path / "without", config)
    config = replace(config, teacher=NAME)
    student, _ = start_run(replace(config, teacher=None))
    result = distill(config, student, tmp_path / "with", teacher=load_model(NAME, random_weights=1))
    assert np.isfinite(result.history[-1]["loss"])


def test_frozen_parts_keep_their_parameters(tmp_path):
    config = replace(CONFIG, freeze=("image_encoder", "prompt_encoder"), schedule=(Phase(size=64, batch=1, steps=2),))
    before = start_run(config)[0].state_dict()
    after = run(tmp_path / "run", config)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"mask_decoder"}
    with pytest.raises(UsageError, match="nothing is left to train"):
        run(tmp_path / "none", replace(config, freeze=("image_encoder", "prompt_encoder", "mask_decoder")))


def test_recovery_of_a_recipe_leaves_a_folded_model_whose_weights_changed(tmp_path):
    start = tmp_path / "start.safetensors"
    from edgesam_export.distill.runs import save_weights

    save_weights(load_model(NAME, random_weights=3), start)
    pruned = "mask_decoder.iou_prediction_head.layers.1"
    recipe = Recipe(
        name="mixed", default={"encoder": "linear8"}, components={"decoder": {pruned: "sparse75_palettize4"}}
    )
    options = {"checkpoint": start, "data": "scenes:5", "schedule": (Phase(size=64, batch=1, steps=2),)}
    after = load_file(recover_recipe(NAME, recipe, tmp_path / "run", **options).weights)
    config = read_config(tmp_path / "run" / "config.json")
    assert config.compress == recipe
    assert config.warmup < config.steps  # of the short run, whose learning rate would otherwise only rise
    assert same(after, load_file(recover_recipe(NAME, recipe, tmp_path / "run", resume=True, **options).weights))
    assert (after[f"{pruned}.weight"] == 0).float().mean() == 0.75 and len(after[f"{pruned}.weight"].unique()) <= 17
    recovered = load_model(NAME, tmp_path / "run" / f"{NAME}.safetensors")
    folded = folded_model(load_model(NAME, start)).state_dict()
    assert set(after) == set(folded) == set(recovered.state_dict())
    kernels = [f"{path}.weight" for path in kernel_modules(recovered)]
    assert sum(not torch.equal(after[name], folded[name]) for name in kernels) > 0.9 * len(kernels)


def test_two_processes_train_one_model(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from edgesam_export.distill.config import read_config\n"
        "from edgesam_export.distill.start import start_run\n"
        "from edgesam_export.distill.training import distill\n"
        "config = read_config(sys.argv[1])\n"
        "student, _ = start_run(config)\n"
        "distill(config, student, sys.argv[2])\n"
        "parameters = torch.cat([p.flatten() for p in student.parameters()]).double()\n"
        "rank = torch.distributed.get_rank()\n"
        "open(f'{sys.argv[2]}/sum{rank}', 'w').write(repr(float((parameters * torch.arange(len(parameters))).sum())))\n"
    )
    from edgesam_export.distill.config import config_document
    from edgesam_export.files import write_json

    config = replace(CONFIG, schedule=(Phase(size=64, batch=1, steps=2),))
    write_json(tmp_path / "config.json", config_document(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ran = subprocess.run(
        [*command, str(tmp_path / "config.json"), str(tmp_path / "run")], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    sums = [(tmp_path / "run" / f"sum{rank}").read_text() for rank in (0, 1)]
    assert sums[0] == sums[1]
    weights = load_file(tmp_path / "run" / f"{NAME}.safetensors")
    alone = run(tmp_path / "alone", config)
    assert not same(weights, alone)  # the second process had images of its own


def test_a_process_without_a_device_of_its_own_says_so(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    monkeypatch.setattr("torch.distributed.get_node_local_rank", lambda fallback: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"process 1 finds 1 CUDA devices.*--nproc-per-node 1, or choose --device cpu"):
        Processes.find()


def test_learning_rate_rises_and_falls():
    config = replace(CONFIG, warmup=10, learning_rate=2.0, schedule=(Phase(size=64, batch=1, steps=110),))
    assert learning_rate(config, 0) == pytest.approx(0.2) and learning_rate(config, 9) == pytest.approx(2.0)
    assert learning_rate(config, 60) == pytest.approx(1.0)  # half way down a cosine
    assert learning_rate(config, 109) < 0.001
    # Four times the pixels in the second phase: half of the way is a fifth of its steps and more into it.
    config = replace(config, warmup=0, schedule=(Phase(size=64, batch=1, steps=60), Phase(size=128, batch=1, steps=25)))
    assert learning_rate(config, 60) == pytest.approx(2 * 0.5 * (1 + np.cos(np.pi * 60 / 160)))
    assert learning_rate(config, 65) == pytest.approx(1.0)


def test_schedules_and_configurations(tmp_path):
    assert parse_schedule("256:16:100:0,512:4:50") == (
        Phase(size=256, batch=16, steps=100, rounds=0),
        Phase(size=512, batch=4, steps=50),
    )
    assert [CONFIG.phase_at(step).size for step in range(5)] == [64, 64, 64, 96, 96]
    for text in ("", "512", "512:8", "500:1:1", "512:0:1", "512:1:0", "512:1:1:33", "512:1:1:1:1", "a:b:c", "512:1:1,"):
        with pytest.raises(UsageError, match="schedule part"):
            parse_schedule(text)
    for wrong, text in (
        ({"stage": "other"}, "stage is 'other'"),
        ({"stage": "encoder"}, "name one with --teacher"),
        ({"stage": "recover"}, "belong together"),
        ({"compress": "palettize4"}, "belong together"),
        ({"stage": "recover", "compress": "linear8", "teacher": NAME}, "leave it out"),
        ({"freeze": ("neck",)}, "freeze names 'neck'"),
        ({"objects": 0}, "objects is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"schedule": ()}, "the schedule has 0 steps"),
    ):
        with pytest.raises(UsageError, match=text):
            replace(CONFIG, **wrong)
    for text in ("[]", "{}", '{"student": 1, "schedule": 3}', '{"student": "x", "schedule": [], "more": 1}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises((SchemaError, UsageError)):
            read_config(tmp_path / "config.json")


def test_the_configurations_beside_the_bundled_weights_can_be_run():
    for name in (f"{NAME}_start", NAME):
        config = read_config(Path(__file__).parents[2] / "models" / f"{name}.json")
        assert config.student == NAME and config.half and config.stage == "prompts"
        assert config.schedule[-1].size == model_info(NAME).frame.size
    assert config.refinements and config.mask_share  # or a mask prompt would ruin the result


def test_options_change_a_saved_configuration(whole):
    file = whole[0] / "config.json"
    options = {"seed": 3, "freeze": "prompt_encoder", "schedule": "64:1:1", "rounds": None, "quiet": True}
    found = configured(NAME, options, file)
    phase = Phase(size=64, batch=1, steps=1)
    assert found == replace(CONFIG, seed=3, freeze=("prompt_encoder",), schedule=(phase,))
    with pytest.raises(UsageError, match="trains edge_sam_tiny, not edge_sam"):
        configured("edge_sam", {}, file)


def test_what_a_run_cannot_start_from():
    with pytest.raises(UsageError, match="but no teacher"):
        start_run(CONFIG, teacher_random_weights=0)
    with pytest.raises(UsageError, match="there is no teacher"):
        start_run(replace(CONFIG, inherit=("mask_decoder",)))
    with pytest.raises(UsageError, match="cannot inherit mask_decoder of edge_sam"):
        start_run(replace(CONFIG, teacher="edge_sam", inherit=("mask_decoder",)), teacher_random_weights=0)
    student, teacher = start_run(replace(CONFIG, teacher=NAME, inherit=("mask_decoder",)), teacher_random_weights=0)
    name = "mask_decoder.iou_token.weight"
    assert torch.equal(student.state_dict()[name], teacher.state_dict()[name])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = replace(CONFIG, learning_rate=1e9, clip=1e9, warmup=0)
    with pytest.raises(UsageError, match=r"the loss is .*lower --learning-rate"):
        run(tmp_path / "run", replace(config, schedule=(Phase(size=64, batch=1, steps=30),)))


def test_a_student_of_several_maps_is_refused_before_anything_is_loaded():
    with pytest.raises(UsageError) as error:
        start_run(replace(CONFIG, student="edgetam", teacher=NAME), teacher_checkpoint="nowhere.pt")
    assert str(error.value).startswith("edgetam makes 3 maps of an image and training knows students of one")

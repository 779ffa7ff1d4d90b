"""The subject of a benchmark: files, or a model that is exported first, once the device is known to be ready."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from edgesam_export.artifacts import list_files, open_artifact
from edgesam_export.bench.sources import SourceConfig, export_model, model_name, open_subject
from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.families import load_model


@contextmanager
def silent(title):
    yield lambda *_: None


@pytest.fixture(scope="module")
def tiny():
    return load_model("edge_sam_tiny", random_weights=3)


def test_a_name_is_a_model_and_paths_are_files(tmp_path):
    assert model_name(["edge_sam_tiny"]) == "edge_sam_tiny" and model_name([str(tmp_path)]) is None
    for sources in (["edge_sam_tiny", "mobile_sam"], ["nothing"], [str(tmp_path), "nothing"]):
        with pytest.raises(UsageError, match=r"is neither a file nor a model; models are: .*edge_sam"):
            model_name(sources)


def test_nothing_is_loaded_for_a_device_that_is_not_ready():
    def ready():
        raise RunnerUnavailableError("no phone")

    def load(name):
        pytest.fail("the model was loaded")

    with (
        pytest.raises(RunnerUnavailableError, match="no phone"),
        open_subject(["edge_sam_tiny"], SourceConfig(), load=load, ready=ready, stage=silent, notify=print),
    ):
        pytest.fail("there is a subject")


def test_a_model_is_exported_to_a_folder_that_vanishes_unless_one_is_given(tiny, tmp_path, monkeypatch):
    def export(model, folder, config, stage):
        (folder / "net.onnx").write_text("")
        return (folder / "net.onnx",)

    monkeypatch.setattr("edgesam_export.bench.sources.export_model", export)
    paths = []
    for output in (None, tmp_path):
        config = SourceConfig(output=output)
        with open_subject(
            ["edge_sam_tiny"], config, load=lambda _: tiny, ready=lambda: None, stage=silent, notify=print
        ) as subject:
            assert subject.model is tiny and subject.files[0].is_file()
            paths += subject.files
    assert [path.exists() for path in paths] == [False, True] and paths[1].parent == tmp_path


def test_a_model_is_exported_with_slots_for_its_points(tiny, tmp_path):
    config = SourceConfig(formats=("onnx", "coreml"), points=(1, 11))
    files = export_model(tiny, tmp_path, config, silent)
    assert sorted(files) == sorted(list_files(tmp_path)) and len(files) == 4
    slots = {(file.suffix, open_artifact(file).contract.get("slots")) for file in files if "decoder" in file.name}
    assert slots == {(".mlpackage", 12), (".onnx", None)}

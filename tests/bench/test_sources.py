"""The subject of a benchmark: files, or a model that is exported first, once the device is known to be ready."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from edgesam_export.bench.sources import SourceConfig, export_model, model_name, open_subject
from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.formats import FORMATS, find_format
from edgesam_export.spec import Artifact, CoreMLConfig, OnnxConfig


@contextmanager
def silent(title):
    yield lambda *_: None


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


def test_a_model_is_exported_to_a_folder_that_vanishes_unless_one_is_given(model, tmp_path, monkeypatch):
    def export(model, folder, config, stage):
        (folder / "net.onnx").write_text("")
        return (folder / "net.onnx",)

    monkeypatch.setattr("edgesam_export.bench.sources.export_model", export)
    paths = []
    for output in (None, tmp_path):
        config = SourceConfig(output=output)
        with open_subject(
            ["edge_sam_tiny"], config, load=lambda _: model, ready=lambda: None, stage=silent, notify=print
        ) as subject:
            assert subject.model is model and subject.files[0].is_file()
            paths += subject.files
    assert [path.exists() for path in paths] == [False, True] and paths[1].parent == tmp_path


def test_a_model_is_exported_to_every_format_with_slots_for_its_points(model, tmp_path, monkeypatch):
    asked = []

    def export(model, folder, config, *, progress):
        asked.append(config)
        path = folder / f"net{len(asked)}"
        return [Artifact(path=path, format="any", component="decoder", model="net", sha256="", contract={})]

    for name in ("coreml", "onnx"):
        monkeypatch.setitem(FORMATS.entries, name, replace(find_format(name), export=export))
    for points, slots in (((1,), 8), ((1, 11), 12)):
        asked.clear()
        files = export_model(model, tmp_path, SourceConfig(formats=("onnx", "coreml"), points=points), silent)
        assert files == (tmp_path / "net1", tmp_path / "net2")
        # any number of points in the one format, the padding point's slot as well in the other
        assert asked == [OnnxConfig(), CoreMLConfig(points=slots)]

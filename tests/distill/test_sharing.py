"""An evaluation in parts: what is kept, who goes on with it, and that the whole is that of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgesam_export.cli.main import main
from edgesam_export.distill import sharing
from edgesam_export.distill.results import ImageResult, ObjectResult
from edgesam_export.distill.samples import Skipped
from edgesam_export.distill.scenes import draw_scene
from edgesam_export.distill.sharing import Journal, Share
from edgesam_export.errors import UsageError

IDENTITY = {"data": "d", "prompts": ["box"], "limit": None}


def result(index: int) -> ImageResult:
    one = ObjectResult(image=f"{index}.png", index=0, area=7, iou={"box": 1 / (index + 3)})
    return ImageResult(index=index, objects=(one,), skipped=Skipped(annotations=[f"{index}: bad"]))


def test_a_journal_gives_back_what_was_kept(tmp_path):
    journals = [Journal(tmp_path / "j", IDENTITY, rank=rank) for rank in (0, 1)]
    assert journals[0].read() == []
    journals[1].add("b", result(5))
    journals[0].add("a", result(0))
    journals[0].add("a", result(1))
    again = Journal(tmp_path / "j", IDENTITY, resume=True)
    assert again.read() == [("a", result(0)), ("a", result(1)), ("b", result(5))]
    again.remove()
    assert not (tmp_path / "j").exists()


def test_a_line_cut_short_is_done_again(tmp_path):
    journal = Journal(tmp_path / "j", IDENTITY, resume=True)
    journal.add("a", result(0))
    journal.add("a", result(1))
    journal.path.write_bytes(journal.path.read_bytes()[:-9])
    assert journal.read() == [("a", result(0))]
    journal.add("a", result(2))
    assert journal.read() == [("a", result(0)), ("a", result(2))]


def test_an_interrupted_evaluation_is_not_overwritten_or_mixed(tmp_path):
    Journal(tmp_path / "j", IDENTITY).add("a", result(0))
    with pytest.raises(UsageError, match=r"holds an interrupted evaluation; go on with --resume, or delete"):
        Journal(tmp_path / "j", IDENTITY).read()
    with pytest.raises(UsageError, match=r"holds another evaluation \(limit None, not 5\)"):
        Journal(tmp_path / "j", {**IDENTITY, "limit": 5}, resume=True).read()
    (tmp_path / "j" / "process_0000.ndjson").write_text("{}\nx\n")
    with pytest.raises(UsageError, match="is damaged; delete it"):
        Journal(tmp_path / "j", IDENTITY, resume=True).read()


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "j").write_text("a file")
    with pytest.raises(UsageError, match="choose another --output"):
        Journal(tmp_path / "j", IDENTITY).add("a", result(0))


@pytest.mark.parametrize("world", [1, 2, 5])
def test_processes_do_every_image_that_is_left_once(world):
    finished = [result(index) for index in (0, 3)]
    shares = [Share(SimpleNamespace(rank=rank, world=world), finished=finished) for rank in range(world)]
    done = [index for share in shares for index in share.indexes(9)]
    assert sorted(done) == [1, 2, 4, 5, 6, 7, 8]


def test_results_of_all_are_in_the_order_of_the_data(monkeypatch):
    share = Share(SimpleNamespace(rank=1, world=2), finished=[result(3)])
    for index in (2, 0):
        share.add(result(index))
    others = [result(index) for index in (4, 3, 1)]
    monkeypatch.setattr(sharing, "everyones", lambda where, value: [others, value])
    assert share.gathered() == [result(index) for index in range(5)]


# ----------------------------------------------------------------------------------------- the whole, as a user does it


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A COCO file of four images; one of them is cut short, another has a damaged annotation."""
    folder = tmp_path_factory.mktemp("coco")
    images, rows = [], []
    for index in range(4):
        scene = draw_scene(3, index, 128)
        Image.fromarray(scene.image).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": 128.0, "width": 128})
        for mask in scene.masks[:2]:
            runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=~mask[0, 0], append=~mask[-1, -1])))
            runs = [*([0] if mask[0, 0] else []), *map(int, runs)]
            rows.append({"image_id": index, "segmentation": {"size": [128, 128], "counts": runs}})
    rows.append({"id": 77, "image_id": 0, "segmentation": []})
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:200])
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    return path


def evaluated(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["eval", "edge_sam_tiny", "--prompts", "box", *map(str, words)])
    return int(end.value.code or 0)


def test_two_processes_go_on_with_what_one_began_and_find_the_same(data, tmp_path, monkeypatch, capsys):
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    assert evaluated("--data", data, "--output", whole) == 0
    err = capsys.readouterr().err
    assert "warning: 1 damaged image and 1 damaged annotation left out (--strict stops at the first): " in err
    assert (
        "2.png: " in err
        and "annotation 77: it has no polygon" in err
        and not whole.with_name("whole.json.parts").exists()
    )

    added = []

    def interrupted(self: Journal, label: str, kept: ImageResult, add=Journal.add) -> None:
        if len(added) == 1:
            raise KeyboardInterrupt
        added.append(kept.index)
        add(self, label, kept)

    monkeypatch.setattr(Journal, "add", interrupted)
    assert evaluated("--data", data, "--output", parts) == 130
    monkeypatch.undo()
    assert evaluated("--data", data, "--output", parts) == 2
    assert "go on with --resume" in capsys.readouterr().err
    words = ["eval", "edge_sam_tiny", "--prompts", "box", "--data", data, "--output", parts, "--resume"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "edgesam_export.cli", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("edge_sam_tiny") == 1, ran.stdout
    found, expected = json.loads(parts.read_text()), json.loads(whole.read_text())
    assert found == expected
    (report,) = found["subjects"].values()
    assert report["pictures"] == 3 and len(report["skipped"]["pictures"]) == len(report["skipped"]["annotations"]) == 1
    assert not parts.with_name("parts.json.parts").exists()


def test_strict_stops_at_the_first(data, capsys):
    assert evaluated("--data", data, "--strict") == 2
    err = capsys.readouterr().err
    assert "annotation 77: it has no polygon" in err and err.count("\n") == 2  # the licence, and this


def test_resume_needs_an_output(data, capsys):
    assert evaluated("--data", data, "--resume") == 2
    assert "--resume goes on with what was kept beside --output" in capsys.readouterr().err

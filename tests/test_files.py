"""A file at its final path is always complete: staging, replacing, failing half-way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from edgesam_export import files
from edgesam_export.errors import UsageError
from edgesam_export.files import (
    check_output_folder,
    is_address,
    read_json,
    sha256_of,
    staging_folder,
    write_json,
    write_text,
)
from edgesam_export.formats import recorded_artifacts, recorded_modules


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make_package(folder: Path, text: str, name: str = "a.mlpackage") -> None:
    (folder / name / "Data").mkdir(parents=True)
    (folder / name / "Data" / "weights").write_text(text)


def test_staged_files_appear_together_and_nothing_else_stays(tmp_path):
    out = tmp_path / "deep" / "out"
    with staging_folder(out) as staging:
        make_package(staging, "new")
        (staging / "b.onnx").write_text("b")
        assert staging.parent == out  # the same file system, so that a rename is enough
        assert [p for p in out.iterdir() if p != staging] == []
    assert contents(out) == {"a.mlpackage/Data/weights": b"new", "b.onnx": b"b"}
    assert {p.name for p in out.iterdir()} == {"a.mlpackage", "b.onnx"}


def test_an_older_package_is_replaced_as_a_whole(tmp_path):
    make_package(tmp_path, "old")
    (tmp_path / "a.mlpackage" / "left over").write_text("must not stay")
    (tmp_path / "mine.txt").write_text("kept")
    with staging_folder(tmp_path) as staging:
        make_package(staging, "new")
        assert (tmp_path / "a.mlpackage/Data/weights").read_text() == "old"
    assert contents(tmp_path) == {"a.mlpackage/Data/weights": b"new", "mine.txt": b"kept"}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), UsageError("no")], ids=repr)
def test_whatever_stops_the_work_the_old_files_stay_and_nothing_new(tmp_path, error):
    make_package(tmp_path, "old")
    with pytest.raises(type(error)), staging_folder(tmp_path) as staging:
        make_package(staging, "half")
        raise error
    assert contents(tmp_path) == {"a.mlpackage/Data/weights": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.mlpackage"]


def test_a_full_disk_while_writing_is_one_line_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(UsageError, match=r"cannot write to output folder '.*out': No space left"),
        staging_folder(tmp_path / "out") as staging,
    ):
        (staging / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == {}


def test_a_rename_that_fails_puts_the_old_package_back(tmp_path, monkeypatch):
    make_package(tmp_path, "old")
    rename = os.replace

    def failing(source, target):
        if Path(source).name == "a.mlpackage" and Path(source).parent != tmp_path and Path(target).parent == tmp_path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", failing)
    with pytest.raises(UsageError, match="No space left"), staging_folder(tmp_path) as staging:
        make_package(staging, "new")
    assert contents(tmp_path) == {"a.mlpackage/Data/weights": b"old"}


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(UsageError, match=r"cannot write to output folder '.*file/out': .*; choose another --output"),
        staging_folder(tmp_path / "file" / "out"),
    ):
        pass


def test_writing_text_replaces_and_a_failure_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "report.md"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"

    def failing(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", failing)
    with pytest.raises(UsageError, match=r"cannot write '.*report\.md': No space left"):
        write_text(path, "three")
    assert contents(path.parent) == {"report.md": b"two"}


def test_a_report_can_be_read_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "a")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    finally:
        assert os.umask(before) == 0o022  # reading the mask has left it as it was


def test_json_is_sorted_and_holds_no_bare_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": [1.5]}


def test_json_that_cannot_be_read_names_the_file(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match=r"bad\.json' is not JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"bytes\.json' is not JSON"):
        read_json(tmp_path / "bytes.json")
    with pytest.raises(UsageError, match=r"cannot read '.*none\.json': No such file"):
        read_json(tmp_path / "none.json")


def test_a_files_digest_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 700_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 700_000).hexdigest()


def test_a_folders_digest_depends_on_names_and_contents_only(tmp_path):
    make_package(tmp_path, "same", "a.mlpackage")
    make_package(tmp_path, "same", "b.mlpackage")
    first = sha256_of(tmp_path / "a.mlpackage")
    assert first == sha256_of(tmp_path / "b.mlpackage")
    (tmp_path / "b.mlpackage" / "Data" / "weights").write_text("Same")
    assert first != sha256_of(tmp_path / "b.mlpackage")
    (tmp_path / "a.mlpackage" / "Data" / "weights").rename(tmp_path / "a.mlpackage" / "Data" / "weight")
    assert first != sha256_of(tmp_path / "a.mlpackage")


def test_a_byte_moved_from_one_file_to_the_next_changes_a_folders_digest(tmp_path):
    for name, (one, two) in {"a": ("xy", "z"), "b": ("x", "yz")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_text(one)
        (tmp_path / name / "2").write_text(two)
    assert sha256_of(tmp_path / "a") != sha256_of(tmp_path / "b")


DAMAGED = ["", "{", "[]", '{"artifacts": []}', '{"artifacts": null}', "[" * 100_000, '{"artifacts": {"a": 1e999}}']


@pytest.mark.parametrize("text", [None, *DAMAGED], ids=lambda text: repr(text)[:30])
def test_a_damaged_export_record_is_begun_anew(tmp_path, text):
    if text is not None:
        (tmp_path / "export.json").write_text(text)
    assert recorded_artifacts(tmp_path) == {}


def test_an_export_record_that_is_no_file_is_begun_anew(tmp_path):
    os.mkfifo(tmp_path / "export.json")  # opening it would wait for good
    assert recorded_artifacts(tmp_path) == {}
    (tmp_path / "export.json").unlink()
    with (tmp_path / "export.json").open("wb") as stream:
        stream.truncate(4 << 30)
    assert recorded_artifacts(tmp_path) == {}


@pytest.mark.parametrize("modules", ["conv", ["conv"], None, 3])
def test_recorded_modules_that_are_no_map_are_none(tmp_path, modules):
    entry = {"sha256": "0" * 64, "modules": modules}
    write_json(tmp_path / "export.json", {"artifacts": {"a.mlpackage": entry}})
    assert recorded_modules(tmp_path / "a.mlpackage", "0" * 64) == {}


def test_recorded_modules_are_names_of_one_line(tmp_path):
    modules = {"a": "encoder.conv", "b": 3, "c": "two\nlines", "d": "x" * 5000, "e": None}
    entry = {"sha256": "0" * 64, "modules": modules}
    write_json(tmp_path / "export.json", {"artifacts": {"a.mlpackage": entry}})
    assert recorded_modules(tmp_path / "a.mlpackage", "0" * 64) == {"a": "encoder.conv"}
    assert recorded_modules(tmp_path / "a.mlpackage", "1" * 64) == {}


def test_a_file_name_of_any_bytes_has_a_digest(tmp_path):
    (tmp_path / "a.mlpackage").mkdir()
    (tmp_path / "a.mlpackage" / "weights\udcff").write_bytes(b"1")
    expected = hashlib.sha256(b"weights\xff\0" + b"1\0" + b"1").hexdigest()
    assert sha256_of(tmp_path / "a.mlpackage") == expected


def test_export_record_is_json_with_both_formats(coreml_files, onnx_files, export_folder):
    record = json.loads((export_folder / "export.json").read_text())
    assert set(record["artifacts"]) == {a.path.name for a in (*coreml_files, *onnx_files)}
    for artifact in (*coreml_files, *onnx_files):
        entry = record["artifacts"][artifact.path.name]
        assert entry["sha256"] == artifact.sha256 == sha256_of(artifact.path)
        assert (entry["format"], entry["component"]) == (artifact.format, artifact.component)
    assert {p.name for p in export_folder.iterdir()} == {*record["artifacts"], "export.json"}


def test_what_cannot_become_a_folder_is_seen_without_a_trace(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    check_output_folder(tmp_path / "a" / "b")
    check_output_folder(tmp_path)
    assert not (tmp_path / "a").exists()
    for path, reason in (
        ("file", "File exists"),
        ("file/out", "Not a directory"),
        ("x" * 300 + "/out", "File name too"),
    ):
        with pytest.raises(UsageError, match=f"cannot write to output folder '.*': {reason}.*; choose another"):
            check_output_folder(tmp_path / path)


def test_a_folder_that_may_not_be_written_to_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match="Permission denied; choose another --output"):
        check_output_folder(tmp_path / "out")


def test_addresses_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("https://example.org/a.pth", "file:///a.pth", "data:image/png;base64,AAAA", "hf://a/b"):
        assert is_address(address) and is_address(Path(address))
    for path in ("a.pth", "/a/b.pth", r"C:\\a.pth", "C:/a.pth", "last.ckpt#ema", "~/a.pth"):
        assert not is_address(path)
    (tmp_path / "data:1.png").write_bytes(b"")
    assert not is_address("data:1.png")


def test_a_full_disk_under_a_copied_tree_is_named_in_the_systems_words(tmp_path):
    inner = f"[Errno 28] No space left on device: '{tmp_path / 'weight.bin'}'"
    copied = shutil.Error([("/tmp/a/weight.bin", str(tmp_path / "weight.bin"), inner), ("/tmp/b", "b", inner)])
    with (
        pytest.raises(UsageError, match=r"folder '.*': No space left on device; nothing was changed$"),
        staging_folder(tmp_path),
    ):
        raise copied


def test_what_a_killed_export_left_goes_when_it_is_old(tmp_path):
    for name, age in ((".edgesam-export-old", 3 * 24 * 3600), (".edgesam-export-new", 3600), ("other", 1e6)):
        (tmp_path / name / "x.mlpackage").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with staging_folder(tmp_path) as staging:
        (staging / "a").write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".edgesam-export-new", "a", "other"]

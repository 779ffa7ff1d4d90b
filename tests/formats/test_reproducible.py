"""Two exports of one model are the same bytes: a digest names what is computed."""

from __future__ import annotations

import json
import shutil
import uuid

from edgesam_export.files import files_of, sha256_of
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.coreml.reproducible import DATE, make_reproducible
from edgesam_export.mil import load_program
from edgesam_export.mil.package import find_files
from edgesam_export.mil.program import read_model
from edgesam_export.spec import CoreMLConfig


def test_another_export_is_equal_to_the_byte(model, coreml_files, tmp_path):
    # to one that another process made, perhaps on another day
    again = export_coreml(model, tmp_path, CoreMLConfig(mask_input=True))
    for before, after in zip(coreml_files, again, strict=True):
        names = [path.relative_to(before.path) for path in files_of(before.path)]
        assert len(names) == 3
        for name in names:
            assert (before.path / name).read_bytes() == (after.path / name).read_bytes(), name


def test_what_differs_between_exports_is_gone_and_the_program_is_the_same(coreml_files, tmp_path):
    packages = [shutil.copytree(coreml_files[0].path, tmp_path / f"{n}.mlpackage") for n in ("one", "two")]
    for day, package in enumerate(packages):
        path = package / "Manifest.json"
        manifest = json.loads(path.read_text())
        names = {name: str(uuid.uuid4()) for name in manifest["itemInfoEntries"]}
        manifest["itemInfoEntries"] = {names[name]: item for name, item in manifest["itemInfoEntries"].items()}
        manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
        path.write_text(json.dumps(manifest))
        model = read_model(files := find_files(package))
        model.description.metadata.userDefined[DATE] = f"2026-11-2{day}"
        files.model.write_bytes(model.SerializeToString())
    assert sha256_of(packages[0]) != sha256_of(packages[1])
    for package in packages:
        make_reproducible(package)
    assert sha256_of(packages[0]) == sha256_of(packages[1])
    before, after = (read_model(find_files(path)) for path in (coreml_files[0].path, packages[0]))
    assert before == after
    assert DATE not in load_program(packages[0]).metadata

"""What lies in the place of a file: pointers of Git LFS (a checkout without ``lfs: true``), pages, archives."""

import shutil

import pytest

from edgesam_export.distill.annotations import read_document
from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.files import read_json
from edgesam_export.formats.onnx.external_data import read_graph
from edgesam_export.imaging.reading import open_image, read_array
from edgesam_export.mil import load_program
from edgesam_export.parity.prompt_file import read_prompts
from edgesam_export.parity.render.json import load_report

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
READERS = {
    "json": read_json,
    "onnx": read_graph,
    "jpg": open_image,
    "npy": read_array,
    "prompts.json": read_prompts,
    "parity.json": load_report,
    "coco.json": lambda path: read_document(path, 1 << 20),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "message"), [(POINTER, "Git LFS pointer.*git lfs pull.*lfs: true"), (b"<!doctype html>", "web page")]
)
def test_readers_say_what_lies_in_the_place_of_a_file(tmp_path, name, content, message):
    path = tmp_path / f"a.{name}"
    path.write_bytes(content)
    with pytest.raises(EdgeSAMExportError, match=rf"a\.{name}'?:? is a {message}"):
        READERS[name](path)


@pytest.mark.parametrize("member", ["Manifest.json", "model.mlmodel", "weight.bin"])
def test_a_pointer_inside_a_package_is_named(export_folder, tmp_path, member):
    package = shutil.copytree(export_folder / "edge_sam_tiny_encoder.mlpackage", tmp_path / "net.mlpackage")
    next(package.rglob(member)).write_bytes(POINTER)
    with pytest.raises(EdgeSAMExportError, match=rf"net.mlpackage.*{member}.* is a Git LFS pointer"):
        load_program(package)


def test_a_pointer_beside_an_onnx_file_is_named(tmp_path):
    import onnx

    weight = onnx.TensorProto(name="w", dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="a.onnx.data")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [weight]))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "a.onnx.data").write_bytes(POINTER)
    with pytest.raises(EdgeSAMExportError, match=r"a\.onnx\.data' is a Git LFS pointer"):
        read_graph(tmp_path / "a.onnx")


def test_an_archive_of_a_package_is_named(export_folder, tmp_path):
    path = shutil.make_archive(
        str(tmp_path / "net.mlpackage"), "zip", export_folder / "edge_sam_tiny_encoder.mlpackage"
    )
    with pytest.raises(EdgeSAMExportError, match=r"is an archive; unpack it"):
        load_program(path)

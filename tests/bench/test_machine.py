"""Files and machines as records describe them."""

from __future__ import annotations

from edgesam_export.bench.machine import artifact_entry
from edgesam_export.files import sha256_of
from edgesam_export.spec import Artifact

CONTRACT = {"inputs": [], "outputs": [], "precision": "fp32", "profile": "default", "weights": {}, "versions": {}}


def entry_of(path, format):
    artifact = Artifact(
        path=path, format=format, component="encoder", model="net", sha256=sha256_of(path), contract=CONTRACT
    )
    return artifact_entry(artifact)


def test_the_bytes_of_an_onnx_file_include_its_external_data(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"g" * 10)
    (tmp_path / "net.onnx.data").write_bytes(b"w" * 1000)
    (tmp_path / "other.onnx").write_bytes(b"o" * 7)
    entry = entry_of(tmp_path / "net.onnx", "onnx")
    assert entry["bytes"] == 1010 and entry["package_type"] == "onnx"
    graph_alone = entry_of(tmp_path / "other.onnx", "onnx")
    assert graph_alone["bytes"] == 7 and entry["sha256"] != graph_alone["sha256"]


def test_the_bytes_of_a_package_are_those_of_all_its_files(tmp_path):
    package = tmp_path / "net.mlpackage"
    (package / "Data" / "weights").mkdir(parents=True)
    (package / "Manifest.json").write_bytes(b"m" * 3)
    (package / "Data" / "weights" / "weight.bin").write_bytes(b"w" * 40)
    assert entry_of(package, "coreml")["bytes"] == 43

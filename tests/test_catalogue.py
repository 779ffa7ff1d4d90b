"""What ``models`` lists about where a model's weights come from."""

from __future__ import annotations

import pytest

from edgesam_export.catalogue import PUBLISHED_NAMES, catalogue, host_figures, model_entry, published_figures
from edgesam_export.checkpoints import manifest as manifest_module
from edgesam_export.checkpoints.manifest import CheckpointFile

SHA256 = "ab" * 32


@pytest.fixture
def bundled(monkeypatch) -> CheckpointFile:
    """A manifest whose only entry is a bundled file of EdgeSAM tiny."""
    file = CheckpointFile(
        name="edge_sam_tiny.safetensors",
        model="edge_sam_tiny",
        family="edge_sam_tiny",
        kind="checkpoint",
        home="here",
        licence="Apache-2.0",
        evidence="test",
        bytes=3_000_000,
        sha256=SHA256,
        bundled=True,
    )
    monkeypatch.setattr(manifest_module, "manifest", lambda: (file,))
    return file


def test_a_bundled_checkpoint_is_listed_as_such(bundled):
    entry = model_entry("edge_sam_tiny")
    assert entry["bundled"] is True and entry["url"] is None
    assert (entry["checkpoint"], entry["licence"], entry["bytes"], entry["sha256"]) == (
        "edge_sam_tiny.safetensors",
        "Apache-2.0",
        3_000_000,
        SHA256,
    )


def test_others_are_not_bundled(bundled):
    assert model_entry("edge_sam")["bundled"] is False and model_entry("edge_sam")["checkpoint"] is None


def test_released_checkpoints_keep_their_address():
    entry = model_entry("edge_sam_3x")
    assert entry["bundled"] is False and entry["url"].endswith("/edge_sam_3x.pth")


def test_nothing_is_published_about_a_model_of_our_own_and_medical_ones():
    own = [name for name, published in PUBLISHED_NAMES.items() if published is None]
    assert own == ["edge_sam_tiny", "lite_medsam", "medsam"]
    assert published_figures("edge_sam_tiny") == [] and published_figures("edge_sam")


def test_every_model_has_our_own_times_and_no_model_has_invented_ones(monkeypatch):
    entries = [entry for entry in catalogue() if "not_exported" not in entry]
    # These are to be timed with the others, in one run on an idle machine: make families
    timed = [entry for entry in entries if entry["family"] not in ("lite_medsam", "edgetam", "sam2")]
    timed = [entry for entry in timed if entry["name"] != "medsam"]  # the network of sam_vit_b
    assert all(entry["host"]["runtimes"]["onnxruntime"]["encoder"]["median_ms"] > 0 for entry in timed)
    record = {
        "machine": "a machine",
        "date": "2026-01-01",
        "models": {"edge_sam": {"pytorch": {"encoder": [3.0, 1.0, 2.0, 8.0]}}},
    }
    monkeypatch.setattr("edgesam_export.catalogue.host_record", lambda: record)
    assert host_figures("mobile_sam") is None
    assert host_figures("edge_sam")["runtimes"] == {
        "pytorch": {"encoder": {"samples": 4, "min_ms": 1.0, "median_ms": 2.5, "max_ms": 8.0}}
    }

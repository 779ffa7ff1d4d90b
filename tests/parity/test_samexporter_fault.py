"""A fault of another exporter that nothing there notices, made by its own installed code and found by parity.

samexporter 0.5.0 runs the MobileSAM encoder once in training mode before it exports it. That forward moves the
running statistics of every batch norm towards those of random noise, and the file stores them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from other_programs import segment_anything_and

from edgesam_export.families import build_model, load_model
from edgesam_export.imaging.geometry import prepare
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity.check import check_parity
from edgesam_export.parity.foreign import ForeignFiles, open_foreign
from edgesam_export.parity.inputs import default_images, default_prompts
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.parity.report import ParityReport
from edgesam_export.runners.torch import TorchRunner
from edgesam_export.spec import Provenance

SMALL = [(name, image[::4, ::4]) for name, image in default_images()[:2]]


@pytest.fixture(scope="module")
def trained() -> SamModel:
    """MobileSAM with stand-in weights; both sides get the same."""
    return load_model("mobile_sam", random_weights=11)


@pytest.fixture(scope="module")
def theirs(trained: SamModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, SamModel]]:
    """Folder of the files that samexporter made of the checkpoint, and the network as it was when it did."""
    folder = tmp_path_factory.mktemp("samexporter")
    torch.save(trained.state_dict(), folder / "weights.pt")
    used = []
    with segment_anything_and("samexporter"), pytest.MonkeyPatch.context() as patch:
        from samexporter import export_decoder, export_encoder

        build = export_encoder.setup_model
        patch.setattr(export_encoder, "setup_model", lambda: used.append(build()) or used[-1])
        shared = {"model_type": "mobile", "checkpoint": str(folder / "weights.pt"), "opset": 17}
        patch.setattr(torch.onnx.utils, "export", quiet(torch.onnx.utils.export))
        export_encoder.run_export(**shared, output=str(folder / "encoder.onnx"), use_preprocess=True)
        export_decoder.run_export(**shared, output=str(folder / "decoder.onnx"), return_single_mask=False)
        moved = build_model("mobile_sam")
        moved.load_state_dict(used[0].state_dict(), strict=True)
        moved.provenance = Provenance(source="weights.pt, after a forward in training mode")
    yield folder, moved.requires_grad_(False).eval()


def quiet(export):
    """Return PyTorch's exporter without its deprecation warnings, which the tests treat as errors."""

    def run(*arguments, **options):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return export(*arguments, **options)

    return run


@pytest.fixture(scope="module")
def opened(theirs: tuple[Path, SamModel], trained: SamModel) -> ForeignFiles:
    """Both files by the contract that samexporter names after segment-anything."""
    files = [theirs[0] / name for name in ("encoder.onnx", "decoder.onnx")]
    return open_foreign(files, trained, profile="sam6", score=None, numerics=("fp32",))


@pytest.fixture(scope="module")
def report(opened: ForeignFiles, trained: SamModel) -> ParityReport:
    """Parity of both with the checkpoint's network."""
    return check_parity(trained, list(opened.runners), images=SMALL, prompts=lambda size: default_prompts(size)[2:3])


def test_the_encoder_is_found_to_be_another_network_than_the_checkpoint(opened, report):
    assert opened.differences == ()
    embeddings = [row for row in report.rows if row.output == "image_embeddings"]
    assert len(embeddings) == 2 and not report.passed
    assert all(not row.passed and row.metrics["psnr_db"] < 40 for row in embeddings)


def test_the_moved_statistics_are_all_that_is_wrong_with_the_encoder(opened, theirs):
    prepared = prepare(SMALL[0][1], opened.runners[0].info.frame)
    (found,) = opened.runners[0].encode(prepared).values()
    (expected,) = TorchRunner(theirs[1]).encode(prepared).values()
    assert psnr_db(expected, found) > 80


def test_the_decoder_is_right_but_for_its_masks_at_the_sources_size(report):
    """The crop of the padding was traced with one landscape size, as a number (segment-anything 1.0, utils/onnx.py)."""
    alone = [row for row in report.rows if row.component == "decoder" and row.embeddings == "reference"]
    assert {row.output for row in alone if row.passed} == {"masks", "scores"}
    failed = [row.image for row in alone if not row.passed]
    assert failed == ["source of 640x480", "source of 480x640", "source of 900x300"]

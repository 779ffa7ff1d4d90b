"""First divergence on real packages: faults planted into a saved decoder must be named."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest

from edgesam_export.mil import load_program
from edgesam_export.parity import check_parity
from edgesam_export.parity.divergence import first_divergence
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.parity.report import Prompt

RECORD_OFFSET = 16  # of the data offset inside a weight file's 64-byte record


def change_one_weight(package, operation) -> None:
    """Overwrite the first weight of an operation in the package's weight file."""
    name = operation.inputs["weight"][0]
    program = load_program(package)
    constant = next(op for op in program.operations if op.label == name).attributes["val"]
    (path,) = package.rglob("weight.bin")
    data = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, constant.offset + RECORD_OFFSET)
    data[offset : offset + 2] = np.float16(3.0).tobytes()
    path.write_bytes(data)


def one_point(size: tuple[int, int]) -> list[Prompt]:
    """One prompt, enough to see a fault in every part of the decoder."""
    return list(default_prompts(size)[:1])


@pytest.mark.parametrize("position", [5, 18, -1])
def test_parity_names_the_operation_whose_weight_was_changed(model, coreml_files, tmp_path, position) -> None:
    decoder = coreml_files[1].path
    package = shutil.copytree(decoder, tmp_path / decoder.name)
    layers = [op for op in load_program(package).operations if op.type in ("conv", "linear")]
    changed = [op for op in layers if op.outputs[0].type.dtype == "fp16"][position]
    change_one_weight(package, changed)

    images = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    report = check_parity(model, [package], images=list(images), prompts=one_point, numerics=("fp32",))

    assert not report.passed
    assert report.first_divergence is not None
    assert report.first_divergence.operation == changed.label
    assert report.first_divergence.module, "the torch module is known from a fresh export"


def test_the_operation_that_overflows_in_fp16_is_named(edge_sam_packages) -> None:
    program = load_program(edge_sam_packages[1].path)
    feed = {
        # Far larger than real embeddings, though FP16 holds them: some product passes 65504, which only FP16 minds.
        "image_embeddings": 1.2e4 * np.random.default_rng(0).standard_normal((1, 256, 64, 64)).astype(np.float32),
        "point_coords": np.full((1, 8, 2), 300.0, np.float32),
        "point_labels": np.array([[1, -1, -2, -2, -2, -2, -2, -2]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }
    too_large: list[str] = []

    def note(op, name, value) -> None:
        # Upwards only: scores far below the largest one may be minus infinity, their exponential is zero either way.
        if value.is_floating_point() and op.outputs[0].type.dtype == "fp16" and value.max() > 65520:
            too_large.append(op.name)

    program.predict(feed, numerics="fp32", probe=note)
    assert too_large, "the feed no longer overflows anything"

    found = first_divergence(program, feed, a="fp32", b="fp16")

    assert found is not None
    assert (found.operation, found.kind) == (too_large[0], "overflow")

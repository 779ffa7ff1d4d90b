"""Masks that a decoder itself brings to the size of the source image, as files of the profile ``sam6`` do.

They are checked against the same decoder's small logits, brought to that size as Segment Anything does it, so that
nothing but this last step is checked. No image has to have the sizes: a decoder is only told them.
"""

from __future__ import annotations

import math

import numpy as np

from edgesam_export.imaging.geometry import scaled_size
from edgesam_export.imaging.masks import resized
from edgesam_export.parity.gates import Check, Gate, gates_on
from edgesam_export.parity.inputs import default_prompts, pack
from edgesam_export.parity.outputs import Pair, measure, problem_of
from edgesam_export.parity.reference import Reference
from edgesam_export.parity.report import ParityRow
from edgesam_export.runners import Runner

__all__ = ["at_source_rows"]

OUTPUT = "masks_at_source"
SIZES = ((480, 640), (640, 480), (300, 900))
"""Heights and widths: a crop that was traced with one of them is wrong with another."""


def at_source_rows(runner: Runner, reference: Reference, gates: tuple[Gate, ...]) -> tuple[ParityRow, ...]:
    """Return a row for each of ``SIZES`` if the decoder returns masks of the source's size and a gate is on them.

    The embedding is that of the reference's first image, which must have been prepared before. ``gates`` are those of
    the runner's numerics.
    """
    held = gates_on(gates, "decoder", OUTPUT)
    if not runner.at_source or not held:
        return ()
    name, prepared = next(iter(reference.prepared.items()))
    coords, labels = pack(prepared, default_prompts(prepared.source_size)[0], None, runner.info.padding_point)
    embedding = reference.embedding(name, runner.takes_image)
    rows = []
    for size in SIZES:
        masks, logits = runner.decode_at_source(embedding, coords, labels, size)
        expected = masks_of(logits[0], size, runner.info.frame.prompt_size)[None]
        rows.append(row_of(runner, size, expected, masks, held))
    return tuple(rows)


def masks_of(logits: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    """Return logits at the source's size. Shapes: logits (M, 256, 256); returns (M, *size)"""
    height, width = scaled_size(size, side)
    return resized(resized(logits, (side, side))[:, :height, :width], size)


def row_of(
    runner: Runner, size: tuple[int, int], expected: np.ndarray, actual: np.ndarray, gates: tuple[Gate, ...]
) -> ParityRow:
    """Return the comparison of masks of one size."""
    values = measure(OUTPUT, Pair(expected=expected, actual=actual)) if actual.shape == expected.shape else {}
    return ParityRow(
        candidate=runner.name,
        numerics=runner.numerics,
        component="decoder",
        embeddings="reference",
        image=f"source of {size[1]}x{size[0]}",
        prompt="point",
        output=OUTPUT,
        shape=actual.shape,
        metrics=values,
        checks=tuple(Check(gate=gate, value=values.get(gate.metric, math.nan)) for gate in gates),
        problem=problem_of(expected, actual),
    )

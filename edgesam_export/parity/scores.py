"""What a decoder's scores are held to: the reference's of the same kind, or what the decoder's own logits say."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.masks import stability
from edgesam_export.parity.metrics import SURE, stability_slack
from edgesam_export.parity.noise import Noise
from edgesam_export.parity.reference import ReferenceOutputs
from edgesam_export.runners import Runner

__all__ = ["fair_scores", "reference_scores"]

EXACT_ERROR = 1e-4
"""Error of a logit by its mask's peak that exact arithmetic may have: 80 dB."""


def reference_scores(outputs: ReferenceOutputs, kept: list[int], decoder: Runner, reference: Runner) -> np.ndarray:
    """Return the reference's scores (M,) of the kept tokens, of the same kind as the decoder's.

    Raises: UsageError when they cannot be computed: the predicted IoU from a reference of stability scores.
    """
    if decoder.score_kind == reference.score_kind:
        return outputs.scores[kept]
    if decoder.score_kind == "stability":
        return stability(outputs.logits[kept])
    raise UsageError(f"{decoder.name} returns {decoder.score_kind} scores, the reference only stability")


def fair_scores(kind: str, expected: np.ndarray, logits: np.ndarray, noise: Noise | None) -> dict[str, Any]:
    """Return the fields of ``Pair`` that say what may be asked of scores.

    A stability score has to be that of the file's own logits, which are held by gates of their own. Logits next to
    where it counts decide which mask is best: those that half precision may move across, or in exact arithmetic the
    error that the gate on logits allows.

    Shapes: expected (M, 256, 256), logits (1, M, 256, 256)
    """
    if kind != "stability":
        return {"slack": SURE * noise.scores if noise else 0.0}
    if np.shape(logits)[1:] != expected.shape:
        return {}
    allowed = noise.logits if noise else abs(expected).max(axis=(1, 2)) * EXACT_ERROR / SURE
    return {"due": stability(np.asarray(logits)[0])[None], "slack": stability_slack(expected, allowed)}

"""Which mask a decoder of one, chosen by SAM 2's rule, is compared with: the rule again, on the reference's outputs."""

from __future__ import annotations

import numpy as np

from edgesam_export.imaging.masks import stability
from edgesam_export.parity.metrics import SURE, stability_slack
from edgesam_export.parity.noise import Noise
from edgesam_export.parity.reference import ReferenceOutputs
from edgesam_export.spec import STABLE_OFFSET, STABLE_SHARE

__all__ = ["allowed_tokens", "chosen_token"]

EXACT_ERROR = 1e-4
"""Error by which exact arithmetic may move a logit of a mask's peak, or a score."""


def allowed_tokens(outputs: ReferenceOutputs, noise: Noise | None) -> list[int]:
    """Return the tokens whose mask may be returned: one, or several where rounding decides among them.

    ``outputs`` are of all four tokens, the scores predicted IoU; without ``noise`` arithmetic is exact.
    """
    first = outputs.logits[:1]
    moved = noise.logits[:1] if noise else abs(first).max(axis=(1, 2)) * EXACT_ERROR / SURE
    # A mask with nothing above the lower bound has nothing that could vanish.
    share = float(stability(first, STABLE_OFFSET)[0]) if (first > -STABLE_OFFSET).any() else 1.0
    slack = stability_slack(first, moved, STABLE_OFFSET)
    others = outputs.scores[1:]
    tie = 2 * SURE * noise.scores if noise else EXACT_ERROR
    tokens = [0] if share + slack >= STABLE_SHARE else []
    if share - slack < STABLE_SHARE:
        tokens += [1 + index for index in np.flatnonzero(others >= others.max() - tie).tolist()]
    return tokens


def chosen_token(outputs: ReferenceOutputs, logits: np.ndarray, noise: Noise | None) -> int:
    """Return the allowed token whose mask comes nearest to the one returned.

    Shapes: logits (1, 1, 256, 256)
    """
    allowed = allowed_tokens(outputs, noise)
    if np.shape(logits)[1:] != outputs.logits[:1].shape:
        return allowed[0]
    return min(allowed, key=lambda token: float(np.mean(np.square(outputs.logits[token] - logits[0, 0]))))

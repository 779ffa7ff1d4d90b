"""How far masks agree with those of the FP32 model: the mean over images, its standard error, and a lower bound.

Prompts of one image are not independent, so an image counts once: with the mean of its prompts' IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["CONFIDENCE", "Agreement", "PromptResult"]

CONFIDENCE = 0.95
NORMAL = 1.645
"""Quantile of the standard normal distribution at ``CONFIDENCE``, one-sided."""
LOW_SHARE = 0.05
"""Share of the prompts below ``low``."""


def quantile(freedom: int) -> float:
    """Return the quantile of Student's t distribution at ``CONFIDENCE``, one-sided; within 1 % from 4 degrees on.

    Source: Abramowitz, Stegun 1964, "Handbook of Mathematical Functions", 26.7.5.
    """
    z, v = NORMAL, max(freedom, 1)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)


@dataclass(frozen=True, kw_only=True)
class PromptResult:
    """One prompt on one image."""

    image: int
    kind: str
    iou: float
    """Of the mask with the FP32 model's, at the image's size."""
    truth: float | None = None
    """IoU with the true mask, where there is one."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The results of one set of images."""

    results: tuple[PromptResult, ...]

    def mean_of(self, kind: str | None = None, *, truth: bool = False) -> tuple[float, float] | None:
        """Return mean and standard error of one kind of prompt or all, None without any.

        ``truth``: of the IoU with true masks.
        """
        images: dict[int, list[float]] = {}
        for result in self.results:
            value = result.truth if truth else result.iou
            if value is not None and kind in (None, result.kind):
                images.setdefault(result.image, []).append(value)
        means = np.array([np.mean(values) for values in images.values()])
        if not len(means):
            return None
        return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of prompt that occur."""
        return tuple(dict.fromkeys(result.kind for result in self.results))

    @property
    def mean(self) -> float:
        """Mean IoU over images."""
        found = self.mean_of()
        return found[0] if found else float("nan")

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        found = self.mean_of()
        return found[1] if found else float("nan")

    @property
    def lower(self) -> float:
        """Lower bound of the mean on further images of the kind, at ``CONFIDENCE``."""
        images = len({result.image for result in self.results})
        return self.mean - quantile(images - 1) * self.error

    @property
    def low(self) -> float:
        """IoU that 5 % of the prompts fall below."""
        return float(np.quantile([result.iou for result in self.results], LOW_SHARE))

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON data."""
        kinds = {}
        for kind in self.kinds:
            found, true = self.mean_of(kind), self.mean_of(kind, truth=True)
            assert found is not None
            kinds[kind] = {"mean": found[0], "standard_error": found[1]}
            if true is not None:
                kinds[kind] |= {"truth_mean": true[0], "truth_standard_error": true[1]}
        figures = {"mean": self.mean, "standard_error": self.error, "lower_bound": self.lower, "quantile_5": self.low}
        images = len({result.image for result in self.results})
        return {**figures, "images": images, "prompts": len(self.results), "kinds": kinds}

    def rows(self) -> list[dict[str, Any]]:
        """Return every result as JSON data."""
        return [asdict(result) for result in self.results]

    @staticmethod
    def of(rows: Sequence[dict[str, Any]]) -> Agreement:
        """Return the results that ``rows`` gave."""
        return Agreement(results=tuple(PromptResult(**row) for row in rows))

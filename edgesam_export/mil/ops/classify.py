"""The op that ends a classifier.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (classify).
"""

from __future__ import annotations

from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op

__all__ = ["classify"]


@register_op(exact=True)
def classify(probabilities: Tensor, *, classes: list[str] | list[int]) -> tuple[str | int, dict[str | int, float]]:
    """The most probable class, and the probability of each. Source: iOS15."""
    values = probabilities.flatten().tolist()
    if len(values) != len(classes):
        raise ProgramError(f"classify has {len(values)} probabilities for {len(classes)} classes; one per class")
    return classes[int(probabilities.argmax())], dict(zip(classes, values))

"""The tensors of a file beside those of a profile: which is which, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgesam_export.spec import TensorSpec

__all__ = ["Match", "Size", "match"]

Size = int | str


@dataclass(frozen=True, kw_only=True)
class Match:
    """One side of a file, inputs or outputs, under the profile's names."""

    specs: tuple[TensorSpec, ...]
    """What was found, in the profile's order: its names and descriptions, the file's types and fixed sizes."""
    names: dict[str, str]
    """The profile's name -> the file's, where they differ."""
    missing: tuple[TensorSpec, ...]
    surplus: tuple[TensorSpec, ...]
    differences: tuple[str, ...]
    """From the profile, half a sentence each that begins with the tensor."""

    def find(self, name: str) -> TensorSpec | None:
        """Return the tensor that the profile calls ``name``, None when the file has none."""
        return next((spec for spec in self.specs if spec.name == name), None)


def match(expected: Sequence[TensorSpec], actual: Sequence[TensorSpec], side: str) -> Match:
    """Return the tensors of a file by the profile's names: those of a name first, then those of a shape that is left.

    A single one on both sides is the same whatever its shape. ``side`` is the noun of the messages, ``input`` or
    ``output``.
    """
    left = {spec.name: spec for spec in actual}
    pairs = {spec.name: left.pop(spec.name) for spec in expected if spec.name in left}
    for spec in expected:
        alone = len(expected) == len(actual) == 1
        fitting = [other for other in left.values() if alone or fits(spec.shape, other.shape)]
        if spec.name not in pairs and len(fitting) == 1:
            pairs[spec.name] = left.pop(fitting[0].name)
    found = [(spec, pairs[spec.name]) for spec in expected if spec.name in pairs]
    missing = tuple(spec for spec in expected if spec.name not in pairs)
    texts = [f"{side} '{spec.name}' is missing" for spec in missing]
    texts += [f"{side} '{spec.name}' is unknown to the profile" for spec in left.values()]
    for spec, other in found:
        texts += [f"{side} '{other.name}' {text}" for text in differences(spec, other)]
    return Match(
        specs=tuple(replace(spec, dtype=other.dtype, shape=merged(spec.shape, other.shape)) for spec, other in found),
        names={spec.name: other.name for spec, other in found if spec.name != other.name},
        missing=missing,
        surplus=tuple(left.values()),
        differences=tuple(texts),
    )


def fits(expected: Sequence[Size], actual: Sequence[Size]) -> bool:
    """Return whether both are shapes of one rank whose fixed sizes agree."""
    return len(expected) == len(actual) and all(
        left == right or isinstance(left, str) or isinstance(right, str) for left, right in zip(expected, actual)
    )


def merged(expected: Sequence[Size], actual: Sequence[Size]) -> tuple[Size, ...]:
    """Return the file's shape, with the profile's sizes where the file leaves one open."""
    if len(expected) != len(actual):
        return tuple(actual)
    return tuple(left if isinstance(right, str) else right for left, right in zip(expected, actual))


def differences(expected: TensorSpec, actual: TensorSpec) -> list[str]:
    """Return what a consumer of the profile would not expect of a tensor, half a sentence each."""
    texts = []
    if actual.name != expected.name:
        texts.append(f"is called '{expected.name}' in the profile")
    if actual.dtype != expected.dtype:
        texts.append(f"is {actual.dtype}, {expected.dtype} in the profile")
    narrower = any(isinstance(right, int) and left != right for left, right in zip(expected.shape, actual.shape))
    if narrower or len(expected.shape) != len(actual.shape):
        texts.append(f"has shape {shape_text(actual.shape)}, {shape_text(expected.shape)} in the profile")
    return texts


def shape_text(shape: Sequence[Size]) -> str:
    """Return a shape in the form (1, points, 2)."""
    return f"({', '.join(map(str, shape))})"

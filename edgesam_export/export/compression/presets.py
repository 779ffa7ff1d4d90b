"""Presets: which scheme a kernel is stored with by its kind and by what can store it. They need no images.

A preset is a list of rules; the first one that a kernel matches and whose scheme can store it decides. A kernel that
no rule takes stays FP16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesam_export.export.compression.schemes import Kernel, Scheme, applicable, find_scheme

__all__ = ["PRESET_RULES", "Rule", "preset_schemes"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A scheme, and the kernels that it is meant for."""

    scheme: str
    table: bool = False
    """Meant for constants that no layer owns, and for no others."""


PRESET_RULES: dict[str, tuple[Rule, ...]] = {
    "exact": (Rule(scheme="palettize8", table=True), Rule(scheme="linear8")),
    "balanced": (Rule(scheme="palettize6", table=True), Rule(scheme="palettize6")),
    "small": (Rule(scheme="palettize4", table=True), Rule(scheme="palettize4_g16"), Rule(scheme="palettize4")),
}
"""Measured by the IoU of masks with those of the FP32 model, see docs/compression.md."""


def preset_schemes(name: str, kernels: Mapping[str, Kernel]) -> dict[str, Scheme]:
    """Return path -> scheme of the kernels of a component that a preset stores compressed."""
    found = {}
    for path, kernel in kernels.items():
        meant = (find_scheme(rule.scheme) for rule in PRESET_RULES[name] if rule.table == kernel.is_table)
        scheme = next((scheme for scheme in meant if applicable(kernel, scheme)), None)
        if scheme is not None:
            found[path] = scheme
    return found

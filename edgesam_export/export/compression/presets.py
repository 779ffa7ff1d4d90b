"""Presets: which scheme a kernel is stored with by its component, its kind and its size. They need no images.

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
    """A scheme, and the kernels that it is meant for: those that match every condition."""

    scheme: str
    component: str | None = None
    depthwise: bool | None = None
    """Kernels of one input channel."""
    elements: int = 0
    """Least number of weights."""
    table: bool = False
    """Meant for constants that no layer owns, and for no others."""

    def matches(self, component: str, kernel: Kernel) -> bool:
        """Return whether the rule is meant for a kernel."""
        return (
            self.table == kernel.is_table
            and self.component in (None, component)
            and self.depthwise in (None, kernel.inputs == 1)
            and kernel.elements >= self.elements
        )


PRESET_RULES: dict[str, tuple[Rule, ...]] = {
    "exact": (Rule(scheme="linear8"),),
    "balanced": (
        Rule(scheme="palettize6", table=True),
        Rule(scheme="linear8", depthwise=True),
        Rule(scheme="linear8", component="decoder"),
        Rule(scheme="palettize6"),
    ),
    "small": (
        Rule(scheme="palettize4", table=True),
        Rule(scheme="linear8", depthwise=True),
        Rule(scheme="palettize6_g16", component="decoder"),
        Rule(scheme="palettize4_g16"),
        Rule(scheme="palettize6"),
    ),
}


def preset_schemes(name: str, component: str, kernels: Mapping[str, Kernel]) -> dict[str, Scheme]:
    """Return path -> scheme of the kernels of a component that a preset stores compressed."""
    found = {}
    for path, kernel in kernels.items():
        meant = (find_scheme(rule.scheme) for rule in PRESET_RULES[name] if rule.matches(component, kernel))
        scheme = next((scheme for scheme in meant if applicable(kernel, scheme)), None)
        if scheme is not None:
            found[path] = scheme
    return found

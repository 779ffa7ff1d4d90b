"""ANE hardware families, chips, devices, and the limits of each family, read from ``hardware.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgesam_export.errors import UsageError
from edgesam_export.resources import read_toml

__all__ = ["FACTS", "Family", "Hardware", "Limit", "Limits", "Target", "load_hardware", "pick_target"]

FACTS = Path(__file__).with_name("hardware.toml")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One generation of the ANE."""

    name: str
    chips: tuple[str, ...]
    source: str
    confidence: str


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A threshold of the rules: one value, or one per family."""

    name: str
    meaning: str
    value: Any
    by_family: Mapping[str, Any]
    source: str
    confidence: str
    """H: Apple's document or code. M: measured by others, or several sources agree. L: one source. D: derived here."""

    def of(self, family: str) -> Any:
        return self.by_family.get(family, self.value)


@dataclass(frozen=True)
class Limits:
    """The limits of one family; ``limits.max_rank`` is a plain value."""

    family: str
    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"hardware.toml has no limit '{name}'") from None


@dataclass(frozen=True, kw_only=True)
class Target:
    """Target of an analysis: the caller's text, and the families it stands for, oldest first."""

    name: str
    families: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Everything that ``hardware.toml`` says."""

    families: Mapping[str, Family]
    devices: Mapping[str, str]
    """Device -> chip."""
    limits: Mapping[str, Limit]

    def limits_of(self, family: str) -> Limits:
        """Return the limits of a family."""
        return Limits(family, {name: limit.of(family) for name, limit in self.limits.items()})

    def family_of(self, chip: str) -> str:
        """Return the family that a chip belongs to."""
        return next(name for name, family in self.families.items() if chip in family.chips)


@cache
def load_hardware() -> Hardware:
    """Return the facts that come with this package."""
    facts = read_toml(FACTS)
    families = {
        name: Family(name=name, chips=tuple(entry["chips"]), source=entry["source"], confidence=entry["confidence"])
        for name, entry in facts["families"].items()
    }
    devices = {device: chip for chip, names in facts["devices"].items() for device in names}
    limits = {}
    for name, entry in facts["limits"].items():
        limits[name] = Limit(
            name=name,
            meaning=entry["meaning"],
            value=entry.get("value"),
            by_family={family: entry[family] for family in families if family in entry},
            source=entry["source"],
            confidence=entry["confidence"],
        )
    return Hardware(families=families, devices=devices, limits=limits)


def pick_target(name: str) -> Target:
    """Return the families behind a device (``iPhone 14``), a chip (``A15``), a family (``H14``), or ``all``.

    Raises:
        UsageError: unknown; the message lists what is known.
    """
    hardware = load_hardware()
    asked = plain(name)
    if asked == "all":
        return Target(name="all", families=tuple(hardware.families))
    chips = {chip: family.name for family in hardware.families.values() for chip in family.chips}
    known = {family: family for family in hardware.families}
    known |= chips
    known |= {device: chips[chip] for device, chip in hardware.devices.items()}
    for known_name, family in known.items():
        if plain(known_name) == asked:
            return Target(name=known_name, families=(family,))
    raise UsageError(f"unknown target '{name}'; choose one of: all, {', '.join(known)}")


def plain(name: str) -> str:
    """Return a name without case and spacing: ``iphone14`` means ``iPhone 14``."""
    return re.sub(r"[\s_-]+", "", name).lower()

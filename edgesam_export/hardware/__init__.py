"""ANE hardware families, chips, devices, and the limits of each family, read from ``hardware.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgesam_export.errors import UsageError
from edgesam_export.resources import read_toml

__all__ = [
    "FACTS",
    "DeviceClass",
    "Family",
    "Hardware",
    "Limit",
    "Limits",
    "Target",
    "Uncertain",
    "load_hardware",
    "pick_target",
]

FACTS = Path(__file__).with_name("hardware.toml")
DeviceClass = Literal["mobile", "mac"]
"""``mobile``: iPhone and iPad."""
CLOSE_NAMES = 3
"""Known names that a message offers for an unknown one."""
EXAMPLES = ("iPhone 14", "iPad Air (M3)", "MacBook Pro (M5 Max)")
"""What it offers when nothing known is near."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One generation of the ANE."""

    name: str
    chips: tuple[str, ...]
    source: str
    confidence: str


@dataclass(frozen=True, kw_only=True)
class Uncertain:
    """A chip whose family is disputed, or has no facts of its own yet."""

    families: tuple[str, ...]
    """The families it is checked as."""
    note: str
    source: str
    confidence: str


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A threshold of the rules: one value, or one per family, or another on Macs."""

    name: str
    meaning: str
    value: Any
    by_family: Mapping[str, Any]
    mac: Any
    """Value on a Mac, None where it makes no difference."""
    source: str
    confidence: str
    """H: Apple's document or code. M: measured by others, or several sources agree. L: one source. D: derived here."""

    def of(self, family: str, device_class: DeviceClass | None = None) -> Any:
        """Return the value for a family; without a class of device, iPhone and iPad are meant."""
        return self.mac if device_class == "mac" and self.mac is not None else self.by_family.get(family, self.value)


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
    device_class: DeviceClass | None = None
    """None where the target may be either: the stricter limits hold."""
    note: str = ""
    """Doubt about the family, for the report."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Everything that ``hardware.toml`` says."""

    families: Mapping[str, Family]
    devices: Mapping[str, str]
    """Device -> chip."""
    limits: Mapping[str, Limit]
    uncertain: Mapping[str, Uncertain]
    """Chip -> doubt about its family."""

    def limits_of(self, family: str, device_class: DeviceClass | None = None) -> Limits:
        """Return the limits of a family, on one class of device."""
        return Limits(family, {name: limit.of(family, device_class) for name, limit in self.limits.items()})

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
            mac=entry.get("mac"),
            source=entry["source"],
            confidence=entry["confidence"],
        )
    uncertain = {
        chip: Uncertain(**entry | {"families": tuple(entry["families"])}) for chip, entry in facts["uncertain"].items()
    }
    return Hardware(families=families, devices=devices, limits=limits, uncertain=uncertain)


def pick_target(name: str) -> Target:
    """Return the families behind a device (``iPhone 14``), a chip (``A15``), a family (``H14``), or ``all``.

    Raises:
        UsageError: unknown; the message lists what is known.
    """
    hardware = load_hardware()
    asked = plain(name)
    if asked == "all":
        return Target(name="all", families=tuple(hardware.families))
    for family in hardware.families:
        if plain(family) == asked:
            return Target(name=family, families=(family,))
    chips = {chip: chip for family in hardware.families.values() for chip in family.chips}
    for known, chip in (chips | dict(hardware.devices)).items():
        if plain(known) == asked:
            doubt = hardware.uncertain.get(chip)
            families = doubt.families if doubt else (hardware.family_of(chip),)
            return Target(name=known, families=families, device_class=class_of(known), note=doubt.note if doubt else "")
    raise UsageError(unknown_target(name, hardware))


def class_of(name: str) -> DeviceClass:
    """Return the class of a device or chip; a chip named alone counts as what most machines with it are."""
    return "mobile" if name.startswith(("iPhone", "iPad", "A")) else "mac"


def unknown_target(name: str, hardware: Hardware) -> str:
    """Return what to say of a target that is not known: what kinds there are, and the device names nearest to it."""
    by_plain = {plain(device): device for device in hardware.devices}
    near = [by_plain[match] for match in get_close_matches(plain(name), by_plain, CLOSE_NAMES)]
    chips = [chip for family in hardware.families.values() for chip in family.chips]
    return (
        f"unknown target '{name}'; choose one of: all, {', '.join([*hardware.families, *chips])}, "
        f"or a device by its name, such as {', '.join(near or EXAMPLES)}"
    )


def plain(name: str) -> str:
    """Return a name without maker, case, spacing, brackets and screen size: ``iphone14`` means ``iPhone 14``."""
    name = re.sub(r"\b\d+(\.\d+)?[\s-]?inch\b", "", name.lower().removeprefix("apple "))
    name = re.sub(r"\b((?:ipad|macbook) (?:air|pro)|imac) (11|12\.9|13|14|15|16|24)\b", r"\1", name)
    name = re.sub(r"(\d+)(st|nd|rd|th) generation", r"\1", name)
    return re.sub(r"[^a-z0-9]+", "", name)

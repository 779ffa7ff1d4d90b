"""Devices that can be used: from the entries of devicectl to one device, with a reason for each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgesam_export.bench.devices import DeviceDescription
from edgesam_export.bench.devices.devicectl_json import string_at, word_at
from edgesam_export.errors import DeviceNotReady, UsageError

__all__ = ["MINIMUM_OS", "choose_device", "describe_device"]

MINIMUM_OS = 17
"""First iOS on which devicectl reaches a device and the benchmark app runs."""


FACTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "name": (("properties", "state", "name"), ("deviceProperties", "name")),
    "udid": (("properties", "hardware", "udid"), ("hardwareProperties", "udid")),
    "serial": (("properties", "hardware", "serialNumber"), ("hardwareProperties", "serialNumber")),
    "platform": (("properties", "hardware", "platform"), ("hardwareProperties", "platform")),
    "reality": (("properties", "hardware", "reality"), ("hardwareProperties", "reality")),
    "product_type": (("properties", "hardware", "productType"), ("hardwareProperties", "productType")),
    "marketing_name": (("properties", "hardware", "marketingName"), ("hardwareProperties", "marketingName")),
    "hardware_model": (("properties", "hardware", "hardwareModel"), ("hardwareProperties", "hardwareModel")),
    "os_version": (
        ("properties", "software", "osVersionNumber", "stringValue"),
        ("properties", "software", "osVersionNumber"),
        ("deviceProperties", "osVersionNumber"),
    ),
    "os_build": (
        ("properties", "software", "osBuildVersions", "buildVersion", "name"),
        ("properties", "software", "osBuildUpdate"),
        ("deviceProperties", "osBuildUpdate"),
    ),
    "transport": (("properties", "connection", "transportType"), ("connectionProperties", "transportType")),
    "pairing_state": (("properties", "connection", "pairingState"), ("connectionProperties", "pairingState")),
    "tunnel_state": (("properties", "connection", "state"), ("connectionProperties", "tunnelState")),
    "developer_mode": (("properties", "state", "developerModeStatus"), ("deviceProperties", "developerModeStatus")),
}
"""Paths of each fact: JSON version 5 and later first, then the fields that version 5 calls deprecated."""
STATES = frozenset({"transport", "pairing_state", "tunnel_state", "developer_mode"})
"""Facts that version 5 may write as an object whose only key is the state."""


def fact_of(entry: Any, name: str) -> str | None:
    """Return one fact of an entry, None where no version's field holds a text."""
    read = word_at if name in STATES else string_at
    return next((value for path in FACTS[name] if (value := read(entry, *path)) is not None), None)


def describe_device(entry: Any, *, allow_wifi: bool = False) -> DeviceDescription | None:
    """Return one entry of ``result.devices`` with its verdict, None for an entry that cannot be addressed."""
    facts = {name: fact_of(entry, name) for name in FACTS}
    identifier = string_at(entry, "identifier") or facts["udid"]
    if identifier is None:
        return None
    return DeviceDescription(
        backend="devicectl",
        identifier=identifier,
        **facts,
        rejection=rejection_of(facts, allow_wifi),
        warnings=tuple(warnings_of(facts)),
    )


def rejection_of(facts: dict[str, str | None], allow_wifi: bool) -> str | None:
    """Return the reason against using a device, the most basic one; None when there is none."""
    if facts["reality"] not in (None, "physical"):
        return f"it is {facts['reality']}: a simulator measures the Mac, not a phone"
    if facts["platform"] not in (None, "iOS"):
        return f"its platform is {facts['platform']}, not iOS"
    if facts["pairing_state"] not in (None, "paired"):
        return "it is not paired; connect the cable, unlock it and tap Trust, or run `xcrun devicectl manage pair`"
    if facts["tunnel_state"] == "unavailable":
        return "it is unavailable; connect it with a cable and unlock it"
    if facts["developer_mode"] == "disabled":
        return "Developer Mode is off; switch it on in Settings > Privacy & Security > Developer Mode"
    if (major := major_version(facts["os_version"])) is not None and major < MINIMUM_OS:
        return f"it runs OS {facts['os_version']}; iOS {MINIMUM_OS} or later is needed"
    if facts["transport"] == "localNetwork" and not allow_wifi:
        return "it is connected over Wi-Fi only; connect a cable or give --wifi"
    return None


def warnings_of(facts: dict[str, str | None]) -> list[str]:
    """Return doubts that do not rule a device out. A wired device whose tunnel is down is ready: it comes up on use.

    ``available`` is what newer versions report for an idle device.
    """
    warnings = []
    if facts["transport"] == "localNetwork":
        warnings.append("connected over Wi-Fi: copying is slow and may break off")
    elif facts["transport"] != "wired":
        warnings.append(f"connected by {facts['transport'] or 'unknown means'}, not known to be a cable")
    if facts["tunnel_state"] not in ("connected", "disconnected", "available"):
        warnings.append(f"its tunnel is {facts['tunnel_state'] or 'in an unknown state'}")
    return warnings


def major_version(version: str | None) -> int | None:
    """Return the number before the first dot; None without one."""
    match = re.match(r"\d+", version or "")
    return int(match.group()) if match else None


def choose_device(devices: Sequence[DeviceDescription], asked: str | None = None) -> DeviceDescription:
    """Return the only device that can be used, or the one that ``asked`` names by udid, identifier, name or serial.

    Raises:
        DeviceNotReady: there is none, or the one asked for cannot be used.
        UsageError: several fit.
    """
    if asked is None:
        fitting = [device for device in devices if device.usable]
        if not fitting:
            raise DeviceNotReady(f"no device can be used: {seen(devices)}", kind="no_device")
    else:
        fitting = [device for device in devices if asked.casefold() in names_of(device)]
        if not fitting:
            raise DeviceNotReady(f"no device is called '{asked}': {seen(devices)}", kind="no_device")
        if len(fitting) > 1:  # a name may belong to an old phone in a drawer as well
            fitting = [device for device in fitting if device.usable] or fitting
    if len(fitting) > 1:
        choices = ", ".join(f"{device.title} = {device.udid or device.identifier}" for device in fitting)
        raise UsageError(f"several devices fit: {choices}; choose one with --device")
    if (rejection := fitting[0].rejection) is not None:
        raise DeviceNotReady(f"{fitting[0].title} cannot be used: {rejection}", kind="rejected")
    return fitting[0]


def names_of(device: DeviceDescription) -> set[str]:
    """Return the names that a user may call a device by, in lower case."""
    return {name.casefold() for name in (device.udid, device.identifier, device.name, device.serial) if name}


def seen(devices: Sequence[DeviceDescription]) -> str:
    """Return the devices seen with the reason against each."""
    if not devices:
        return "none is connected or paired; connect an iPhone with a cable and unlock it"
    return "; ".join(f"{device.title}: {device.rejection or 'ready'}" for device in devices)

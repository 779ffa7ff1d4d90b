"""Which devices can be used, on the document of ``list devices`` and on changes of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from edgesam_export.bench.devices.devicectl_json import list_at
from edgesam_export.bench.devices.readiness import choose_device, describe_device
from edgesam_export.errors import DeviceNotReady, UsageError


@pytest.fixture
def entries(listed) -> list[Any]:
    return list_at(listed, "result", "devices")


def changed(entry: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return an entry with fields set, ``connection__transportType=...`` style."""
    entry = copy.deepcopy(entry)
    for path, value in values.items():
        group, name = path.split("__")
        entry.setdefault(f"{group}Properties", {})[name] = value
    return entry


def test_every_fact_of_a_full_entry_is_taken(entries):
    phone = describe_device(entries[0])
    assert phone.name == "Bench Phone" and phone.title == "Bench Phone (iPhone 12, OS 17.4.1)"
    assert phone.identifier == "11111111-2222-4333-8444-555555555501"
    assert (phone.udid, phone.serial) == ("00008101-000000000000A01E", "XXXXXXXXXX01")
    assert (phone.product_type, phone.hardware_model, phone.os_build) == ("iPhone13,2", "D53gAP", "21E236")
    assert phone.usable and phone.warnings == ()


def test_the_verdicts_on_the_list(entries):
    verdicts = [describe_device(entry).rejection for entry in entries]
    assert verdicts[0] is None
    assert verdicts[1] is None  # wired and disconnected: the tunnel comes up on demand
    assert "unavailable" in verdicts[2]
    assert "not paired" in verdicts[3]
    assert "simulator" in verdicts[4]


def test_every_fact_of_json_version_5_is_taken(listed_v5):
    entries = list_at(listed_v5, "result", "devices")
    phone = describe_device(entries[0])
    assert phone.title == "Newest Phone (iPhone 15 Pro, OS 26.1)" and phone.usable and phone.warnings == ()
    assert (phone.udid, phone.serial, phone.platform) == ("00008130-000000000000E05E", "XXXXXXXXXX05", "iOS")
    assert (phone.product_type, phone.hardware_model, phone.os_build) == ("iPhone16,1", "D83AP", "23B85")
    assert (phone.transport, phone.pairing_state, phone.tunnel_state) == ("wired", "paired", "connected")
    assert phone.developer_mode == "enabled"
    off, old, simulator = (describe_device(entry) for entry in entries[1:])
    assert "Developer Mode is off" in off.rejection and off.warnings == ()  # idle, not doubtful
    assert "unavailable" in old.rejection and "simulator" in simulator.rejection


def test_version_5_goes_before_the_fields_that_it_calls_deprecated(listed_v5, entries):
    both = entries[0] | {"properties": listed_v5["result"]["devices"][0]["properties"]}
    assert describe_device(both).title == "Newest Phone (iPhone 15 Pro, OS 26.1)"
    emptied = entries[0] | {"properties": {"state": {"name": None}, "software": {"osVersionNumber": {}}}}
    assert describe_device(emptied).title == "Bench Phone (iPhone 12, OS 17.4.1)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connection__transportType": "localNetwork"}, "Wi-Fi only"),
        ({"connection__tunnelState": "unavailable"}, "unavailable"),
        ({"connection__pairingState": "unpaired"}, "not paired"),
        ({"device__developerModeStatus": "disabled"}, "Developer Mode is off"),
        ({"hardware__reality": "virtual"}, "it is virtual"),
        ({"hardware__platform": "watchOS"}, "its platform is watchOS"),
        ({"device__osVersionNumber": "16.7.1"}, "iOS 17 or later"),
    ],
    ids=lambda value: next(iter(value)).split("__")[1] if isinstance(value, dict) else None,
)
def test_each_reason_to_reject(entries, change, words):
    assert words in describe_device(changed(entries[0], **change)).rejection


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connection__transportType": None}, "unknown means"),
        ({"connection__tunnelState": "connecting"}, "tunnel is connecting"),
    ],
)
def test_doubts_only_warn(entries, change, words):
    device = describe_device(changed(entries[0], **change))
    assert device.usable and words in device.warnings[0]


def test_wifi_is_allowed_by_a_flag_and_warned_about(entries):
    device = describe_device(changed(entries[0], connection__transportType="localNetwork"), allow_wifi=True)
    assert device.usable and "Wi-Fi" in device.warnings[0]


@pytest.mark.parametrize("entry", [None, 5, [], {}, {"identifier": 7}, {"hardwareProperties": []}])
def test_an_entry_without_an_identifier_is_left_out(entry):
    assert describe_device(entry) is None


def test_wrong_types_inside_an_entry_are_absent_facts():
    broken = {"identifier": "A", "connectionProperties": 3, "deviceProperties": {"name": 5}, "hardwareProperties": None}
    device = describe_device(broken)
    assert (device.identifier, device.name, device.platform) == ("A", None, None)


def devices(entries, *which: int):
    return [describe_device(entries[index]) for index in which]


def test_the_only_usable_device_is_chosen(entries):
    assert choose_device(devices(entries, 0, 2, 3, 4)).name == "Bench Phone"


@pytest.mark.parametrize(
    "wanted",
    ["00008101-000000000000a01e", "11111111-2222-4333-8444-555555555501", "bench phone", "XXXXXXXXXX01"],
    ids=["udid", "identifier", "name", "serial"],
)
def test_a_device_is_found_by_each_of_its_names(entries, wanted):
    assert choose_device(devices(entries, 0, 1, 2), wanted).name == "Bench Phone"


def test_several_usable_devices_ask_for_a_choice(entries):
    with pytest.raises(UsageError, match=r"several devices fit: Bench Phone .* = 00008101-.*--device"):
        choose_device(devices(entries, 0, 1))


def test_two_of_one_name_ask_for_a_choice_and_an_unusable_one_does_not(entries):
    twin = describe_device(changed(entries[1], device__name="Bench Phone"))
    with pytest.raises(UsageError, match="several devices fit"):
        choose_device([describe_device(entries[0]), twin], "Bench Phone")
    drawer = describe_device(changed(entries[2], device__name="Bench Phone"))
    assert choose_device([drawer, describe_device(entries[0])], "Bench Phone").usable


def test_no_usable_device_says_why_for_each(entries):
    with pytest.raises(DeviceNotReady) as caught:
        choose_device(devices(entries, 2, 4))
    assert "Old Phone (iOS): it is unavailable" in str(caught.value) and "iPhone Sim" in str(caught.value)
    assert caught.value.exit_code == 4


def test_no_device_at_all_says_what_to_do():
    with pytest.raises(DeviceNotReady, match="connect an iPhone with a cable"):
        choose_device([])


def test_a_device_wanted_by_name_that_cannot_be_used_says_why(entries):
    with pytest.raises(DeviceNotReady, match=r"Old Phone .* cannot be used: it is unavailable"):
        choose_device(devices(entries, 0, 2), "Old Phone")


def test_an_unknown_name_lists_what_is_there(entries):
    with pytest.raises(DeviceNotReady, match=r"no device is called 'Mine': Bench Phone .*: ready"):
        choose_device(devices(entries, 0), "Mine")

"""The facts about chips and families, and what a target stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgesam_export
from edgesam_export.errors import UsageError
from edgesam_export.hardware import load_hardware, pick_target

FAMILIES = ("H13", "H14", "H15", "H16", "H17", "H18")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("iPhone 12", "H13"),
        ("iPhone 13", "H14"),
        ("iPhone 14", "H14"),
        ("iPhone 14 Pro", "H15"),
        ("iPhone 15", "H15"),
        ("iPhone 15 Pro", "H16"),
        ("iPhone 16", "H17"),
        ("iPhone 17 Pro", "H18"),
        ("A14", "H13"),
        ("A17 Pro", "H16"),
        ("M1 Pro", "H13"),
        ("M2", "H14"),
        ("M4", "H16"),
        ("H17", "H17"),
        ("iPhone 17e", "H18"),
        ("iPad (A16)", "H15"),
        ("iPad mini (A17 Pro)", "H16"),
        ("iPad Air (M3)", "H15"),
        ("iPad Pro 13-inch (M4)", "H16"),
        ("MacBook Neo", "H17"),
        ("MacBook Air (13-inch, M4)", "H16"),
        ("MacBook Pro (14-inch, M5 Pro)", "H17"),
        ("M5 Max", "H17"),
        ("Mac Studio (M3 Ultra)", "H15"),
        ("Mac mini M6", "H18"),
        ("iMac (M1)", "H13"),
    ],
)
def test_a_device_chip_or_family_stands_for_its_family(name, family):
    assert pick_target(name).families == (family,)


def test_a_target_is_known_by_any_spelling_and_answers_with_its_own():
    assert pick_target("iphone14pro").name == "iPhone 14 Pro"
    assert pick_target("IPHONE-14 pro").families == ("H15",)


def test_a_name_may_have_the_size_and_the_generation_that_apple_gives_it():
    assert pick_target("iPad mini (7th generation)").name == "iPad mini 7"
    assert pick_target("iPhone SE (3rd generation)").name == "iPhone SE 3"
    assert pick_target("macbook pro 16-inch m4 max").name == "MacBook Pro (M4 Max)"
    assert pick_target("MacBook Pro 14 (M4 Pro)").name == "MacBook Pro (M4 Pro)"
    assert pick_target("iPad Pro 12.9 (M2)").name == "iPad Pro (M2)"
    assert pick_target("Apple M3 Ultra").name == "M3 Ultra"
    assert pick_target("iPad 11").name == "iPad 11" and pick_target("iPhone 14").name == "iPhone 14"


def test_every_name_is_told_from_every_other():
    hardware = load_hardware()
    names = ["all", *hardware.families, *hardware.devices]
    names += [chip for family in hardware.families.values() for chip in family.chips]
    assert len({pick_target(name).name for name in names}) == len(names)
    assert all(pick_target(name).name == name for name in names)


def test_every_chip_is_in_a_device_that_can_be_named():
    hardware = load_hardware()
    assert {chip for family in hardware.families.values() for chip in family.chips} == set(hardware.devices.values())


@pytest.mark.parametrize("name", ["M5", "MacBook Pro (M5)", "iPad Pro (M5)"])
def test_a_chip_of_disputed_family_is_checked_as_both_and_the_report_is_to_say_so(name):
    target = pick_target(name)
    assert target.families == ("H16", "H17") and "sources disagree" in target.note


def test_a_chip_whose_family_has_no_facts_says_what_stands_in():
    target = pick_target("iPhone 18 Pro")
    assert target.families == ("H18",) and "checked as H18" in target.note
    assert pick_target("iPhone 17 Pro").note == ""


@pytest.mark.parametrize(
    ("name", "device_class"),
    [
        ("iPhone 16", "mobile"), ("iPad Pro (M4)", "mobile"), ("MacBook Air (M4)", "mac"), ("MacBook Neo", "mac"),
        ("A18 Pro", "mobile"), ("M4", "mac"), ("H16", None), ("all", None),
    ],
)  # fmt: skip
def test_a_target_is_a_mobile_device_or_a_mac_where_that_is_known(name, device_class):
    assert pick_target(name).device_class == device_class


def test_a_limit_may_be_another_on_macs_and_the_stricter_holds_where_the_device_is_open():
    hardware = load_hardware()
    assert (
        hardware.limits_of("H16").max_package_bytes == hardware.limits_of("H16", "mobile").max_package_bytes == 1 << 30
    )
    assert hardware.limits_of("H16", "mac").max_package_bytes == 2 << 30
    assert hardware.limits_of("H13", "mac").native_texture is False


def test_all_is_every_family_oldest_first():
    assert pick_target("all").families == FAMILIES


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown target 'Pixel 9'; choose one of: all, H13, .*A15.*iPhone 14"):
        pick_target("Pixel 9")
    with pytest.raises(UsageError, match=r"unknown target 'MacBok Air M4'; .* such as MacBook Air \(M4\)"):
        pick_target("MacBok Air M4")


def test_every_chip_belongs_to_one_family_and_every_device_to_a_known_chip():
    hardware = load_hardware()
    chips = [chip for family in hardware.families.values() for chip in family.chips]
    assert len(set(chips)) == len(chips)
    assert set(hardware.devices.values()) <= set(chips)
    assert hardware.family_of("A15") == "H14"


def test_every_fact_names_its_source_and_how_sure_it_is():
    hardware = load_hardware()
    for fact in [*hardware.families.values(), *hardware.limits.values(), *hardware.uncertain.values()]:
        assert fact.source and fact.confidence in "HMLD", fact


def test_every_limit_has_a_value_for_every_family():
    for limit in load_hardware().limits.values():
        assert limit.meaning
        assert all(limit.of(family) is not None for family in FAMILIES), limit.name


def test_every_limit_is_used():
    source = "".join(path.read_text(encoding="utf-8") for path in Path(edgesam_export.__file__).parent.rglob("*.py"))
    assert not [name for name in load_hardware().limits if f"limits.{name}" not in source]

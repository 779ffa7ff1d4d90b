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
    ],
)
def test_a_device_chip_or_family_stands_for_its_family(name, family):
    assert pick_target(name).families == (family,)


def test_a_target_is_known_by_any_spelling_and_answers_with_its_own():
    assert pick_target("iphone14pro").name == "iPhone 14 Pro"
    assert pick_target("IPHONE-14 pro").families == ("H15",)


def test_all_is_every_family_oldest_first():
    assert pick_target("all").families == FAMILIES


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown target 'Pixel 9'; choose one of: all, H13, .*A15.*iPhone 14"):
        pick_target("Pixel 9")


def test_every_chip_belongs_to_one_family_and_every_device_to_a_known_chip():
    hardware = load_hardware()
    chips = [chip for family in hardware.families.values() for chip in family.chips]
    assert len(set(chips)) == len(chips)
    assert set(hardware.devices.values()) <= set(chips)
    assert hardware.family_of("A15") == "H14"


def test_every_fact_names_its_source_and_how_sure_it_is():
    hardware = load_hardware()
    for fact in [*hardware.families.values(), *hardware.limits.values()]:
        assert fact.source and fact.confidence in "HMLD", fact


def test_every_limit_has_a_value_for_every_family():
    for limit in load_hardware().limits.values():
        assert limit.meaning
        assert all(limit.of(family) is not None for family in FAMILIES), limit.name


def test_every_limit_is_used():
    source = "".join(path.read_text(encoding="utf-8") for path in Path(edgesam_export.__file__).parent.rglob("*.py"))
    assert not [name for name in load_hardware().limits if f"limits.{name}" not in source]

"""Which tensors of a checkpoint are a model's: found by keys and shapes alone, wherever they are in the file.

A set of weights is complete when one prefix makes every key of the model a name in the file, with its shape, and the
parts of the model hold nothing else. Where no single prefix does, each part may have one of its own. Of the keys of
other libraries, ``dialects`` knows the names. What else the file holds stays unread. Nothing is ever loaded in part:
two complete sets that differ, or none, are an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgesam_export.checkpoints.dialects import DIALECTS, Dialect
from edgesam_export.checkpoints.hints import difference, family_of_keys, shapes_of
from edgesam_export.checkpoints.names import SuffixIndex
from edgesam_export.errors import CheckpointError

__all__ = ["Form", "WeightSet", "choose_set", "find_sets", "is_average", "nearest_difference", "optional"]

AVERAGE = re.compile(r"(?:^|[._\d])(?:ema|averaged?|avg|swa|shadow|polyak)(?=$|[._\d])", re.IGNORECASE)
AVERAGE_KEY = "ema"
"""What asks for the running average, whatever the file calls it."""
SHOWN = 4
"""Sets, and kinds of unread tensors, that a message names."""

Shapes = Mapping[str, tuple[int, ...]]


def optional(key: str) -> bool:
    """Return whether a key may be missing: batch norm counts its batches for training alone."""
    return key.endswith("num_batches_tracked")


def is_average(place: str) -> bool:
    """Return whether the name of a set says that it is a running average of weights."""
    return AVERAGE.search(place) is not None


@dataclass(frozen=True)
class Form:
    """A model's keys and shapes as one dialect spells them."""

    shapes: Shapes
    dialect: Dialect

    @cached_property
    def spelled(self) -> dict[str, str]:
        """The name of each of our keys, counters of batch norm included."""
        return {key: self.dialect.spelled(key) for key in self.shapes}

    @cached_property
    def parts(self) -> dict[str, list[str]]:
        """Our keys by the first component of their spelling."""
        grouped: dict[str, list[str]] = {}
        for key, name in self.spelled.items():
            grouped.setdefault(name.partition(".")[0], []).append(key)
        return grouped


@dataclass(frozen=True)
class WeightSet:
    """One complete set of a model's weights in a file."""

    form: Form
    names: Mapping[str, str]
    """Our key -> name in the file; optional keys may be missing."""
    prefixes: tuple[str, ...]
    """What precedes the keys: one prefix, or one of each part."""

    @property
    def place(self) -> str:
        """Where the set is, for messages and to be asked for."""
        return " + ".join(prefix.rstrip(".") for prefix in self.prefixes)


def find_sets(names: Mapping[str, Any], forms: Iterable[Shapes]) -> list[WeightSet]:
    """Return every complete set of weights; of several forms of a model, those of the first that has any."""
    index = SuffixIndex(names)
    shapes = shapes_of(names)
    for expected in forms:
        for dialect in DIALECTS:
            form = Form(expected, dialect)
            found = sets_of_one_prefix(form, shapes, index) or sets_of_parts(form, shapes, index)
            if found:
                return found
    return []


def complete_prefixes(index: SuffixIndex, form: Form, keys: Iterable[str], cut: int = 0) -> list[str]:
    """Return the prefixes behind which all ``keys`` that are not optional stand, without their first ``cut`` letters."""
    needed = [form.spelled[key][cut:] for key in keys if not optional(key)]
    return [prefix for prefix, count in index.counts(needed).items() if count == len(needed)]


def sets_of_one_prefix(form: Form, shapes: Shapes, index: SuffixIndex) -> list[WeightSet]:
    """Return the sets whose keys all have one prefix."""
    found = []
    for prefix in complete_prefixes(index, form, form.shapes):
        names = {key: prefix + name for key, name in form.spelled.items() if prefix + name in shapes}
        inner = tuple(f"{prefix}{part}." for part in form.parts)
        kept = {prefix + name for name in form.dialect.repeated}
        if fits(form, names, shapes) and not unexpected(shapes, inner, {*names.values(), *kept}):
            found.append(WeightSet(form, names, (prefix,)))
    return found


def sets_of_parts(form: Form, shapes: Shapes, index: SuffixIndex) -> list[WeightSet]:
    """Return the set whose parts each have a prefix of their own; none where a part is there twice, or not at all."""
    names: dict[str, str] = {}
    prefixes = []
    for part, keys in form.parts.items():
        cut = len(part) + 1
        choices = []
        for prefix in complete_prefixes(index, form, keys, cut):
            here = {key: prefix + form.spelled[key][cut:] for key in keys}
            here = {key: name for key, name in here.items() if name in shapes}
            if fits(form, here, shapes):
                choices.append((prefix, here))
        if len(choices) != 1:
            return []
        prefixes.append(choices[0][0])
        names.update(choices[0][1])
    kept = {name for name in shapes for key in form.dialect.repeated if name.endswith(key)}
    used = {*names.values(), *kept}
    left = [name for name in shapes if name not in used]
    # What remains may be a model of its own, whose decoder these encoders were not trained for.
    if unexpected(shapes, tuple(prefixes), used) or family_of_keys(left) is not None:
        return []
    return [WeightSet(form, names, tuple(prefixes))]


def fits(form: Form, names: Mapping[str, str], shapes: Shapes) -> bool:
    """Return whether the tensors have the model's shapes."""
    return all(shapes[name] == form.shapes[key] for key, name in names.items())


def unexpected(names: Iterable[str], inside: tuple[str, ...], used: set[str]) -> list[str]:
    """Return the names inside the model's parts that are none of its keys: they would change what it computes."""
    return [name for name in names if name.startswith(inside) and name not in used]


def choose_set(sets: Sequence[WeightSet], key: str | None, equal: Callable[[WeightSet, WeightSet], bool]) -> WeightSet:
    """Return the set that is meant: the one that ``key`` names, else the only one that is no running average.

    ``equal`` compares two sets by value: what is there twice is one set.

    Raises:
        CheckpointError: none has that key, or several different ones are left; it says how to choose.
    """
    averages = [one for one in sets if is_average(one.place)]
    if key == AVERAGE_KEY:
        chosen = averages
    elif key is not None:
        chosen = [one for one in sets if key == one.place or key in one.place.split(".")]
    else:
        chosen = [one for one in sets if one not in averages] or averages
    if not chosen:
        raise CheckpointError(f"no weights are called '{key}'; complete sets are {listed_places(sets)}")
    first, *others = chosen
    if any(not equal(first, other) for other in others):
        raise CheckpointError(
            f"{len(chosen)} different sets of weights fit the model: {listed_places(chosen)}; choose one by its name,"
            f" as in FILE#{next((one.place for one in chosen if one.place), AVERAGE_KEY)}"
        )
    return first


def listed_places(sets: Sequence[WeightSet]) -> str:
    """Return where some sets are."""
    places = [f"'{one.place}'" if one.place else "the top level" for one in sets]
    return ", ".join(places[:SHOWN]) + (f" and {len(places) - SHOWN} more" if len(places) > SHOWN else "")


def nearest_difference(names: Mapping[str, Any], forms: Iterable[Shapes]) -> str:
    """Return what is missing, unexpected and misshapen of the prefix and dialect that come nearest to a model."""
    index, found = SuffixIndex(names), shapes_of(names)
    best, count, nearest = "", 0, None
    for expected in forms:
        for dialect in DIALECTS:
            form = Form(expected, dialect)
            counts = index.counts(name for key, name in form.spelled.items() if not optional(key))
            prefix, here = max(counts.items(), key=lambda item: item[1], default=("", 0))
            if nearest is None or here > count:
                best, count, nearest = prefix, here, form
    assert nearest is not None  # a model has a form
    inside = tuple(f"{best}{part}." for part in nearest.parts) if count else ("",)
    under = {name[len(best) :]: shape for name, shape in found.items() if name.startswith(inside)}
    spelled = {nearest.spelled[key]: shape for key, shape in nearest.shapes.items()}
    spelled = {name: shape for name, shape in spelled.items() if name in under or not optional(name)}
    where = f" behind '{best}'" if best else ""
    return difference(spelled, under, found, where)

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

from edgesam_export.checkpoints.dialects import DIALECTS, Dialect
from edgesam_export.checkpoints.hints import difference, family_of_keys
from edgesam_export.checkpoints.names import Names, SuffixIndex
from edgesam_export.errors import CheckpointError

__all__ = ["Form", "WeightSet", "choose_set", "find_sets", "is_average", "nearest_difference", "optional"]

AVERAGE = re.compile(r"(?:^|[._\d])(?:ema|averaged?|avg|swa|shadow|polyak)(?=$|[._\d])", re.IGNORECASE)
AVERAGE_KEY = "ema"
"""What asks for the running average, whatever the file calls it."""
VIDEO = (
    "memory_attention|memory_encoder|maskmem_|no_mem_pos_enc|no_obj_|obj_ptr_|mask_downsample|spatial_perceiver"
    "|memory_temporal_|no_memory_pos|no_object_|object_pointer_|occlusion_spatial_|temporal_positional_"
)
"""Beginnings of the names of SAM 2's and EdgeTAM's video part, the second row as transformers spells them."""
NO_WEIGHT = re.compile(f"loss|criteri|metric|n_averaged|pixel_mean|pixel_std|^(?:{VIDEO})", re.IGNORECASE)
"""Names beside a model's parts in its state dict that no mask of an image depends on, or that are compared instead."""
SHOWN = 4
"""Sets that a message names."""

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


def find_sets(names: Names, forms: Iterable[Shapes]) -> list[WeightSet]:
    """Return every complete set of weights; of several forms of a model, those of the first that has any."""
    for expected in forms:
        for dialect in DIALECTS:
            form = Form(expected, dialect)
            prefixes = complete_prefixes(names.index, form, form.shapes)
            found = sets_of_one_prefix(form, names, prefixes) if prefixes else sets_of_parts(form, names)
            if found:
                return found
    return []


def complete_prefixes(index: SuffixIndex, form: Form, keys: Iterable[str], cut: int = 0) -> list[str]:
    """Return the prefixes behind which all ``keys`` but optional ones stand, without their first ``cut`` letters."""
    needed = [form.spelled[key][cut:] for key in keys if not optional(key)]
    return [prefix for prefix, count in index.counts(needed).items() if count == len(needed)]


def sets_of_one_prefix(form: Form, names: Names, prefixes: Iterable[str]) -> list[WeightSet]:
    """Return the sets behind prefixes that are complete: those whose shapes fit, with nothing else of the model's."""
    found = []
    for prefix in prefixes:
        here = {key: prefix + name for key, name in form.spelled.items() if prefix + name in names.shapes}
        used = {*here.values(), *(prefix + name for name in form.dialect.repeated)}
        if fits(form, here, names.shapes) and not set(belonging(names, form, prefix)) - used:
            found.append(WeightSet(form, here, (prefix,)))
    return found


def belonging(names: Names, form: Form, prefix: str) -> list[str]:
    """Return the names behind a prefix that are the model's: in its parts, or beside those in the same state dict."""
    inside = tuple(f"{prefix}{part}." for part in form.parts)
    containers = {names.containers[name] for name in names.shapes if name.startswith(inside)}
    return [
        name
        for name in names.shapes
        if name.startswith(inside)
        or (
            name.startswith(prefix)
            and names.containers[name] in containers
            and not NO_WEIGHT.search(name[len(prefix) :].partition(".")[0])
        )
    ]


def sets_of_parts(form: Form, names: Names) -> list[WeightSet]:
    """Return the set whose parts each have a prefix of their own; none where a part is there twice, or not at all."""
    shapes, found = names.shapes, dict[str, str]()
    prefixes = []
    for part, keys in form.parts.items():
        cut = len(part) + 1
        choices = []
        for prefix in complete_prefixes(names.index, form, keys, cut):
            here = {key: prefix + form.spelled[key][cut:] for key in keys}
            here = {key: name for key, name in here.items() if name in shapes}
            if fits(form, here, shapes):
                choices.append((prefix, here))
        if len(choices) != 1:
            return []
        prefixes.append(choices[0][0])
        found.update(choices[0][1])
    kept = {name for name in shapes for key in form.dialect.repeated if name.endswith(key)}
    left = [name for name in shapes if name not in {*found.values(), *kept}]
    containers = {names.containers[name] for name in found.values()}
    beside = [
        name
        for name in left
        if (container := names.containers[name]) in containers and not NO_WEIGHT.search(name.removeprefix(container))
    ]
    # What remains may be a model of its own, whose decoder these encoders were not trained for.
    if beside or any(name.startswith(tuple(prefixes)) for name in left) or family_of_keys(left) is not None:
        return []
    return [WeightSet(form, found, tuple(prefixes))]


def fits(form: Form, names: Mapping[str, str], shapes: Shapes) -> bool:
    """Return whether the tensors have the model's shapes."""
    return all(shapes[name] == form.shapes[key] for key, name in names.items())


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


def nearest_difference(names: Names, forms: Iterable[Shapes]) -> str:
    """Return what is missing, unexpected and misshapen of the prefix and dialect that come nearest to a model."""
    best, count, nearest = "", 0, None
    for expected in forms:
        for dialect in DIALECTS:
            form = Form(expected, dialect)
            counts = names.index.counts(name for key, name in form.spelled.items() if not optional(key))
            prefix, hits = max(counts.items(), key=lambda item: item[1], default=("", 0))
            if nearest is None or hits > count:
                best, count, nearest = prefix, hits, form
    assert nearest is not None  # a model has a form
    here = belonging(names, nearest, best) if count else list(names.shapes)
    under = {name[len(best) :]: names.shapes[name] for name in here}
    spelled = {nearest.spelled[key]: shape for key, shape in nearest.shapes.items()}
    spelled = {name: shape for name, shape in spelled.items() if name in under or not optional(name)}
    where = f" behind '{best}'" if best else ""
    return difference(spelled, under, names.shapes, where=where, parts_text=parts_text(names, nearest))


def parts_text(names: Names, form: Form) -> str:
    """Return which parts of the model are complete in a file: of some, which are not there; of all, where they are.

    A tensor outside of every module is no part.
    """
    modules = {part: keys for part, keys in form.parts.items() if part not in form.spelled.values()}
    found = {part: complete_prefixes(names.index, form, keys, len(part) + 1) for part, keys in modules.items()}
    absent = [part for part in found if not found[part]]
    if len(absent) == len(found):
        return ""
    if absent:
        return f"it has no whole {' and no whole '.join(absent)}, and a part alone is not enough: give the whole model"
    if set.intersection(*({prefix.removesuffix(f"{part}.") for prefix in found[part]} for part in found)):
        return ""  # together, so the parts are not what is wrong
    places = [f"{part} at {' and '.join(repr(p) for p in prefixes[:SHOWN])}" for part, prefixes in found.items()]
    return f"its parts are in several places, and which belong together is not certain: {', '.join(places)}"

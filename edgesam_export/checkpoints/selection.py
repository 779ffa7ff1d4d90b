"""Reading a model's weights out of a checkpoint, whatever else it holds and however its keys are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.checkpoints.contents import Contents, element_type, opened, plain_tensors, type_name
from edgesam_export.checkpoints.dialects import DIALECTS
from edgesam_export.checkpoints.hints import addition_beside, other_release, shapes_of
from edgesam_export.checkpoints.layouts import (
    WeightSet,
    choose_set,
    find_sets,
    is_average,
    nearest_difference,
    optional,
)
from edgesam_export.checkpoints.names import Names, named_tensors
from edgesam_export.checkpoints.unread import FLOAT_WEIGHTS, unread_text
from edgesam_export.errors import CheckpointError, warn

if TYPE_CHECKING:
    import torch

__all__ = ["read_weights"]

WEIGHT_TYPES = {"float16", "bfloat16", "float32", "float64"}
SHOWN = 4
"""Kinds of unread tensors that a note names."""


def read_weights(
    path: Path,
    forms: Iterable[Mapping[str, torch.Tensor]],
    *,
    key: str | None = None,
    constants: Mapping[str, tuple[float, ...]],
    others: Iterable[tuple[str, Mapping[str, torch.Tensor]]] = (),
    model: str = "",
) -> tuple[dict[str, torch.Tensor], str | None]:
    """Return the tensors of a model under its own keys, and a note on how they were found, None for a plain file.

    ``forms`` are the model's tensors by key, of each form that its weights may have; ``key`` names one of several sets
    in the file; ``constants`` are values, by the names that a file may give them, that must be as stated there;
    ``others`` are the tensors of other models by name, for the message where a file is one of theirs. ``model`` is the
    model's name, for a warning where the file is another release of it.
    Floating-point tensors of any width come back as float32. What is no weight of the model stays unread, training
    state of any class included; no code in the file ever runs. Batch norm's counters may be missing and are zero then.

    Raises:
        CheckpointError: the file cannot be read; no complete set of weights is in it, or several different ones; a
            weight is not finite.
    """
    with opened(path) as contents:
        names = names_in(contents)
        chosen, sets, form = select(contents, names, forms, key, others)
        state = plain_tensors(weights_of(names, chosen, form, path), contents)
        check_repeated(contents, names, chosen, state)
        check_constants(contents, names, chosen, constants)
    if release := other_release(model, names.leaves):
        warn(f"{path.name}: {release}", stacklevel=5)
    counters = [key for key in form if key not in state]
    for counter in counters:
        state[counter] = form[counter].new_zeros(form[counter].shape, device="cpu")
    return {key: state[key] for key in form}, note_on(path, names, chosen, sets, len(counters))


def weights_of(names: Names, chosen: WeightSet, form: Mapping[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """Return a set's tensors under the model's keys, without counters that were cast with the weights.

    Raises:
        CheckpointError: a weight has integers, or 8 bits, where the model's is a floating-point number.
    """
    weights = {key: names.leaves[name] for key, name in chosen.names.items()}
    types = {key: element_type(leaf) for key, leaf in weights.items()}
    coarse = [key for key in weights if form[key].is_floating_point() and types[key] not in WEIGHT_TYPES]
    if coarse:
        raise CheckpointError(
            f"{path.name}: its weights are quantised: '{chosen.names[coarse[0]]}' is of {types[coarse[0]]}"
            f" ({len(coarse)} of {len(weights)} tensors are of such types), whose scale is unknown; {FLOAT_WEIGHTS}"
        )
    return {key: leaf for key, leaf in weights.items() if not optional(key) or types[key] not in WEIGHT_TYPES}


def select(
    contents: Contents,
    names: Names,
    forms: Iterable[Mapping[str, torch.Tensor]],
    key: str | None,
    others: Iterable[tuple[str, Mapping[str, torch.Tensor]]],
) -> tuple[WeightSet, list[WeightSet], Mapping[str, torch.Tensor]]:
    """Return the set of weights that is meant, all sets, and the form that they have.

    Raises:
        CheckpointError: there is no set, there are several, or one that is not complete without the rest of the file.
    """
    tried: list[Mapping[str, torch.Tensor]] = []
    for form in forms:
        tried.append(form)
        if sets := find_sets(names, [shapes_of(form)]):
            break
    else:
        spelled = (dialect.spelled(key) for dialect in DIALECTS for one in tried for key in one)
        reason = unread_text(names.unread, spelled) or nearest_difference(names, map(shapes_of, tried))
        raise CheckpointError(f"{contents.path.name}: {other_models(names, others)}{reason}")
    read = {name for one in sets for name in one.names.values()}
    if addition := addition_beside([name for name in names.shapes if name not in read]):
        raise CheckpointError(f"{contents.path.name}: the weights alone are not the model: {addition}")
    try:
        chosen = choose_set(sets, key, lambda one, other: same_values(contents, names, one, other))
    except CheckpointError as error:
        raise CheckpointError(f"{contents.path.name}: {error}") from None
    return chosen, sets, tried[-1]


def other_models(names: Names, others: Iterable[tuple[str, Mapping[str, torch.Tensor]]]) -> str:
    """Return which other models the weights fit, ended with a semicolon; empty without one."""
    fitting = [model for model, tensors in others if find_sets(names, [shapes_of(tensors)])]
    return f"these are weights of {' or '.join(fitting)}: give that as the model; " if fitting else ""


def names_in(contents: Contents) -> Names:
    """Return the tensors of a file by name.

    Raises:
        CheckpointError: there are none.
    """
    try:
        names = named_tensors(contents.tree)
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {contents.path}: {error}") from None
    if not names.leaves and not names.unread:
        held = getattr(contents.tree, "name", type_name(contents.tree))
        raise CheckpointError(f"{contents.path} holds no tensors (a {held}); a state dict (names to tensors) is needed")
    return names


def same_values(contents: Contents, names: Names, one: WeightSet, other: WeightSet) -> bool:
    """Return whether two sets have the same values, counters of batch norm left out."""
    import torch

    keys = {key for key in one.names if not optional(key)}
    if keys != {key for key in other.names if not optional(key)}:
        return False
    return all(
        (leaves := (names.leaves[one.names[key]], names.leaves[other.names[key]]))[0] is leaves[1]
        or torch.equal(*map(contents.tensor, leaves))
        for key in keys
    )


def check_repeated(contents: Contents, names: Names, chosen: WeightSet, state: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError where the file has a tensor of the model twice, with different values."""
    dialect = chosen.form.dialect
    for name in (prefix + key for prefix in chosen.prefixes for key in dialect.repeated):
        leaf = names.leaves.get(name)
        if leaf is not None and not contents.tensor(leaf).to(state[dialect.repeats]).equal(state[dialect.repeats]):
            raise CheckpointError(
                f"{contents.path.name}: '{name}' and '{chosen.names[dialect.repeats]}' are one tensor in the model and"
                " differ here, so its masks are not certain: load the published weights before training"
            )


def check_constants(
    contents: Contents, names: Names, chosen: WeightSet, constants: Mapping[str, tuple[float, ...]]
) -> None:
    """Raise CheckpointError where the file states a constant of the model otherwise, in units of 1 or of 255."""
    if len(chosen.prefixes) != 1:
        return
    for constant, expected in constants.items():
        leaf = names.leaves.get(chosen.prefixes[0] + constant)
        if leaf is None or len(expected) != int(contents.tensor(leaf).numel()):
            continue
        found = contents.tensor(leaf).flatten().tolist()
        if not any(all(abs(a * unit - b) < 0.01 * b for a, b in zip(found, expected)) for unit in (1, 255)):
            raise CheckpointError(
                f"{contents.path.name}: {constant} is {shown(found)}, the model's images have {shown(expected)}: its"
                " masks would be wrong; convert the weights to that, or add a model with that frame (CONTRIBUTING.md)"
            )


def shown(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def note_on(path: Path, names: Names, chosen: WeightSet, sets: Sequence[WeightSet], counters: int) -> str | None:
    """Return one line on what was taken of a file and what was not; None where it holds the weights alone."""
    parts = []
    if any(chosen.prefixes):
        average = ", a running average (EMA)" if is_average(chosen.place) else ""
        parts.append(f"found under '{chosen.place}'{average}")
    if chosen.form.dialect.name:
        parts.append(f"renamed from {chosen.form.dialect.name}")
    if counters:
        parts.append(f"batch norm's {counters} counters are missing or were cast, and only training needs them")
    others = [one for one in sets if one is not chosen]
    if left := unread(names, chosen, others):
        parts.append(f"not read: {left}")
    if any(is_average(one.place) for one in others) and not is_average(chosen.place):
        parts.append(f"EMA weights are there too, as {path.name}#ema")
    return f"weights of {path.name}: {'; '.join(parts)}" if parts else None


def unread(names: Names, chosen: WeightSet, others: Sequence[WeightSet]) -> str:
    """Return how many tensors were left out, by the component of their names that first differs from those read."""
    used = set(chosen.names.values())
    counts: Counter[str] = Counter()
    for name in names.leaves:
        if name in used or name.endswith(chosen.form.dialect.repeated or ("\0",)):
            continue
        place = next((one.place for one in others if one.place and name.startswith(f"{one.place}.")), None)
        counts[place or first_difference(name, chosen.prefixes)] += 1
    texts = [f"{place} ({count} tensor{'s' if count > 1 else ''})" for place, count in counts.items()]
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")


def first_difference(name: str, prefixes: Sequence[str]) -> str:
    """Return the beginning of a name, up to the first component that is not in a prefix."""
    components = name.split(".")
    depth = 0
    for prefix in prefixes:
        inside = prefix.split(".")[:-1]
        common = 0
        while common < min(len(inside), len(components) - 1) and inside[common] == components[common]:
            common += 1
        depth = max(depth, common)
    return ".".join(components[: depth + 1])

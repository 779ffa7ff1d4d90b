"""The search: sensitivities, the walk from the smallest allocation up, true agreement of what it assembles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from typing import Any

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import Kernel, applicable, find_scheme, schemes_for, stored_bytes
from edgesam_export.shrink.agreement import Agreement
from edgesam_export.shrink.allocation import Choice, Key, Option, walk
from edgesam_export.shrink.prompts import Case
from edgesam_export.shrink.sensitivity import Pairs, calibrated, measure_kernels, squared_errors
from edgesam_export.shrink.simulation import Simulation
from edgesam_export.shrink.state import State
from edgesam_export.spec import UNCOMPRESSED, Progress, is_read_by

__all__ = ["SEARCHED", "Goal", "Search", "searched_schemes"]

SEARCHED = (
    "palettize2",
    "palettize3",
    "palettize4",
    "palettize6",
    "palettize8",
    "linear8",
    "palettize2_g16",
    "palettize3_g16",
    "palettize4_g16",
)
"""Schemes that kernels choose among by default: none that ``analyze`` warns about, and few, as each costs time."""
PROBES = ("palettize4", "linear4", "palettize6", "linear8", "palettize8")
"""Scheme that a kernel is measured with: the first that it may take, about where most end up."""
MEASURED_IMAGES = 2
"""Images that each kernel alone is measured on."""
PROGRAM_BYTES = 450
"""Growth of the program for each compressed kernel, at most; the weight file's is exact."""
CLOSE = 0.005
"""Share of the bytes by which the smallest allocation that passes may be above one that fails."""

BEYOND = 1.05
"""Factor between a predicted loss and the one that is tried."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is asked for: one of both."""

    min_iou: float | None = None
    """Least agreement, 0 to 1: the smallest packages are searched whose lower bound reaches it."""
    max_bytes: int | None = None
    """Largest size of all packages: the best agreement is searched."""

    def __post_init__(self) -> None:
        if (self.min_iou is None) == (self.max_bytes is None):
            raise UsageError("give either --min-iou or --max-mb, one of both")
        if self.min_iou is not None and not 0 < self.min_iou < 1:
            raise UsageError(f"--min-iou is {self.min_iou:g}; choose more than 0 and less than 1, for example 0.98")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise UsageError(f"--max-mb is {self.max_bytes / 1e6:g}; choose more than 0")


def searched_schemes(names: Sequence[str], target: str) -> tuple[str, ...]:
    """Return the schemes to search: ``names``, or by default those of ``SEARCHED`` that the target reads.

    Raises:
        UsageError: a scheme that does not exist, or one that the target does not read.
    """
    for name in names:
        needed = find_scheme(name).target
        if not is_read_by(target, needed):
            raise UsageError(f"scheme {name} needs target {needed}, not {target}; pass --target {needed}")
    if names:
        return tuple(dict.fromkeys(names))
    return tuple(name for name in SEARCHED if is_read_by(target, find_scheme(name).target))


@dataclass(kw_only=True)
class Search:
    """One search on one model: what is known, kept in ``state``, and what is measured when it is not."""

    simulation: Simulation
    search_cases: Sequence[Case] = ()
    sensitivity_cases: Sequence[Case] = ()
    """Some of them: few suffice to rank kernels."""
    probe_encoder: bool = True
    schemes: Sequence[str]
    target: str
    base_bytes: int
    """Of the uncompressed packages."""
    state: State
    progress: Progress
    tried: dict[int, Agreement] = field(default_factory=dict)
    """Step of the walk -> its agreement on the search images."""

    # ------------------------------------------------------------------------------------------------------- options

    def check_size(self, goal: Goal) -> None:
        """Check that packages can be as small as a goal asks; needs no images.

        Raises:
            UsageError: they cannot; says how small they get.
        """
        most = goal.max_bytes
        if most is None:
            return
        pairs = self.pairs().items()
        smallest = self.bytes_of(
            {key: min((UNCOMPRESSED, *names), key=partial(self.size_of, key)) for key, names in pairs}
        )
        if smallest > most:
            raise UsageError(
                f"--max-mb {most / 1e6:g} cannot be reached: the smallest packages take {smallest / 1e6:.2f} MB with"
                f" schemes {', '.join(self.schemes)}"
            )

    def pairs(self) -> dict[Key, list[str]]:
        """Return the schemes that each kernel may be stored with."""
        return {
            key: [name for name in self.schemes if applicable(kernel, find_scheme(name))]
            for key, kernel in self.simulation.kernels.items()
        }

    def losses(self) -> dict[tuple[Key, str], float]:
        """Return the squared loss of every kernel with every scheme."""
        pairs, cases = self.pairs(), self.sensitivity_cases
        totals: dict[tuple[Key, str], float] = {}
        for number, case in enumerate(cases):
            self.progress(number, len(cases), f"sensitivity: image {number + 1} of {len(cases)}")
            rows = self.state.step(f"sensitivity {number}", partial(self.errors_on, case, pairs, number))
            for component, path, scheme, value in rows:
                pair = ((component, path), scheme)
                totals[pair] = totals.get(pair, 0.0) + value / len(cases)
        probed = {key: names for key, names in pairs.items() if self.probe_encoder or key[0] != "encoder"}
        probes = {key: probe for key, names in probed.items() if (probe := probe_of(names))}
        measured = self.state.step("kernels", lambda: self.measured(probes))
        return calibrated(totals, probes, {(component, path): value for component, path, value in measured})

    def errors_on(self, case: Case, pairs: Pairs, seed: int) -> list[list[Any]]:
        """Return component, path, scheme and squared error on one image, as JSON data."""
        errors = squared_errors(self.simulation, case, pairs, seed)
        return [[*key, scheme, value] for (key, scheme), value in errors.items()]

    def measured(self, probes: Mapping[Key, str]) -> list[list[Any]]:
        """Return component, path and loss of each kernel alone, as JSON data."""
        found = measure_kernels(self.simulation, self.sensitivity_cases[:MEASURED_IMAGES], probes, self.progress)
        return [[*key, value] for key, value in found.items()]

    def options(self) -> dict[Key, list[Option]]:
        """Return all ways to store each kernel."""
        losses = self.losses()
        found = {}
        for key, names in self.pairs().items():
            found[key] = [Option(scheme=UNCOMPRESSED, bytes=self.size_of(key, UNCOMPRESSED), loss=0.0)]
            found[key] += [Option(scheme=name, bytes=self.size_of(key, name), loss=losses[key, name]) for name in names]
        return found

    def size_of(self, key: Key, scheme: str) -> int:
        """Return the bytes that a kernel takes with a scheme, at most."""
        kernel = self.simulation.kernels[key]
        if scheme == UNCOMPRESSED:
            return stored_bytes(kernel, None)
        return stored_bytes(kernel, find_scheme(scheme), self.target) + PROGRAM_BYTES

    def bytes_of(self, choice: Choice) -> int:
        """Return the size of the packages that store every kernel as chosen, at most."""
        saved = (self.size_of(key, UNCOMPRESSED) - self.size_of(key, name) for key, name in choice.items())
        return self.base_bytes - sum(saved)

    def named(self, name: str) -> dict[Key, str]:
        """Return the choice that ``coreml --compress`` makes of a scheme or a preset."""
        components: dict[str, dict[str, Kernel]] = {}
        for (component, path), kernel in self.simulation.kernels.items():
            components.setdefault(component, {})[path] = kernel
        return {
            (component, path): scheme.name
            for component, kernels in components.items()
            for path, scheme in schemes_for(name, component, kernels).items()
        }

    # -------------------------------------------------------------------------------------------------------- the walk

    def find(self, goal: Goal) -> tuple[list[dict[Key, str]], int]:
        """Return the best allocations by size, and the index of the one that the goal asks for.

        Raises:
            UsageError: the goal cannot be reached; says what can.
        """
        options = self.options()
        path = walk(options)
        sizes = [self.bytes_of(choice) for choice in path]
        if goal.max_bytes is not None:
            return path, max(index for index, size in enumerate(sizes) if size <= goal.max_bytes)
        assert goal.min_iou is not None
        losses = {(key, option.scheme): option.loss for key, choices in options.items() for option in choices}
        predicted = [sqrt(sum(losses[pair] for pair in choice.items())) for choice in path]
        return path, self.smallest(path, sizes, predicted, goal.min_iou)

    def smallest(self, path: Sequence[Choice], sizes: Sequence[int], predicted: Sequence[float], least: float) -> int:
        """Return the index of the smallest allocation whose lower bound is at least ``least``.

        Predictions say where to look: they are off by a factor that changes slowly along the walk.
        """
        low, high = -1, len(path) - 1
        best = self.try_step(path, high)
        if best.lower < least:
            raise UsageError(
                f"--min-iou {least} cannot be reached: the least loss that schemes {', '.join(self.schemes)} and"
                f" {UNCOMPRESSED} give keeps {best.mean:.5f}, lower bound {best.lower:.5f}, on"
                f" {len(self.search_cases)} images; ask for less, or give more images"
            )
        aim = 1 - least
        while high - low > 1 and (low < 0 or sizes[high] - sizes[low] > CLOSE * sizes[high]):
            index = next((index for index, loss in enumerate(predicted) if loss <= aim), high)
            if not low < index < high:
                index = (low + high) // 2
            found = self.try_step(path, index)
            passed = found.lower >= least
            low, high = (low, index) if passed else (index, high)
            # a little beyond where this one says the border is, so that the next lies on its other side
            aim = predicted[index] * (1 - least) / max(1 - found.lower, 1e-9) * (BEYOND if passed else 1 / BEYOND)
        return high

    def try_step(self, path: Sequence[Choice], index: int) -> Agreement:
        """Return the agreement of an allocation on the search images."""
        if index not in self.tried:
            text = f"trying {self.bytes_of(path[index]) / 1e6:.2f} MB"
            self.tried[index] = self.agreement(path[index], self.search_cases, "search", text)
        return self.tried[index]

    def agreement(self, choice: Choice, cases: Sequence[Case], images: str, text: str) -> Agreement:
        """Return the agreement of a choice on the ``images`` called so."""

        def compute() -> list[dict[str, Any]]:
            self.simulation.use(choice)
            return self.simulation.agreement(cases, self.progress, text).rows()

        return Agreement.of(self.state.step(f"{images} {digest(choice)}", compute))


def probe_of(names: Sequence[str]) -> str | None:
    """Return the scheme that a kernel is measured with, None if it may take none."""
    return next((name for name in (*PROBES, *names) if name in names), None)


def digest(choice: Choice) -> str:
    """Return a short name of a choice."""
    text = json.dumps(sorted([*key, name] for key, name in choice.items() if name != UNCOMPRESSED))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

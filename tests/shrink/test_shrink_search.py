"""The search over allocations, with agreement that a formula gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import Kernel, find_scheme, stored_bytes
from edgesam_export.shrink.agreement import Agreement, PromptResult
from edgesam_export.shrink.search import CLOSE, Goal, Search, searched_schemes
from edgesam_export.shrink.state import State

KERNELS = {
    ("decoder", f"layer{index}"): Kernel(path=f"layer{index}", shape=(64, 64, 1, 1), axis=0) for index in range(40)
}
TABLE = {("decoder", "image_pe"): Kernel(path="image_pe", shape=(1, 64, 32, 32), axis=1, is_table=True)}
BITS = {"palettize2": 2, "palettize4": 4, "palettize6": 6, "palettize8": 8, "fp16": 16}


class Formula(Search):
    """A search whose losses and agreement are known: kernels differ, and predictions are off by a factor."""

    factor = 1.7
    asked = 0

    def losses(self):
        weights = np.random.default_rng(0).lognormal(size=len(self.simulation.kernels))
        return {
            (key, scheme): float(weight * 1e-3 * 2.0 ** -BITS[scheme]) ** 2 * 100
            for key, weight in zip(self.simulation.kernels, weights)
            for scheme in self.schemes
        }

    def agreement(self, choice: Mapping, cases, images, text):
        self.asked += 1
        losses = self.losses()
        total = sum(losses[pair] for pair in choice.items() if pair in losses) ** 0.5
        value = 1 - self.factor * total - 1e-5
        return Agreement(results=tuple(PromptResult(image=index, kind="box", iou=value) for index in (0, 1)))


@pytest.fixture
def search(tmp_path) -> Formula:
    return Formula(
        simulation=SimpleNamespace(kernels={**KERNELS, **TABLE}),
        search_cases=[None, None],
        sensitivity_cases=[],
        schemes=("palettize2", "palettize4", "palettize6", "palettize8"),
        target="iOS17",
        base_bytes=1_000_000,
        state=State(tmp_path / "state", {}),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize("least", [0.99, 0.995, 0.999])
def test_the_smallest_allocation_that_keeps_the_bound_is_found_in_few_steps(search, least):
    path, index = search.find(Goal(min_iou=least))
    steps = search.asked
    kept = [search.agreement(choice, [], "", "").lower >= least for choice in path]
    first = kept.index(True)
    assert kept[index] and first <= index
    assert search.bytes_of(path[index]) <= search.bytes_of(path[first]) * (1 + 2 * CLOSE)
    assert steps <= 8


def test_a_bound_that_nothing_keeps_says_what_is_kept(search):
    with pytest.raises(UsageError, match=r"--min-iou 0\.999999 cannot .* keeps 0\.99999, lower bound 0\.99999, on 2"):
        search.find(Goal(min_iou=0.999999))


def test_a_size_is_filled_and_not_exceeded(search):
    path, index = search.find(Goal(max_bytes=900_000))
    assert search.bytes_of(path[index]) <= 900_000 < search.bytes_of(path[index + 1])
    assert search.asked == 0


def test_a_size_below_the_smallest_says_which_that_is(search):
    with pytest.raises(UsageError, match=r"--max-mb 0\.1 cannot be reached: the smallest packages take 0\.\d\d MB"):
        search.check_size(Goal(max_bytes=100_000))
    smallest = search.bytes_of(search.find(Goal(max_bytes=900_000))[0][0])
    search.check_size(Goal(max_bytes=smallest))
    with pytest.raises(UsageError, match="cannot be reached"):
        search.check_size(Goal(max_bytes=smallest - 1))


def test_bytes_are_those_of_the_uncompressed_packages_but_for_what_changes(search):
    key = ("decoder", "layer3")
    saved = stored_bytes(KERNELS[key], None) - stored_bytes(KERNELS[key], find_scheme("palettize4"), "iOS17")
    assert search.bytes_of({}) == 1_000_000
    assert 0 < search.bytes_of({key: "palettize4"}) - (1_000_000 - saved) < 1000  # what the program grows by


def test_a_uniform_scheme_leaves_tables_alone_and_presets_and_recipes_do_not(search):
    assert ("decoder", "image_pe") not in search.named("palettize4")
    assert search.named("balanced")["decoder", "image_pe"] == "palettize6"
    assert search.pairs()["decoder", "image_pe"] == list(search.schemes)


def test_schemes_are_those_that_the_target_reads():
    assert "palettize4_g16" in searched_schemes((), "iOS18") and "palettize4_g16" not in searched_schemes((), "iOS17")
    assert searched_schemes(("linear8", "linear8"), "iOS16") == ("linear8",)
    with pytest.raises(UsageError, match="palettize4_g16 needs target iOS18, not iOS17; pass --target iOS18"):
        searched_schemes(("palettize4_g16",), "iOS17")
    with pytest.raises(UsageError, match="palettize5"):
        searched_schemes(("palettize5",), "iOS18")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either --min-iou or --max-mb"),
        ({"min_iou": 0.9, "max_bytes": 5}, "one of both"),
        ({"min_iou": 1.0}, "--min-iou is 1; choose more than 0 and less than 1"),
        ({"min_iou": float("nan")}, "--min-iou is nan"),
        ({"max_bytes": 0}, "--max-mb is 0; choose more than 0"),
    ],
)
def test_a_goal_that_is_none_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Goal(**options)

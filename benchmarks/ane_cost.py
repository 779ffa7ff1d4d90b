"""The cost estimate against published figures: a table, its error, and with `--fit` new constants for roofline.toml.

Bar: rank correlation of estimate and measurement at least 0.8. A fit sees only figures marked `calibrate`; its error is
checked by fitting without one paper and predicting that paper. Multiply-adds alone rank models of one resolution well
too: the table ends with their rank correlation, and with the largest disagreement in time per multiply-add.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from architectures import ARCHITECTURES

from edgesam_export.ane.cost import PRODUCTS, Demand, Roofline, demands_of, load_roofline, price, spearman
from edgesam_export.hardware import pick_target
from edgesam_export.resources import read_toml

PUBLISHED = Path(__file__).with_name("published.toml")
BAR = 0.8
FITTED = ("call_ms", "op_us", "onchip_gbps", "dram_share", "spill_gain", *sorted(PRODUCTS))
STARTS = (0.35, 1.0, 200.0, 0.8, 2.0, 0.5, 0.1, 0.2, 0.5)
"""Where a fit starts and what it is pulled to: the kinds' order is that of ``FITTED``."""
PRIOR_WIDTH = 0.7
"""A factor of e to this power away from its start costs as much as an error of ``ERROR_WIDTH``."""
ERROR_WIDTH = 0.1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One published measurement."""

    model: str
    part: str
    device: str
    value: float
    unit: str
    setup: str
    source: str
    use: str
    why: str
    basis: str
    graph: str | None = None

    @property
    def milliseconds(self) -> float:
        return self.value if self.unit == "ms" else 1000 / self.value

    @property
    def family(self) -> str:
        chip = {"MacBook Pro (M1 Pro)": "M1 Pro", "Mac mini (M4)": "M4"}.get(self.device, self.device)
        return pick_target(chip).families[0]

    @property
    def paper(self) -> str:
        return "RepViT-SAM" if self.model == "RepViT-SAM" else self.model.split("-")[0]


def load_figures() -> list[Figure]:
    """Return every published figure."""
    return [Figure(**entry) for entry in read_toml(PUBLISHED)["figure"]]


@cache
def demands(graph: str, capacity: int) -> tuple[Demand, ...]:
    return tuple(demands_of(ARCHITECTURES[graph](), capacity))


def estimate_ms(figure: Figure, roofline: Roofline | None = None) -> float:
    """Estimate a figure's graph on its family, with all operations on the ANE."""
    rates = roofline or load_roofline(figure.family)
    return price(demands(str(figure.graph), rates.working_set_bytes), rates).time_ms


# -------------------------------------------------------------------------------------------------------------- fitting
def with_factors(roofline: Roofline, factors: Sequence[float]) -> Roofline:
    values: dict[str, Any] = dict(zip(FITTED, factors))
    efficiency = {kind: min(values.pop(kind), 1.0) for kind in sorted(PRODUCTS)}
    return replace(roofline, efficiency=efficiency, **values)


def fit(figures: Sequence[Figure]) -> list[float]:
    """Return factors that make the ratio of estimate and figure 1, as far as the figures say; else the starts."""
    from scipy.optimize import least_squares

    def residuals(logs: np.ndarray) -> np.ndarray:
        factors = np.exp(logs)
        errors = [
            np.log(estimate_ms(figure, with_factors(load_roofline(figure.family), factors)) / figure.milliseconds)
            for figure in figures
        ]
        return np.concatenate([np.array(errors) / ERROR_WIDTH, (logs - np.log(STARTS)) / PRIOR_WIDTH])

    return [float(factor) for factor in np.exp(least_squares(residuals, np.log(STARTS)).x)]


def cross_validated(figures: Sequence[Figure]) -> dict[str, tuple[float, ...]]:
    """Predict each paper with a fit that has not seen it: paper -> ratios of estimate and figure."""
    ratios = {}
    for paper in dict.fromkeys(figure.paper for figure in figures):
        factors = fit([figure for figure in figures if figure.paper != paper])
        unseen = [figure for figure in figures if figure.paper == paper]
        ratios[paper] = tuple(
            estimate_ms(figure, with_factors(load_roofline(figure.family), factors)) / figure.milliseconds
            for figure in unseen
        )
    return ratios


def print_fit(figures: Sequence[Figure]) -> None:
    """Print the fitted constants as they stand in roofline.toml, and their cross-validated error."""
    print("[fitted]")
    for name, factor in zip(FITTED, fit(figures)):
        print(f"{name} = {factor:.3g}")
    print("\nleft out of the fit, ratio of estimate and figure:")
    ratios = cross_validated(figures)
    for paper, values in ratios.items():
        print(f"  {paper:16} {'  '.join(f'{value:.2f}' for value in values)}")
    errors = [abs(np.log(value)) for values in ratios.values() for value in values]
    print(f"  median error of a factor of {np.exp(statistics.median(errors)):.2f}, largest {np.exp(max(errors)):.2f}")


# ------------------------------------------------------------------------------------------------------------ the table
def accuracy_of(figures: Sequence[Figure]) -> dict[str, float]:
    """Return how far the estimate is off: median and extreme ratios, rank correlation, count."""
    estimates = [estimate_ms(figure) for figure in figures]
    measured = [figure.milliseconds for figure in figures]
    ratios = [a / b for a, b in zip(estimates, measured)]
    return {
        "figures": len(figures),
        "median_ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rank_correlation": spearman(estimates, measured),
    }


def summary(figures: Sequence[Figure]) -> str:
    """Return the accuracy in one line: `accuracy.summary` of roofline.toml."""
    accuracy = accuracy_of(figures)
    return (
        f"median ratio {accuracy['median_ratio']:.2f} ({accuracy['low']:.2f} to {accuracy['high']:.2f}), "
        f"rank correlation {accuracy['rank_correlation']:.2f} on {accuracy['figures']} published figures"
    )


def print_baseline(figures: Sequence[Figure]) -> None:
    """Print how well multiply-adds alone do on the same figures."""
    work = [sum(d.multiply_adds for d in demands(str(f.graph), 0)) for f in figures]
    measured = [figure.milliseconds for figure in figures]
    rates = [time * 1e9 / adds for time, adds in zip(measured, work)]
    spread, rank = max(rates) / min(rates), spearman(work, measured)
    print(f"multiply-adds alone: rank correlation {rank:.2f}, time per multiply-add varies {spread:.1f}x")


def print_table(figures: Sequence[Figure]) -> None:
    print(f"{'model':22}{'part':12}{'device':22}{'family':7}{'published':>10}{'estimate':>10}{'ratio':>7}  use")
    for figure in sorted(figures, key=lambda f: (f.device, f.milliseconds)):
        estimate = estimate_ms(figure)
        row = f"{figure.model:22}{figure.part:12}{figure.device:22}{figure.family:7}{figure.milliseconds:>8.2f}ms"
        print(f"{row}{estimate:>8.2f}ms{estimate / figure.milliseconds:>7.2f}  {figure.use}")


def print_references(figures: Sequence[Figure]) -> None:
    print("\npublished, but not comparable with an estimate")
    for figure in figures:
        inferred = " (inferred)" if figure.basis == "inferred" else ""
        row = f"{figure.model:12}{figure.part:9}{figure.device:22}{figure.milliseconds:>8.1f} ms{inferred}"
        print(f"{row:62}  {figure.why}")


def main() -> None:
    """Print the table and the verdict; with `--fit`, fit anew and print the constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true", help="fit the constants anew and print them (about a minute)")
    arguments = parser.parse_args()
    published = load_figures()
    figures = [figure for figure in published if figure.graph]
    if arguments.fit:
        print_fit([figure for figure in figures if figure.use == "calibrate"])
        return
    print_table(figures)
    groups = {device: [f for f in figures if f.device == device] for device in sorted({f.device for f in figures})}
    groups |= {"never fitted": [f for f in figures if f.use == "compare"], "all": figures}
    print(f"\n{'':22}{'figures':>8}{'median ratio':>14}{'from':>7}{'to':>7}{'rank correlation':>18}")
    for name, group in groups.items():
        if len(group) > 1:
            row = accuracy_of(group)
            print(
                f"{name:22}{row['figures']:>8}{row['median_ratio']:>14.2f}{row['low']:>7.2f}{row['high']:>7.2f}"
                f"{row['rank_correlation']:>18.2f}"
            )
    print_references([figure for figure in published if figure.use == "reference"])
    print(f"\n{summary(figures)}")
    print_baseline(figures)
    reached = accuracy_of(figures)["rank_correlation"]
    print(f"rank correlation {reached:.2f}, bar {BAR}: {'reached' if reached >= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()

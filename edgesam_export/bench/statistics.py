"""Statistics of raw samples: percentiles, trimmed means, frame rates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MS_PER_S", "NS_PER_MS", "NS_PER_S", "frame_rates", "stage_statistics"]

P99_SAMPLES = 100
SUSTAINED_S = 60.0
TRIM = 0.1
NS_PER_S = 1e9
NS_PER_MS = 1e6
MS_PER_S = 1e3


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of sorted samples by linear interpolation."""
    position = (len(ordered) - 1) * share
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (position - low))


def stage_statistics(samples_ns: Sequence[int]) -> dict[str, float | int | None]:
    """Return the figures of one stage, nanoseconds; None for those that need more samples."""
    names = ("min", "p50", "p90", "p95", "p99", "max", "mean", "std", "trimmed_mean", "head_tail_ratio")
    figures: dict[str, float | int | None] = {"n": len(samples_ns), **dict.fromkeys(names)}
    if not samples_ns:
        return figures
    ordered = sorted(samples_ns)
    cut = int(len(ordered) * TRIM)
    quarter = len(samples_ns) // 4
    head = statistics.median(samples_ns[:quarter]) if quarter else 0
    figures |= {"min": ordered[0], "max": ordered[-1], "mean": statistics.fmean(ordered)}
    figures |= {name: percentile(ordered, int(name[1:]) / 100) for name in ("p50", "p90", "p95")}
    figures["p99"] = percentile(ordered, 0.99) if len(ordered) >= P99_SAMPLES else None
    figures["std"] = statistics.stdev(ordered) if len(ordered) > 1 else None
    figures["trimmed_mean"] = statistics.fmean(ordered[cut : len(ordered) - cut])
    figures["head_tail_ratio"] = statistics.median(samples_ns[-quarter:]) / head if head else None
    return figures


def frame_rates(case: Mapping[str, Any]) -> dict[str, float | None]:
    """Return ``fps_p50`` (one point, medians of both stages) and ``fps_sustained`` (frames of a window of 60 s)."""
    medians = [case.get("stages", {}).get(stage, {}).get("p50") for stage in ("encoder", "decoder")]
    countable = case.get("n_points") == 1 and not case.get("vary_points")
    together = sum(medians) if countable and None not in medians else 0
    sustained = case.get("sustained") or {"window_s": 0.0, "frames": 0}
    whole = sustained["window_s"] >= SUSTAINED_S
    return {
        "fps_p50": NS_PER_S / together if together else None,
        "fps_sustained": sustained["frames"] / sustained["window_s"] if whole else None,
    }

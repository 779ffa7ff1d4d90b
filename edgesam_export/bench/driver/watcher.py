"""Limits on how long a run may make no progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Deadlines", "Watcher"]

TIMING = "running"
"""Phase in which the app takes samples."""


def usual_phase_limits() -> dict[str, float]:
    """Seconds without progress that each phase may take, beyond what the request's schedule asks for.

    The first load of a large model specialises it for the Neural Engine: more than four minutes have been seen.
    """
    return {
        "received": 60.0,
        "compiling": 900.0,
        "loading": 1800.0,
        "warming": 300.0,
        "waiting_thermal": 120.0,
        "running": 300.0,
        "cooling": 120.0,
        "writing": 300.0,
    }


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Patience of the driver, seconds."""

    unlock_s: float = 300.0
    connect_s: float = 60.0
    """For the device to appear before the run has begun."""
    reconnect_s: float = 900.0
    """For it to come back in the middle of a run."""
    first_status_s: float = 120.0
    heartbeat_s: float = 30.0
    """Without a new heartbeat for this long, the list of processes is asked whether the app still runs."""
    phase_s: Mapping[str, float] = field(default_factory=usual_phase_limits)
    poll_s: tuple[float, float] = (1.0, 5.0)
    """First and longest wait between two looks at the heartbeat."""
    timing_poll_s: float = 20.0
    """Wait between two looks while samples are taken, for a device that a look disturbs."""
    prepare_s: float = 5.0
    """For the app's first launch to create its container."""
    result_pulls: int = 3


class Watcher:
    """When the heartbeat and the work last moved, not counting the time in which the device was out of reach.

    ``quiet``: a look opens a tunnel and reads a file on the device, so it is rare while samples are taken.
    """

    def __init__(self, now: float, deadlines: Deadlines, schedule: Mapping[str, Any], *, quiet: bool = False) -> None:
        self.deadlines, self.schedule, self.quiet = deadlines, schedule, quiet
        self.wait_s = deadlines.poll_s[0]
        self.looks: Counter[int] = Counter()
        """Looks at the device while samples were taken, by case."""
        self.heard_at = self.moved_at = now
        self.lost_at: float | None = None
        self.seq: int | None = None
        self.progress: tuple[Any, ...] = ()
        self.phase: str | None = None

    def takes(self, status: Mapping[str, Any], now: float) -> bool:
        """Record a heartbeat; return whether it shows a new case, or a new phase in which no samples are taken."""
        self.count(status)
        if status["seq"] == self.seq:
            return False
        self.seq, self.heard_at = status["seq"], now
        step = (status["phase"], status.get("case_index"))
        progress = (*step, status.get("iteration"))
        before = self.progress[:2]
        entered = step != before and (status["phase"] != TIMING or step[1:] != before[1:])
        if entered:
            self.wait_s = self.deadlines.poll_s[0]
        if progress != self.progress:
            self.progress, self.moved_at, self.phase = progress, now, status["phase"]
        return entered

    def count(self, status: Mapping[str, Any]) -> None:
        """Count a copy from the device if it fell into a case's samples."""
        if status["phase"] == TIMING and (case := status.get("case_index")) is not None:
            self.looks[case] += 1

    def next_wait(self) -> float:
        """Return the seconds until the next look."""
        if self.quiet and self.phase == TIMING and self.lost_at is None:
            return self.deadlines.timing_poll_s
        wait, self.wait_s = self.wait_s, min(self.wait_s * 1.5, self.deadlines.poll_s[1])
        return wait

    def outage(self, now: float) -> float:
        """Return the seconds that the device has been out of reach."""
        self.lost_at = now if self.lost_at is None else self.lost_at
        return now - self.lost_at

    def back(self, now: float) -> bool:
        """Record that the device answers; return whether it had been out of reach."""
        if self.lost_at is None:
            return False
        away, self.lost_at = now - self.lost_at, None
        self.heard_at, self.moved_at = self.heard_at + away, self.moved_at + away
        return True

    def is_stale(self, now: float) -> bool:
        """Return whether the heartbeat is overdue."""
        return now - self.heard_at >= self.deadlines.heartbeat_s

    def is_overdue(self, now: float) -> bool:
        """Return whether nothing has moved for longer than the phase and the schedule explain."""
        if self.phase is None:
            return now - self.moved_at >= self.deadlines.first_status_s
        return now - self.moved_at >= self.deadlines.phase_s.get(self.phase, 300.0) + self.scheduled(self.phase)

    def scheduled(self, phase: str) -> float:
        """Return the seconds without progress that the schedule itself asks for in a phase."""
        limits = {
            "waiting_thermal": ("start_thermal_timeout_s",),
            "cooling": ("cooldown_s",),
            "running": ("max_duration_s", "sustained_duration_s"),
        }
        return sum(float(self.schedule.get(name) or 0) for name in limits.get(phase, ()))

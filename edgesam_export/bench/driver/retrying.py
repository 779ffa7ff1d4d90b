"""Retries of a device command, by the policy in its failure's row of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from edgesam_export.bench.devices.clock import Clock
from edgesam_export.bench.devices.failures import RETRIES, failure_of_kind
from edgesam_export.errors import DeviceFailure

__all__ = ["Attempt", "Notify", "retry"]

T = TypeVar("T")
Notify = Callable[[dict[str, Any]], None]
"""Gets the app's heartbeats, and this side's own reports in their form: ``{"phase": ..., "message": ...}``."""
LONGEST_WAIT_S = 5.0
PHASES = {"unlock": "waiting_unlock", "reconnect": "waiting_device"}


class Attempt(Protocol):
    """A way to run an action that may fail for a while."""

    def __call__(self, action: Callable[[], T]) -> T: ...


def retry(
    action: Callable[[], T],
    *,
    clock: Clock,
    notify: Notify,
    unlock_s: float,
    reconnect_s: float,
    expected: tuple[str, ...] = (),
) -> T:
    """Return the value of ``action``, tried again after failures that pass.

    ``unlock_s`` and ``reconnect_s`` limit the waiting for a hand at the device. Kinds in ``expected`` are the
    caller's business and raised at once.

    Raises:
        DeviceFailure: one that does not pass, or the last one when patience ends.
    """
    patience = {"unlock": unlock_s, "reconnect": reconnect_s}
    since: dict[str, float] = {}
    tries: Counter[str] = Counter()
    while True:
        try:
            return action()
        except DeviceFailure as failure:
            policy = policy_of(failure)
            rule = RETRIES[policy]
            if failure.kind in expected:
                raise
            tries[policy] += 1
            now = clock.monotonic()
            began = since.setdefault(policy, now)
            if rule.attempts is not None and tries[policy] >= rule.attempts:
                raise
            if rule.attempts is None and now - began >= patience[policy]:
                raise type(failure)(
                    f"{failure} (waited {now - began:.0f} s)", kind=failure.kind, chain=failure.chain
                ) from failure
            notify({"phase": PHASES.get(policy, "retrying"), "message": str(failure)})
            clock.sleep(min(rule.first_wait_s * 2 ** (tries[policy] - 1), LONGEST_WAIT_S))


def policy_of(failure: DeviceFailure) -> str:
    """Return the name of the retry policy of a failure; what is not in the table is not tried again."""
    try:
        return failure_of_kind(failure.kind).retry
    except StopIteration:
        return "never"

"""A profile as text for a terminal, and the words that its formats share."""

from __future__ import annotations

from edgesam_export.mil.profiling import Profile
from edgesam_export.rendering import text_table

__all__ = ["SLOWEST", "profile_text", "share", "summary"]

SLOWEST = 20
"""Steps that are listed."""


def profile_text(profile: Profile) -> str:
    """Return the table of kinds, that of the slowest steps, and a summary line."""
    kinds = [
        (kind.kind, str(kind.count), f"{kind.time_ms:.2f}", share(kind.time_ms, profile)) for kind in profile.kinds
    ]
    slowest = [
        (step.name, step.kind, step.output, f"{step.time_ms:.2f}", share(step.time_ms, profile))
        for step in profile.slowest[:SLOWEST]
    ]
    return "\n\n".join(
        (
            text_table(("operation", "steps", "ms", "share"), kinds, right=(1, 2, 3)),
            text_table(("slowest", "operation", "output", "ms", "share"), slowest, right=(3, 4)),
            summary(profile),
        )
    )


def share(time_ms: float, profile: Profile) -> str:
    """Return a time as a part of the whole prediction."""
    return f"{time_ms / profile.total_ms:.1%}"


def summary(profile: Profile) -> str:
    """Return how long a prediction takes, and what the profile is of."""
    rest = profile.total_ms - sum(step.time_ms for step in profile.steps)
    return (
        f"profile: {profile.total_ms:.1f} ms a prediction, {rest:.1f} of it outside the {len(profile.steps)} steps; "
        f"numerics {profile.numerics}, {profile.threads} threads; operations joined by + are computed as one"
    )

"""A profile as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgesam_export.files import json_text
from edgesam_export.mil.profiling import Profile

__all__ = ["SUFFIX", "document", "render"]

SUFFIX = ".json"


def render(profile: Profile) -> str:
    """Return the profile as JSON with sorted keys."""
    return json_text(document(profile))


def document(profile: Profile) -> dict[str, Any]:
    """Return the profile as dictionaries, with the sums by kind too."""
    return {**asdict(profile), "kinds": [asdict(kind) for kind in profile.kinds]}

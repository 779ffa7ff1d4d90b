"""What may keep a package off the Neural Engine: rules, cost, and Core ML's own plan beside them."""

from __future__ import annotations

from edgesam_export.ane.analyzer import analyze

__all__ = ["analyze"]

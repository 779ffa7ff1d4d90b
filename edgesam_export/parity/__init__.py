"""Exported files beside the PyTorch model they came from: what is compared, by which measure, and what may differ."""

from __future__ import annotations

from edgesam_export.parity.check import check_parity

__all__ = ["check_parity"]

"""``python -m edgesam_export.cli``."""

from __future__ import annotations

from edgesam_export.cli.main import main

main()

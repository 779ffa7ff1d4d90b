"""The command line: parse, one library call, render, exit code. Of all modules, only those in here import click.

Heavy imports stay inside commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

from edgesam_export.cli.main import main

__all__ = ["main"]

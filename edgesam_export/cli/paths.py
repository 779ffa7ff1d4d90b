"""Paths as users give them on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["UserPath"]


class UserPath(click.Path):
    """A path; "~" at its beginning is the home folder, which no shell puts there after ``--option=``."""

    def __init__(self, path_type: type = Path) -> None:
        super().__init__(path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; an empty one, as of a variable that is not set, would be the current folder."""
        if value == "":
            self.fail("the path is empty; is a variable not set?", param, ctx)
        return super().convert(os.path.expanduser(os.fspath(value)), param, ctx)

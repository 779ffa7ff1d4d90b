"""Converters print much on a terminal; it is silenced, and what matters is reported in one line of our own."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence log records, warnings, progress bars and texts of other libraries; exceptions pass through."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        # Of stdout too: coreai-torch prints there, where only results belong.
        streams = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
        with warnings.catch_warnings(), streams[0], streams[1]:
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

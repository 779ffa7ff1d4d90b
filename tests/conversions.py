"""What tests share that convert models with coremltools themselves."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet_conversion"]


@contextlib.contextmanager
def quiet_conversion() -> Iterator[None]:
    """Drop what a conversion prints and warns of: versions that coremltools was not tested with, progress bars."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

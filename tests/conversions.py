"""What tests share that convert models with coremltools themselves."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["quiet_conversion", "validate_once"]

PIPELINES = "coremltools.converters.mil.mil.passes.pass_pipeline"


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


def validate_once() -> bool:
    """Have coremltools, if it is imported, check a program at each pipeline's end alone; return whether it is imported.

    It checks the whole program after each of 80 passes, which is two fifths of a conversion and changes nothing.  Our
    own pass is the last of its pipeline, so it is checked as before; and every check is made where packages are not
    exported by pytest's own processes, as for the Swift tests.
    """
    if PIPELINES not in sys.modules:
        return False
    from coremltools.converters.mil.mil import Program

    manager = sys.modules[PIPELINES].PassPipelineManager
    apply, validate = manager.apply_pipeline, Program.validate

    def apply_pipeline(program: Any, pipeline: Any) -> None:
        asked: list[bool] = []
        before = Program.validate  # a pass may run a pipeline of its own
        Program.validate = lambda self, check_essential_scope=False: asked.append(check_essential_scope)
        try:
            apply(program, pipeline)
        finally:
            Program.validate = before
        validate(program, check_essential_scope=any(asked))

    manager.apply_pipeline = staticmethod(apply_pipeline)
    return True

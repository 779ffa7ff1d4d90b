"""Core ML itself, on macOS: a thin adapter that only Apple hardware can exercise (not verified on Linux)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.quiet import quiet
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import Artifact

__all__ = ["CoreMLRunner"]

UNITS = {"all": "ALL", "cpu_only": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ne": "CPU_AND_NE"}


@RUNNERS.register("coreml")
class CoreMLRunner(ArtifactRunner):
    """Runs packages with ``MLModel.predict`` on chosen compute units."""

    formats = ()  # metadata is read by the executor, which needs no Mac
    name = "coreml"

    def __init__(self, artifacts: list[Artifact], *, units: str = "all") -> None:
        super().__init__(artifacts)
        if units not in UNITS:
            raise UsageError(f"compute units '{units}'; choose one of: {', '.join(UNITS)}")
        if sys.platform != "darwin":
            raise RunnerUnavailableError(
                f"cannot run Core ML here: it needs macOS (this is {sys.platform}); use numerics fp32, fp16 or ane"
            )
        with quiet():
            import coremltools as ct

            chosen = getattr(ct.ComputeUnit, UNITS[units])
            self.models = {a.component: ct.models.MLModel(str(a.path), compute_units=chosen) for a in artifacts}
        # Gates: what may run on the Neural Engine is judged like it.
        self.numerics = "ane" if units in ("all", "cpu_and_ne") else "fp16"
        self.name = f"coreml {UNITS[units]}"

    @staticmethod
    def metadata(path: Path) -> dict[str, str]:
        """Not used: packages are read by the executor."""
        raise NotImplementedError(path)

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name."""
        pictures = {name: Image.fromarray(v) if v.dtype == np.uint8 else v for name, v in feed.items()}
        return self.models[component].predict(pictures)

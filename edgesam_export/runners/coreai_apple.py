"""Core AI assets in Apple's own interpreter, which is a second opinion on exact arithmetic and on nothing else."""

from __future__ import annotations

import numpy as np

from edgesam_export.coreai.asset import find_bytecode
from edgesam_export.coreai.child import Interpreter
from edgesam_export.errors import UsageError
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import Artifact

__all__ = ["CoreAIAppleRunner"]

PREFIX = "apple"
MAIN = "main"


@RUNNERS.register("coreai_apple")
class CoreAIAppleRunner(ArtifactRunner):
    """Runs FP32 ``.aimodel`` files in a child process; asked for as ``apple``."""

    formats = ("coreai",)
    prefix = PREFIX
    name = "Apple's interpreter fp32 (Core AI)"

    def __init__(self, artifacts: list[Artifact]) -> None:
        super().__init__(artifacts)
        for artifact in artifacts:
            if artifact.contract.get("precision") != "fp32":
                raise UsageError(
                    f"'{artifact.path}' computes in FP16, whose products Apple's interpreter also sums in FP16, so its"
                    " results say nothing: give an export with --precision fp32, or use the executor's numerics"
                )
        self.interpreters = {one.component: Interpreter(one.path, find_bytecode(one.path), MAIN) for one in artifacts}

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> CoreAIAppleRunner:
        """Return a runner.

        Raises:
            UsageError: files in FP16, or an arithmetic that is asked for.
        """
        if numerics not in (None, "fp32"):
            raise UsageError(f"numerics is '{PREFIX}:{numerics}'; Apple's interpreter is used for fp32 alone")
        return cls(artifacts)

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name."""
        return self.interpreters[component].predict(feed)

    def release(self) -> None:
        """End the child processes; the next call starts others."""
        for interpreter in self.interpreters.values():
            interpreter.close()

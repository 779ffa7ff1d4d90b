"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError, first_line
from edgesam_export.formats.onnx.external_data import read_graph
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import Artifact

__all__ = ["OnnxRuntimeRunner"]


@RUNNERS.register("onnxruntime")
class OnnxRuntimeRunner(ArtifactRunner):
    """Runs ``.onnx`` files with the CPU execution provider."""

    formats = ("onnx",)
    name = "onnxruntime"

    def __init__(self, artifacts: list[Artifact]) -> None:
        super().__init__(artifacts)
        self.numerics = artifacts[0].contract["precision"]
        self.name = f"onnxruntime {self.numerics}"
        self.sessions = {artifact.component: open_session(artifact.path) for artifact in artifacts}

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> OnnxRuntimeRunner:
        """Return a runner.

        Raises:
            UsageError: an arithmetic is asked for, about which the files alone decide.
        """
        if numerics is not None:
            raise UsageError(f"numerics is '{numerics}', but ONNX files decide theirs; leave --numerics out")
        return cls(artifacts)

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name."""
        session = self.sessions[component]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed)))


def open_session(path: Path) -> Any:
    """Return a session on the CPU.

    Raises:
        UsageError: ONNX Runtime cannot load the file, or it wants data from elsewhere.
    """
    import onnxruntime

    read_graph(path)  # ONNX Runtime must not be led to other files
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin for their next task take the cores from whatever else computes: torch here, others on a busy
    # machine. Without, an encoder takes 0.84 times as long on two idle cores and 0.70 on two that others use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"ONNX Runtime cannot load '{path}': {first_line(error)}") from error

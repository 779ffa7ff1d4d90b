"""ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError, first_line
from edgesam_export.formats.onnx.exact import save_exact
from edgesam_export.formats.onnx.external_data import read_graph
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import Artifact

__all__ = ["OnnxRuntimeRunner"]


@RUNNERS.register("onnxruntime")
class OnnxRuntimeRunner(ArtifactRunner):
    """Runs ``.onnx`` files with the CPU execution provider, as they are typed or, FP16 ones, in exact arithmetic."""

    formats = ("onnx",)
    name = "onnxruntime"

    def __init__(self, artifacts: list[Artifact], *, exact: bool = False) -> None:
        super().__init__(artifacts)
        precision = artifacts[0].contract["precision"]
        self.numerics = "fp32" if exact else precision
        self.widened = exact and precision == "fp16"
        self.name = f"onnxruntime {self.numerics}" + (" of fp16 files" if self.widened else "")
        open_file = open_widened if self.widened else open_session
        self.sessions = {artifact.component: open_file(artifact.path) for artifact in artifacts}

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> OnnxRuntimeRunner:
        """Return a runner in the arithmetic that the files are typed in, or with ``fp32`` in exact arithmetic.

        Raises:
            UsageError: other numerics.
        """
        if numerics not in (None, "fp32"):
            raise UsageError(f"numerics is '{numerics}'; ONNX files run as they are typed, or in fp32")
        return cls(artifacts, exact=numerics == "fp32")

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name."""
        session = self.sessions[component]
        if self.widened:  # the values stay those of FP16
            feed = {name: value.astype(np.float32) if value.dtype == "f2" else value for name, value in feed.items()}
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed)))


def open_widened(path: Path) -> Any:
    """Return a session of an FP16 file's graph with every tensor in FP32."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "exact.onnx"
        save_exact(path, target)
        return open_session(target)


def open_session(path: Path) -> Any:
    """Return a session on the CPU.

    Raises:
        UsageError: ONNX Runtime cannot load the file, or it wants data from elsewhere.
    """
    import onnxruntime

    read_graph(path)  # ONNX Runtime must not be led to other files
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"ONNX Runtime cannot load '{path}': {first_line(error)}") from error

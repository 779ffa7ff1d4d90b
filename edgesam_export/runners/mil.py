"""Core ML packages in our own executor, on any machine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.artifacts import chains
from edgesam_export.errors import UsageError
from edgesam_export.mil import Program, load_program
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import NUMERICS, Artifact

__all__ = ["MilRunner"]


@RUNNERS.register("mil")
class MilRunner(ArtifactRunner):
    """Runs ML Programs with one of the executor's numerics; ``ane`` is an estimate."""

    formats = ("coreml",)
    numerics_choices = NUMERICS
    name = "mil"
    label = "executor {}"
    """The runner's name with its numerics."""

    def __init__(self, artifacts: list[Artifact], *, numerics: str = "fp16", device: str = "cpu") -> None:
        super().__init__(artifacts)
        if numerics not in NUMERICS:
            raise UsageError(f"numerics is '{numerics}'; choose one of: {', '.join(NUMERICS)}")
        self.device = device
        self.programs = chains(artifacts, self.load)
        self.set_numerics(numerics)

    def set_numerics(self, numerics: str) -> None:
        """Choose the arithmetic; nothing was called before."""
        self.numerics = numerics
        self.name = self.label.format(numerics)
        self.feeds: dict[str, list[dict[str, Any]]] = {}

    def under(self, numerics: str) -> MilRunner:
        """Return a runner of the same programs with others of the executor's numerics."""
        other = copy.copy(self)
        other.set_numerics(numerics)
        return other

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> MilRunner:
        """Return a runner with these numerics, ``fp16`` by default."""
        return cls(artifacts, numerics="fp16" if numerics is None else numerics, device=device)

    def load(self, path: Path) -> Program:
        """Return the program of a file."""
        return load_program(path)

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component, its parts one after the other; outputs by name."""
        self.feeds[component] = []
        for program in self.programs[component]:
            self.feeds[component].append(feed)
            feed = program.predict(feed, numerics=self.numerics, device=self.device)
        return feed

    def release(self) -> None:
        """Free prepared weights, an FP32 copy for each runner; the next call prepares them again."""
        for program in (part for parts in self.programs.values() for part in parts):
            program.release()

    def replay(self, component: str, part: int = 0) -> tuple[Program, dict[str, Any]]:
        """Return the program and the feed of its latest call; parts count from 0."""
        return self.programs[component][part], self.feeds[component][part]

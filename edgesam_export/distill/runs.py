"""The folder of a training run: configuration, checkpoints, history, curves, samples, weights."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from edgesam_export.distill.config import MAX_STEPS, DistillConfig, config_document, read_config
from edgesam_export.errors import CheckpointError, UsageError
from edgesam_export.export.folding import save_folded
from edgesam_export.files import write_beside, write_json
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Recipe

__all__ = ["RunFolder", "save_weights", "weights_file"]

KEPT = 3
"""Checkpoints that stay; older ones are deleted."""
KEYS = {"student", "average", "optimizer", "scaler", "step", "seconds", "scenes", "history", "lines", "config"}
"""Keys of a checkpoint."""


def weights_file(folder: Path, student: str) -> Path:
    """Return the file of the weights that a run in ``folder`` ends with."""
    return folder / f"{student}.safetensors"


def save_weights(model: SamModel, path: Path, *, half: bool = False) -> None:
    """Write a model's parameters as safetensors, FP32 or FP16; counters of batch norm keep their type."""
    from safetensors.torch import save_file

    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        tensors[name] = value.half() if half and value.is_floating_point() else value
    with write_beside(path) as temporary:
        save_file(tensors, temporary, metadata={"model": model.info.name})


class RunFolder:
    """The files of a run's folder; with ``write`` False nothing is written (all processes but the first)."""

    def __init__(self, folder: Path, config: DistillConfig, *, write: bool) -> None:
        self.folder = folder
        self.config = config
        self.write = write

    def open(self, *, resume: bool) -> None:
        """Create the folder, or check that the run in it is this one.

        Raises:
            UsageError: there is another run, or this one and ``resume`` is False.
        """
        saved = self.folder / "config.json"
        if not self.write:
            return
        if saved.exists():
            other = self.difference(config_document(read_config(saved)))
            if other:
                raise UsageError(f"{self.folder} holds a run with {other}; choose another folder")
            if not resume:
                raise UsageError(f"{self.folder} holds this run already; go on with --resume, or choose another folder")
        elif self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file; name a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(saved, config_document(self.config))

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step_*.pt"))

    def load(self, path: str | Path | None, device: torch.device) -> dict[str, Any] | None:
        """Return a checkpoint's contents, the newest one's without ``path``; None if there is none yet.

        Raises:
            CheckpointError: the file is not a checkpoint of this run.
        """
        if path is None:
            found = self.checkpoints()
            if not found:
                return None
            path = found[-1]
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(f"no checkpoint {path}; there are: {self.names()}") from None
        except Exception as error:  # torch raises whatever its reader meets
            raise CheckpointError(f"{path} is damaged ({type(error).__name__}); resume from another one") from error
        if not isinstance(state, dict) or set(state) != KEYS or not isinstance(state["config"], dict):
            raise CheckpointError(f"{path} is no checkpoint of a training run; there are: {self.names()}")
        if not 0 <= int(state["step"]) <= (MAX_STEPS if self.config.seconds else self.config.steps):
            raise CheckpointError(f"{path} is of step {state['step']}, the run has {self.config.steps}")
        other = self.difference(state["config"])
        if other:
            raise CheckpointError(f"{path} is of a run with {other}; there are: {self.names()}")
        return state

    def difference(self, before: dict[str, Any]) -> str | None:
        """Return the first difference to another run's configuration, None if it is this one's."""
        now = config_document(self.config)
        # A run of an older version lacks the fields that came later; it ran with their defaults.
        before = {**config_document(DistillConfig(student=self.config.student)), **before}
        # a recipe is long
        return next((f"{n} {str(before[n])[:80]}, not {str(now[n])[:80]}" for n in now if now[n] != before[n]), None)

    def names(self) -> str:
        return ", ".join(path.name for path in self.checkpoints()) or "none"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all; delete those that are too old."""
        path = self.folder / "checkpoints" / f"step_{step:08d}.pt"
        with write_beside(path) as temporary:
            torch.save(state, temporary)
        for old in self.checkpoints()[:-KEPT]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()

    def show(self, student: SamModel, history: list[dict[str, float]], step: int) -> None:
        """Write history, curves, an image of samples, and the weights of now, which ``eval`` can read during a run."""
        from edgesam_export.distill.curves import draw_curves, draw_samples

        write_json(self.folder / "history.json", {"steps": history})
        draw_curves(history, self.folder / "curves.png")
        draw_samples(student, self.config, self.folder / "samples" / f"step_{step:08d}.png")
        if self.config.compress is None:
            save_weights(student, self.folder / "latest.safetensors", half=self.config.half)

    def finish(self, student: SamModel, history: list[dict[str, float]]) -> Path:
        """Write the weights; return their path."""
        weights = weights_file(self.folder, self.config.student)
        compress = self.config.compress
        if self.write and compress is not None:
            name = compress.name if isinstance(compress, Recipe) else compress
            save_folded(student, weights, {"edgesam_export.compress": name})
        elif self.write:
            save_weights(student, weights, half=self.config.half)
        return weights

"""What the tests of the commands share: a small model's files in both formats, and its weights as a user's own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgesam_export.families import load_model

TINY = "edge_sam_tiny"
"""The smallest model that has a decoder of its own: what a command does is the subject here, not what a model knows."""


@pytest.fixture(scope="session")
def onnx_pair(export_folder: Path) -> list[Path]:
    """Encoder and decoder."""
    return [export_folder / f"{TINY}_{part}.onnx" for part in ("encoder", "decoder")]


@pytest.fixture(scope="session")
def coreml_pair(export_folder: Path) -> list[Path]:
    """Encoder and decoder."""
    return [export_folder / f"{TINY}_{part}.mlpackage" for part in ("encoder", "decoder")]


@pytest.fixture(scope="session")
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-in weights of the small model as a user's own file, written by ``torch.save``."""
    path = tmp_path_factory.mktemp("own") / "mine.pth"
    torch.save(load_model(TINY, random_weights=12).state_dict(), path)
    return path


@pytest.fixture
def refused(command: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """``refused(word, ...)`` -> the one line on stderr of a command that ends with ``code`` and prints nothing."""

    def run(*words: object, code: int = 2) -> str:
        found, out, err = command(*words, "--quiet")
        assert (found, out) == (code, ""), err
        assert err.startswith(f"edgesam-export {words[0]}: ") and err.endswith("\n")
        assert err.count("\n") == 1 and "Traceback" not in err and "report it" not in err, err
        return err

    return run

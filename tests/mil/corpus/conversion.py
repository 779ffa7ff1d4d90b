"""Packages of the corpus, each converted once while its source and the libraries stay the same.

An entry's folder holds ``model.mlpackage`` and ``calls.npz``: inputs as they are fed to the package and what PyTorch
answers, under ``<call>/in/<name>`` and ``<call>/out/<name>``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversions import quiet_conversion
from corpus_models import CORPUS, LABELS, PIXEL_BIAS, PIXEL_SCALE, Case, ready_to_build
from export_cache import ROOT, cached_folder, digest_of_files, kept_folder, versions_of_libraries

__all__ = ["Call", "Converted", "converted"]

FOLDER = ROOT / "out" / "test-corpus"
SEED = 3


@dataclass(frozen=True)
class Call:
    """One prediction: what goes in, and what PyTorch makes of it."""

    feed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


@dataclass(frozen=True)
class Converted:
    """An entry of the corpus as a user has it."""

    package: Path
    calls: tuple[Call, ...]


@cache
def corpus_folder() -> Path:
    """Return the folder of the corpus as its sources and libraries are now."""
    sources = digest_of_files([Path(__file__), Path(__file__).with_name("corpus_models.py")], Path(__file__).parent)
    return kept_folder(FOLDER, f"{sources} {versions_of_libraries('transformers')}")


def converted(name: str) -> Converted:
    """Return an entry, converted now unless an undamaged package of the same source is there."""
    folder = cached_folder(corpus_folder(), name, lambda staging: convert(name, staging))
    with np.load(folder / "calls.npz") as stored:
        parts = [(key.split("/", 2), stored[key]) for key in stored.files]
    calls = [
        Call(*({n: v for (i, s, n), v in parts if (i, s) == (index, side)} for side in ("in", "out")))
        for index in sorted({index for (index, _, _), _ in parts})
    ]
    return Converted(folder / "model.mlpackage", tuple(calls))


def convert(name: str, folder: Path) -> None:
    """Build an entry, ask PyTorch for its answers, convert it."""
    import coremltools as ct

    with quiet_conversion(), ready_to_build(), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        case = CORPUS[name]()
        traced = torch.jit.trace(copy.deepcopy(case.module), network_inputs(case, 0), check_trace=False)
        package = ct.convert(
            traced,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18 if case.states else ct.target.iOS16,
            compute_precision=ct.precision[case.precision],
            skip_model_load=True,
            **(features_of(case) | case.options),
        )
        package.save(str(folder / "model.mlpackage"))
        np.savez(folder / "calls.npz", **answers(case))


def features_of(case: Case) -> dict[str, Any]:
    """Return the options of ``coremltools.convert`` that describe inputs, outputs and states."""
    import coremltools as ct

    shapes = [tuple(value.shape) for value in case.calls[0]]
    if case.classifies:
        image = ct.ImageType(name=case.inputs[0], shape=shapes[0], scale=PIXEL_SCALE, bias=[PIXEL_BIAS] * 3)
        return {"inputs": [image], "classifier_config": ct.ClassifierConfig(list(LABELS))}
    features = {
        "inputs": [ct.TensorType(name=name, shape=shape) for name, shape in zip(case.inputs, shapes, strict=True)],
        "outputs": [ct.TensorType(name=name, dtype=np.float32) for name in case.outputs],
    }
    if case.states:
        cells = [(name, ct.TensorType(shape=shape, dtype=np.float16)) for name, shape in case.states.items()]
        features["states"] = [ct.StateType(wrapped_type=cell, name=name) for name, cell in cells]
    return features


def network_inputs(case: Case, call: int) -> tuple[torch.Tensor, ...]:
    """Return what the module gets: of an image its pixels, scaled as the package does it."""
    values = case.calls[call]
    return tuple(value * PIXEL_SCALE + PIXEL_BIAS for value in values) if case.classifies else values


def answers(case: Case) -> dict[str, np.ndarray]:
    """Return inputs and PyTorch's outputs of all calls, one after the other, as ``calls.npz`` holds them."""
    arrays = {}
    for index, values in enumerate(case.calls):
        outputs = case.module(*network_inputs(case, index))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for name, value in zip(case.inputs, values, strict=True):
            fed = value[0].permute(1, 2, 0).byte() if case.classifies else value
            arrays[f"{index}/in/{name}"] = fed.numpy()
        for name, value in zip(case.outputs, outputs, strict=True):
            arrays[f"{index}/out/{name}"] = value.numpy()
    return arrays

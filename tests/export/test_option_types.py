"""Options of an export as Python callers pass them: NumPy's numbers and lists are taken, texts for numbers refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.spec import CoreMLConfig, OnnxConfig


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"points": np.int64(4), "queries": np.uint8(2)}, {"points": 4, "queries": 2}),
        ({"points": 8.0, "candidates": np.int32(3)}, {"points": 8, "candidates": 3}),
        ({"candidates": "dynamic"}, {"candidates": "dynamic"}),
        ({"mask_input": np.True_, "tensor_input": 0}, {"mask_input": True, "tensor_input": False}),
        ({"functions": [np.int64(2)], "target": "iOS18"}, {"functions": (2,)}),
        ({"keep_fp16": ["a.b"], "rewrites": []}, {"keep_fp16": ("a.b",), "rewrites": ()}),
        ({"activations": "int8", "activations_db": np.float32(30)}, {"activations_db": 30.0}),
    ],
)
def test_numbers_and_lists_become_those_of_python(given: dict[str, Any], meant: dict[str, Any]) -> None:
    config = CoreMLConfig(**given)
    for name, value in meant.items():
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is type(value)
    json.dumps(asdict(config))  # what the contract does


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": "8"}, "points is '8'; give an integer"),
        ({"points": 7.5}, "points is 7.5; give an integer"),
        ({"queries": True}, "queries is True; give an integer"),
        ({"mask_input": "no"}, "mask_input is 'no'; give True or False"),
        ({"split_encoder": 2}, "split_encoder is 2; give True or False"),
        ({"keep_fp16": "neck"}, r"keep_fp16 is 'neck'; give a tuple, of one value \('neck',\)"),
        ({"functions": 2, "target": "iOS18"}, r"functions is 2; give a tuple, of one value \(2,\)"),
        ({"functions": ("2",), "target": "iOS18"}, "functions is '2'; give an integer"),
        ({"activations": "int8", "activations_db": float("nan")}, "activations_db is nan; give a number"),
    ],
)
def test_other_types_are_refused_by_the_name_of_the_option(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CoreMLConfig(**given)


def test_options_of_onnx_are_held_to_the_same() -> None:
    assert type(OnnxConfig(opset=np.int64(18)).opset) is int
    with pytest.raises(UsageError, match="opset is '18'; give an integer"):
        OnnxConfig(opset="18")  # type: ignore[arg-type]

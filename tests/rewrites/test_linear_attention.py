"""Linear attention as nested means: the same ratio, and one that FP16 can hold, shown in the executor."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesam_export.families import load_model
from edgesam_export.families.efficientvit_sam import ReluLinearAttention
from edgesam_export.mil.program import load_program
from edgesam_export.rewrites import REWRITES, apply_rewrites
from edgesam_export.rewrites.linear_attention import NestedMeansAttention, linear_attention_as_means

NAME = "linear_attention_as_means"
HEADS, WIDTH, CELLS = 4, 32, 256
FORMS = {"unrewritten": ReluLinearAttention(CELLS), "rewritten": NestedMeansAttention(CELLS)}
EXACT_DB = 55.0
"""Ten times FP16's own rounding of a result (2^-12 or so, 75 dB): six values are rounded on the way."""


def random(*shape: int, seed: int, size: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return size * (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift)


def heads(size: float = 1.0, cells: int = CELLS) -> tuple[torch.Tensor, ...]:
    """q, k and v of one magnitude; values of one sign, so that their sums grow with the number of cells."""
    shape = (1, HEADS, WIDTH, cells)
    return random(*shape, seed=1, size=size), random(*shape, seed=2, size=size), random(*shape, seed=3, shift=2.0)


def by_weights(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Every value weighted by relu(q) . relu(k) of its cell, the weights of a query summing to one, in float64."""
    weights = q.double().relu().transpose(2, 3) @ k.double().relu()  # (1, heads, queries, keys)
    total = weights.sum(3, keepdim=True)
    weights = torch.where(total > 0, weights / total, 0.0)
    return torch.einsum("bhqk,bhdk->bhdq", weights, v.double())


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("form", [ReluLinearAttention, NestedMeansAttention])
@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("cells", [16, 256, 1024])
def test_both_forms_are_the_weighted_mean(form, size, cells):
    tensors = heads(size, cells)
    assert relative(form(cells)(*tensors), by_weights(*tensors)) <= 1e-6


def test_silent_heads_channels_and_queries_give_zero_or_do_not_count():
    q, k, v = heads()
    q[:, 0] = -1.0  # a head without queries
    k[:, 1] = -1.0  # a head without keys
    k[:, 2, 5] = -1.0  # a channel without keys
    q[:, 3, :, 7] = -1.0  # one query
    found, expected = NestedMeansAttention(CELLS)(q, k, v), by_weights(q, k, v)
    assert relative(found, expected) <= 1e-6
    assert not found[:, :2].any() and not found[:, 3, :, 7].any()
    assert found[:, 2:, :, :7].all()


# ---------------------------------------------------------------------------------------- in FP16


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Both forms as FP16 programs with inputs q, k and v."""
    return {name: load_program(convert(form, tmp_path_factory.mktemp(name))) for name, form in FORMS.items()}


def convert(module: torch.nn.Module, folder: Path) -> Path:
    import coremltools as ct

    tensors = heads()
    path = folder / "attention.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of tracing, which coremltools 9.0 still wants
        traced = torch.jit.trace(module.eval(), tensors, check_trace=False)
    package = ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[ct.TensorType(name=name, shape=tensors[0].shape, dtype=np.float16) for name in "qkv"],
        outputs=[ct.TensorType(name="attended", dtype=np.float16)],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    package.save(str(path))
    return path


def attend(program, tensors: tuple[torch.Tensor, ...], numerics: str) -> np.ndarray:
    feed = {name: tensor.numpy().astype(np.float16) for name, tensor in zip("qkv", tensors)}
    return program.predict(feed, numerics=numerics)["attended"].astype(np.float64)


def psnr(found: np.ndarray, tensors: tuple[torch.Tensor, ...]) -> float:
    """Of ``found`` against exact attention to what FP16 inputs hold; NaN stays NaN."""
    expected = by_weights(*(tensor.half() for tensor in tensors)).numpy()
    return float(10 * np.log10(np.abs(expected).max() ** 2 / np.mean((found - expected) ** 2)))


@pytest.mark.parametrize("numerics", ["fp16", "ane"])
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0, 1000.0])
def test_rewritten_form_holds_in_fp16_whatever_the_size_of_queries_and_keys(programs, size, numerics):
    tensors = heads(size)
    assert psnr(attend(programs["rewritten"], tensors, numerics), tensors) >= EXACT_DB


@pytest.mark.parametrize(("size", "numerics"), [(1000.0, "fp16"), (30.0, "fp16"), (30.0, "ane"), (10.0, "ane")])
def test_unrewritten_form_overflows(programs, size, numerics):
    assert not np.isfinite(attend(programs["unrewritten"], heads(size), numerics)).all()


@pytest.mark.parametrize("numerics", ["fp16", "ane"])
def test_queries_that_see_nothing_are_zero_in_fp16_too(programs, numerics):
    q, k, v = heads()
    q[:, 3, :, 7] = -1.0
    found = attend(programs["rewritten"], (q, k, v), numerics)
    assert np.isfinite(found).all() and not found[:, 3, :, 7].any()
    assert psnr(found, (q, k, v)) >= EXACT_DB


@pytest.mark.parametrize("numerics", ["fp16", "ane"])
def test_large_values_of_many_cells_hold_in_fp16(programs, numerics):
    q, k, v = heads(30.0)
    tensors = q, k, 300.0 * v
    assert psnr(attend(programs["rewritten"], tensors, numerics), tensors) >= EXACT_DB


def test_every_value_on_the_way_stays_small(programs):
    """Not by luck of these numbers: sums of weights stay below d * cells, products below sqrt(cells) * value."""
    tensors, largest = heads(1000.0), {}

    def look(op, name, value):
        if op.type not in ("const", "relu", "split", "cast"):
            largest[op.type] = max(largest.get(op.type, 0.0), float(np.abs(np.asarray(value, np.float64)).max()))

    feed = {name: tensor.numpy().astype(np.float16) for name, tensor in zip("qkv", tensors)}
    programs["rewritten"].predict(feed, numerics="fp16", probe=look)
    assert largest["reduce_sum"] <= WIDTH * CELLS
    assert largest["matmul"] <= CELLS**0.5 * float(tensors[2].abs().max())


# ---------------------------------------------------------------------------------- in the network


def test_rewrite_changes_the_whole_network_within_its_tolerance():
    model = load_model("efficientvit_sam_l0", random_weights=11)
    picture = random(1, 3, 512, 512, seed=5)
    rewritten = apply_rewrites(model, (NAME,))
    kinds = [type(module) for module in rewritten.image_encoder.modules()]
    assert kinds.count(NestedMeansAttention) == 4 and ReluLinearAttention not in kinds
    assert sum(isinstance(module, ReluLinearAttention) for module in model.modules()) == 4
    expected = model.encode(picture)
    assert 0 < relative(rewritten.encode(picture), expected) <= REWRITES[NAME].tolerance
    assert REWRITES[NAME].recommended_for("coreml") and REWRITES[NAME].recommended_for("onnx")
    assert REWRITES[NAME].apply is linear_attention_as_means

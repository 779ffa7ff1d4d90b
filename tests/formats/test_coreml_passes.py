"""Slices in a row become one operation of a package, and still give what PyTorch gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil.block import InvalidBlockStateError
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
from coremltools.converters.mil.mil.passes.pass_registry import register_pass
from torch import Tensor, nn

from edgesam_export.export.quiet import quiet
from edgesam_export.formats.coreml.passes import NAME, pipeline
from edgesam_export.mil import Program, load_program


class Slicing(nn.Module):
    def __init__(self, cut: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.cut(x))


def converted(cut: Callable[[Tensor], Tensor], x: Tensor, folder) -> Program:
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        package = ct.convert(
            torch.jit.trace(Slicing(cut), x),
            inputs=[ct.TensorType(name="x", shape=x.shape)],
            outputs=[ct.TensorType(name="y")],
            minimum_deployment_target=ct.target.iOS17,
            pass_pipeline=pipeline(),
            skip_model_load=True,
        )
        package.save(str(folder / "sliced.mlpackage"))
    return load_program(folder / "sliced.mlpackage")


@pytest.mark.parametrize(
    ("cut", "slices"),
    [
        (lambda x: x[:, :, :4, :3], 1),
        (lambda x: x[:, 1:, 2:-1, -3:], 1),
        (lambda x: x[:, :, 1:6][:, :, 2:4], 1),  # twice along one axis
        (lambda x: x[:, :, ::2, :3], 2),  # a stride is not a range
        (lambda x: (part := x[:, :, :4])[..., :3].repeat(1, 1, 1, 2) + part, 2),  # the first one has another reader
    ],
    ids=["crop", "offsets", "one axis", "stride", "shared"],
)
def test_slices_in_a_row_are_merged_and_compute_the_same(cut, slices, tmp_path):
    x = torch.randn(1, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    program = converted(cut, x, tmp_path)
    assert [operation.type for operation in program.operations].count("slice_by_index") == slices
    found = program.predict({"x": x.numpy()}, numerics="fp32")["y"]
    expected = Slicing(cut)(x).numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() < 2e-3  # FP16 inside


def test_coremltools_own_pipeline_stays_as_it_is():
    pipeline()
    assert pipeline().passes.count(NAME) == 1 and NAME not in ct.PassPipeline.DEFAULT.passes


def test_the_tests_conversions_still_refuse_a_program_that_is_wrong_at_a_pipelines_end():
    """tests/conversions.py puts off the checks between passes."""

    @mb.program(input_specs=[mb.TensorSpec((1, 3))])
    def program(x):
        return mb.relu(x=mb.abs(x=x))

    @register_pass(namespace="edgesam_tests", override=True)
    class forget_a_reader(AbstractGraphPass):  # its name is that of the pass
        def apply(self, program):
            program.functions["main"].find_ops(op_type="abs")[0].outputs[0].child_ops.clear()

    passes = ct.PassPipeline(["edgesam_tests::forget_a_reader"], "with a mistake")
    assert PassPipelineManager.apply_pipeline.__module__ == "conversions"
    with quiet(), pytest.raises(InvalidBlockStateError, match="should be consumed by op"):
        PassPipelineManager.apply_pipeline(program, passes)

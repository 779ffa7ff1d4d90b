"""Memory of tensors: dense ones are told from others; malloc keeps what is freed as long as somebody asks for it."""

import gc

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb

from edgesam_export.mil import load_program, memory
from edgesam_export.mil.memory import KEEPING, RELEASING, is_dense, keep_freed_memory, pieces


@pytest.mark.parametrize(
    ("value", "dense"),
    [
        (torch.zeros(2, 3, 4), True),
        (torch.zeros(2, 3, 4).permute(2, 0, 1), True),
        (torch.zeros(1, 3, 4, 5).contiguous(memory_format=torch.channels_last), True),
        (torch.zeros(0, 3), True),
        (torch.zeros(1, 3).expand(4, 3), False),
        (torch.zeros(4, 6)[:, ::2], False),
        (torch.zeros(4, 6)[:, 1:], False),
        (torch.zeros(4, 6)[1:], True),
    ],
)
def test_dense_memory_has_no_gaps(value: torch.Tensor, dense: bool) -> None:
    assert is_dense(value) == dense


def test_pieces_cover_a_view_and_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CHUNK", 5)
    base = torch.zeros(4, 6)
    for piece in pieces(base[1:3].t()):
        piece += 1
    assert base.sum(dim=1).tolist() == [0, 6, 6, 0]


class Owner:
    """Anything that can be collected."""


class Library:
    """Records what malloc is asked."""

    def __init__(self) -> None:
        self.parameters: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, name: int, value: int) -> None:
        self.parameters[name] = value

    def malloc_trim(self, kept: int) -> None:
        self.trimmed += 1


def test_memory_is_kept_until_the_last_owner_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(memory, "glibc", lambda: library)
    monkeypatch.setattr(memory, "keepers", set())
    first, second = Owner(), Owner()
    keep_freed_memory(first)
    keep_freed_memory(second)
    del first
    gc.collect()
    assert library.parameters == KEEPING and library.trimmed == 0
    del second
    gc.collect()
    assert library.parameters == RELEASING and library.trimmed == 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "glibc", lambda: None)
    keep_freed_memory(Owner())


@pytest.mark.parametrize(("shape", "kept"), [((1, 8, 1, 35), True), ((1, 4, 2, 35), False)])
def test_a_reshape_of_rows_and_columns_keeps_the_layout_that_a_convolution_wants(converted, shape, kept):
    @mb.program(input_specs=[mb.TensorSpec((1, 8, 5, 7))], opset_version=ct.target.iOS17)
    def program(x):
        y = mb.reshape(x=mb.add(x=x, y=np.float32(1.0)), shape=shape, name="reshaped")
        return mb.conv(x=y, weight=np.ones((2, shape[1], 1, 1), np.float32), name="out")

    layouts = {}

    def remember(operation, name, value):
        layouts[operation.type] = value.is_contiguous(memory_format=torch.channels_last)

    values = np.arange(280, dtype=np.float32).reshape(1, 8, 5, 7)
    found = load_program(converted(program)).predict({"x": values}, numerics="fp32", probe=remember)["out"]
    assert layouts["add"] is kept
    assert np.array_equal(found[0, 0], (values + 1).reshape(shape).sum(1)[0])

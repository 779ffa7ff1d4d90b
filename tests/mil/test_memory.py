"""Memory of tensors: dense ones are told from others; malloc keeps what is freed as long as somebody asks for it."""

import gc
import subprocess
import sys
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb

from edgesam_export.mil import load_program, memory
from edgesam_export.mil.memory import KEEPING, RELEASING, channels_last, is_dense, keep_freed_memory, pieces
from edgesam_export.spec import NUMERICS


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32])
@pytest.mark.parametrize(
    "value",
    [
        torch.arange(80 * 63.0).view(1, 80, 9, 7),
        torch.arange(80 * 63.0).view(1, 80, 1, 63),
        torch.arange(80.0).view(1, 80, 1, 1),
        torch.arange(3 * 63.0).view(1, 3, 9, 7),
        torch.arange(2 * 80 * 63.0).view(2, 80, 9, 7),
        torch.arange(80 * 63.0).view(1, 80, 7, 9).mT,
        torch.arange(80 * 126.0).view(1, 80, 18, 7)[:, :, ::2],
        torch.arange(63.0).view(1, 1, 9, 7).expand(1, 80, 9, 7),
        torch.zeros(1, 80, 0, 7),
    ],
)
def test_channels_last_memory_has_the_values_and_strides_of_torchs(value: torch.Tensor, dtype: torch.dtype) -> None:
    value = value.to(dtype)
    found, expected = channels_last(value), value.contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride() or not value.numel()
    assert channels_last(found) is found


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

    def malloc(self, size: int) -> None:
        """Refuses, as where the process may not have so many addresses."""


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


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="no huge pages here")
def test_what_malloc_keeps_is_in_huge_pages() -> None:
    """In a process of its own: a value that is made then lies in a stretch that the system backs with huge pages."""
    code = """
import torch
from edgesam_export.mil.memory import keep_freed_memory
class Owner: pass
owner = Owner()
keep_freed_memory(owner)
value = torch.ones(8 << 20, dtype=torch.uint8)  # NumPy asks for huge pages by itself
address = value.data_ptr() + value.numel() // 2
inside = False
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        first, last = (int(word, 16) for word in line.split()[0].split("-"))
        inside = first <= address < last
    elif inside and line.startswith("VmFlags"):
        print("hg" in line.split())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


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


@pytest.mark.parametrize("numerics", NUMERICS)
def test_a_constant_per_channel_is_repeated_over_a_row_and_gives_the_same_numbers(converted, numerics):
    mean = np.float32([0.25, -2.0, 64.5]).reshape(1, 3, 1, 1)

    @mb.program(input_specs=[mb.TensorSpec((1, 3, 5, 7))], opset_version=ct.target.iOS17)
    def program(x):
        return mb.conv(x=mb.sub(x=x, y=mean), weight=np.ones((2, 3, 1, 1), np.float32), name="out")

    seen = {}
    loaded = load_program(converted(program))
    values = np.arange(105, dtype=np.float32).reshape(1, 3, 5, 7) / 8
    loaded.predict({"x": values}, numerics=numerics, probe=lambda operation, name, value: seen.update({name: value}))
    (found,) = [step for step in loaded.prepare(numerics).block.fused if step.operation.type == "sub"]
    assert [value.shape[3] for value in found.call.positional if value is not None] == [7]
    np.testing.assert_array_equal(seen[found.outputs[0][1]], values - mean)

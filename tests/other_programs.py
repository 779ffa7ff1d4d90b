"""Code of other projects that tests run: installed by ``tests/install_others.py``, imported for a test, then forgotten.

None of it is copied here. What a program needs beyond its arithmetic is replaced by stand-ins: timm, of which the
networks take initialisation and a dropout that is off, and the operators that torchvision declares in a library that
loads beside a CUDA build of PyTorch only.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

PROGRAMS = Path(sys.prefix) / "consumers"
TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width,"
    " int sampling_ratio, bool aligned) -> Tensor",
)
DECLARED: list[torch.library.Library] = []
"""Libraries of declared operators; they live as long as this list holds them."""


def require(*names: str) -> list[str]:
    """Return the folders of programs, or skip the test with the one that is not installed."""
    for name in names:
        if not (PROGRAMS / name).is_dir():
            pytest.skip(f"{name} is not installed (tests/install_others.py)")
    return [str(PROGRAMS / name) for name in names]


def stand_ins_for_timm() -> dict[str, ModuleType]:
    """Return modules with the names that TinyViT takes from timm."""
    names = ("timm", "timm.models", "timm.models.layers", "timm.models.registry")
    modules = {name: ModuleType(name) for name in names}
    layers = modules["timm.models.layers"]
    layers.DropPath, layers.to_2tuple = torch.nn.Identity, lambda value: (value, value)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    modules["timm.models.registry"].register_model = lambda function: function
    return modules


@contextmanager
def importable(
    folders: Sequence[str] = (), *, stand_ins: dict[str, ModuleType] | None = None, forgotten: Sequence[str] = ()
) -> Iterator[None]:
    """Let modules be imported from folders and from stand-ins.

    Afterwards none of them, nor of the packages ``forgotten``, is known any more.
    """
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(folder)
        for name, module in (stand_ins or {}).items():
            patch.setitem(sys.modules, name, module)
        yield
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name.partition(".")[0] in forgotten or file.startswith(tuple(folders)):
                del sys.modules[name]


def declare_torchvision_operators() -> None:
    """Declare the operators that ``import torchvision`` describes; beside a CPU build of PyTorch nobody else does."""
    if DECLARED or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in TORCHVISION_OPERATORS:
        library.define(schema)
    DECLARED.append(library)


@contextmanager
def segment_anything_and(*names: str) -> Iterator[None]:
    """Let segment-anything and programs that build on it be imported."""
    folders = require("torchvision", "opencv-python-headless", "segment-anything", *names)
    declare_torchvision_operators()
    with importable(folders, stand_ins=stand_ins_for_timm()):
        yield


def module_of_a_package(folder: str, name: str) -> ModuleType:
    """Return one module of a package without running its packages' own ``__init__``, which may open windows."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        package = ModuleType(".".join(parts[:depth]))
        package.__path__ = [str(Path(folder, *parts[:depth]))]
        sys.modules[package.__name__] = package
    return importlib.import_module(name)

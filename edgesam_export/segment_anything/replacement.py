"""Programs that import ``segment_anything`` or ``sam2`` themselves get the names of this package."""

from __future__ import annotations

import sys
from types import ModuleType

from edgesam_export.errors import UsageError
from edgesam_export.segment_anything import (
    mask_generator,
    model_registry,
    predictor,
    sam2_mask_generator,
    sam2_models,
    sam2_predictor,
    transforms,
)

__all__ = ["replace_sam2", "replace_segment_anything"]


def replace_segment_anything() -> None:
    """Have every later import of ``segment_anything``, and of its modules that programs name, find this package.

    Raises: UsageError when the original is imported already: whoever did so keeps it.
    """
    modules = {
        "automatic_mask_generator": mask_generator,
        "build_sam": model_registry,
        "modeling": predictor,
        "predictor": predictor,
        "utils.transforms": transforms,
    }
    ours = sys.modules[__name__.rpartition(".")[0]]
    names = {name: getattr(ours, name) for name in ours.__all__}
    replace("segment_anything", modules, names, by="replace_segment_anything")


def replace_sam2() -> None:
    """Have every later import of ``sam2``, and of its modules that image programs name, find this package.

    Raises: UsageError when the original is imported already: whoever did so keeps it.
    """
    modules = {
        "automatic_mask_generator": sam2_mask_generator,
        "build_sam": sam2_models,
        "modeling.sam2_base": sam2_models,
        "sam2_image_predictor": sam2_predictor,
    }
    replace("sam2", modules, {}, by="replace_sam2")


def replace(package: str, modules: dict[str, ModuleType], names: dict[str, object], *, by: str) -> None:
    """Have imports of a package find ``modules``, by their names below it, and ``names`` in the package itself."""
    found = sys.modules.get(package)
    if found is not None and not any(vars(found).get(path) is module for path, module in modules.items()):
        raise UsageError(f"{package} is imported already; call {by} before whatever imports it")
    all_modules = {package: ModuleType(package, __doc__)}
    vars(all_modules[package]).update(names)
    for path, module in modules.items():
        parent = all_modules[package]
        *folders, name = path.split(".")
        for depth, folder in enumerate(folders, start=1):
            full = ".".join([package, *folders[:depth]])
            below = all_modules.setdefault(full, ModuleType(full, __doc__))
            vars(parent)[folder], parent = below, below
        vars(parent)[name] = all_modules[f"{package}.{path}"] = module
    sys.modules.update(all_modules)

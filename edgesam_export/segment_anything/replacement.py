"""Programs that import ``segment_anything`` themselves get the names of this package."""

from __future__ import annotations

import sys
from types import ModuleType

from edgesam_export.errors import UsageError
from edgesam_export.segment_anything import mask_generator, model_registry, predictor, transforms

__all__ = ["replace_segment_anything"]

NAME = "segment_anything"


def replace_segment_anything() -> None:
    """Have every later import of ``segment_anything``, and of its modules that programs name, find this package.

    Raises: UsageError when the original is imported already: whoever did so keeps it.
    """
    found = sys.modules.get(NAME)
    if found is not None and vars(found).get("SamPredictor") is not predictor.SamPredictor:
        raise UsageError(f"{NAME} is imported already; call replace_segment_anything before whatever imports it")
    ours = sys.modules[__name__.rpartition(".")[0]]
    package, utils = ModuleType(NAME, __doc__), ModuleType(f"{NAME}.utils")
    vars(utils)["transforms"] = transforms
    modules = {
        "automatic_mask_generator": mask_generator,
        "build_sam": model_registry,
        "modeling": predictor,
        "predictor": predictor,
        "utils": utils,
    }
    vars(package).update({name: getattr(ours, name) for name in ours.__all__} | modules)
    sys.modules.update({NAME: package, f"{NAME}.utils.transforms": transforms})
    sys.modules.update({f"{NAME}.{name}": module for name, module in modules.items()})

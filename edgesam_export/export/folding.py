"""Models whose branches are folded for good: the form in which compressed weights can be trained.

Compression acts on the convolutions that an export writes, batch norms folded and parallel branches joined. Weights
trained in that form cannot go back into the branches, so a checkpoint may hold the folded model instead; its keys tell.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from edgesam_export.files import write_beside
from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import apply_rewrites

__all__ = ["folded_model", "forms_of", "matching_form", "save_folded"]

FOLDING = ("fold_branches",)


def folded_model(model: SamModel) -> SamModel:
    """Return a folded copy with parameters of its own; it computes what ``model`` does and exports like it."""
    return copy.deepcopy(apply_rewrites(model, FOLDING))


def forms_of(model: SamModel) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors of each form that a checkpoint may hold: those of the model, then those of it folded."""
    yield model.state_dict()
    yield apply_rewrites(model, FOLDING).state_dict()


def matching_form(model: SamModel, state_dict: Mapping[str, Tensor]) -> SamModel:
    """Return ``model``, or its folded form where the keys of ``state_dict`` are those of that one."""
    keys = set(state_dict)
    if keys == set(model.state_dict()):
        return model
    folded = apply_rewrites(model, FOLDING)
    return folded if keys == set(folded.state_dict()) else model


def save_folded(model: SamModel, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the parameters as safetensors, FP32: half precision would move values that sit on a palette.

    ``notes`` are further texts for the file's header.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    header = {"format": "pt", "edgesam_export.model": model.info.name, "edgesam_export.form": "folded", **(notes or {})}
    with write_beside(path) as temporary:
        save_file(tensors, temporary, metadata=header)

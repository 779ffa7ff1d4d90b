"""An export's own modules with weights as any recipe stores them: masks for agreement, gradients for sensitivity.

Computed are the very modules that are converted, in FP32, on values that a package holds bit for bit. What FP16
arithmetic adds is small beside compression, and part of the parity of what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgesam_export.export.compression import Kernel, find_scheme, kernels_of, stored_values
from edgesam_export.imaging.feeds import encoder_input, fill_slots, mask_inputs
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.masks import iou
from edgesam_export.modeling.sam import SamModel, as_maps
from edgesam_export.runners.base import Runner
from edgesam_export.runners.torch import StoredWeightsRunner, as_tensor
from edgesam_export.shrink.agreement import Agreement, PromptResult
from edgesam_export.shrink.allocation import Choice, Key
from edgesam_export.shrink.prompts import Asked, Case, counted_mask
from edgesam_export.spec import UNCOMPRESSED, Artifact, Progress

__all__ = ["Simulation", "agreement_of"]


class Simulation:
    """A model in the form of an export without compression, whose weights can be replaced kernel by kernel."""

    def __init__(self, model: SamModel, artifacts: Sequence[Artifact]) -> None:
        """``artifacts`` are the packages of the uncompressed export."""
        self.runner = StoredWeightsRunner(model, artifacts)
        self.kernels: dict[Key, Kernel] = {
            (component, path): kernel
            for component, module in self.runner.modules.items()
            for path, kernel in kernels_of(module, component).items()
        }
        self.original = {key: self.weight(key) for key in self.kernels}
        """Weights as the uncompressed packages have them."""
        self.kept: dict[tuple[Key, str], Tensor] = {}

    def weight(self, key: Key) -> Tensor:
        """Return a kernel's weight as it is now."""
        component, path = key
        module = self.runner.modules[component]
        if self.kernels[key].is_table:
            return module.get_buffer(path).detach()
        return module.get_submodule(path).get_parameter("weight").detach()

    def values(self, key: Key, scheme: str) -> Tensor:
        """Return the weight that a package stores with a scheme, float32."""
        if scheme == UNCOMPRESSED:
            return self.original[key]
        if (key, scheme) not in self.kept:
            stored = stored_values(self.original[key], find_scheme(scheme), self.kernels[key].axis)
            self.kept[key, scheme] = stored.half()  # Core ML rounds products with scales to FP16
        return self.kept[key, scheme].float()

    def put(self, key: Key, value: Tensor, *, trained: bool = False) -> Tensor:
        """Replace a kernel's weight by a tensor of these values, and return it."""
        component, path = key
        module = self.runner.modules[component]
        if self.kernels[key].is_table:
            table = value.detach().clone().requires_grad_(trained)
            setattr(module, path, table)
            return table
        parameter = nn.Parameter(value, requires_grad=trained)
        module.get_submodule(path).weight = parameter
        return parameter

    def use(self, choice: Choice) -> None:
        """Store every kernel as chosen, those that are not named in FP16."""
        for key in self.kernels:
            self.put(key, self.values(key, choice.get(key, UNCOMPRESSED)))

    # ------------------------------------------------------------------------------------------------------ agreement

    def agreement(self, cases: Sequence[Case], progress: Progress | None = None, text: str = "") -> Agreement:
        """Return how far masks agree with the FP32 model's, with the weights as they are now."""
        return agreement_of(self.runner, cases, progress, text)

    # ------------------------------------------------------------------------------------------------------ gradients

    def embed(self, prepared: PreparedImage) -> tuple[Tensor, ...]:
        """Return the maps of an image's embedding; gradients of weights that are trained are kept."""
        contract = self.runner.contract_of("encoder")
        pixels = as_tensor(encoder_input(prepared, contract), contract["inputs"][0])
        return as_maps(self.runner.modules["encoder"](pixels))

    def decoded(self, maps: Sequence[Tensor], asked: Asked) -> tuple[Tensor, Tensor]:
        """Return logits of the shown mask (256, 256) and all scores (M,), with gradients likewise."""
        contract = self.runner.contract_of("decoder")
        coords, labels = fill_slots(
            asked.packed.coords, asked.packed.labels, self.runner.slots, fixed=self.runner.fixed_slots
        )
        values: dict[str, Any] = {
            "point_coords": coords,
            "point_labels": labels,
            **mask_inputs([asked.packed.mask]),
            **dict(zip(self.runner.embedding_names, maps, strict=True)),
        }
        inputs = [
            value if isinstance(value := values[spec["name"]], Tensor) else as_tensor(value, spec)
            for spec in contract["inputs"]
        ]
        logits, scores, *_ = self.runner.modules["decoder"](*inputs)
        return logits[0, asked.token], scores[0]

    def gradients(self, output: Tensor, weights: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        """Return the gradient of a number for every weight that it depends on; the graph stays."""
        found = torch.autograd.grad(output, list(weights.values()), retain_graph=True, allow_unused=True)
        return {key: gradient for key, gradient in zip(weights, found) if gradient is not None}


def agreement_of(runner: Runner, cases: Sequence[Case], progress: Progress | None = None, text: str = "") -> Agreement:
    """Return how far a runner's masks agree with those of the cases."""
    results = []
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number, len(cases), text)
        embedding = runner.encode(case.prepared)
        for asked in case.asked:
            decoded = runner.decode_all(embedding, *asked.packed)
            mask = counted_mask(runner, decoded, case.prepared, one_point=asked.one_point)
            truth = None if asked.truth is None else iou(mask, asked.truth)
            results.append(PromptResult(image=number, kind=asked.kind, iou=iou(mask, asked.mask), truth=truth))
    return Agreement(results=tuple(results))

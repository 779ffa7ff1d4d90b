"""The decoder's hypernetworks at once: as grouped 1x1 convolutions, or as batched matrix products."""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.common import FeedForward, bias_of
from edgesam_export.modeling.mask_decoder import Hypernetworks
from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import NEURAL_ENGINE, register_rewrite

__all__ = ["GroupedHypernetworks", "StackedHypernetworks", "grouped_hypernetworks", "stacked_hypernetworks"]


def layers_of(mlps: nn.ModuleList) -> list[tuple[nn.Linear, ...]]:
    """Return the linear layers of equally shaped MLPs, layer by layer."""
    return list(zip(*([part for part in mlp.modules() if isinstance(part, nn.Linear)] for mlp in mlps)))


class GroupedHypernetworks(nn.Module):
    """M equally shaped MLPs, one per mask token, as one chain of grouped 1x1 convolutions with M groups."""

    def __init__(self, mlps: nn.ModuleList) -> None:
        super().__init__()
        groups, first = len(mlps), mlps[0]
        assert isinstance(first, FeedForward)
        layers: list[nn.Module] = []
        linears = layers_of(mlps)
        for parts in linears:
            inputs, outputs = parts[0].in_features, parts[0].out_features
            conv = nn.Conv2d(groups * inputs, groups * outputs, 1, groups=groups)
            conv.weight.data = torch.cat([part.weight.detach() for part in parts])[:, :, None, None].clone()
            bias_of(conv).data = torch.cat([part.bias.detach() for part in parts])
            layers += [conv, first.activation()]
        self.layers = nn.Sequential(*layers[:-1])
        self.groups = groups
        self.inputs, self.outputs = linears[0][0].in_features, linears[-1][0].out_features

    def forward(self, mask_tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, M, D / 8) from (B, M, D)."""
        hyper = self.layers(mask_tokens.reshape(-1, self.groups * self.inputs, 1, 1))
        return hyper.reshape(-1, self.groups, self.outputs)


# 1e-6: the same sums.
@register_rewrite(tolerance=1e-6, formats=NEURAL_ENGINE)
def grouped_hypernetworks(model: SamModel) -> None:
    """Run the hypernetworks of all mask tokens as three grouped convolutions instead of twelve linear layers."""
    mlps = model.mask_decoder.output_hypernetworks_mlps
    assert isinstance(mlps, Hypernetworks)
    model.mask_decoder.output_hypernetworks_mlps = GroupedHypernetworks(mlps)


class StackedHypernetworks(nn.Module):
    """M equally shaped MLPs, one per mask token, as one chain of batched matrix products."""

    def __init__(self, mlps: nn.ModuleList) -> None:
        super().__init__()
        layers = layers_of(mlps)
        self.weights = nn.ParameterList(torch.stack([part.weight.detach().t() for part in parts]) for parts in layers)
        self.biases = nn.ParameterList(torch.stack([part.bias.detach() for part in parts]) for parts in layers)
        first = mlps[0]
        assert isinstance(first, FeedForward)
        self.activation = first.activation()

    def forward(self, mask_tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, M, D / 8) from (B, M, D)."""
        x = mask_tokens.unsqueeze(2)  # (B, M, 1, D)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = x @ weight + bias.unsqueeze(1)
            x = x if index == last else self.activation(x)
        return x.squeeze(2)


# 1e-6: the same sums.
@register_rewrite(tolerance=1e-6, formats=("onnx",))
def stacked_hypernetworks(model: SamModel) -> None:
    """Run the hypernetworks of all mask tokens as three batched products instead of twelve linear layers."""
    mlps = model.mask_decoder.output_hypernetworks_mlps
    assert isinstance(mlps, Hypernetworks)
    model.mask_decoder.output_hypernetworks_mlps = StackedHypernetworks(mlps)

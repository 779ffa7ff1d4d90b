"""Smallest programs with the pattern of a network that people reported a placement of: written as text into ``twins/``.

A twin has the shapes that the report or the published configuration states and random weights; it is converted by
coremltools like the original, so that what the converter adds is there, and kept as text, which tests read at once.
A twin is not the original. ``python benchmarks/ane_twins.py`` rewrites all of them.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgesam_export.ane.example import write_example
from edgesam_export.ane.view import view_program
from edgesam_export.mil import load_program

FOLDER = Path(__file__).with_name("twins")


@dataclass(frozen=True)
class Twin:
    """How a network is traced and converted."""

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]
    tokens: bool = False
    """Whether the last input holds INT32 tokens or positions."""
    opset: str = "iOS17"
    states: tuple[str, ...] = ()
    flexible: bool = False
    """Whether the last axis of the first input is a range."""
    fp32: bool = False


# ------------------------------------------------------------------------------------------------------------- language
class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


class GroupedLayer(nn.Module):
    """A decoder layer with grouped queries, rotary positions and SwiGLU, without a cache."""

    def __init__(self, width: int, heads: int, groups: int, size: int, inner: int, *, normed: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, size
        self.q = nn.Linear(width, heads * size, bias=False)
        self.k = nn.Linear(width, groups * size, bias=False)
        self.v = nn.Linear(width, groups * size, bias=False)
        self.o = nn.Linear(heads * size, width, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.before, self.after = RMSNorm(width), RMSNorm(width)
        self.q_norm = RMSNorm(size) if normed else nn.Identity()
        self.k_norm = RMSNorm(size) if normed else nn.Identity()

    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(1, -1, heads, self.size)

    def repeat(self, x: Tensor) -> Tensor:
        count = self.heads // self.groups
        return x[:, :, None].expand(1, self.groups, count, -1, self.size).reshape(1, self.heads, -1, self.size)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = rotate(self.q_norm(self.split(self.q(x), self.heads)).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(self.split(self.k(x), self.groups)).transpose(1, 2), cos, sin)
        return q, k, self.split(self.v(x), self.groups).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = q @ self.repeat(k).transpose(-1, -2) / math.sqrt(self.size) + mask
        mixed = torch.softmax(scores, dim=-1) @ self.repeat(v)
        return self.o(mixed.transpose(1, 2).reshape(1, -1, self.heads * self.size))

    def feed(self, x: Tensor) -> Tensor:
        y = self.after(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        return self.feed(x + self.attend(*self.project(self.before(x), cos, sin), mask))


class StaticStep(GroupedLayer):
    """One token against a cache that comes in as inputs; the new keys and values go out."""

    def forward(  # type: ignore[override]
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.project(self.before(x), cos, sin)
        mixed = self.attend(q, torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2), mask)
        return self.feed(x + mixed), k, v


class StatefulStep(GroupedLayer):
    """One token whose keys and values are written into a state at a position that is an input."""

    def __init__(self, *sizes: int, normed: bool) -> None:
        super().__init__(*sizes, normed=normed)
        self.register_buffer("keys", torch.zeros(1, self.groups, 512, self.size))
        self.register_buffer("values", torch.zeros(1, self.groups, 512, self.size))

    def forward(  # type: ignore[override]
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, position: Tensor
    ) -> Tensor:
        q, k, v = self.project(self.before(x), cos, sin)
        start = position[0]
        self.keys[:, :, start : start + 1] = k
        self.values[:, :, start : start + 1] = v
        return self.feed(x + self.attend(q, self.keys, self.values, mask))


class FixedCache(nn.Module):
    """Attention that writes a number of rows into a state at constant positions (Anemll#27)."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.q, self.k, self.v = (nn.Linear(1024, 2048, bias=False) for _ in range(3))
        self.register_buffer("keys", torch.zeros(16, 1024, 128))
        self.register_buffer("values", torch.zeros(16, 1024, 128))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (layer(x).view(1, self.rows, 16, 128)[0].transpose(0, 1) for layer in (self.q, self.k, self.v))
        self.keys[:, : self.rows] = k
        self.values[:, : self.rows] = v
        return torch.softmax(q @ self.keys.transpose(1, 2) + mask, dim=-1) @ self.values


class RecurrentState(nn.Module):
    """Two convolutions around a state that is replaced whole (coremltools#2631)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3 + 8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.register_buffer("hidden", torch.zeros(1, 8, 256, width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(torch.cat((x, self.hidden), dim=1))
        self.hidden[:] = hidden
        return self.last(hidden)


class RangedCache(GroupedLayer):
    """A layer over a range of tokens with a state as long as the context (coremltools#2600)."""

    def __init__(self, *sizes: int, normed: bool) -> None:
        super().__init__(*sizes, normed=normed)
        self.register_buffer("keys", torch.zeros(1, self.groups, 512, self.size))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(self.before(x), cos[:, :, : x.shape[1]], sin[:, :, : x.shape[1]])
        self.keys[:, :, : x.shape[1]] = k
        return self.feed(x + self.attend(q, self.keys[:, :, : x.shape[1]], v, mask))


class Albert(nn.Module):
    """Three passes of the shared layer behind the embedding of INT32 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(178, 128), nn.Parameter(torch.zeros(1, 128, 128))
        self.widen = nn.Linear(128, 768)
        self.parts = nn.ModuleList(nn.Linear(768, 768) for _ in range(4))
        self.norms = nn.ModuleList((nn.LayerNorm(128, eps=1e-12), nn.LayerNorm(768), nn.LayerNorm(768)))
        self.inner, self.outer = nn.Linear(768, 2048), nn.Linear(2048, 768)

    def forward(self, mask: Tensor, tokens: Tensor) -> Tensor:
        x = self.widen(self.norms[0](self.words(tokens) + self.places))
        for _ in range(3):
            q, k, v = (part(x).view(1, 128, 12, 64).transpose(1, 2) for part in self.parts[:3])
            mixed = torch.softmax(q @ k.transpose(-1, -2) / 8.0 + mask, dim=-1) @ v
            x = self.norms[1](x + self.parts[3](mixed.transpose(1, 2).reshape(1, 128, 768)))
            x = self.norms[2](x + self.outer(functional.gelu(self.inner(x), approximate="tanh")))
        return x


class ConvolutionalBert(nn.Module):
    """Two layers on (1, channels, 1, tokens) with 1 x 1 convolutions, behind two embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(30522, 768), nn.Embedding(2, 768)
        self.places = nn.Parameter(torch.zeros(1, 128, 768))
        self.parts = nn.ModuleList(nn.Conv2d(768, 768, 1) for _ in range(4))
        self.inner, self.outer, self.norm = nn.Conv2d(768, 3072, 1), nn.Conv2d(3072, 768, 1), nn.LayerNorm(768)

    def forward(self, mask: Tensor, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.kinds(torch.zeros_like(tokens)) + self.places
        x = self.norm(x).transpose(1, 2).unsqueeze(2)
        for _ in range(2):
            q, k, v = (part(x) for part in self.parts[:3])
            heads = []
            for head in range(12):
                part = slice(64 * head, 64 * head + 64)
                scores = torch.einsum("bchq,bkhc->bkhq", q[:, part], k[:, part].transpose(1, 3)) * 0.125 + mask
                heads.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(dim=1), v[:, part]))
            x = x + self.parts[3](torch.cat(heads, dim=1))
            x = x + self.outer(functional.gelu(self.inner(x)))
        return x


# --------------------------------------------------------------------------------------------------------------- speech
class WhisperLayer(nn.Module):
    """WhisperKit's encoder stem and layer on (1, channels, 1, positions), of the medium model."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList((nn.Conv1d(80, 1024, 3, padding=1), nn.Conv1d(1024, 1024, 3, stride=2, padding=1)))
        self.parts = nn.ModuleList(nn.Conv2d(1024, 1024, 1) for _ in range(4))
        self.inner, self.outer = nn.Conv2d(1024, 4096, 1), nn.Conv2d(4096, 1024, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(1024) for _ in range(2))

    def norm(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x.squeeze(2).transpose(1, 2)).transpose(1, 2).unsqueeze(2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.stem:
            x = functional.gelu(layer(x))
        x = x.unsqueeze(2)
        y = self.norm(self.norms[0], x)
        q, k, v = (part(y).view(1, 16, 64, 1500) for part in self.parts[:3])
        mixed = torch.softmax(q.transpose(2, 3) @ k * 0.125, dim=-1) @ v.transpose(2, 3)
        x = x + self.parts[3](mixed.transpose(2, 3).reshape(1, 1024, 1, 1500))
        return x + self.outer(functional.gelu(self.inner(self.norm(self.norms[1], x))))


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, gated depthwise convolution, half feed-forward."""

    def __init__(self, width: int, heads: int, frames: int, kernel: int, *, relative: bool) -> None:
        super().__init__()
        self.width, self.heads, self.frames, self.relative = width, heads, frames, relative
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)) for _ in range(2)
        )
        self.parts = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.places = nn.Parameter(torch.randn(1, heads, 2 * frames - 1, width // heads))
        self.bias = nn.Parameter(torch.randn(heads, 1, width // heads))
        self.gated, self.last = nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch = nn.BatchNorm1d(width)

    def shifted(self, scores: Tensor) -> Tensor:
        count = scores.shape[-1]
        scores = functional.pad(scores, (1, 0)).view(1, self.heads, count + 1, self.frames)
        return scores[:, :, 1:].reshape(1, self.heads, self.frames, count)[..., : self.frames]

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, valid: Tensor) -> Tensor:
        size = self.width // self.heads
        q, k, v = (p(x).view(1, self.frames, self.heads, size).transpose(1, 2) for p in self.parts[:3])
        if self.relative:
            scores = (q + self.bias) @ k.transpose(-1, -2)
            scores = scores + self.shifted((q + self.bias) @ self.places.transpose(-1, -2))
        else:
            scores = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2)
        scores = (scores / math.sqrt(size)).masked_fill(valid, -10000.0)
        mixed = torch.softmax(scores, dim=-1).masked_fill(valid, 0.0) @ v
        return self.parts[3](mixed.transpose(1, 2).reshape(1, self.frames, self.width))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, length: Tensor) -> Tensor:
        valid = (torch.arange(self.frames) >= length)[None, None, None, :]
        x = x + 0.5 * self.feeds[0](self.norms[0](x))
        x = x + self.attend(self.norms[1](x), cos, sin, valid)
        y = functional.glu(self.gated(self.norms[2](x).transpose(1, 2)), dim=1)
        x = x + self.last(functional.silu(self.batch(self.depthwise(y)))).transpose(1, 2)
        return self.norms[4](x + 0.5 * self.feeds[1](self.norms[3](x)))


def subsampling() -> nn.Module:
    """Three strided convolutions, the later ones depthwise and pointwise (FastConformer)."""
    layers: list[nn.Module] = [nn.Conv2d(1, 256, 3, 2, 1), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(256, 256, 3, 2, 1, groups=256), nn.Conv2d(256, 256, 1), nn.ReLU()]
    return nn.Sequential(*layers)


class RelativeShift(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (1, 0)).view(1, 8, 400, 200)
        return x[:, :, 1:].reshape(1, 8, 200, 399)[..., :200]


class Adaptive(nn.Module):
    """Instance norm whose scale and offset come from a style."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.style = nn.InstanceNorm1d(width, affine=True), nn.Linear(128, 2 * width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, offset = self.style(style).unsqueeze(2).chunk(2, dim=1)
        return (1 + scale) * self.norm(x) + offset


class Vocoder(nn.Module):
    """Kokoro's generator: transposed convolutions, adaptive instance norms, Snake and dilated convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList((nn.ConvTranspose1d(512, 256, 20, 10, 5), nn.ConvTranspose1d(256, 128, 12, 6, 3)))
        self.norms = nn.ModuleList(Adaptive(width) for width in (256, 256, 128, 128))
        self.wide = nn.ModuleList(
            nn.Conv1d(width, width, 11, padding=5 * dilation, dilation=dilation)
            for width, dilation in ((256, 1), (256, 3), (128, 1), (128, 3))
        )
        self.alpha = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1)) for width in (256, 256, 128, 128))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        for stage in range(2):
            x = self.up[stage](functional.leaky_relu(x, 0.1))
            for block in (2 * stage, 2 * stage + 1):
                y = self.norms[block](x, style)
                y = y + (1 / self.alpha[block]) * torch.sin(self.alpha[block] * y) ** 2
                x = x + self.wide[block](y)
        return x


class RecurrentTail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(640, 640, batch_first=True), nn.LSTM(640, 640, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]


class CtcDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv1d(512, 3073, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.last(x).transpose(1, 2), dim=-1)


class ConvolutionBlock(nn.Module):
    """Depthwise convolution, layer norm over channels, 1 x 1 to four times the width and back (ConvNeXt in 1-D)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv1d(512, 512, 5, padding=2, groups=512), nn.LayerNorm(512)
        self.inner, self.outer = nn.Conv1d(512, 2048, 1), nn.Conv1d(2048, 512, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.mix(x).transpose(1, 2)).transpose(1, 2)
        return x + self.outer(functional.gelu(self.inner(y)))


# --------------------------------------------------------------------------------------------------------------- images
class VisionTransformer(nn.Module):
    """Patch embedding and one layer; with ``queries`` the two-stage selection of a detector behind it."""

    def __init__(self, size: int, patch: int, width: int, queries: int = 0) -> None:
        super().__init__()
        self.width, self.queries, self.count = width, queries, (size // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(torch.zeros(1, self.count, width))
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.classes = nn.Linear(width, 91)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2) + self.places
        q, k, v = self.qkv(self.norms[0](x)).view(1, self.count, 3, -1, 64).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.softmax(q @ k.transpose(-1, -2) * 0.125, dim=-1) @ v
        x = x + self.o(mixed.transpose(1, 2).reshape(1, self.count, self.width))
        x = self.norms[2](x + self.outer(functional.gelu(self.inner(self.norms[1](x)))))
        if not self.queries:
            return x
        best = torch.topk(self.classes(x).amax(-1), self.queries, dim=1).indices
        return torch.gather(x, 1, best.unsqueeze(-1).repeat(1, 1, self.width))


class MobileBlock(nn.Module):
    """MobileViTv2: inverted residual, then separable attention over patches with group norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = inverted(128, 256, 2)
        self.local = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1, groups=256), nn.SiLU(), nn.Conv2d(256, 128, 1))
        self.norms = nn.ModuleList(nn.GroupNorm(1, 128) for _ in range(3))
        self.qkv, self.o = nn.Conv2d(128, 257, 1), nn.Conv2d(128, 128, 1)
        self.feed = nn.Sequential(nn.Conv2d(128, 256, 1), nn.SiLU(), nn.Conv2d(256, 128, 1))
        self.back = nn.Conv2d(128, 256, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.local(x).view(1, 128, 8, 2, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 128, 4, 64)
        query, key, value = torch.split(self.qkv(self.norms[0](y)), (1, 128, 128), dim=1)
        context = (key * torch.softmax(query, dim=-1)).sum(dim=-1, keepdim=True)
        y = y + self.o(functional.relu(value) * context)
        y = self.norms[2](y + self.feed(self.norms[1](y)))
        y = y.view(1, 128, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(1, 128, 16, 16)
        return x + self.back(y)


def inverted(inner: int, outer: int, stride: int) -> nn.Module:
    wide = 2 * inner
    return nn.Sequential(
        nn.Conv2d(inner, wide, 1), nn.BatchNorm2d(wide), nn.SiLU(),
        nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.BatchNorm2d(wide), nn.SiLU(),
        nn.Conv2d(wide, outer, 1), nn.BatchNorm2d(outer),
    )  # fmt: skip


class MobileNet(nn.Module):
    """Stem, three inverted residuals with ReLU6, pooling and classifier (MobileNetV2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.wide = nn.ModuleList(nn.Conv2d(32, 192, 1) for _ in range(3))
        self.mix = nn.ModuleList(nn.Conv2d(192, 192, 3, padding=1, groups=192) for _ in range(3))
        self.back = nn.ModuleList(nn.Conv2d(192, 32, 1) for _ in range(3))
        self.classes = nn.Linear(32, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.stem(image))
        for wide, mix, back in zip(self.wide, self.mix, self.back):
            x = x + back(functional.relu6(mix(functional.relu6(wide(x)))))
        return self.classes(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ResNet(nn.Module):
    """Stem with max pooling, two residual blocks, one of them strided, and a mean with a deviation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 64, 7, 2, 3), nn.Conv2d(64, 64, 3, padding=1)
        self.second, self.third = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 128, 3, 2, 1)
        self.fourth, self.skip = nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(64, 128, 1, 2)
        self.classes = nn.Linear(128, 256)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(image)), 3, 2, 1)
        x = functional.relu(x + self.second(functional.relu(self.first(x))))
        x = functional.relu(self.skip(x) + self.fourth(functional.relu(self.third(x))))
        return self.classes(x.mean((2, 3)))


class Detector(nn.Module):
    """A YOLO-like neck: convolutions with SiLU, max pools of 5, nearest upsampling by 2, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 32), (32, 64), (64, 128)))
        self.mix, self.join = nn.Conv2d(512, 128, 1), nn.Conv2d(192, 64, 3, padding=1)
        self.head = nn.Conv2d(64, 144, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = [image]
        for layer in self.down:
            x.append(functional.silu(layer(x[-1])))
        pooled = [x[-1]]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, 1, 2))
        top = functional.interpolate(functional.silu(self.mix(torch.cat(pooled, 1))), scale_factor=2.0)
        return self.head(functional.silu(self.join(torch.cat((top, x[2]), 1))))


class GridSample(nn.Module):
    """Five transposed convolutions with sampling between them (coremltools#2299)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (512, 256, 128, 64, 32, 3)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.register_buffer("grid", torch.rand(1, 64, 64, 2) * 2 - 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.up:
            x = layer(x)
        return functional.grid_sample(x, self.grid, padding_mode="reflection", align_corners=False)


class SeparateHeads(nn.Module):
    """Fourteen heads one by one, with convolutions and einsum (FluidAudio#410)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(896, 896, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).split(64, dim=1) for part in self.parts[:3])
        heads = []
        for query, key, value in zip(q, k, v):
            scores = torch.einsum("bchq,bkhc->bkhq", query, key.transpose(1, 3)) * 0.125
            heads.append(torch.einsum("bkhq,bchk->bchq", scores.softmax(dim=1), value))
        return self.parts[3](torch.cat(heads, dim=1))


class GatedConvolution(nn.Module):
    """An RMS norm by hand, two 1 x 1 convolutions and a SiLU gate (VoxCPM)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(1024, 1e-5)
        self.gate, self.up, self.down = nn.Conv2d(1024, 4096, 1), nn.Conv2d(1024, 4096, 1), nn.Conv2d(4096, 1024, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).transpose(1, 2).unsqueeze(2)
        return self.down(functional.silu(self.gate(y)) * self.up(y))


QWEN, SMOL = (1024, 16, 8, 128, 3072), (576, 9, 3, 64, 1536)
TWINS = {
    "albert": Twin(Albert, ((1, 1, 1, 128), (1, 128)), tokens=True),
    "bert_convolutional": Twin(ConvolutionalBert, ((1, 128, 1, 1), (1, 128)), tokens=True),
    "conformer_relative": Twin(
        lambda: ConformerLayer(1024, 8, 188, 9, relative=True),
        ((1, 188, 1024), (1, 1, 188, 128), (1, 1, 188, 128), (1,)),
        tokens=True,
    ),
    "conformer_rotary": Twin(
        lambda: ConformerLayer(768, 16, 200, 5, relative=False),
        ((1, 200, 768), (1, 1, 200, 48), (1, 1, 200, 48), (1,)),
        tokens=True,
    ),
    "convolution_block": Twin(ConvolutionBlock, ((1, 512, 128),)),
    "convolution_block_ranged": Twin(ConvolutionBlock, ((1, 512, 128),), flexible=True),
    "ctc_decoder": Twin(CtcDecoder, ((1, 512, 188),)),
    "detector_neck": Twin(Detector, ((1, 3, 640, 640),)),
    "grid_sample": Twin(GridSample, ((1, 512, 8, 8),), opset="iOS16"),
    "heads_apart": Twin(SeparateHeads, ((1, 896, 1, 256),)),
    "lstm_pair": Twin(RecurrentTail, ((1, 1, 640),)),
    "mobilenet": Twin(MobileNet, ((1, 3, 224, 224),)),
    "mobilevit": Twin(MobileBlock, ((1, 128, 32, 32),)),
    "qwen_prefill": Twin(
        lambda: GroupedLayer(*QWEN, normed=True),
        ((1, 128, 1024), (1, 1, 128, 128), (1, 1, 128, 128), (1, 1, 128, 128)),
    ),
    "qwen_step_state": Twin(
        lambda: StatefulStep(*QWEN, normed=True),
        ((1, 1, 1024), (1, 1, 1, 128), (1, 1, 1, 128), (1, 1, 1, 512), (1,)),
        tokens=True,
        opset="iOS18",
        states=("keys", "values"),
    ),
    "llama_ranged_state": Twin(
        lambda: RangedCache(*SMOL, normed=False),
        ((1, 16, 576), (1, 1, 512, 64), (1, 1, 512, 64), (1, 1, 1, 1)),
        opset="iOS18",
        states=("keys",),
        flexible=True,
    ),
    "relative_shift": Twin(RelativeShift, ((1, 8, 200, 399),)),
    "resnet": Twin(ResNet, ((1, 3, 224, 224),)),
    "rf_detr": Twin(lambda: VisionTransformer(384, 16, 384, queries=300), ((1, 3, 384, 384),)),
    "siglip": Twin(lambda: VisionTransformer(224, 16, 768), ((1, 3, 224, 224),)),
    "smol_step": Twin(
        lambda: StaticStep(*SMOL, normed=False),
        ((1, 1, 576), (1, 1, 1, 64), (1, 1, 1, 64), (1, 1, 1, 512), (1, 3, 511, 64), (1, 3, 511, 64)),
    ),
    "state_128_rows": Twin(
        lambda: FixedCache(128), ((1, 128, 1024), (1, 128, 1024)), opset="iOS18", states=("keys", "values")
    ),
    "state_32_rows": Twin(
        lambda: FixedCache(32), ((1, 32, 1024), (1, 32, 1024)), opset="iOS18", states=("keys", "values")
    ),
    "state_width_256": Twin(lambda: RecurrentState(256), ((1, 3, 256, 256),), opset="iOS18", states=("hidden",)),
    "state_width_270": Twin(lambda: RecurrentState(270), ((1, 3, 256, 270),), opset="iOS18", states=("hidden",)),
    "subsampling": Twin(subsampling, ((1, 1, 1501, 128),)),
    "vocoder": Twin(Vocoder, ((1, 512, 64), (1, 128))),
    "voxcpm_gate": Twin(GatedConvolution, ((1, 64, 1024),)),
    "whisper_encoder": Twin(WhisperLayer, ((1, 80, 3000),)),
}


def convert(twin: Twin, path: Path) -> None:
    """Convert a twin as its report's author would: FP16 arrays, and FP16 arithmetic unless it is said otherwise."""
    import coremltools as ct
    import numpy as np

    torch.manual_seed(0)
    module = twin.make().eval()
    examples: list[Tensor] = [torch.randn(*shape) for shape in twin.inputs]
    if twin.tokens:
        examples[-1] = torch.ones(twin.inputs[-1], dtype=torch.int32)
    traced = torch.jit.trace(module, tuple(examples), check_trace=False)
    inputs = []
    for number, (shape, example) in enumerate(zip(twin.inputs, examples)):
        kind = np.int32 if example.dtype == torch.int32 else np.float16
        sizes: list[Any] = list(shape)
        if twin.flexible and not number:
            axis = 1 if twin.states else -1
            sizes[axis] = ct.RangeDim(1, 512, default=shape[axis])
        inputs.append(ct.TensorType(f"x{number}", sizes, dtype=kind))
    states = [
        ct.StateType(ct.TensorType(shape=tuple(module.get_buffer(name).shape), dtype=np.float16), name=name)
        for name in twin.states
    ]
    outputs = [ct.TensorType(f"y{n}", dtype=np.float16) for n in range(outputs_of(traced, examples))]
    precision = ct.precision.FLOAT32 if twin.fp32 else ct.precision.FLOAT16
    options: dict[str, Any] = {"minimum_deployment_target": getattr(ct.target, twin.opset), "states": states or None}
    ct.convert(traced, inputs=inputs, outputs=outputs, compute_precision=precision, **options).save(str(path))


def outputs_of(traced: nn.Module, examples: list[Tensor]) -> int:
    results = traced(*examples)
    return len(results) if isinstance(results, tuple) else 1


def main(names: list[str]) -> None:
    for name in names or TWINS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.mlpackage"
            convert(TWINS[name], path)
            graph = view_program(load_program(path))
        (FOLDER / f"{name}.txt").write_text(write_example(graph), encoding="utf-8")
        print(f"{name}: {len(graph.nodes)} operations")


if __name__ == "__main__":
    main(sys.argv[1:])

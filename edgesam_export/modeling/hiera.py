"""Hiera, SAM 2's image trunk, with channels on axis 1 from end to end and windows cut once for each stage.

Ryali et al. 2023, "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
https://arxiv.org/abs/2306.00989; Bolya et al. 2023, "Window Attention is Bugged", https://arxiv.org/abs/2311.05613, for
the positions; Ravi et al. 2024, "SAM 2", https://arxiv.org/abs/2408.00714, for this use of it.

Windows of the first two stages coincide: 8 x 8 cells before a pooling of 2 x 2 are 4 x 4 after it, in 32 x 32 windows
both times.  So a map is cut once, its cells in *quad order*: the four cells that one pooling joins lie side by side,
and so do the four results that the next one joins.  Pooling then is a maximum over four neighbours on one axis, and
everything between (1x1 convolutions, norms) does not care about the order.  The windows lie on the last axis, so that
a map whose windows have four cells is put together without moving its quads.  Values have at most five axes, and sizes
are constants, so that no shape is computed in an exported graph.
Attribute names are the keys of the released checkpoints.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.channels_first import PointwiseLinear
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.hiera_attention import Attention

__all__ = ["Block", "Hiera", "HieraConfig", "from_quads", "to_quads"]

NORM_EPS = 1e-6
GRID = 256
"""Cells per side after the patch embedding."""
GLOBAL = 64
"""Cells per side of the third stage, the one with attention over the whole map."""
WINDOWS = 32
"""Windows per side of the first two stages."""
QUERIES = 512
"""Queries of one head that attend to the whole map at once: 4 MiB of scores in FP16, and 32 MiB for all 4096."""


@dataclass(frozen=True, kw_only=True)
class HieraConfig:
    """Size of a trunk. Width and heads double with each stage, cells per side halve."""

    width: int
    heads: int
    depths: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7
    """Side of the coarse position table."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four maps, fine to coarse."""
        return tuple(self.width << stage for stage in range(4))


def to_quads(x: Tensor, levels: int, channels: int) -> Tensor:
    """Cut a map into 32 x 32 windows of 2^levels cells a side: (B, C, S, S) -> (B, C, 4^levels, 1024), quad order."""
    for _ in range(levels):
        x = F.pixel_unshuffle(x, 2)
    x = x.reshape(-1, *[4] * levels, WINDOWS * WINDOWS)  # (B * C, ...), finest pair first
    return x.permute(0, *range(levels, 0, -1), levels + 1).reshape(-1, channels, 4**levels, WINDOWS * WINDOWS)


def from_quads(x: Tensor, levels: int, channels: int) -> Tensor:
    """Put windows together again: (B, C, 4^levels, 1024) -> (B, C, S, S)."""
    if levels > 1:
        x = x.reshape(-1, *[4] * levels, WINDOWS * WINDOWS).permute(0, *range(levels, 0, -1), levels + 1)
    x = x.reshape(-1, channels * 4**levels, WINDOWS, WINDOWS)
    for _ in range(levels):
        x = F.pixel_shuffle(x, 2)
    return x


class MLP(nn.Module):
    """Two linear layers with GELU between them, inner width four times as large."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PointwiseLinear(width, 4 * width), PointwiseLinear(4 * width, width)])
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        inner, outer = self.layers
        return outer(self.act(inner(x)))


class Block(nn.Module):
    """Norm, attention, norm, MLP; the first block of a later stage pools 2 x 2 cells and doubles the width.

    Such a block still has the windows of the stage before it, and its residual is the pooled projection of the norm's
    output.  ``forward`` of a subclass knows a layout; all have the same parameters.
    """

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(inputs, eps=NORM_EPS)
        self.attn = Attention(inputs, outputs, heads)
        self.norm2 = LayerNorm2d(outputs, eps=NORM_EPS)
        self.mlp = MLP(outputs)
        self.pools = inputs != outputs
        self.inputs, self.width = inputs, outputs
        if self.pools:
            self.proj = PointwiseLinear(inputs, outputs)

    def folded_attention(self) -> Attention:
        """Return the attention for export."""
        return self.attn.scaled()

    def after_attention(self, x: Tensor) -> Tensor:
        """Return the block's output from the sum of residual and attention."""
        return x + self.mlp(self.norm2(x))


class QuadBlock(Block):
    """A block of the first two stages, or the one that follows: (B, C, T, 1024), cells in quad order."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T, 1024), or of a pooling block (B, 2C, T / 4, 1024)."""
        normed = self.norm1(x)
        heads = self.attn.heads
        # Head by head, (B, 1024, d, T) each: nothing is reshaped, and scores of one head are small.
        parts = torch.split(self.attn.qkv(normed).permute(0, 3, 1, 2), self.attn.head_width, dim=2)
        queries, keys, values = parts[:heads], parts[heads : 2 * heads], parts[2 * heads :]
        if self.pools:
            x = F.max_pool2d(self.proj(normed), (4, 1))
            queries = tuple(F.max_pool2d(q, (1, 4)) for q in queries)
        attended = torch.cat([self.attn.attend(*head) for head in zip(queries, keys, values)], dim=2)
        return self.after_attention(x + self.attn.proj(attended.permute(0, 2, 3, 1)))


class GlobalBlock(Block):
    """A block whose attention spans the whole map: (B, C, 64, 64) -> the same."""

    def folded_attention(self) -> Attention:
        """Return the attention for export, a layer for each head's queries, keys and values."""
        return self.attn.in_parts(*[self.attn.head_width] * (3 * self.attn.heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, 64, 64)."""
        cells = self.norm1(x).reshape(-1, self.inputs, GLOBAL**2)
        parts = torch.split(cells, QUERIES, dim=-1)
        heads = []
        for head in range(self.attn.heads):
            k, v = self.attn.of_head(cells, 1, head), self.attn.of_head(cells, 2, head)
            queries = (self.attn.of_head(part, 0, head) for part in parts)
            heads.append(torch.cat([self.attn.attend_to_all(q, k, v) for q in queries], dim=-1))
        attended = torch.cat(heads, dim=1).reshape(-1, self.width, GLOBAL, GLOBAL)
        return self.after_attention(x + self.attn.proj(attended))


class WindowBlock(Block):
    """A block of windows on a map, padded with zeros after the norm where they do not fit; nothing is masked.

    A pooling block leaves its output in windows, one after the other on the batch axis, where those of the next stage
    are the same; ``WindowedBlock`` goes on from there.
    """

    def __init__(self, inputs: int, outputs: int, heads: int, *, grid: int, window: int) -> None:
        super().__init__(inputs, outputs, heads)
        self.grid, self.window = grid, window
        self.count = -(-grid // window)

    def folded_attention(self) -> Attention:
        """Return the attention for export; of a pooling block a layer for queries, one for keys and values."""
        return self.attn.in_parts(self.width, 2 * self.width) if self.pools else self.attn.scaled()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, S, S), or of a pooling block (windows * B, 2C, window / 2, window / 2)."""
        extra = self.count * self.window - self.grid
        normed = self.norm1(x)
        normed = F.pad(normed, (0, extra, 0, extra)) if extra else normed
        if not self.pools:
            return self.same_size(x, normed)
        return self.pooled(cut(normed, self.count, self.window, (self.inputs, self.window, self.window)))

    def same_size(self, x: Tensor, normed: Tensor) -> Tensor:
        """Return (B, C, S, S) from the block's input and its padded norm."""
        heads, inner = self.attn.heads, (3 * self.attn.heads, self.attn.head_width, self.window**2)
        windows = cut(self.attn.qkv(normed), self.count, self.window, inner)
        attended = self.attn.attend(*torch.split(windows, heads, dim=1))  # (windows * B, heads, d, cells)
        joined = join(attended, self.count, self.window, self.width)
        return self.after_attention(x + self.attn.proj(joined[:, :, : self.grid, : self.grid]))

    def pooled(self, windows: Tensor) -> Tensor:
        """Return (N, 2C, w / 2, w / 2) from normed windows (N, C, w, w)."""
        x = F.max_pool2d(self.proj(windows), 2)
        queries, rest = self.attn.q_and_kv(windows)
        heads, width, side = self.attn.heads, self.attn.head_width, self.window // 2
        q = F.max_pool2d(queries, 2).reshape(-1, heads, width, side * side)
        k, v = torch.split(rest.reshape(-1, 2 * heads, width, self.window**2), heads, dim=1)
        attended = self.attn.attend(q, k, v).reshape(-1, self.width, side, side)
        return self.after_attention(x + self.attn.proj(attended))


class WindowedBlock(Block):
    """A block on windows that are cut already, (windows * B, C, w, w) -> the same.

    ``grid`` is the side of the map that they cover; cells beyond it are zero after the norm, as if padded there.
    """

    inside: Tensor

    def __init__(self, inputs: int, outputs: int, heads: int, *, grid: int, window: int) -> None:
        super().__init__(inputs, outputs, heads)
        count, self.window = -(-grid // window), window
        extra = count * window - grid
        self.pads = extra > 0
        inside = F.pad(torch.ones(1, 1, grid, grid), (0, extra, 0, extra))
        # (windows, 1, w, w)
        self.register_buffer("inside", cut(inside, count, window, (1, window, window)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return windows of the same shape."""
        normed = self.norm1(x)
        if self.pads:
            normed = normed * (self.inside if len(x) == len(self.inside) else repeat_each(self.inside, len(x)))
        heads = self.attn.qkv(normed).reshape(-1, 3 * self.attn.heads, self.attn.head_width, self.window**2)
        attended = self.attn.attend(*torch.split(heads, self.attn.heads, dim=1))
        return self.after_attention(x + self.attn.proj(attended.reshape(-1, self.width, self.window, self.window)))


def repeat_each(windows: Tensor, count: int) -> Tensor:
    """Return windows for ``count // len(windows)`` images: window by window, the images inside."""
    return windows.repeat_interleave(count // len(windows), dim=0)


def cut(x: Tensor, count: int, window: int, inner: tuple[int, ...]) -> Tensor:
    """Cut a map into count x count windows: (B, C, S, S) -> (windows * B, *inner), cells in reading order."""
    rows = x.reshape(-1, count, window, count, window).permute(1, 3, 0, 2, 4)
    return rows.reshape(-1, *inner)


def join(windows: Tensor, count: int, window: int, channels: int) -> Tensor:
    """Put windows (windows * B, ...) together again: (B, C, count * window, count * window)."""
    parts = windows.reshape(count, count, -1, window, window).permute(2, 0, 3, 1, 4)
    return parts.reshape(-1, channels, count * window, count * window)


class PatchEmbedding(nn.Module):
    """Overlapping patches to vectors: (B, 3, S, S) -> (B, C, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=7, stride=4, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class Hiera(nn.Module):
    """The trunk; returns the output of the last block of each stage, without a norm."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, config.background, config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, config.windows[0], config.windows[0]))
        self.patch_embed = PatchEmbedding(config.width)
        self.blocks = nn.ModuleList(blocks_of(config))
        ends = [sum(config.depths[: stage + 1]) - 1 for stage in range(4)]
        self.ends = tuple(ends)

    def positions(self) -> Tensor:
        """Return what is added to the patches, (1, C, 256, 256)."""
        coarse = F.interpolate(self.pos_embed, size=(GRID, GRID), mode="bicubic", align_corners=False)
        return coarse + self.pos_embed_window.repeat(1, 1, WINDOWS, WINDOWS)

    def stages(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the four maps as the blocks leave them.

        Shapes:
            image (B, 3, 1024, 1024), normalised
            returns (B, C, 64, 1024) and (B, 2C, 16, 1024) in quad order, (B, 4C, 64, 64), (windows * B, 8C, w, w)
        """
        width = self.config.width
        x = to_quads(self.patch_embed(image) + self.positions(), 3, width)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.ends[1] + 1:
                x = from_quads(x, 1, 4 * width)
            if index in self.ends:
                maps.append(x)
        first, second, third, fourth = maps
        return first, second, third, fourth

    def joined(self, windows: Tensor, channels: int) -> Tensor:
        """Return a map of the last stage from its windows: (windows * B, C, w, w) -> (B, C, 32, 32)."""
        window, grid = self.config.windows[-1], GRID // 8
        whole = join(windows, -(-grid // window), window, channels)
        return whole[:, :, :grid, :grid]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return maps of strides 4 to 32 from an image (B, 3, 1024, 1024), normalised."""
        fine, middle, coarse, windows = self.stages(image)
        widths = self.config.widths
        coarsest = self.joined(windows, widths[3])
        return from_quads(fine, 3, widths[0]), from_quads(middle, 2, widths[1]), coarse, coarsest

    def folded(self) -> Hiera:
        """Return an equal trunk with positions as a constant and the scale of attention in its weights."""
        return FoldedHiera(self)


class FoldedHiera(Hiera):
    """``Hiera`` for export; it has no positional parameters."""

    constant: Tensor

    def __init__(self, trunk: Hiera) -> None:
        nn.Module.__init__(self)
        self.config, self.ends = trunk.config, trunk.ends
        self.register_buffer("constant", trunk.positions().detach())
        self.patch_embed = trunk.patch_embed
        self.blocks = nn.ModuleList()
        for block in trunk.blocks:
            assert isinstance(block, Block)
            scaled = copy.copy(block)  # its other modules stay shared, as rewrites leave them
            scaled._modules = {**block._modules, "attn": block.folded_attention()}
            self.blocks.append(scaled)

    def positions(self) -> Tensor:
        """Return what is added to the patches, (1, C, 256, 256)."""
        return self.constant


def blocks_of(config: HieraConfig) -> list[Block]:
    """Return the trunk's blocks, in order."""
    blocks: list[Block] = []
    for stage, depth in enumerate(config.depths):
        outputs, heads = config.width << stage, config.heads << stage
        for position in range(depth):
            pools = stage > 0 and position == 0
            inputs = outputs // 2 if pools else outputs
            if stage < 2 or (stage == 2 and pools):
                blocks.append(QuadBlock(inputs, outputs, heads))
            elif len(blocks) in config.global_blocks:
                blocks.append(GlobalBlock(inputs, outputs, heads))
            elif stage == 2 or pools:
                blocks.append(WindowBlock(inputs, outputs, heads, grid=GRID // 4, window=config.windows[2]))
            else:
                blocks.append(WindowedBlock(inputs, outputs, heads, grid=GRID // 8, window=config.windows[3]))
    return blocks

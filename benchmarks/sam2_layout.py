"""Layout operations of our SAM 2.1 encoder against a plain export of the same weights, one table.

The plain encoder is Hiera as its paper and release describe it, channels last, converted with coremltools' defaults
and nothing else: windows by a view of six axes, one linear layer for queries, keys and values that a reshape takes
apart, pooling between two transposes, the position table resized in the graph (bilinear: coremltools 9.0 has no
bicubic).  Both outputs are compared first, so that the two are the same network.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYOUT = ("transpose", "reshape", "squeeze", "expand_dims", "split", "slice_by_index")
BAR = 1 / 3
"""Largest share of the plain export's layout operations that ours may have."""
TARGET = "iPhone 14"


class PlainEncoder(nn.Module):
    """The encoder of a model of family ``sam2``, with its parameters, channels last."""

    def __init__(self, encoder: nn.Module, config: Any, *, bicubic: bool) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.mode = "bicubic" if bicubic else "bilinear"

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        trunk: Any = self.encoder.trunk
        x = trunk.patch_embed.proj(image).permute(0, 2, 3, 1)
        x = x + self.positions(trunk, x).permute(0, 2, 3, 1)
        maps, stage = [], 0
        for index, block in enumerate(trunk.blocks):
            window = self.config.windows[stage - block.pools]  # a pooling block has that of the stage before
            x = self.block(x, block, 0 if index in self.config.global_blocks else window)
            stage = sum(index + 1 >= sum(self.config.depths[: number + 1]) for number in range(3))
            if index in trunk.ends:
                maps.append(x.permute(0, 3, 1, 2))
        return self.encoder.neck(*maps)

    def positions(self, trunk: Any, x: Tensor) -> Tensor:
        coarse = F.interpolate(trunk.pos_embed, size=(256, 256), mode=self.mode, align_corners=False)
        return coarse + trunk.pos_embed_window.tile(1, 1, 32, 32)

    def block(self, x: Tensor, block: Any, window: int) -> Tensor:
        shortcut = x
        x = layer_norm(block.norm1, x)
        if block.pools:
            shortcut = pooled(F.linear(x, block.proj.weight, block.proj.bias))
        height, width = x.shape[1:3]
        x, padded = windows_of(x, window) if window else (x, (height, width))
        x = self.attention(x, block)
        if block.pools:
            window, height, width = window // 2, height // 2, width // 2
            padded = (padded[0] // 2, padded[1] // 2)
        if window:
            x = together(x, window, padded, (height, width))
        x = shortcut + x
        inner, outer = block.mlp.layers
        hidden = F.gelu(F.linear(layer_norm(block.norm2, x), inner.weight, inner.bias))
        return x + F.linear(hidden, outer.weight, outer.bias)

    def attention(self, x: Tensor, block: Any) -> Tensor:
        batch, height, width, _ = x.shape
        attn = block.attn
        qkv = F.linear(x, attn.qkv.weight, attn.qkv.bias).reshape(batch, height * width, 3, attn.heads, -1)
        q, k, v = torch.unbind(qkv, 2)
        if block.pools:
            q = pooled(q.reshape(batch, height, width, -1))
            height, width = q.shape[1:3]
            q = q.reshape(batch, height * width, attn.heads, -1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height, width, -1)
        return F.linear(x, attn.proj.weight, attn.proj.bias)


def layer_norm(norm: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def pooled(x: Tensor) -> Tensor:
    """Maximum of 2 x 2 cells: (B, H, W, C) -> (B, H / 2, W / 2, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def windows_of(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Return (windows * B, w, w, C) and the padded size."""
    batch, height, width, channels = x.shape
    down, across = -height % window, -width % window
    if down or across:
        x = F.pad(x, (0, 0, 0, across, 0, down))
    height, width = height + down, width + across
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, channels), (height, width)


def together(x: Tensor, window: int, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return (B, H, W, C) from windows, without the padding."""
    height, width = padded
    batch = x.shape[0] // (height * width // window // window)
    x = x.reshape(batch, height // window, width // window, window, window, -1)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)
    return x[:, : size[0], : size[1]] if padded != size else x


def plain_package(model: Any, config: Any, path: Path) -> None:
    """Write the plain encoder of a model as a package, FP16, for iOS 17."""
    import coremltools as ct

    image = torch.zeros(1, 3, 1024, 1024)
    encoder = PlainEncoder(model.image_encoder, config, bicubic=False).eval()
    with torch.no_grad():
        traced = torch.jit.trace(encoder, image, check_trace=False)
    package = ct.convert(
        traced,
        inputs=[ct.TensorType(name="image", shape=image.shape)],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    package.save(str(path))


def counted(path: Path) -> dict[str, Any]:
    """Operations by type, and the findings for the target."""
    from edgesam_export import analyze
    from edgesam_export.mil import load_program

    program = load_program(path)
    types = Counter(operation.type for operation in program.operations if not operation.is_constant)
    report = analyze(program, target=TARGET)
    severities = Counter(finding.severity for finding in report.findings)
    layout = {name: types[name] for name in LAYOUT}
    return {"layout": layout, "total": sum(types.values()), "errors": severities["error"], "report": report}


def main() -> None:
    """Export both, print the table; exit 1 when ours has an error finding, or more layout operations than the bar."""
    from edgesam_export import CoreMLConfig, export_coreml, load_model
    from edgesam_export.families.sam2 import CONFIGS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="sam2.1_hiera_tiny")
    options = parser.parse_args()
    config = CONFIGS[options.model.partition("_hiera_")[2]]
    model = load_model(options.model, random_weights=0)
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = zip(PlainEncoder(model.image_encoder, config, bicubic=True)(image), model.encode(image))
        difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    print(f"{options.model}: plain and ours are one network, largest relative difference {difference:.1e}")
    assert difference < 1e-4
    with tempfile.TemporaryDirectory() as folder:
        plain_package(model, config, Path(folder) / "plain.mlpackage")
        ours = export_coreml(model, folder, CoreMLConfig())[0].path
        found = {"plain": counted(Path(folder) / "plain.mlpackage"), "ours": counted(ours)}
    print(f"{'encoder':8}" + "".join(f"{name:>16}" for name in (*LAYOUT, "layout", "operations", "errors")))
    sums = {}
    for name, counts in found.items():
        sums[name] = sum(counts["layout"].values())
        values = (*counts["layout"].values(), sums[name], counts["total"], counts["errors"])
        print(f"{name:8}" + "".join(f"{value:16}" for value in values))
    share = sums["ours"] / sums["plain"]
    print(f"layout operations: {share:.2f} of the plain export's, bar {BAR:.2f}")
    raise SystemExit(found["ours"]["errors"] > 0 or share > BAR)


if __name__ == "__main__":
    main()

"""Graphs of published networks, for judging the cost model: types and shapes as they are deployed, no weight values.

Each is written from the tables and block descriptions of its paper, with every branch and batch norm already folded.
`PUBLISHED_SIZES` holds the parameters and multiply-adds that authors or model cards state; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from edgesam_export.ane.graph import GraphView, Node, StoredValue, Value

__all__ = ["ARCHITECTURES", "PUBLISHED_SIZES"]

Shape = tuple[int, ...]
Builder = Callable[[], GraphView]
CLASSES = 1000


class Net:
    """Appends operations; a value is known by its name, its shape by ``shape``."""

    def __init__(self, *input_shape: int) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, StoredValue] = {}
        self.shapes: dict[str, Shape] = {"image": input_shape}

    def weight(self, *shape: int) -> str:
        """Add a weight of which only the shape is known."""
        name = f"weight_{len(self.constants)}"
        self.constants[name] = StoredValue(Value(name, "fp16", shape))
        return name

    def number(self, content: object) -> str:
        """Add a parameter of an operation, with its value."""
        name, array = f"parameter_{len(self.constants)}", np.asarray(content)
        self.constants[name] = StoredValue(Value(name, "int32", array.shape), lambda: array)
        return name

    def op(self, kind: str, shape: Shape, /, **inputs: str) -> str:
        """Append one operation with one FP16 result of ``shape``; return the result's name."""
        index = len(self.nodes)
        name = f"{kind}_{index}"
        bound = {key: (value,) for key, value in inputs.items()}
        self.nodes.append(Node(index, kind, name, f"main/op {index}", bound, (Value(name, "fp16", shape),)))
        self.shapes[name] = shape
        return name

    def conv(
        self, x: str, channels: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, biased: bool = True
    ) -> str:
        """Convolution with same padding."""
        batch, inner, height, width = self.shapes[x]
        inputs = {
            "x": x,
            "weight": self.weight(channels, inner // groups, kernel, kernel),
            "strides": self.number([stride, stride]),
            "pad": self.number([kernel // 2] * 4),
            "groups": self.number(groups),
        }
        inputs |= {"bias": self.weight(channels)} if biased else {}
        return self.op("conv", (batch, channels, -(-height // stride), -(-width // stride)), **inputs)

    def depthwise(self, x: str, kernel: int, *, stride: int = 1, channels: int | None = None) -> str:
        inner = self.shapes[x][1]
        return self.conv(x, channels or inner, kernel, stride=stride, groups=inner)

    def unary(self, kind: str, x: str) -> str:
        return self.op(kind, self.shapes[x], x=x)

    def binary(self, kind: str, x: str, y: str) -> str:
        return self.op(kind, self.shapes[x], x=x, y=y)

    def scale(self, x: str, *shape: int) -> str:
        """Multiply by a learned constant, e.g. a layer scale."""
        return self.op("mul", self.shapes[x], x=x, y=self.weight(*shape))

    def pool(self, x: str) -> str:
        """Mean over height and width."""
        axes = self.number([2, 3])
        return self.op("reduce_mean", (*self.shapes[x][:2], 1, 1), x=x, axes=axes, keep_dims=self.number(True))

    def squeeze_excite(self, x: str, inner: int) -> str:
        channels = self.shapes[x][1]
        gate = self.conv(self.unary("relu", self.conv(self.pool(x), inner)), channels)
        return self.binary("mul", x, self.unary("sigmoid", gate))

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("reshape", shape, x=x, shape=self.number(shape))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("transpose", tuple(self.shapes[x][axis] for axis in order), x=x, perm=self.number(order))

    def linear(self, x: str, features: int) -> str:
        *outer, inner = self.shapes[x]
        return self.op(
            "linear", (*outer, features), x=x, weight=self.weight(features, inner), bias=self.weight(features)
        )

    def layer_norm(self, x: str) -> str:
        width = self.shapes[x][-1]
        return self.op(
            "layer_norm", self.shapes[x], x=x, gamma=self.weight(width), beta=self.weight(width), axes=self.number([-1])
        )

    def layer_norm_2d(self, x: str) -> str:
        """Normalise over channels with primitive operations, as these networks were exported."""
        batch, channels, *grid = self.shapes[x]
        column = (batch, 1, *grid)
        mean = self.op("reduce_mean", column, x=x, axes=self.number([1]))
        centred = self.op("sub", self.shapes[x], x=x, y=mean)
        square = self.op("pow", self.shapes[x], x=centred, y=self.number(2))
        variance = self.op("reduce_mean", column, x=square, axes=self.number([1]))
        deviation = self.unary("sqrt", self.op("add", column, x=variance, y=self.number(1e-6)))
        normal = self.binary("real_div", centred, deviation)
        return self.op("batch_norm", self.shapes[x], x=normal, gamma=self.weight(channels), beta=self.weight(channels))

    def classifier(self, x: str) -> str:
        return self.linear(self.reshape(self.pool(x), 1, self.shapes[x][1]), CLASSES)

    def done(self, *outputs: str) -> GraphView:
        image = Value("image", "fp16", self.shapes["image"])
        return GraphView(
            opset="iOS16", inputs=(image,), outputs=outputs, nodes=tuple(self.nodes), constants=self.constants
        )


# --------------------------------------------------------------------------------------------------------------- RepViT
def divisible(value: float) -> int:
    """Nearest multiple of 8, as mobile networks round their widths."""
    return max(8, int(value + 4) // 8 * 8)


def channel_mixer(net: Net, x: str) -> str:
    """1x1 to twice the width, GELU, 1x1 back, skip."""
    width = net.shapes[x][1]
    return net.binary("add", x, net.conv(net.unary("gelu", net.conv(x, 2 * width)), width))


def repvit_features(
    net: Net, widths: Shape, pairs: Shape, *, last_stride: int = 2, folded: bool = True
) -> tuple[str, str]:
    """Stages of ``pairs`` of blocks, the first of each with squeeze-excitation; one more block in all but the last.

    Returns the results of the last two stages.
    """
    x = net.unary("gelu", net.conv("image", widths[0] // 2, 3, stride=2))
    x = before = net.conv(x, widths[0], 3, stride=2)
    for stage, (width, count) in enumerate(zip(widths, pairs)):
        last = stage == len(widths) - 1
        if stage:
            before = x
            x = net.conv(net.depthwise(x, 3, stride=last_stride if last else 2), width)
            x = channel_mixer(net, x)
        for excited in [True, False] * count + ([] if last else [False]):
            mixed = net.depthwise(x, 3)
            if not folded:
                mixed = net.binary("add", net.binary("add", mixed, net.depthwise(x, 1)), x)
            x = channel_mixer(net, net.squeeze_excite(mixed, divisible(width / 4)) if excited else mixed)
    return before, x


def repvit(widths: Shape, pairs: Shape) -> Builder:
    def build() -> GraphView:
        net = Net(1, 3, 224, 224)
        return net.done(net.classifier(repvit_features(net, widths, pairs)[1]))

    return build


def sam_neck(net: Net, x: str) -> GraphView:
    x = net.layer_norm_2d(net.conv(x, 256, biased=False))
    return net.done(net.layer_norm_2d(net.conv(x, 256, 3, biased=False)))


def repvit_sam() -> GraphView:
    """RepViT-M2.3 at 1024, the last stage not strided, and SAM's neck."""
    net = Net(1, 3, 1024, 1024)
    return sam_neck(net, repvit_features(net, (80, 160, 320, 640), (3, 3, 17, 1), last_stride=1)[1])


def edge_sam() -> GraphView:
    """EdgeSAM's encoder as it was released: branches not folded, two stages fused by an upsampling, SAM's neck."""
    net = Net(1, 3, 1024, 1024)
    third, fourth = repvit_features(net, (48, 96, 192, 384), (1, 1, 7, 1), folded=False)
    top = net.conv(fourth, 256, biased=False)
    upsampled = net.op("upsample_bilinear", (1, 256, 64, 64), x=top)
    return sam_neck(net, net.binary("add", net.conv(third, 256, biased=False), upsampled))


# ------------------------------------------------------------------------------------------------------------ MobileOne
def mobileone(factors: tuple[float, ...], *, excite: bool = False) -> Builder:
    """Depthwise 3x3 and 1x1 in turns, ReLU after each; the largest has squeeze-excitation in its last blocks."""
    widths = [int(base * factor) for base, factor in zip((64, 128, 256, 512), factors)]

    def finish(net: Net, x: str, excited: bool) -> str:
        gated = net.squeeze_excite(x, net.shapes[x][1] // 16) if excited else x
        return net.unary("relu", gated)

    def build() -> GraphView:
        net = Net(1, 3, 224, 224)
        x = net.unary("relu", net.conv("image", min(64, widths[0]), 3, stride=2))
        for stage, (width, count) in enumerate(zip(widths, (2, 8, 10, 1))):
            first_excited = count - {2: 5, 3: 1}.get(stage, 0) if excite else count
            for block in range(count):
                excited = block >= first_excited
                x = finish(net, net.depthwise(x, 3, stride=1 if block else 2), excited)
                x = finish(net, net.conv(x, width), excited)
        return net.done(net.classifier(x))

    return build


# -------------------------------------------------------------------------------------------------------------- FastViT
def heads_of(net: Net, x: str, heads: int, width: int) -> str:
    """(1, tokens, heads * width) -> (1, heads, tokens, width)"""
    return net.transpose(net.reshape(x, 1, net.shapes[x][1], heads, width), 0, 2, 1, 3)


def attention(net: Net, x: str, heads: int, key: int, value: int, *, biased: bool = False) -> str:
    """Self-attention over (1, tokens, width) with one product for query, key and value."""
    _, tokens, width = net.shapes[x]
    fused = net.linear(x, heads * (2 * key + value))
    parts = [
        net.op("slice_by_index", (1, tokens, heads * size), x=fused, begin=net.number([0, 0, offset * heads]))
        for size, offset in ((key, 0), (key, key), (value, 2 * key))
    ]
    query, keys, values = (heads_of(net, part, heads, size) for part, size in zip(parts, (key, key, value)))
    scores = net.op("matmul", (1, heads, tokens, tokens), x=net.scale(query, 1), y=keys, transpose_y=net.number(True))
    if biased:
        scores = net.op("add", (1, heads, tokens, tokens), x=scores, y=net.weight(heads, tokens, tokens))
    mixed = net.op("matmul", (1, heads, tokens, value), x=net.unary("softmax", scores), y=values)
    joined = net.reshape(net.transpose(mixed, 0, 2, 1, 3), 1, tokens, heads * value)
    return net.linear(joined, width)


def fastvit_ffn(net: Net, x: str, ratio: int) -> str:
    """Depthwise 7x7, then 1x1 up, GELU, 1x1 down, scale, skip."""
    width = net.shapes[x][1]
    inner = net.unary("gelu", net.conv(net.depthwise(x, 7), ratio * width))
    return net.binary("add", x, net.scale(net.conv(inner, width), width, 1, 1))


def fastvit_attention(net: Net, x: str) -> str:
    batch, width, height, across = net.shapes[x]
    normal = net.op("batch_norm", net.shapes[x], x=x, gamma=net.weight(width), beta=net.weight(width))
    tokens = net.transpose(net.reshape(normal, batch, width, height * across), 0, 2, 1)
    mixed = net.transpose(attention(net, tokens, width // 32, 32, 32), 0, 2, 1)
    return net.binary("add", x, net.scale(net.reshape(mixed, batch, width, height, across), width, 1, 1))


def fastvit(widths: Shape, depths: Shape, ratio: int, *, attends: bool) -> Builder:
    def build() -> GraphView:
        net = Net(1, 3, 256, 256)
        x = net.unary("gelu", net.conv("image", widths[0], 3, stride=2))
        x = net.unary("gelu", net.depthwise(x, 3, stride=2))
        x = net.unary("gelu", net.conv(x, widths[0]))
        for stage, (width, depth) in enumerate(zip(widths, depths)):
            if stage:
                x = net.unary("gelu", net.depthwise(x, 7, stride=2, channels=width))
                x = net.unary("gelu", net.conv(x, width))
            last = attends and stage == 3
            x = net.depthwise(x, 7) if last else x
            for _ in range(depth):
                x = fastvit_ffn(net, fastvit_attention(net, x) if last else net.depthwise(x, 3), ratio)
        x = net.depthwise(x, 3, channels=2 * widths[-1])
        x = net.unary("gelu", net.squeeze_excite(x, 2 * widths[-1] // 16))
        return net.done(net.classifier(x))

    return build


# ------------------------------------------------------------------------------------------------------ EfficientFormer
def pooling_block(net: Net, x: str) -> str:
    """Mean of 3x3 minus itself, then 1x1 to four times the width and back; each scaled and skipped."""
    width = net.shapes[x][1]
    pooled = net.op("avg_pool", net.shapes[x], x=x, kernel_sizes=net.number([3, 3]), strides=net.number([1, 1]))
    x = net.binary("add", x, net.scale(net.binary("sub", pooled, x), width, 1, 1))
    inner = net.conv(net.unary("gelu", net.conv(x, 4 * width)), width)
    return net.binary("add", x, net.scale(inner, width, 1, 1))


def token_block(net: Net, x: str) -> str:
    width = net.shapes[x][-1]
    x = net.binary("add", x, net.scale(attention(net, net.layer_norm(x), 8, 32, 128, biased=True), width))
    inner = net.linear(net.unary("gelu", net.linear(net.layer_norm(x), 4 * width)), width)
    return net.binary("add", x, net.scale(inner, width))


def efficientformer(widths: Shape, depths: Shape, tokens: int) -> Builder:
    """The last ``tokens`` blocks attend, the others pool."""

    def build() -> GraphView:
        net = Net(1, 3, 224, 224)
        x = net.unary("relu", net.conv("image", widths[0] // 2, 3, stride=2))
        x = net.unary("relu", net.conv(x, widths[0], 3, stride=2))
        for stage, (width, depth) in enumerate(zip(widths, depths)):
            x = net.conv(x, width, 3, stride=2) if stage else x
            for _ in range(depth - (tokens if stage == 3 else 0)):
                x = pooling_block(net, x)
        x = net.transpose(net.reshape(x, 1, widths[-1], prod(net.shapes[x][2:])), 0, 2, 1)
        for _ in range(tokens):
            x = token_block(net, x)
        x = net.op("reduce_mean", (1, widths[-1]), x=net.layer_norm(x), axes=net.number([1]))
        return net.done(net.binary("add", net.linear(x, CLASSES), net.linear(x, CLASSES)))

    return build


ARCHITECTURES: dict[str, Builder] = {
    "RepViT-M0.9": repvit((48, 96, 192, 384), (1, 1, 7, 1)),
    "RepViT-M1.0": repvit((56, 112, 224, 448), (1, 1, 7, 1)),
    "RepViT-M1.1": repvit((64, 128, 256, 512), (1, 1, 6, 1)),
    "RepViT-M1.5": repvit((64, 128, 256, 512), (2, 2, 12, 2)),
    "RepViT-M2.3": repvit((80, 160, 320, 640), (3, 3, 17, 1)),
    "RepViT-SAM encoder": repvit_sam,
    "EdgeSAM encoder": edge_sam,
    "MobileOne-S0": mobileone((0.75, 1.0, 1.0, 2.0)),
    "MobileOne-S1": mobileone((1.5, 1.5, 2.0, 2.5)),
    "MobileOne-S2": mobileone((1.5, 2.0, 2.5, 4.0)),
    "MobileOne-S3": mobileone((2.0, 2.5, 3.0, 4.0)),
    "MobileOne-S4": mobileone((3.0, 3.5, 3.5, 4.0), excite=True),
    "FastViT-T8": fastvit((48, 96, 192, 384), (2, 2, 4, 2), 3, attends=False),
    "FastViT-T12": fastvit((64, 128, 256, 512), (2, 2, 6, 2), 3, attends=False),
    "FastViT-S12": fastvit((64, 128, 256, 512), (2, 2, 6, 2), 4, attends=False),
    "FastViT-SA12": fastvit((64, 128, 256, 512), (2, 2, 6, 2), 4, attends=True),
    "FastViT-SA24": fastvit((64, 128, 256, 512), (4, 4, 12, 4), 4, attends=True),
    "FastViT-SA36": fastvit((64, 128, 256, 512), (6, 6, 18, 6), 4, attends=True),
    "FastViT-MA36": fastvit((76, 152, 304, 608), (6, 6, 18, 6), 4, attends=True),
    "EfficientFormer-L1": efficientformer((48, 96, 224, 448), (3, 2, 6, 4), 1),
    "EfficientFormer-L3": efficientformer((64, 128, 320, 512), (4, 4, 12, 6), 4),
    "EfficientFormer-L7": efficientformer((96, 192, 384, 768), (6, 6, 18, 8), 8),
}

PUBLISHED_SIZES: dict[str, tuple[float, float, str]] = {
    "RepViT-M0.9": (5.1, 0.8, "README of THU-MIG/RepViT"),
    "RepViT-M1.0": (6.8, 1.1, "README of THU-MIG/RepViT"),
    "RepViT-M1.1": (8.2, 1.3, "README of THU-MIG/RepViT"),
    "RepViT-M1.5": (14.0, 2.3, "README of THU-MIG/RepViT"),
    "RepViT-M2.3": (22.9, 4.5, "README of THU-MIG/RepViT"),
    "MobileOne-S0": (2.08, 0.27, "open-mmlab/mmpretrain configs/mobileone/README.md"),
    "MobileOne-S1": (4.76, 0.82, "open-mmlab/mmpretrain configs/mobileone/README.md"),
    "MobileOne-S2": (7.81, 1.30, "open-mmlab/mmpretrain configs/mobileone/README.md"),
    "MobileOne-S3": (10.08, 1.89, "open-mmlab/mmpretrain configs/mobileone/README.md"),
    "MobileOne-S4": (14.84, 2.98, "open-mmlab/mmpretrain configs/mobileone/README.md"),
    "FastViT-T8": (4.0, 0.7, "model card apple/coreml-FastViT-T8"),
    "FastViT-SA24": (21.6, 3.8, "model card timm/fastvit_sa24.apple_in1k"),
    "FastViT-MA36": (44.1, 7.8, "model card apple/coreml-FastViT-MA36"),
    "EfficientFormer-L1": (12.29, 1.30, "open-mmlab/mmpretrain configs/efficientformer/README.md"),
    "EfficientFormer-L3": (31.41, 3.93, "open-mmlab/mmpretrain configs/efficientformer/README.md"),
    "EfficientFormer-L7": (82.23, 10.16, "open-mmlab/mmpretrain configs/efficientformer/README.md"),
}
"""Name -> parameters in millions, multiply-adds in thousand millions, where it is stated."""

"""Models of other projects with random weights, which ``conversion.py`` turns into packages with coremltools.

Architectures of torchvision, timm and transformers as people convert them, smaller where their code allows it. An
entry is a function that returns a ``Case``; its weights and inputs are drawn after ``torch.manual_seed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from other_programs import declare_torchvision_operators, importable, require
from torch import Tensor, nn

__all__ = ["CORPUS", "Case", "ready_to_build"]

SIDE = 64
"""Rows and columns of most images: a multiple of what every network here divides them by."""
LABELS = tuple(f"class {index}" for index in range(10))
PIXEL_SCALE, PIXEL_BIAS = 1 / 127.5, -1.0
"""What an image input does to its pixels before the network."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A module and the calls that it is compared by."""

    module: nn.Module
    calls: tuple[tuple[Tensor, ...], ...]
    """Arguments of each call in the order of ``forward``; buffers of the module go from call to call."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classifies: bool = False
    """An image goes in, a label and probabilities come out."""
    precision: str = "FLOAT32"
    """Of the conversion: a member of coremltools' ``precision``."""
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Buffers that are state of the program, with their shapes."""
    options: dict[str, Any] = field(default_factory=dict)
    """More options of ``coremltools.convert``."""


CORPUS: dict[str, Callable[[], Case]] = {}


def entry(build: Callable[[], Case]) -> Callable[[], Case]:
    CORPUS[build.__name__] = build
    return build


@contextmanager
def ready_to_build() -> Iterator[None]:
    """Let the entries import what they are built from, or skip with what is not installed."""
    folders = require("torchvision", "timm")
    declare_torchvision_operators()
    with importable(folders, forgotten=("torchvision", "timm")):
        yield


def images(count: int = 1, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(count, channels, side, side)


def seen(module: nn.Module) -> nn.Module:
    """Return a module in evaluation mode, its weights FP16 numbers, its batch normalisation with statistics."""
    for parameter in module.parameters():
        parameter.data = parameter.data.half().float()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module.eval().requires_grad_(False)


def integers(name: str, shape: tuple[int, ...]) -> Any:
    """Return the description of an input of integers."""
    import coremltools as ct
    import numpy as np

    return ct.TensorType(name=name, shape=shape, dtype=np.int32)


def vision(module: nn.Module, *outputs: str, side: int = SIDE, **more: Any) -> Case:
    """Return the case of a network that takes one batch of normalised images."""
    calls = ((images(side=side),),)
    return Case(module=seen(module), calls=calls, inputs=("image",), outputs=outputs or ("features",), **more)


class Values(nn.Module):
    """A module that returns a dict or one of transformers' outputs, as one that returns tensors."""

    def __init__(self, module: nn.Module, *keys: str) -> None:
        super().__init__()
        self.module, self.keys = module, keys

    def forward(self, *arguments: Tensor) -> Tensor | tuple[Tensor, ...]:
        results = self.module(*arguments)
        values = tuple(results[key] for key in self.keys)
        return values if len(values) > 1 else values[0]


class Probabilities(nn.Module):
    """A network followed by the softmax that a classifier's package ends with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).softmax(dim=1)


# --- torchvision


@entry
def mobilenet_v3_classifier() -> Case:
    from torchvision.models import mobilenet_v3_small

    network = mobilenet_v3_small(weights=None, num_classes=len(LABELS), width_mult=0.5)
    pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE)).float()
    return Case(
        module=seen(Probabilities(network)),
        calls=((pixels,),),
        inputs=("image",),
        outputs=("probabilities",),
        classifies=True,
        precision="FLOAT16",
    )


@entry
def resnet() -> Case:
    from torchvision.models.resnet import Bottleneck, ResNet

    return vision(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10), "logits")


@entry
def lraspp() -> Case:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return vision(Values(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), "out"), "classes")


@entry
def detector_backbone() -> Case:
    from torchvision.models.detection.backbone_utils import mobilenet_backbone

    backbone = mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True)
    return vision(Values(backbone, "0", "1", "pool"), "map_0", "map_1", "map_pool")


@entry
def shufflenet() -> Case:
    from torchvision.models import shufflenet_v2_x0_5

    return vision(shufflenet_v2_x0_5(weights=None, num_classes=10), "logits")


@entry
def swin() -> Case:
    from torchvision.models.swin_transformer import SwinTransformer

    sizes = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
    return vision(SwinTransformer(**sizes, num_classes=10), "logits")


# --- timm


def timm_model(name: str) -> nn.Module:
    """Return a network of timm with its training branches folded, as its documentation asks for before a conversion."""
    from timm import create_model
    from timm.utils.model import reparameterize_model

    return reparameterize_model(seen(create_model(name, pretrained=False, num_classes=10)))


@entry
def repvit() -> Case:
    return vision(timm_model("repvit_m0_9"), "logits")


@entry
def fastvit() -> Case:
    return vision(timm_model("fastvit_t8"), "logits")


@entry
def mobileone() -> Case:
    return vision(timm_model("mobileone_s0"), "logits")


@entry
def efficientformer() -> Case:
    # its attention knows 7 x 7 cells alone, which makes the image 224
    return vision(timm_model("efficientformer_l1"), "logits", side=224)


@entry
def mobilevit() -> Case:
    return vision(timm_model("mobilevit_xxs"), "logits")


@entry
def convnext() -> Case:
    return vision(timm_model("convnext_atto"), "logits")


# --- transformers

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@entry
def vit() -> Case:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**SMALL, image_size=SIDE, patch_size=16, attn_implementation="eager")
    return vision(Values(ViTModel(config), "last_hidden_state", "pooler_output"), "tokens", "pooled")


@entry
def segformer() -> Case:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32
    )
    return vision(Values(SegformerForSemanticSegmentation(config), "logits"), "logits")


@entry
def bert() -> Case:
    import coremltools as ct
    from transformers import BertConfig, BertModel

    config = BertConfig(**SMALL, vocab_size=100, max_position_embeddings=32, attn_implementation="eager")
    tokens = torch.randint(0, 100, (2, 12), dtype=torch.int32)
    # the four axes of the scores: coremltools cannot convert what transformers makes of a mask with two
    mask = torch.tensor([[0.0] * 12, [0.0] * 7 + [-1e4] * 5]).reshape(2, 1, 1, 12).expand(2, 1, 12, 12)
    return Case(
        module=seen(Values(BertModel(config), "last_hidden_state", "pooler_output")),
        calls=((tokens, mask),),
        inputs=("tokens", "mask"),
        outputs=("hidden", "pooled"),
        precision="FLOAT16",
        options={"inputs": [integers("tokens", (2, 12)), ct.TensorType(name="mask", shape=(2, 1, 12, 12))]},
    )


def whisper_config() -> Any:
    from transformers import WhisperConfig

    return WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=100,
        num_mel_bins=16,
        max_source_positions=24,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        attn_implementation="eager",
    )


@entry
def whisper_encoder() -> Case:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder = Values(WhisperEncoder(whisper_config()), "last_hidden_state")
    return Case(module=seen(encoder), calls=((torch.randn(1, 16, 48),),), inputs=("mel",), outputs=("states",))


class CachedAttention(nn.Module):
    """Attention of the token at ``position`` to itself and those before it, whose keys and values are buffers."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("keys", torch.zeros(1, heads, length, width // heads))
        self.register_buffer("values", torch.zeros(1, heads, length, width // heads))

    def forward(self, x: Tensor, chosen: Tensor, hidden: Tensor) -> Tensor:
        """Shapes: x (1, 1, D); chosen (1, 1, L, 1) is 1 at the position; hidden (1, 1, 1, L) is -1e4 after it."""
        query, key, value = self.project(x).reshape(1, 1, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        self.keys[:] = self.keys * (1 - chosen) + key * chosen
        self.values[:] = self.values * (1 - chosen) + value * chosen
        scores = query @ self.keys.transpose(-1, -2) * self.keys.shape[-1] ** -0.5 + hidden
        return self.out((scores.softmax(-1) @ self.values).transpose(1, 2).reshape(1, 1, -1))


class StatefulDecoder(nn.Module):
    """One layer in the shape of Whisper's decoder: cached attention to what was said, attention to the audio, MLP."""

    def __init__(self, width: int = 32, heads: int = 4, length: int = 8, vocabulary: int = 50) -> None:
        super().__init__()
        self.length = length
        self.embed, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.own, self.audio = (
            CachedAttention(width, heads, length),
            nn.MultiheadAttention(width, heads, batch_first=True),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(self, token: Tensor, position: Tensor, audio: Tensor) -> Tensor:
        steps = torch.arange(self.length)
        chosen = (steps == position).float().reshape(1, 1, -1, 1)
        hidden = (steps > position).float().reshape(1, 1, 1, -1) * -1e4
        x = self.embed(token) + self.places(position)
        x = x + self.own(self.norms[0](x), chosen, hidden)
        x = x + self.audio(self.norms[1](x), audio, audio, need_weights=False)[0]
        x = x + self.mlp(self.norms[2](x))
        return self.norms[3](x) @ self.embed.weight.T


@entry
def stateful_decoder() -> Case:
    import coremltools as ct

    audio = torch.randn(1, 12, 32)
    numbers = [(token, position) for position, token in enumerate((3, 17, 42, 8))]
    calls = tuple((*(torch.tensor([[n]], dtype=torch.int32) for n in pair), audio) for pair in numbers)
    numbers_in = [integers("token", (1, 1)), integers("position", (1, 1))]
    return Case(
        module=seen(StatefulDecoder()),
        calls=calls,
        inputs=("token", "position", "audio"),
        outputs=("logits",),
        precision="FLOAT16",
        states={"own.keys": (1, 4, 8, 8), "own.values": (1, 4, 8, 8)},
        options={"inputs": [*numbers_in, ct.TensorType(name="audio", shape=(1, 12, 32))]},
    )


# --- parts that many networks share


class UNetBlock(nn.Module):
    """The residual block of a diffusion UNet: group normalisation, SiLU, a time embedding, down, up and a skip."""

    def __init__(self, channels: int = 16, groups: int = 4, time: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.into, self.out = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
        )
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        self.time = nn.Linear(time, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.into(nn.functional.silu(self.first(x))) + self.time(time)[:, :, None, None]
        deep = self.up(nn.functional.silu(self.second(self.down(inner))))
        return x + self.out(torch.cat([inner, deep], dim=1))


@entry
def unet_block() -> Case:
    calls = ((images(2, 16, 16), torch.randn(2, 8)),)
    return Case(module=seen(UNetBlock()), calls=calls, inputs=("x", "time"), outputs=("noise",))


class Recurrent(nn.Module):
    """A recurrent network that returns its sequence and the last hidden state of each layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sequence, last = self.network(x)
        return sequence, last[0] if isinstance(last, tuple) else last


def recurrent(network: nn.Module) -> Case:
    module = seen(Recurrent(network))
    return Case(module=module, calls=((torch.randn(2, 7, 6),),), inputs=("x",), outputs=("sequence", "last"))


SIZES = {"input_size": 6, "hidden_size": 10, "num_layers": 2, "batch_first": True}


@entry
def lstm() -> Case:
    return recurrent(nn.LSTM(**SIZES, bidirectional=True))


@entry
def gru() -> Case:
    return recurrent(nn.GRU(**SIZES))


@entry
def rnn() -> Case:
    return recurrent(nn.RNN(**SIZES))

"""Frozen dataclasses that cross the borders between stages: pure data, no torch, no coremltools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgesam_export.errors import UsageError
from edgesam_export.spec.compression import (
    COMPONENTS,
    COMPRESSIONS,
    PRESETS,
    TARGETS,
    UNCOMPRESSED,
    Recipe,
    check_compression,
    check_scheme,
    compression_name,
    is_read_by,
)
from edgesam_export.spec.options import make_plain

__all__ = [
    "ACTIVATIONS",
    "CANDIDATES",
    "COMPONENTS",
    "COMPRESSIONS",
    "COMPUTE_UNITS",
    "DYNAMIC",
    "EMBEDDING_SIDE",
    "EMPTY_SLOT",
    "EVERY_FORMAT",
    "MASK_SIDE",
    "MAX_QUERIES",
    "NOT_A_POINT",
    "NUMERICS",
    "PRESETS",
    "PROMPT_INPUTS",
    "PROMPT_KINDS",
    "QUANTIZED_PARTS",
    "STABLE_OFFSET",
    "STABLE_SHARE",
    "TARGETS",
    "UNCOMPRESSED",
    "UNITS_WITH_ANE",
    "Artifact",
    "CoreAIConfig",
    "CoreMLConfig",
    "ExportConfig",
    "ImageFrame",
    "ModelInfo",
    "OnnxConfig",
    "PackageConfig",
    "PaddingPoint",
    "Progress",
    "Provenance",
    "Recipe",
    "TensorSpec",
    "check_compression",
    "check_scheme",
    "is_read_by",
]

NOT_A_POINT = -1
"""Label of SAM's padding point: it takes part as a token with the learned not-a-point vector."""
EMPTY_SLOT = -2
"""Label of an unused prompt slot: it takes no part in anything."""
DYNAMIC: Literal["dynamic"] = "dynamic"
CANDIDATES = (4, 3, 1, DYNAMIC)
"""Masks that an exported decoder can return: all tokens, the three multimask tokens, the single-mask token, or the one
that ``modeling.single_mask`` chooses."""
STABLE_OFFSET = 0.05
STABLE_SHARE = 0.98
"""SAM 2's rule for one mask: token 0 counts if count(logit > offset) is this share of count(logit > -offset)."""
MAX_QUERIES = 64
"""Prompts that an export decodes at once, at most: 64 masks of 256 x 256 and four tokens are 32 MB in FP16."""
MIN_POINTS, MAX_POINTS = 2, 64
"""Prompt slots of an export: no prompt of SAM has fewer than 2, a box's corners or a point and its padding point."""
EMBEDDING_SIDE = 64
"""Rows and columns of every model's image embedding."""
MASK_SIDE = 256
"""Side of low-resolution masks and of a mask prompt."""
PROMPT_INPUTS = ("point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
"""Inputs of a decoder that describe a prompt; every other one is a map of the embedding."""
PROMPT_KINDS = ("point", "points", "box", "box+point", "mask")
"""Kinds of prompt that are told apart: one point, several points, a box, a box with points, a mask with a point."""
EVERY_FORMAT = "*"
"""Stands for all formats in a module's ``fp32_formats``."""
PRECISIONS = ("fp16", "fp32")
NUMERICS = ("fp32", "fp16", "ane")
"""Arithmetic of the executor: exact, as typed, and as typed with the behaviour reported for the ANE."""
COMPUTE_UNITS = ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne")
"""Compute units of Core ML, as ``MLComputeUnits`` has them."""
UNITS_WITH_ANE = ("all", "cpu_and_ne")
"""Those among which the Neural Engine may be chosen."""
ACTIVATIONS = {"int8": "iOS17"}
"""Types that activations can be quantised to and the oldest system that reads each."""
QUANTIZED_PARTS = ("encoder", "both")
"""Components whose activations are quantised: the encoder, or encoder and decoder."""

PaddingPoint = bool | Literal["always"]
"""When a prompt is followed by one not-a-point token, see ``ModelInfo.padding_point``."""
Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all (0 when unknown) and what is being done."""


@dataclass(frozen=True, kw_only=True)
class ImageFrame:
    """The square image a network sees: resized to ``size``, normalised, padded right and bottom."""

    size: int = 1024
    """Side of the encoder's input, pixels."""
    prompt_size: int = 1024
    """Side of the frame that prompt coordinates live in, pixels."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    fit: Literal["longest_side", "stretch", "stretch_antialias"] = "longest_side"
    """``longest_side``: proportions are kept, bilinear with antialiasing on 8 bits. ``stretch``: both sides become
    ``size``, bilinear without antialiasing; nothing is padded. ``stretch_antialias``: the same with antialiasing, on
    unrounded values."""
    mask_resize: Literal["bilinear", "bicubic", "bilinear_direct"] = "bilinear"
    """How logits come to source size: ``bilinear`` to the prompt frame, crop, bilinear; the others in one step."""

    @property
    def stretches(self) -> bool:
        """Both sides become ``size``, each axis by its own factor."""
        return self.fit != "longest_side"

    @property
    def pad_colour(self) -> tuple[int, int, int]:
        """8-bit RGB that comes nearest to zero after normalisation; what an image input is padded with."""
        red, green, blue = (int(channel + 0.5) for channel in self.mean)
        return red, green, blue


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One name that ``load_model`` knows."""

    name: str
    family: str
    frame: ImageFrame = field(default_factory=ImageFrame)
    default_score: Literal["iou", "stability"] = "iou"
    """What ``scores`` are unless the export says otherwise."""
    upsample: Literal["bicubic", "bilinear"] = "bicubic"
    padding_point: PaddingPoint = True
    """Points without a box are followed by one not-a-point token. ``always``: so is a box, whose corners then precede
    the points."""
    slots: int | None = None
    """The only number of prompt slots the decoder knows, None when it takes any."""
    embedding_dim: int = 256
    """Channels of the first map of the embedding; its cells are 64 x 64 whatever the image's size."""
    further_maps: tuple[tuple[int, int, int], ...] = ()
    """Channels, rows and columns of each further map that the encoder returns and the decoder takes, in that order."""
    description: str = ""
    trained_prompts: tuple[str, ...] = ()
    """Kinds of prompt that the published weights were trained on, of ``PROMPT_KINDS``; empty: all of them."""
    image_domain: str = "photographs"
    """Kind of images that the published weights were trained on, as a phrase."""
    sample_images: Literal["photographs", "phantoms"] = "photographs"
    """Images of that kind that parity takes unless it is given some: the bundled ones, or ``imaging/phantoms.py``."""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.trained_prompts if kind not in PROMPT_KINDS]
        if unknown:
            raise ValueError(f"{self.name}: no prompt of kind '{unknown[0]}'; kinds are {', '.join(PROMPT_KINDS)}")

    @property
    def embedding_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shapes of the maps of one image's embedding, in order; the first is (1, D, 64, 64)."""
        return ((1, self.embedding_dim, EMBEDDING_SIDE, EMBEDDING_SIDE), *((1, *shape) for shape in self.further_maps))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model's parameters come from; written into every exported file."""

    source: str
    """File name of the checkpoint, or ``random-weights``."""
    sha256: str | None = None
    licence: str = "unknown"
    random_seed: int | None = None
    """Seed of the stand-in weights, None for trained ones."""
    note: str | None = None
    """How the weights were found in the checkpoint and what of it was not read; None for a plain one."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of an exported component."""

    name: str
    shape: tuple[int | str, ...]
    """Sizes; a string names a free dimension."""
    dtype: str
    """``fp16``, ``fp32``, ``uint8`` or ``image`` (8-bit RGB image)."""
    description: str


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options that all export formats share."""

    points: int | None = 8
    """Prompt slots of the decoder; None leaves the number free where the format can."""
    queries: int = 1
    """Prompts that the decoder takes at once, on one embedding; unused ones are slots that are all empty."""
    mask_input: bool = False
    """Add ``mask_input`` and ``has_mask_input`` to the decoder."""
    candidates: int | Literal["dynamic"] = 4
    """Masks returned: 4 (all tokens), 3 (multimask tokens), 1 (single-mask token), ``dynamic`` (one, by stability)."""
    object_score: bool = False
    """Add ``object_score`` to the decoder's outputs."""
    score: Literal["iou", "stability"] | None = None
    """What ``scores`` are; None takes the family's default."""
    precision: str = "fp16"
    """Type of the arithmetic: ``fp16`` or ``fp32``."""
    profile: str = "default"
    """Tensor contract, a module of ``profiles/``."""
    rewrites: tuple[str, ...] | None = None
    """Rewrites to apply in order; None takes the recommended ones, an empty tuple none."""

    def __post_init__(self) -> None:
        make_plain(self)
        if self.points is not None:
            check_slots(self.points)
        if not 1 <= self.queries <= MAX_QUERIES:
            raise UsageError(f"queries is {self.queries}; a decoder takes 1 to {MAX_QUERIES} prompts at once")
        if self.candidates not in CANDIDATES:
            raise UsageError(
                f"candidates is {self.candidates}; choose 4 (all masks), 3 (multimask), 1 (single mask)"
                " or dynamic (one, by stability)"
            )
        if self.score not in (None, "iou", "stability"):
            raise UsageError(f"score is '{self.score}'; choose iou or stability")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is '{self.precision}'; choose one of: {', '.join(PRECISIONS)}")


def check_slots(points: int) -> None:
    """Raise UsageError unless a decoder can have this number of prompt slots."""
    if not MIN_POINTS <= points <= MAX_POINTS:
        raise UsageError(
            f"points is {points}; a decoder has {MIN_POINTS} to {MAX_POINTS} prompt slots, since a box takes 2, and so"
            " does a point with its padding point"
        )


@dataclass(frozen=True, kw_only=True)
class PackageConfig(ExportConfig):
    """Options that the formats of Apple's frameworks share."""

    tensor_input: bool = False
    """Encoder takes a normalised tensor instead of pixels."""
    functions: tuple[int, ...] = ()
    """Further numbers of prompt slots, one function each in the same package, weights shared."""
    compress: str | Recipe | None = None
    """How weights are stored: one of ``COMPRESSIONS`` or ``PRESETS``, or a recipe; None stores them as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in self.functions:
            check_slots(count)
        if self.points in self.functions or len(set(self.functions)) != len(self.functions):
            raise UsageError(f"points {self.points} and {self.functions}: every number of slots once")
        if self.compress is not None:
            check_compression(self.compress)
            if self.precision != "fp16":
                name = compression_name(self.compress)
                raise UsageError(f"compress {name} needs precision fp16, not {self.precision}")


@dataclass(frozen=True, kw_only=True)
class CoreMLConfig(PackageConfig):
    """Options of a Core ML export; the defaults are the recommended export."""

    target: str = "iOS17"
    """Oldest system the package loads on: iOS16, iOS17 or iOS18; ``functions`` need iOS18."""
    split_encoder: bool = False
    """Write the encoder as two packages that are run one after the other, for weights above what iOS loads at once."""
    activations: str | None = None
    """Type that layers read their activations in, one of ``ACTIVATIONS``; None leaves them as they are."""
    activations_in: str = "encoder"
    """Components that this applies to, one of ``QUANTIZED_PARTS``."""
    activations_db: float = 42.0
    """Layers stay in FP16, the worst first, until the outputs have this signal to noise; 0 keeps no layer for it."""
    keep_fp16: tuple[str, ...] = ()
    """Module paths of layers whose activations stay in FP16, or of modules that hold such layers."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UsageError(f"target is '{self.target}'; choose one of: {', '.join(TARGETS)}")
        if self.functions and self.target != "iOS18":
            raise UsageError(f"several numbers of points in one package need target iOS18, not {self.target}")
        if self.compress is not None:
            check_compression(self.compress, self.target)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class CoreAIConfig(PackageConfig):
    """Options of a Core AI export, which is experimental."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points is None:
            raise UsageError("points is not set; a Core AI export has a fixed number of prompt slots")


@dataclass(frozen=True, kw_only=True)
class OnnxConfig(ExportConfig):
    """Options of an ONNX export."""

    points: int | None = None
    precision: str = "fp32"
    opset: int = 17

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 17 <= self.opset <= 20:
            raise UsageError(f"opset is {self.opset}; 17 to 20 are supported")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One exported file (a ``.mlpackage`` is a folder): where it is and what it promises."""

    path: Path
    format: str
    """Name of a module of ``formats/``."""
    component: str
    """``encoder``, ``decoder`` or ``proposals``."""
    model: str
    sha256: str
    """SHA-256 of the file; of a folder, over sorted relative paths and contents."""
    contract: dict[str, Any]
    """Content of the file's metadata: frame, tensors, labels, provenance, tool versions."""

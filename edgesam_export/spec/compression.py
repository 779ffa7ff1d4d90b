"""How weights may be stored: the schemes' names, and recipes, which choose one for each kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgesam_export.errors import UsageError

__all__ = [
    "COMPONENTS",
    "COMPRESSIONS",
    "PRESETS",
    "TARGETS",
    "UNCOMPRESSED",
    "Recipe",
    "check_compression",
    "check_scheme",
    "compression_name",
    "is_read_by",
]

TARGETS = ("iOS16", "iOS17", "iOS18")
"""Oldest systems that a Core ML export may be for."""
COMPRESSIONS = {
    **dict.fromkeys(("palettize4", "palettize6", "palettize8", "linear8"), "iOS16"),
    "linear4": "iOS18",
    **dict.fromkeys(("palettize1", "palettize2", "sparse50", "sparse75"), "iOS16"),
    "palettize3": "iOS18",
    **{f"palettize{bits}_g{group}": "iOS18" for bits in (2, 3, 4, 6) for group in (8, 16, 32)},
    **dict.fromkeys(("palettize4_g8_int8", "palettize6_g8_int8", "palettize6_g16_int8"), "iOS18"),
    **dict.fromkeys(("linear8_b32", "linear4_channel", "linear4_b16", "linear4_b64"), "iOS18"),
    **{f"sparse{share}_{of}": "iOS18" for share in (50, 75) for of in ("palettize4", "palettize6", "linear8")},
}
"""Schemes of weight compression and the oldest system that reads each; ``export/compression/`` knows the rest."""
PRESETS = {"exact": "iOS16", "balanced": "iOS16", "small": "iOS18"}
"""Choices of schemes by rule and the oldest system that reads each; ``export/compression/presets.py`` has the rules."""
UNCOMPRESSED = "fp16"
"""What a recipe calls a kernel that is stored as it is."""
COMPONENTS = ("encoder", "prompt_encoder", "decoder", "proposals")
"""Parts of a model in the order they are run; every export has an encoder and a decoder."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which scheme the weights of each kernel are stored with; ``export/compression/recipe.py`` reads and writes it."""

    name: str
    components: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Component -> path of a kernel in the exported component -> scheme, or ``fp16``."""
    default: Mapping[str, str] = field(default_factory=dict)
    """Component -> scheme of its kernels that are not named and that the scheme can take; ``fp16`` where missing."""
    model: str | None = None
    """Name of the model that it was made for."""
    checkpoint: str | None = None
    """SHA-256 of the weights that it was made for."""

    def __post_init__(self) -> None:
        for component in (*self.components, *self.default):
            if component not in COMPONENTS:
                raise UsageError(
                    f"recipe '{self.name}' has component '{component}'; components are {', '.join(COMPONENTS)}"
                )
        for scheme in self.schemes:
            check_scheme(scheme)

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the schemes that it has, each once."""
        named = [scheme for table in self.components.values() for scheme in table.values()]
        return tuple(dict.fromkeys(name for name in (*self.default.values(), *named) if name != UNCOMPRESSED))

    @property
    def target(self) -> str:
        """Oldest system that reads all of its schemes."""
        return max((COMPRESSIONS[scheme] for scheme in self.schemes), key=TARGETS.index, default=TARGETS[0])


def is_read_by(target: str, needed: str) -> bool:
    """Return whether a package for ``target`` may hold what needs the system ``needed``."""
    return TARGETS.index(target) >= TARGETS.index(needed)


def compression_name(compress: str | Recipe) -> str:
    """Return what messages call a scheme, a preset or a recipe."""
    return f"recipe '{compress.name}'" if isinstance(compress, Recipe) else compress


def check_compression(compress: str | Recipe, target: str | None = None) -> None:
    """Raise UsageError unless the scheme or preset exists and, where ``target`` is given, that system reads it all."""
    if isinstance(compress, Recipe):
        needed = compress.target
    elif compress in PRESETS:
        needed = PRESETS[compress]
    else:
        check_scheme(compress)
        needed = COMPRESSIONS[compress]
    if target is not None and not is_read_by(target, needed):
        raise UsageError(
            f"compress {compression_name(compress)} needs target {needed}, not {target}; pass --target {needed}"
        )


def check_scheme(name: str) -> None:
    """Raise UsageError unless there is a scheme of this name."""
    if name not in COMPRESSIONS:
        raise UsageError(
            f"compress is '{name}'; choose one of: {', '.join((*PRESETS, *COMPRESSIONS))}; or a recipe's .toml file"
        )

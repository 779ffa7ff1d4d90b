"""Compressed weights: the schemes, which kernels they take, recipes that choose one per kernel, and what is stored."""

from edgesam_export.export.compression.kernels import (
    compress_modules,
    kernel_modules,
    kernels_of,
    model_kernels,
    output_axis,
    require_folded,
    tables_of,
)
from edgesam_export.export.compression.layouts import (
    LaidOut,
    Layer,
    chosen_kernels,
    compress_model,
    laid_out_kernels,
    latent,
    model_values,
)
from edgesam_export.export.compression.palettes import find_palette, nearest_entries, through_fp16
from edgesam_export.export.compression.recipe import (
    read_recipe,
    recipe_of,
    schemes_for,
    uniform_recipe,
    write_recipe,
)
from edgesam_export.export.compression.schemes import (
    MIN_ELEMENTS,
    SCHEMES,
    Kernel,
    Scheme,
    applicable,
    find_scheme,
    stored_bytes,
)
from edgesam_export.export.compression.stored import (
    StoredWeight,
    find_palettes,
    kept_weights,
    looked_up,
    nearest_indices,
    store,
    stored_values,
)
from edgesam_export.spec import Recipe

__all__ = [
    "MIN_ELEMENTS",
    "SCHEMES",
    "Kernel",
    "LaidOut",
    "Layer",
    "Recipe",
    "Scheme",
    "StoredWeight",
    "applicable",
    "chosen_kernels",
    "compress_model",
    "compress_modules",
    "find_palette",
    "find_palettes",
    "find_scheme",
    "kept_weights",
    "kernel_modules",
    "kernels_of",
    "laid_out_kernels",
    "latent",
    "looked_up",
    "model_kernels",
    "model_values",
    "nearest_entries",
    "nearest_indices",
    "output_axis",
    "read_recipe",
    "recipe_of",
    "require_folded",
    "schemes_for",
    "store",
    "stored_bytes",
    "stored_values",
    "tables_of",
    "through_fp16",
    "uniform_recipe",
    "write_recipe",
]

"""Recipes: which scheme each kernel is stored with, as TOML files and for the kernels of a component.

A recipe file::

    schema_version = 1
    name = "small"
    model = "edge_sam_tiny"
    checkpoint = "<SHA-256 of the weights' file, optional>"

    [default]  # kernels that are not named and that the scheme can take; without it they stay FP16
    encoder = "palettize6"

    [encoder]
    "image_encoder.neck.2" = "palettize4"

    [decoder]
    "mask_decoder.transformer.layers.0.mlp.0" = "fp16"
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgesam_export.errors import SchemaError, UsageError, warn
from edgesam_export.export.compression.presets import preset_schemes
from edgesam_export.export.compression.schemes import Kernel, Scheme, find_scheme, refusal
from edgesam_export.files import write_text
from edgesam_export.resources import read_toml
from edgesam_export.spec import COMPONENTS, PRESETS, UNCOMPRESSED, Recipe, check_compression

__all__ = [
    "compression_entry",
    "compression_of",
    "read_recipe",
    "recipe_of",
    "schemes_for",
    "uniform_recipe",
    "write_recipe",
]

# 1: first version.
RECIPE_VERSION = 1
MAX_RECIPE_BYTES = 1 << 20
"""A recipe that names every kernel of the largest model takes a tenth of that."""
FIELDS = ("name", "model", "checkpoint")


def uniform_recipe(name: str) -> Recipe:
    """Return the recipe that stores every kernel with one scheme, where it can take it.

    Raises:
        UsageError: no such scheme.
    """
    return Recipe(name=name, default=dict.fromkeys(COMPONENTS, name))


def compression_of(text: str) -> str | Recipe:
    """Return what a text of the command line means: the recipe in a ``.toml`` file, or the name of a scheme or preset.

    Raises:
        SchemaError: the file is no recipe.
        UsageError: no such name, or the recipe has none such.
    """
    if text.lower().endswith(".toml"):
        return read_recipe(text)
    check_compression(text)
    return text


def schemes_for(
    compress: str | Recipe, component: str, kernels: Mapping[str, Kernel], others: Collection[str] = ()
) -> dict[str, Scheme]:
    """Return path -> scheme of the kernels of a component that are stored compressed.

    ``compress`` is a recipe or the name of a scheme or preset. ``others`` are layers that the component has and this
    export does not compute, such as those of a mask prompt.

    Raises:
        UsageError: a recipe names a kernel that is not among them, or a scheme that cannot store it.
    """
    if isinstance(compress, str) and compress in PRESETS:
        return preset_schemes(compress, kernels)
    recipe = uniform_recipe(compress) if isinstance(compress, str) else compress
    named = recipe.components.get(component, {})
    for path in named:
        if path not in kernels and path not in others:
            raise UsageError(f"recipe '{recipe.name}': {component} has no kernel '{path}'{nearby(path, kernels)}")
    default = recipe.default.get(component, UNCOMPRESSED)
    found = {}
    for path, kernel in kernels.items():
        name = named.get(path, UNCOMPRESSED if kernel.is_table else default)
        if name == UNCOMPRESSED:
            continue
        scheme = find_scheme(name)
        reason = refusal(kernel, scheme)
        if reason is None:
            found[path] = scheme
        elif path in named:
            raise UsageError(
                f"recipe '{recipe.name}': {component} kernel '{path}' {kernel.shape} cannot be stored as {name}:"
                f" {reason}; choose another scheme or {UNCOMPRESSED}"
            )
    return found


def compression_entry(
    compress: str | Recipe, contract: Mapping[str, Any], schemes: Mapping[str, Scheme]
) -> dict[str, Any]:
    """Return what a component's contract says of the choice: ``scheme`` if it is one for all, else the recipe's name.

    Warns of a recipe that was made for another model or other weights.

    Raises:
        UsageError: a scheme for all kernels stores none.
    """
    named = {"schemes": {path: scheme.name for path, scheme in schemes.items()}}
    if isinstance(compress, Recipe):
        check_origin(compress, contract["model"], contract["weights"]["sha256"])
        return {"recipe": compress.name, **named}
    if compress in PRESETS:
        return {"recipe": compress, **named}
    if not schemes:
        raise UsageError(
            f"compress {compress} finds no weight in {contract['component']} that it applies to; leave it out"
        )
    return {"scheme": compress, **named}


def check_origin(recipe: Recipe, model: str, checkpoint: str | None) -> None:
    """Warn if the recipe was made for another model, or for weights of another SHA-256."""
    if recipe.model not in (None, model):
        warn(f"recipe '{recipe.name}' was made for {recipe.model}, not {model}; it may cost more here")
    elif recipe.checkpoint not in (None, checkpoint):
        made_for, found = (str(digest)[:12] for digest in (recipe.checkpoint, checkpoint))
        warn(f"recipe '{recipe.name}' was made for weights of SHA-256 {made_for}, not {found}; it may cost more here")


def nearby(path: str, kernels: Mapping[str, Kernel]) -> str:
    """Return the end of a message: the names like ``path`` that do exist."""
    similar = difflib.get_close_matches(path, kernels, n=3, cutoff=0.6)
    return f"; similar: {', '.join(similar)}" if similar else f"; it has {len(kernels)} others"


def read_recipe(path: str | Path) -> Recipe:
    """Return the recipe in a TOML file.

    Raises:
        SchemaError: the file cannot be read, is too large, not TOML, or no recipe of this version.
        UsageError: it names a scheme or a component that does not exist.
    """
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        size = None
    if size is None:
        raise SchemaError(f"'{path}' is not a file; give a recipe, as written by shrink")
    if size > MAX_RECIPE_BYTES:
        raise SchemaError(f"'{path}' has {size} bytes, a recipe has at most {MAX_RECIPE_BYTES}")
    document = read_toml(path)
    version = document.pop("schema_version", None)
    if type(version) is not int or version != RECIPE_VERSION:
        raise SchemaError(
            f"'{path}': recipe has schema_version {str(version)[:20]}, this edgesam-export reads {RECIPE_VERSION}"
        )
    components = {name: document.pop(name) for name in COMPONENTS if name in document}
    return recipe_of({**document, "components": components}, f"'{path}'")


def recipe_of(document: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe that plain data stands for: the fields of ``Recipe``; ``where`` opens messages.

    Raises:
        SchemaError: a field is missing, unknown or of the wrong type.
        UsageError: a scheme or a component does not exist.
    """
    unknown = [str(key) for key in document if key not in (*FIELDS, "default", "components")]
    if unknown:
        known = ", ".join((*FIELDS, "default", *COMPONENTS))
        raise SchemaError(f"{where}: a recipe has no entry '{unknown[0][:60]}'; it has {known}")
    texts: dict[str, Any] = {key: document.get(key) for key in FIELDS}
    wrong = [key for key, value in texts.items() if not isinstance(value, str) and (key == "name" or value is not None)]
    if wrong:
        raise SchemaError(f"{where}: recipe has {wrong[0]} {str(texts[wrong[0]])[:40]}, expected a text")
    components = document.get("components", {})
    tables = {"default": document.get("default", {}), **(components if isinstance(components, dict) else {})}
    for key, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise SchemaError(f"{where}: [{key}] of a recipe has a scheme's name for each entry, got {str(table)[:60]}")
    try:
        return Recipe(**texts, default=tables.pop("default"), components=tables)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def write_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as TOML; ``read_recipe`` returns an equal one.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = [f"schema_version = {RECIPE_VERSION}"]
    for key in FIELDS:
        value = getattr(recipe, key)
        if value is not None:
            lines.append(f"{key} = {quoted(value)}")
    for title, table in (("default", recipe.default), *recipe.components.items()):
        if table:
            lines += ["", f"[{title}]", *(f"{quoted(key)} = {quoted(value)}" for key, value in table.items())]
    write_text(Path(path), "\n".join(lines) + "\n")


def quoted(text: str) -> str:
    """Return a text as a TOML basic string, whose escapes are those of JSON."""
    return json.dumps(text).replace("\x7f", "\\u007f")

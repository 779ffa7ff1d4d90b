"""Recipes and presets: which scheme each kernel gets, files that come back as they were, and files that are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edgesam_export.errors import EdgeSAMExportError, SchemaError, UsageError, collected_warnings
from edgesam_export.export.compression import (
    PRESET_RULES,
    SCHEMES,
    Kernel,
    compression_entry,
    compression_of,
    read_recipe,
    recipe_of,
    schemes_for,
    stored_bytes,
    uniform_recipe,
    write_recipe,
)
from edgesam_export.spec import COMPRESSIONS, PRESETS, TARGETS, CoreMLConfig, Recipe

KERNELS = {
    kernel.path: kernel
    for kernel in (
        Kernel(path="wide", shape=(64, 64, 3, 3), axis=0),
        Kernel(path="depthwise", shape=(256, 1, 3, 3), axis=0),
        Kernel(path="up", shape=(64, 32, 2, 2), axis=1),
        Kernel(path="image_pe", shape=(1, 64, 64, 64), axis=1, is_table=True),
    )
}
RECIPE = Recipe(
    name='a "name" \\ with\ttabs',
    model="edge_sam_tiny",
    checkpoint="ab" * 32,
    default={"encoder": "palettize6"},
    components={"encoder": {"wide": "linear8", "up": "fp16"}, "decoder": {"mlp.lin.0": "palettize4_g16"}},
)


def names(compress: str | Recipe, component: str = "encoder") -> dict[str, str]:
    return {path: scheme.name for path, scheme in schemes_for(compress, component, KERNELS).items()}


# ------------------------------------------------------------------------------------------------------------- choice


def test_a_named_kernel_gets_its_scheme_and_the_others_the_default():
    assert names(RECIPE) == {"wide": "linear8", "depthwise": "palettize6"}
    assert names(Recipe(name="none")) == {} == names(RECIPE, "proposals")


def test_a_scheme_for_all_is_left_out_where_it_cannot_be_and_tables_are_only_compressed_by_name():
    assert names("linear4") == {"wide": "linear4", "up": "linear4"} == names(uniform_recipe("linear4"))
    assert names(Recipe(name="table", components={"encoder": {"image_pe": "palettize4"}})) == {"image_pe": "palettize4"}


def test_layers_that_an_export_does_not_compute_may_be_named():
    recipe = Recipe(name="x", components={"encoder": {"of_a_mask": "linear8"}})
    assert schemes_for(recipe, "encoder", KERNELS, others={"of_a_mask"}) == {}


@pytest.mark.parametrize(
    ("path", "scheme", "line"),
    [
        ("image_pe", "linear8", "as linear8: it is a table without channels, which takes one palette; choose another"),
        ("image_pe", "palettize4_g16", "as palettize4_g16: it is a table without channels"),
        ("wild", "linear8", r"encoder has no kernel 'wild'; similar: wide$"),
        ("no.such.layer", "linear8", r"encoder has no kernel 'no\.such\.layer'; it has 4 others$"),
        (
            "depthwise",
            "linear4",
            r"'depthwise' \(256, 1, 3, 3\) cannot be stored as linear4: blocks of 32 do not divide 1 ",
        ),
        (
            "up",
            "palettize4_g32",
            "cannot be stored as palettize4_g32: groups of 32 do not divide 32 output channels into",
        ),
        (
            "depthwise",
            "palettize6_g8",
            "as palettize6_g8: it would take no fewer bytes; choose another scheme or fp16$",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(path, scheme, line):
    with pytest.raises(UsageError, match=line):
        names(Recipe(name="x", components={"encoder": {path: scheme}}))


def test_a_small_kernel_stays_as_it_is():
    small = {"small": Kernel(path="small", shape=(16, 96, 1, 1), axis=0)}
    assert schemes_for("palettize4", "encoder", small) == {}
    with pytest.raises(UsageError, match="it has 1536 elements, fewer than 2048"):
        schemes_for(Recipe(name="x", components={"encoder": {"small": "palettize4"}}), "encoder", small)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_stores_every_kind_of_kernel_and_needs_the_system_it_says(name):
    rules = PRESET_RULES[name]
    assert max((SCHEMES[rule.scheme].target for rule in rules), key=TARGETS.index) == PRESETS[name]
    for component in ("encoder", "decoder"):
        assert {"wide", "depthwise", "up"} <= set(names(name, component))
    assert set(PRESET_RULES) == set(PRESETS) and not set(PRESETS) & set(COMPRESSIONS)


def test_presets_are_ordered_by_size():
    sizes = {}
    for name in PRESETS:
        schemes = schemes_for(name, "encoder", KERNELS)
        sizes[name] = sum(stored_bytes(kernel, schemes.get(path)) for path, kernel in KERNELS.items())
    assert sizes["small"] < sizes["balanced"] < sizes["exact"]


# -------------------------------------------------------------------------------------------------------------- files


def test_a_recipe_comes_back_from_its_file_and_from_a_contract(tmp_path):
    write_recipe(RECIPE, tmp_path / "recipe.toml")
    assert read_recipe(tmp_path / "recipe.toml") == RECIPE == compression_of(str(tmp_path / "recipe.toml"))
    assert recipe_of(asdict(RECIPE), "contract") == RECIPE
    assert RECIPE.schemes == ("palettize6", "linear8", "palettize4_g16") and RECIPE.target == "iOS18"


HEAD = 'schema_version = 1\nname = "x"\n'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "recipe has schema_version None, this edgesam-export reads 1"),
        (b'schema_version = true\nname = "x"', "recipe has schema_version True"),
        (b"schema_version = 2", "recipe has schema_version 2, this edgesam-export reads 1"),
        (b"schema_version = 1", "recipe has name None, expected a text"),
        (b"schema_version = 1\nname = 3", "recipe has name 3, expected a text"),
        (f"{HEAD}model = []".encode(), r"recipe has model \[\], expected a text"),
        (
            f"{HEAD}[encodr]".encode(),
            "a recipe has no entry 'encodr'; it has name, model, checkpoint, default, encoder",
        ),
        (f"{HEAD}encoder = 3".encode(), r"\[encoder\] of a recipe has a scheme's name for each entry, got 3"),
        (f"{HEAD}[encoder]\na.b = 'linear8'".encode(), r"\[encoder\] of a recipe has a scheme's name for each entry"),
        (f"{HEAD}[encoder]\na = 4".encode(), r"\[encoder\] of a recipe has a scheme's name for each entry"),
        (f"{HEAD}[encoder]\na = 'zip'".encode(), "compress is 'zip'; choose one of"),
        (f"{HEAD}[default]\nwhole = 'linear8'".encode(), "recipe 'x' has component 'whole'; components are encoder"),
        (b"\xff\xfe", "is not TOML"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"#" * ((1 << 20) + 1), "has 1048577 bytes, a recipe has at most 1048576"),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_recipe_is_refused_in_a_line(content, line, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises((SchemaError, UsageError), match=line) as refused:
        read_recipe(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["missing.toml", "", "\0.toml"])
def test_what_is_no_file_is_refused(name, tmp_path):
    with pytest.raises(SchemaError, match="is not a file; give a recipe"):
        read_recipe(tmp_path / name)


# ------------------------------------------------------------------------------------------------------------ options


def test_a_recipe_needs_the_newest_system_of_its_schemes():
    line = r"compress recipe 'a .*' needs target iOS18, not iOS17; pass --target iOS18"
    with pytest.raises(UsageError, match=line):
        CoreMLConfig(compress=RECIPE)
    assert CoreMLConfig(compress=RECIPE, target="iOS18").compress == RECIPE
    with pytest.raises(UsageError, match="compress small needs target iOS18"):
        CoreMLConfig(compress="small")
    with pytest.raises(UsageError, match=r"compress recipe 'a .*' needs precision fp16, not fp32"):
        CoreMLConfig(compress=RECIPE, target="iOS18", precision="fp32")


def contract_of(model: str, digest: str | None) -> dict:
    return {"model": model, "component": "encoder", "weights": {"sha256": digest}}


def test_a_contract_says_how_each_kernel_is_stored():
    stored = {"wide": SCHEMES["linear8"]}
    contract = contract_of("edge_sam_tiny", "ab" * 32)
    assert compression_entry("linear8", contract, stored) == {"scheme": "linear8", "schemes": {"wide": "linear8"}}
    assert compression_entry("small", contract, {}) == {"recipe": "small", "schemes": {}}
    assert compression_entry(RECIPE, contract, stored) == {"recipe": RECIPE.name, "schemes": {"wide": "linear8"}}
    with pytest.raises(
        UsageError, match="compress linear8 finds no weight in encoder that it applies to; leave it out"
    ):
        compression_entry("linear8", contract, {})


@pytest.mark.parametrize(
    ("model", "digest", "line"),
    [
        ("edge_sam_tiny", "ab" * 32, None),
        ("edge_sam", "ab" * 32, "was made for edge_sam_tiny, not edge_sam; it may cost more here"),
        ("edge_sam_tiny", "cd" * 32, "was made for weights of SHA-256 abababababab, not cdcdcdcdcdcd; it may cost"),
        ("edge_sam_tiny", None, "was made for weights of SHA-256 abababababab, not None"),
    ],
)
def test_a_recipe_of_other_weights_is_warned_of(model, digest, line):
    with collected_warnings() as found:
        if line is None:
            compression_entry(RECIPE, contract_of(model, digest), {})
        else:
            with pytest.warns(match=line):
                compression_entry(RECIPE, contract_of(model, digest), {})
        compression_entry(replace(RECIPE, model=None, checkpoint=None), contract_of(model, digest), {})
    assert len(found) == (line is not None)


def test_the_command_line_refuses_in_one_line(command: Callable, tmp_path: Path):
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    for value, line in (
        ("zip", "compress is 'zip'; choose one of: exact, balanced, small, palettize4, "),
        (tmp_path / "missing.toml", "missing.toml' is not a file; give a recipe, as written by shrink"),
        (broken, "broken.toml' is not TOML"),
    ):
        code, out, err = command("coreml", "edge_sam_tiny", "--compress", value, "--output", tmp_path / "build")
        assert code == EdgeSAMExportError.exit_code and not out and err.count("\n") == 1 and line in err
    assert not (tmp_path / "build").exists()


def test_the_page_lists_every_scheme_with_its_system_and_bits():
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (iOS\d+ \| [\d.]+) \| ", page, re.MULTILINE))
    kernel = Kernel(path="x", shape=(256, 256, 1, 1), axis=0)
    bits = {name: stored_bytes(kernel, scheme) * 8 / kernel.elements for name, scheme in SCHEMES.items()}
    assert rows == {name: f"{scheme.target} | {bits[name]:.2f}" for name, scheme in SCHEMES.items()}
    for name, target in PRESETS.items():
        assert f"| `{name}` | {target} | " in page
        assert all(f"`{rule.scheme}`" in page for rule in PRESET_RULES[name])


def test_the_recipe_of_the_page_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml").components["decoder"]["image_pe"] == "palettize4"

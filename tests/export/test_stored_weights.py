"""Weights as a package stores them, by hand, and the kernels of a model that an export finds again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesam_export.export.compression import (
    SCHEMES,
    Kernel,
    applicable,
    compress_model,
    compress_modules,
    integer_entries,
    kept_weights,
    kernels_of,
    laid_out_kernels,
    model_kernels,
    schemes_for,
    store,
    stored_bytes,
    stored_values,
)
from edgesam_export.export.folding import folded_model
from edgesam_export.export.trace import build_components
from edgesam_export.families import load_model
from edgesam_export.spec import CoreMLConfig, Recipe

IDEMPOTENT = [name for name, scheme in SCHEMES.items() if scheme.palette or scheme.bits == 16]


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).half().float()


def test_pruning_keeps_the_largest_magnitudes_and_of_equal_ones_the_first():
    weight = torch.tensor([[3.0, -1.0, 1.0, 0.5], [-4.0, 0.0, 1.0, 2.0]])
    assert kept_weights(weight, SCHEMES["sparse50"]).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 1]]
    assert stored_values(weight, SCHEMES["sparse75"]).tolist() == [[3.0, 0.0, 0.0, 0.0], [-4.0, 0.0, 0.0, 0.0]]
    odd = torch.arange(1.0, 8.0).reshape(1, 7)
    assert stored_values(odd, SCHEMES["sparse50"]).tolist() == [[0, 0, 0, 4, 5, 6, 7]]  # 3 of 7 are pruned


def test_a_palette_of_a_pruned_weight_serves_what_is_kept():
    weight = torch.cat([torch.full((1, 8), 0.01), torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]])])
    assert torch.equal(stored_values(weight, SCHEMES["sparse50_palettize4"])[1], weight[1])
    assert stored_values(weight, SCHEMES["sparse50_palettize4"])[0].tolist() == [0.0] * 8


def test_a_group_of_output_channels_has_a_palette_of_its_own():
    weight = (
        torch.tensor([1.0, 2.0, 3.0, 4.0]).repeat(16, 1) * torch.cat([torch.ones(8), torch.full((8,), 10.0)])[:, None]
    )
    assert torch.equal(stored_values(weight, SCHEMES["palettize2_g8"]), weight)
    assert not torch.equal(stored_values(weight, SCHEMES["palettize2_g16"]), weight)
    assert torch.equal(stored_values(weight.t(), SCHEMES["palettize2_g8"], axis=1), weight.t())


def test_integer_entries_by_hand():
    integers, scales = integer_entries(torch.tensor([[-63.5, 0.26, 0.75, 127.0], [0.1, 0.5, 0.75, 1.0]]))
    # 1 is the smallest power of two by which 127 fits, and 1/64 that for 1: 127/128 < 1
    assert scales.tolist() == [[1.0], [1 / 64]]
    assert integers.tolist() == [[-64.0, 0.0, 1.0, 127.0], [6.0, 32.0, 48.0, 64.0]]


@pytest.mark.parametrize("name", IDEMPOTENT)
def test_stored_values_are_stored_as_they_are(name):
    weight = drawn(64, 48) * torch.logspace(-6, 1, 64)[:, None]  # channels down to the smallest FP16 numbers
    once = stored_values(weight, SCHEMES[name]).half().float()
    assert torch.equal(stored_values(once, SCHEMES[name]), once)


def test_a_weight_of_one_value_is_stored():
    for scheme in SCHEMES.values():
        for value in (0.0, 1.0):
            stored = store(torch.full((64, 64), value), scheme)
            kept = stored.values() if stored.mask is None else stored.values()[stored.mask]
            assert torch.equal(kept.half().float(), torch.full_like(kept, value)), scheme.name


def test_bytes_by_hand():
    kernel = Kernel(path="x", shape=(64, 64, 1, 1), axis=0)
    record = 64
    assert stored_bytes(kernel, None) == record + 8192
    assert stored_bytes(kernel, SCHEMES["palettize6"]) == record + 3072 + record + 128
    assert stored_bytes(kernel, SCHEMES["palettize2"]) == record + 1024  # four entries stand in the program
    assert stored_bytes(kernel, SCHEMES["linear8"]) == record + 4096 + record + 128 + record + 64
    assert stored_bytes(kernel, SCHEMES["linear8"], "iOS18") == record + 4096 + record + 128
    assert stored_bytes(kernel, SCHEMES["sparse75_palettize4"]) == record + 512 + record + 512 + record + 64
    assert stored_bytes(kernel, SCHEMES["palettize4_g8_int8"]) == record + 2048 + record + 128  # eight scales
    assert not applicable(Kernel(path="x", shape=(2048, 1, 1, 1), axis=0), SCHEMES["linear8"])


@pytest.mark.parametrize(
    ("name", "mask_input"), [("edge_sam_tiny", True), ("lite_medsam", True), ("efficient_sam_vitt", False)]
)
def test_a_plain_model_has_the_kernels_that_its_export_has(name, mask_input):
    model = load_model(name, random_weights=0)
    exported = model_kernels(model, CoreMLConfig(mask_input=mask_input))
    plain = laid_out_kernels(folded_model(model))
    for component, kernels in exported.items():
        layers = {path: kernel for path, kernel in kernels.items() if not kernel.is_table}
        assert layers.keys() == plain[component].keys()
        for path, kernel in layers.items():
            found = plain[component][path].kernel
            # a linear layer may become a convolution
            assert (found.elements, found.outputs, found.axis) == (kernel.elements, kernel.outputs, kernel.axis), path


def test_a_compressed_model_computes_what_its_compressed_export_computes(model):
    """The plain layout and the exported one hold the same values; a decoder shows both in its logits."""
    hypernetworks = "mask_decoder.output_hypernetworks_mlps.layers"
    recipe = Recipe(
        name="coarse",
        default={"decoder": "linear4_b16"},
        components={"decoder": {f"{hypernetworks}.4": "palettize2_g32", "mask_decoder.output_upscaling.3": "sparse75"}},
    )
    component = next(c for c in build_components(model, CoreMLConfig(), format="coreml")[0] if c.name == "decoder")
    compress_modules(component.module, schemes_for(recipe, "decoder", kernels_of(component.module, "decoder")), "test")
    folded = folded_model(model)
    compress_model(folded, recipe)
    embedding = drawn(1, 128, 64, 64)
    coords, labels = torch.full((1, 8, 2), 300.0), torch.tensor([[1.0, 0, -2, -2, -2, -2, -2, -2]])
    with torch.no_grad():
        masks, found, original = (
            component.module.eval()(embedding, coords, labels)[0],
            folded.decode(embedding, coords[:, :2], labels[:, :2])[0],
            model.decode(embedding, coords[:, :2], labels[:, :2])[0],
        )
    scale = float((masks - original).abs().max())  # what compression changes
    # scaled products of integers are rounded to FP16 in the plain layout, as Core ML rounds them
    assert scale > 0 and float((masks - found).abs().max()) < 0.02 * scale

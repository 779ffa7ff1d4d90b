"""The noise that half precision costs a correct implementation: its size, its limits, and what it leaves alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from edgesam_export.imaging.geometry import prepare
from edgesam_export.parity import check_parity
from edgesam_export.parity.half_precision import PIECE, HalfPrecisionRunner, Rounding
from edgesam_export.parity.inputs import default_images, default_prompts, pack
from edgesam_export.parity.metrics import psnr_db, visible_change
from edgesam_export.parity.noise import side_by_side, spread
from edgesam_export.runners.torch import ExportedModulesRunner, TorchRunner


def rounded(values: torch.Tensor, *, grid: float = 1.0, bits: int = 11) -> torch.Tensor:
    mode = Rounding(grid, bits)
    with mode:
        mode.active = True
        return values + 0.0


def test_rounding_is_that_of_fp16_in_its_range():
    random = torch.Generator().manual_seed(0)
    values = torch.randn(4, 1000, generator=random) * 10.0 ** torch.arange(-3, 5).repeat(125)
    inside = (values.abs() < 6e4) & (values.abs() > 2**-14)  # FP16's normal numbers
    assert inside.sum() > 3000
    assert torch.equal(rounded(values)[inside], values.half().float()[inside])


def test_rounding_has_the_precision_of_fp16_and_not_its_range():
    values = torch.tensor([1e6, -3e8, 1e-9, 7e-20])
    for grid in (1.0, 1.37):
        found = rounded(values, grid=grid)
        assert (found / values - 1).abs().max() <= 2**-11 and not torch.equal(found, values)
    assert values.half().isinf().any() and (values.half() == 0).any()


def test_another_grid_and_fewer_bits_round_to_other_numbers():
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) + 0.5
    first, other, coarse = (rounded(values, **o) - values for o in ({}, {"grid": 1.37}, {"bits": 8}))
    assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.05
    assert 7 < float(coarse.std() / first.std()) < 9


def test_a_result_is_rounded_where_it_is_and_an_argument_never():
    values = torch.rand(3 * PIECE // 2, generator=torch.Generator().manual_seed(0))
    before, mode = values.clone(), Rounding(1.37, 11)
    with mode:
        mode.active = True
        sums, slanted = values + 0.0, values[: 2 * 64].reshape(2, 64).t() + 0.0
        values.mul_(1.0)
    assert torch.equal(values, before), "what an operation writes into its argument is the argument's"
    assert not torch.equal(sums, before)
    assert torch.equal(slanted, sums[:128].reshape(2, 64).t())
    assert torch.equal(mode.rounded(before), sums) and torch.equal(before, values)


@pytest.fixture(scope="module")
def photo():
    return default_images()[0]


def test_the_noise_of_a_network_is_small_repeatable_and_gone_afterwards(model, photo):
    prepared = prepare(photo[1], model.info.frame)
    exact, noisy = TorchRunner(model, score="iou"), HalfPrecisionRunner(model, score="iou")
    other = HalfPrecisionRunner(model, score="iou", grid=1.37)
    before, first, second, third = (r.encode(prepared)["image_embeddings"] for r in (exact, noisy, noisy, other))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert np.array_equal(before, exact.encode(prepared)["image_embeddings"]), "hooks stayed on the model"
    for sample in (first, third):
        assert 55 < psnr_db(before, sample) < 80, "FP16 files of this model have 70 to 77 dB"


def test_norms_and_point_tokens_are_exact_inside(model, photo):
    """With 4 bits a position is off by up to 32 pixels and a norm useless; neither is rounded on its way."""
    prepared = prepare(photo[1], model.info.frame)
    coords, labels = pack(prepared, default_prompts(photo[1].shape[:2])[0], None, True)
    seen = []
    encode = model.prompt_encoder.encode_points
    handle = model.mask_decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2].clone()))
    try:
        runner = HalfPrecisionRunner(model, score="iou", bits=4)
        embedding = TorchRunner(model).encode(prepared)
        runner.decode(embedding, coords, labels, None)
    finally:
        handle.remove()
    assert torch.equal(seen[0], encode(torch.from_numpy(coords), torch.from_numpy(labels)))


def test_the_spread_is_the_rms_of_the_samples_within_the_image():
    logits, scores = np.zeros((4, 256, 256), np.float32), np.zeros(4, np.float32)
    sample = logits.copy()
    sample[:, :100] = np.array([3, 1, 1, 2], np.float32)[:, None, None]
    sample[:, 100:] = 99  # padding
    found = spread(logits, scores, [(sample, scores + 0.3), (-sample, scores - 0.1)], (100, 256))
    assert found.logits.tolist() == [3, 1, 1, 2] and found.scores == pytest.approx(np.sqrt(0.05))
    assert found.of([3, 0]).logits.tolist() == [2, 3]


def test_a_change_counts_only_where_the_reference_was_sure():
    reference = np.full((64, 64), -1.0)
    reference[20:40, 20:40] = 1.0
    candidate = reference.copy()
    candidate[26:34, 26:34] = -1.0
    assert visible_change(reference, candidate) == 36 / 400, "without the ring beside what is left"
    assert visible_change(reference, candidate, noise=0.12) == 36 / 400
    assert visible_change(reference, candidate, noise=0.13) == 0.0, "8 times the noise is more than any logit"


def test_a_rewrite_that_is_wrong_on_both_sides_is_found(model, exported, monkeypatch):
    """The file would agree with the modules that it was traced from; these are held to the model itself."""
    from edgesam_export.artifacts import list_files, open_artifact
    from edgesam_export.modeling.wrappers import ExactPrompt

    files = [open_artifact(file) for file in list_files(exported("edge_sam_tiny", "coreml"))]
    files = [file for file in files if file.component == "decoder"]
    images, point = default_images()[1:], lambda size: default_prompts(size)[:1]
    assert check_parity(model, ExportedModulesRunner(model, files), images=images, prompts=point).passed
    forward = ExactPrompt.forward
    monkeypatch.setattr(ExactPrompt, "forward", lambda self, coords, labels: forward(self, coords - 0.5, labels))
    report = check_parity(model, ExportedModulesRunner(model, files), images=images, prompts=point)
    assert {(row.component, row.output) for row in report.failures} >= {("decoder", "masks")}


@pytest.mark.parametrize("threads", [1, 3])
def test_samples_share_out_the_threads_and_give_them_back(threads):
    def seen(sample: int) -> tuple[int, int, int]:
        if sample < 0:
            raise ValueError("a sample")
        return sample, torch.get_num_threads(), threading.get_ident()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = side_by_side(seen, [5, 7])
        assert [sample for sample, _, _ in found] == [5, 7]
        assert {share for _, share, _ in found} == {1}
        assert (threading.get_ident() in [where for _, _, where in found]) == (threads == 1)
        with pytest.raises(ValueError, match="a sample"):
            side_by_side(seen, [5, -1])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

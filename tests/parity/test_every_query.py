"""Parity of a decoder of several prompts at once: a fault in one query is found, whichever it is, and named."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_images, default_prompts
from edgesam_export.parity.queries import layouts
from edgesam_export.runners import Decoded, Runner
from edgesam_export.spec import ImageFrame, ModelInfo

QUERIES = 8


class FakeRunner(Runner):
    """Discs that depend on prompt and mask, exactly alike in every copy; faults are planted on whole calls."""

    def __init__(self, queries: int = 1, fault=lambda masks: masks) -> None:
        self.name = "copy" if queries > 1 else "torch"
        self.info = ModelInfo(name="fake", family="fake", frame=ImageFrame(size=64))
        self.embedding_names = ("image_embeddings",)
        self.accepts_mask_input = True
        self.queries, self.fault = queries, fault
        self.calls: list[list[tuple[float, ...]]] = []

    def encode(self, prepared):
        return {"image_embeddings": np.tile(prepared.tensor[0].mean(0), (1, 8, 1, 1)).astype(np.float32)}

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None):
        x, y = point_coords[0][point_labels[0] >= 0].mean(0) / 4
        rows, columns = np.mgrid[:256, :256]
        level = float(embedding["image_embeddings"].mean()) + (0 if mask_input is None else 3)
        logits = np.stack([20.0 + 8 * token + level - np.hypot(rows - y, columns - x) for token in range(4)])
        return Decoded(logits[None].astype(np.float32), np.array([[0.9, 0.8, 0.7, 0.6]], np.float32))

    def decode_queries(self, embedding, point_coords, point_labels, masks):
        inputs = zip(point_coords, point_labels, masks, strict=True)
        alone = [self.decode_all(embedding, c[None], k[None], None if m is None else m[None]) for c, k, m in inputs]
        self.calls.append([tuple(one.masks[0, 0, ::64, 0]) for one in alone])
        masks_of_all = self.fault(np.concatenate([one.masks for one in alone]))
        return Decoded(masks_of_all, np.concatenate([one.scores for one in alone]))


def check(fault=lambda masks: masks, **options):
    candidate = FakeRunner(QUERIES, fault)
    return check_parity(FakeRunner(), candidate, **{"images": default_images()[::2], **options}), candidate


def test_a_copy_passes_with_a_row_for_each_prompt_and_calls_that_are_full():
    report, candidate = check()
    assert report.passed and not report.explanations
    assert len(report.rows) == 2 * (1 + 5 * 2 * 2)
    assert [len(call) for call in candidate.calls] == [QUERIES] * 4


@pytest.mark.parametrize("query", [0, 2, QUERIES - 1])
def test_a_fault_in_one_query_only_is_found_and_named(query):
    def fault(masks):
        masks[query, 1] += 0.05 * np.abs(masks[query, 1]).max()
        return masks

    report, _ = check(fault)
    assert not report.passed
    text = f"passes in others|fails in query {query} of 8, counted from 0"
    assert any(f"in query {query} of 8" in str(explanation) for explanation in report.explanations), text
    # each prompt was in the faulty query in some use, or its equal; no row of the encoder fails
    assert {row.output for row in report.failures} == {"masks"}


@pytest.mark.parametrize("pair", [(1, 6), (0, 5), (2, 7)])
def test_masks_that_come_out_at_each_others_query_are_found(pair):
    left, right = pair

    def exchanged(masks):
        masks[[left, right]] = masks[[right, left]]
        return masks

    report, _ = check(exchanged)
    assert not report.passed


def test_a_query_that_is_not_finite_fails():
    def fault(masks):
        masks[2, 3, 5, 7] = np.nan
        return masks

    report, _ = check(fault)
    assert not report.passed and any(row.problem for row in report.failures)


@pytest.mark.parametrize("prompts", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("queries", [2, 3, 8, 20, 64])
def test_prompts_are_laid_over_all_queries_so_that_any_two_differ_somewhere(prompts, queries):
    uses = [layouts(prompts, queries, number) for number in range(6)]
    for calls in uses:
        assert all(len(call) == queries for call in calls)
        if prompts <= queries:
            assert {index for call in calls for index in call} == set(range(prompts))
        else:
            assert {index for call in calls for index in call} >= set(range(prompts))
    if prompts > 1:
        calls = [call for use in uses for call in use]
        for one, other in combinations(range(queries), 2):
            assert any(call[one] != call[other] for call in calls)


def test_one_prompt_of_a_user_is_in_every_query():
    report, candidate = check(prompts=lambda size: default_prompts(size)[:1])
    assert report.passed and {len(call) for call in candidate.calls} == {QUERIES}

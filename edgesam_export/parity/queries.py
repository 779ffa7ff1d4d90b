"""A decoder of several prompts at once: each of its queries is given prompts, and the worst of each prompt counts.

A decoder of Q queries is Q decoders, and a fault may be in one of them. So the prompts of an image are laid over all
queries, in every use of the decoder in another order: two queries that hold the same prompt in one use hold different
ones in another, or else a mask that comes out at the wrong query would not be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgesam_export.imaging.feeds import PackedPrompt, joined_prompts
from edgesam_export.parity.report import CheckResult, Explanation, Prompt
from edgesam_export.runners import Decoded, Embedding, Runner

__all__ = ["Answer", "answers", "layouts", "worst_answer"]


class Answer(NamedTuple):
    """What one query of a decoder returns of a prompt."""

    query: int
    decoded: Decoded


def layouts(prompts: int, queries: int, number: int) -> list[list[int]]:
    """Return the prompts of each call by their index, ``queries`` in each; every prompt is in a call.

    ``number`` counts the uses of the decoder, each of which has another order.
    """
    if prompts > queries:
        return [
            [(start + query + number) % prompts for query in range(queries)] for start in range(0, prompts, queries)
        ]
    if prompts == 1:
        return [[0] * queries]
    # Queries that are equal modulo ``prompts`` differ in another digit of their numbers to that base.
    place = number % math.ceil(math.log(queries, prompts) - 1e-9) if queries > 1 else 0
    digits = [query // prompts**place if place else 0 for query in range(queries)]
    return [[(query + digit + number) % prompts for query, digit in enumerate(digits)]]


def answers(
    decoder: Runner, embedding: Embedding, prompts: Mapping[Prompt, PackedPrompt], number: int
) -> dict[Prompt, list[Answer]]:
    """Return what a decoder returns of each prompt in every query that holds it; of equal answers the first."""
    found: dict[Prompt, list[Answer]] = {prompt: [] for prompt in prompts}
    names, packed = list(prompts), list(prompts.values())
    for layout in layouts(len(prompts), decoder.queries, number):
        together = decoder.decode_many(embedding, *joined_prompts([packed[index] for index in layout]))
        for query, index in enumerate(layout):
            part = together.of(query)
            known = found[names[index]]
            if not any(same(part, answer.decoded) for answer in known):
                known.append(Answer(query, part))
    return found


def same(one: Decoded, other: Decoded) -> bool:
    """Return whether two answers are equal to the last bit; NaN is not."""
    pairs = [(one.masks, other.masks), (one.scores, other.scores)]
    if one.object_score is not None and other.object_score is not None:
        pairs.append((one.object_score, other.object_score))
    return all(np.array_equal(left, right) for left, right in pairs)


def worst_answer(found: Sequence[Answer], compare: Callable[[Decoded], CheckResult], queries: int) -> CheckResult:
    """Return the comparison of the answer that fails or, when none does, that is farthest off."""
    results = [compare(answer.decoded) for answer in found]
    severities = [severity(result) for result in results]
    worst = severities.index(max(severities))
    failed = [answer.query for answer, (failures, _) in zip(found, severities, strict=True) if failures]
    if not failed or len(failed) == len(found):
        return results[worst]
    row = next(row for row in results[worst].rows if not row.passed)
    text = f"{row.label} fails in query {failed[0]} of {queries}, counted from 0, and passes in others"
    return results[worst] + CheckResult(
        explanations=(Explanation(candidate=row.candidate, component=row.component, text=text),)
    )


def severity(result: CheckResult) -> tuple[bool, float]:
    """Return whether a comparison fails, and its largest error; NaN counts as infinite."""
    errors = [row.metrics.get("max_abs_error", math.inf) for row in result.rows]
    return any(not row.passed for row in result.rows), max(math.inf if math.isnan(error) else error for error in errors)

"""How well masks fit the truth: mIoU with boxes, points and refinement points, of anything that can be run.

The protocol is the EdgeSAM paper's: prompts come from the true masks, errors of one prediction place the next point.
Masks come through ``Predictor``: source size, threshold 0, what a user gets.

* Box: the smallest that holds every pixel of the object, at pixel edges.
* Centre point: the pixel of the object farthest from its border, the first in reading order of several. The image's
  own border counts. A centroid may lie outside the object; this never does.
* Refinement point: the same of the missing or the excess pixels, whichever are more; of the missing ones on a tie.
  Pixels that were clicked before are left out. A perfect mask gets no further points.
* ``box+mask``, ``point+mask``: the same prompt once more, with the logits of its first mask as a mask prompt. What
  that does by itself shows in the difference to ``box`` and ``point``.

Which of the masks counts: the single-mask token (token 0) for a box and from two points on, the best score of tokens 1
to 3 for one point, where SAM answers with three. The paper takes token 0 there too: ``first_token``; ``oracle`` is the
best that any choice could have given.
Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgesam_export.distill.data import ENDLESS
from edgesam_export.distill.results import EvalReport, ImageResult, ObjectResult, merged
from edgesam_export.distill.samples import Data, Sample, Skipped, shortened
from edgesam_export.distill.sharing import Share
from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.imaging.masks import bounding_box, iou
from edgesam_export.imaging.prompts import is_padded
from edgesam_export.predict.predictor import Masks, Predictor, counted_index
from edgesam_export.runners import Runner
from edgesam_export.spec import Progress

__all__ = [
    "PROMPTS",
    "centre_point",
    "evaluate",
    "parse_prompts",
    "refinement_point",
]

PROMPTS = ("box", "point", "point+2")
"""Prompts that are evaluated by default."""
KIND = re.compile(r"(box|point)(?:\+(?:([1-9]\d?)|(mask)))?", re.ASCII)
MAX_ROUNDS = 32


# -------------------------------------------------------------------------------------------------------------- prompts


class PromptKind(NamedTuple):
    """The first prompt of an object, ``box`` or ``point``, and what follows it."""

    base: str
    rounds: int = 0
    """Refinement points, one by one."""
    again: bool = False
    """The prompt once more, with the logits of its first mask."""


def parse_prompts(prompts: Sequence[str]) -> dict[str, PromptKind]:
    """Return the kind of each prompt: ``box``, ``point``, ``point+2``, ``box+mask``, ...

    Raises: UsageError when one is none, comes twice, or there is none at all.
    """
    kinds: dict[str, PromptKind] = {}
    for prompt in prompts:
        found = KIND.fullmatch(prompt)
        rounds = int(found[2] or 0) if found else 0
        if not found or rounds > MAX_ROUNDS or prompt in kinds:
            forms = f"write box, point, box+N or point+N with N of 1 to {MAX_ROUNDS}, box+mask or point+mask"
            raise UsageError(f"prompt '{prompt}' cannot be evaluated: {'given twice' if prompt in kinds else forms}")
        kinds[prompt] = PromptKind(found[1], rounds, found[3] is not None)
    if not kinds:
        raise UsageError("no prompts; give one or more of box, point, box+N, point+N, box+mask and point+mask")
    return kinds


def centre_point(mask: np.ndarray) -> tuple[int, int]:
    """Return x, y of the pixel farthest from the border of a mask that is not empty.

    Raises: RunnerUnavailableError without SciPy.
    """
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError:
        raise RunnerUnavailableError(
            "evaluation needs scipy, which is not installed; pip install 'edgesam-export[distill]'"
        ) from None
    bounds = bounding_box(mask)
    if bounds is None:
        raise ValueError("an empty mask has no centre point")
    x0, y0, x1, y1 = bounds
    # One pixel of outside all around: the image's border is a border, and only the object's box is transformed.
    depth = distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return x0 + int(x), y0 + int(y)


def refinement_point(
    predicted: np.ndarray, truth: np.ndarray, clicked: Sequence[tuple[int, int]] = ()
) -> tuple[tuple[int, int], int] | None:
    """Return x, y and label of the next point, None when nothing is wrong but at pixels already clicked.

    Shapes: predicted, truth bool (H, W)
    """
    regions = [truth & ~predicted, predicted & ~truth]
    for x, y in clicked:
        for region in regions:
            region[y, x] = False
    missing, excess = (int(region.sum()) for region in regions)
    if not missing and not excess:
        return None
    label = 1 if missing >= excess else 0
    return centre_point(regions[1 - label]), label


# ----------------------------------------------------------------------------------------------------------- evaluation


def evaluate(
    runner: Runner,
    data: Data,
    *,
    prompts: Sequence[str] = PROMPTS,
    limit: int | None = None,
    objects: int | None = None,
    mask_prompt: bool = False,
    strict: bool = True,
    share: Share | None = None,
    progress: Progress | None = None,
) -> EvalReport:
    """Evaluate anything that encodes and decodes, on some data; images without objects are passed over.

    ``limit``: so many images from the first on. ``objects``: at most so many of an image, the largest.
    ``mask_prompt``: refinement rounds also get the logits of the round before, as a mask prompt.
    ``strict``: an image that cannot be read is an error, not passed over. ``share``: the part of the images that this
    process does; the report is of all.
    Raises: UsageError for prompts that the runner cannot take, before anything runs; endless data; no objects at all.
    """
    kinds = parse_prompts(prompts)
    check_runner(runner, kinds, mask_prompt)
    total = counted(data, limit, objects)
    predictor, share = Predictor(runner=runner), share or Share()
    for index in share.indexes(total, progress):
        share.add(image_result(predictor, data, index, kinds, objects, mask_prompt, strict))
    images = share.gathered()
    results, skipped = merged(images)
    if not results:
        raise nothing_found(data, total, skipped)
    return EvalReport(
        model=runner.info.name,
        runner=runner.name,
        data=data.name,
        prompts=tuple(kinds),
        mask_prompt=mask_prompt,
        images=sum(bool(image.objects) for image in images),
        objects=results,
        skipped=skipped,
    )


def nothing_found(data: Data, total: int, skipped: Skipped) -> UsageError:
    """Return the error for data without an object that could be evaluated."""
    lines = [*skipped.images, *skipped.annotations, *skipped.notes]
    found = f"{total} images without a single object" + (f" ({shortened(lines)})" if lines else "")
    return UsageError(f"data '{data.name}': {found}; give annotations, see --data")


def image_result(
    predictor: Predictor,
    data: Data,
    index: int,
    kinds: dict[str, PromptKind],
    objects: int | None,
    mask_prompt: bool,
    strict: bool,
) -> ImageResult:
    """Return what is found on one image; one that cannot be read is noted, unless ``strict``."""
    skipped = Skipped()
    try:
        sample = skipped.read(data, index)
    except UsageError as error:
        if strict:
            raise
        return ImageResult(index=index, skipped=Skipped(images=[str(error)]))
    found = object_results(predictor, sample, kinds, objects, mask_prompt) if len(sample.masks) else []
    return ImageResult(index=index, objects=tuple(found), skipped=skipped)


def counted(data: Data, limit: int | None, objects: int | None) -> int:
    """Return the number of images to evaluate.

    Raises:
        UsageError: a limit below 1; data without an end and no limit.
    """
    for name, value in (("limit", limit), ("objects", objects)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; give 1 or more")
    total = len(data) if limit is None else min(limit, len(data))
    if total >= ENDLESS:
        raise UsageError(f"data '{data.name}' has no end; give a limit, or a count after the seed, as in scenes:1:100")
    return total


def check_runner(runner: Runner, kinds: dict[str, PromptKind], mask_prompt: bool) -> None:
    """Raise UsageError for prompts that need more slots than the decoder has, and for files that are not a pair."""
    exported = {artifact.component for artifact in runner.artifacts}
    for component in ("encoder", "decoder") if exported else ():
        if component not in exported:
            raise UsageError(
                f"no {component} among the files of {runner.info.name}; evaluation needs both, give it too"
            )
    again = next((prompt for prompt, kind in kinds.items() if kind.again), None)
    if (mask_prompt or again) and not runner.accepts_mask_input:
        raise UsageError(
            f"{runner.info.name}: this decoder takes no mask prompt; leave"
            f" {'--mask-prompt' if mask_prompt else again} out, or export it again with --mask-input"
        )
    fixed = runner.info.slots
    slots = fixed if runner.slots is None else runner.slots
    for prompt, kind in kinds.items():
        boxed = kind.base == "box"
        needed = kind.rounds + 1 + boxed
        needed += is_padded(runner.info.padding_point, has_points=not boxed, has_box=boxed)
        if slots is not None and needed > slots:
            advice = "" if fixed else f", or export it again with --points {needed}"
            raise UsageError(
                f"prompt '{prompt}' needs {needed} slots, the decoder of {runner.info.name} has {slots};"
                f" leave the prompt out{advice}"
            )


def chosen_objects(sample: Sample, count: int | None) -> list[int]:
    """Return the indexes of an image's largest objects, in the image's order; of equals the first."""
    areas = sample.masks.sum(axis=(1, 2))
    largest = np.argsort(-areas, kind="stable")[:count]
    return sorted(int(index) for index in largest if areas[index])


def object_results(
    predictor: Predictor, sample: Sample, kinds: dict[str, PromptKind], objects: int | None, mask_prompt: bool
) -> list[ObjectResult]:
    """Return name, size and IoU of the objects of one image that are evaluated."""
    predictor.set_image(sample.image)
    results = []
    for number in chosen_objects(sample, objects):
        mask = sample.masks[number]
        found = evaluate_object(predictor, mask, kinds, mask_prompt)
        results.append(ObjectResult(image=sample.name, index=number, area=int(mask.sum()), iou=found))
    return results


def evaluate_object(
    predictor: Predictor, truth: np.ndarray, kinds: dict[str, PromptKind], mask_prompt: bool
) -> dict[str, float]:
    """Return the IoU of one object by prompt; rounds are walked once for all prompts with the same beginning."""
    found: dict[str, float] = {}
    for base in dict.fromkeys(kind.base for kind in kinds.values()):
        rounds = max(kind.rounds for kind in kinds.values() if kind.base == base)
        for depth, (masks, chosen, single) in enumerate(
            predictions(predictor, truth, base, rounds, mask_prompt=mask_prompt)
        ):
            values = [iou(mask, truth) for mask in masks.masks] if (base, depth) == ("point", 0) else []
            for prompt in (prompt for prompt, kind in kinds.items() if kind == (base, depth, False)):
                found[prompt] = iou(masks.masks[chosen], truth)
                if values:
                    found[f"{prompt} oracle"] = max(values)
                    if single is not None:
                        found[f"{prompt} first_token"] = values[single]
            for prompt in (prompt for prompt, kind in kinds.items() if kind == (base, depth, True)):
                masks = predictor.predict(**first_prompt(truth, base), mask_input=masks.logits[chosen])
                chosen, _ = counted_index(predictor.runner, masks.scores, one_point=base == "point")
                found[prompt] = iou(masks.masks[chosen], truth)
    return found


def first_prompt(truth: np.ndarray, base: str) -> dict[str, Any]:
    """Return box or centre point of an object, as ``Predictor.predict`` takes them."""
    return {"box": bounding_box(truth)} if base == "box" else {"points": [centre_point(truth)], "labels": [1]}


def predictions(
    predictor: Predictor, truth: np.ndarray, base: str, rounds: int, *, mask_prompt: bool
) -> Iterator[tuple[Masks, int, int | None]]:
    """Yield masks, the index of the one that counts and that of token 0, for a prompt and after each refinement."""
    prompt = first_prompt(truth, base)
    masks = predictor.predict(**prompt)
    chosen, single = counted_index(predictor.runner, masks.scores, one_point=base == "point")
    yield masks, chosen, single
    points, labels = prompt.get("points", []), prompt.get("labels", [])
    done = False
    for _ in range(rounds):
        wrong = None if done else refinement_point(masks.masks[chosen], truth, points)
        done = wrong is None
        if wrong is not None:
            points.append(wrong[0])
            labels.append(wrong[1])
            earlier = masks.logits[chosen] if mask_prompt else None
            masks = predictor.predict(points=points, labels=labels, box=prompt.get("box"), mask_input=earlier)
            chosen, single = counted_index(predictor.runner, masks.scores, one_point=False)
        yield masks, chosen, single

"""All masks of an image: a grid of points, filters, and what is left of masks that say the same.

Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix B. Options are named as in
segment-anything 1.0 and sam2, and default to the same as in the former but for the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from edgesam_export.errors import UsageError, warn
from edgesam_export.imaging.geometry import PreparedImage, prepare, to_frame
from edgesam_export.imaging.mask_runs import MaskRuns, without_small_regions
from edgesam_export.imaging.prompts import arranged, warn_if_untrained
from edgesam_export.imaging.source_masks import mask_at_source
from edgesam_export.predict.crops import Crop, crops_of, is_cut_off, point_grid, suppressed
from edgesam_export.profiles import SAM2_LOGIT_LIMIT
from edgesam_export.runners import Decoded, Embedding, Runner
from edgesam_export.spec import Progress

__all__ = ["GeneratedMask", "GeneratorConfig", "columns_of", "generate_masks", "single_masks"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratorConfig:
    """Options of ``generate_masks``."""

    points_per_side: int | None = 32
    """Points along each side of the grid on the whole image; None with ``point_grids``."""
    points_per_batch: int = 8
    """Prompts that are decoded at once, where the runner can; a decoder of several queries gets whole calls of them."""
    pred_iou_thresh: float = 0.88
    """Masks stay whose score is higher: the predicted IoU, or whatever the decoder's scores are."""
    stability_score_thresh: float = 0.95
    """Masks stay whose stability at the image's size is as high."""
    stability_score_offset: float = 1.0
    """Shift of the logits' threshold for it."""
    box_nms_thresh: float = 0.7
    """A mask goes whose box has a higher IoU with that of a better one of the same crop."""
    crop_n_layers: int = 0
    """Layers of crops beside the whole image; layer n has 2**n crops a side."""
    crop_nms_thresh: float = 0.7
    """The same between crops, where masks of smaller crops are better."""
    crop_overlap_ratio: float = 512 / 1500
    """Overlap of the first layer's crops, as a share of the image's shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Layer n's grid has ``points_per_side`` divided by this to the power of n."""
    point_grids: Sequence[np.ndarray] | None = None
    """For each layer its points (N, 2) x, y, 0..1, in place of regular grids."""
    min_mask_region_area: int = 0
    """Holes and islands below this area are removed; 0 leaves them."""
    mask_threshold: float = 0.0
    """Logit above which a pixel belongs to a mask."""
    multimask_output: bool = True
    """The three masks of each point; False: the single one."""
    by_stability: bool = False
    """Where the single mask is not stable, the best of the three is in its place; see ``single_masks``."""
    use_m2m: bool = False
    """Each mask is decoded once more, with its logits as the mask prompt, into a single one."""

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise UsageError("give either points_per_side or point_grids, one of both")
        for name, value in vars(self).items():
            if not isinstance(value, Real) and (name, value) != ("points_per_side", None) and name != "point_grids":
                raise UsageError(f"{name} is {value!r}; give a number")
        for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; choose 0 to 1")
        if not 0 <= self.crop_overlap_ratio < 1:
            raise UsageError(f"crop_overlap_ratio is {self.crop_overlap_ratio}; choose 0 to below 1")
        if not np.isfinite(self.mask_threshold):
            raise UsageError(f"mask_threshold is {self.mask_threshold}; give a finite number")
        for name in ("stability_score_offset", "crop_n_layers", "min_mask_region_area"):
            if not 0 <= getattr(self, name) < np.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; choose 0 or more")
        for name in ("points_per_batch", "crop_n_points_downscale_factor"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; choose 1 or more")
        self.grid(self.crop_n_layers)

    def grid(self, layer: int) -> np.ndarray:
        """Return the points of a layer. Shapes: returns (N, 2) x, y, 0..1

        Raises: UsageError when there are none.
        """
        if self.point_grids is not None:
            if len(self.point_grids) <= layer:
                raise UsageError(
                    f"{len(self.point_grids)} point_grids for {layer} layers of crops; give one more than that"
                )
            points = np.asarray(self.point_grids[layer], np.float64)
            if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not ((points >= 0) & (points <= 1)).all():
                raise UsageError(f"point_grids[{layer}] has shape {points.shape}; give (N, 2) points x, y from 0 to 1")
            return points
        side = int((self.points_per_side or 0) / self.crop_n_points_downscale_factor**layer)
        if side < 1:
            raise UsageError(f"points_per_side is {self.points_per_side}: no point in layer {layer}; choose more")
        return point_grid(side)


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedMask:
    """One mask that ``generate_masks`` found."""

    runs: MaskRuns
    predicted_iou: float
    """Score of the decoder: the predicted IoU, unless its scores are of another kind."""
    stability_score: float
    point: tuple[float, float]
    """The prompt: x, y in the image."""
    crop_box: tuple[int, int, int, int]
    """x0, y0, x1, y1 (exclusive) of the crop that it was found in."""

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """First and last column and row: x0, y0, x1, y1."""
        x0, y0, x1, y1 = self.runs.bounds or (0, 0, 1, 1)
        return x0, y0, x1 - 1, y1 - 1


def generate_masks(
    runner: Runner, image: np.ndarray, config: GeneratorConfig, progress: Progress | None = None
) -> list[GeneratedMask]:
    """Return the masks of an image, the best first; of crops, those of the smallest crops first.

    Masks are kept as runs, one map of the image's size exists at a time at most. Empty masks are left out.

    Shapes: image uint8 (H, W, 3) RGB
    Raises: UsageError for an image too small for the crops, or a decoder that returns no numbers.
    """
    size = (image.shape[0], image.shape[1])
    crops = crops_of(size, config.crop_n_layers, config.crop_overlap_ratio)
    tracker = Tracker(progress, [len(config.grid(crop.layer)) for crop in crops])
    columns = mask_columns(runner) if config.multimask_output else []
    warn_if_untrained(runner.info, "point")
    found: list[GeneratedMask] = []
    for crop in crops:
        tracker.next_crop()
        x0, y0, x1, y1 = crop.box
        prepared = prepare(image[y0:y1, x0:x1], runner.info.frame)
        masks = list(masks_of_crop(runner, prepared, crop, size, config, columns, tracker))
        found += unlike(masks, [mask.predicted_iou for mask in masks], config.box_nms_thresh)
    if len(crops) > 1:
        areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (mask.crop_box for mask in found)]
        found = unlike(found, [1 / area for area in areas], config.crop_nms_thresh)
    return tidied(found, config) if config.min_mask_region_area else found


class Tracker:
    """Reports how many prompts of how many crops are done."""

    def __init__(self, progress: Progress | None, prompts: Sequence[int]) -> None:
        self.progress, self.prompts = progress, prompts
        self.crop = self.done = 0

    def next_crop(self) -> None:
        """Start with the next crop, whose image is encoded first."""
        self.crop += 1
        self.report("encoding")

    def add(self, prompts: int) -> None:
        """Count prompts."""
        self.done += prompts
        self.report("masks")

    def report(self, step: str) -> None:
        """Call the callback."""
        if self.progress is not None:
            crops = len(self.prompts)
            text = step if crops == 1 else f"{step}, crop {self.crop} of {crops}"
            self.progress(self.done, sum(self.prompts), text)


def columns_of(runner: Runner, *, multimask: bool) -> list[int]:
    """Return where among a decoder's masks the answers to an ambiguous prompt are, or else the single mask.

    Raises: UsageError when the decoder does not return them.
    """
    columns = [column for column, token in enumerate(runner.candidates) if (token > 0) == multimask]
    if not columns:
        missing, count = ("the three masks of an ambiguous prompt", 3) if multimask else ("the single mask", 1)
        # of profiles with SAM 2's tensors, --candidates 4 is three
        advice = f"export with --profile default and --candidates 4 or {count}"
        raise UsageError(f"{runner.name}: the decoder does not return {missing}; {advice}")
    return columns


def single_masks(runner: Runner, decoded: Decoded, *, by_stability: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (B, 1, 256, 256) and scores (B, 1) of the single mask of each of B prompts.

    ``by_stability``: of decoders that return all four masks, the one that ``modeling.single_mask`` chooses.

    Raises: UsageError when the decoder does not return the single mask.
    """
    if by_stability and runner.candidates == (0, 1, 2, 3):
        from edgesam_export.modeling.single_mask import choose_single_masks

        return choose_single_masks(decoded.masks, decoded.scores)
    columns = columns_of(runner, multimask=False)
    return decoded.masks[:, columns], decoded.scores[:, columns]


def mask_columns(runner: Runner) -> list[int]:
    """Return which of the decoder's masks are looked at: the three of an ambiguous prompt, or all that there are."""
    if any(runner.candidates):
        return columns_of(runner, multimask=True)
    if runner.candidates:
        warn(f"{runner.name}: the decoder returns one mask for each point; --candidates 4 or 3 finds parts and wholes")
    return list(range(len(runner.candidates) or 1))


def masks_of_crop(
    runner: Runner,
    prepared: PreparedImage,
    crop: Crop,
    size: tuple[int, int],
    config: GeneratorConfig,
    columns: list[int],
    tracker: Tracker,
) -> Iterator[GeneratedMask]:
    """Yield the masks of one crop that pass the filters, in the order of their prompts."""
    embedding = runner.encode(prepared)
    height, width = crop.size
    points = config.grid(crop.layer) * (width, height)
    whole_calls = -(-config.points_per_batch // runner.queries) * runner.queries
    for start in range(0, len(points), whole_calls):
        batch = points[start : start + whole_calls]
        single = to_frame(batch, prepared)[:, None]  # (B, 2) -> (B, 1, 2)
        prompts = arranged(
            single, np.ones((len(batch), 1)), np.zeros((len(batch), 0, 2)), padding_point=runner.info.padding_point
        )
        logits, scores = candidates_of(runner, embedding, prompts, config, columns)
        if np.isnan(scores).all():
            raise UsageError(f"{runner.name}: all scores are NaN; check the files with `edgesam-export parity`")
        for index, column in np.ndindex(scores.shape):
            score = float(scores[index, column])
            if score > config.pred_iou_thresh or (config.pred_iou_thresh == 0 and score == score):
                mask = filtered(logits[index, column], score, batch[index], prepared, crop, size, config)
                if mask is not None:
                    yield mask
        tracker.add(len(batch))


def candidates_of(
    runner: Runner,
    embedding: Embedding,
    prompts: tuple[np.ndarray, np.ndarray],
    config: GeneratorConfig,
    columns: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (B, C, 256, 256) and scores (B, C) of the masks of B prompts that the filters see."""
    decoded = runner.decode_many(embedding, *prompts)
    if config.multimask_output:
        logits, scores = decoded.masks[:, columns], decoded.scores[:, columns]
    else:
        logits, scores = single_masks(runner, decoded, by_stability=config.by_stability)
    if not config.use_m2m:
        return logits, scores
    coords, labels = (np.repeat(part, scores.shape[1], axis=0) for part in prompts)
    earlier = logits.reshape(-1, 1, *logits.shape[2:]).clip(-SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
    refined = runner.decode_many(embedding, coords, labels, earlier)
    finer, finer_scores = single_masks(runner, refined, by_stability=config.by_stability)
    return finer.reshape(logits.shape), finer_scores.reshape(scores.shape)


def filtered(
    logits: np.ndarray,
    score: float,
    point: np.ndarray,
    prepared: PreparedImage,
    crop: Crop,
    size: tuple[int, int],
    config: GeneratorConfig,
) -> GeneratedMask | None:
    """Return one candidate as a mask of the image; None when it is not stable, empty, or cut off by its crop."""
    x0, y0, *_ = crop.box
    runs, stable = mask_at_source(
        logits - config.mask_threshold, prepared, offset=config.stability_score_offset, image_size=size, corner=(x0, y0)
    )
    if stable < config.stability_score_thresh or not runs.area:
        return None
    x, y = (float(value) for value in point)
    mask = GeneratedMask(
        runs=runs, predicted_iou=score, stability_score=stable, point=(x + x0, y + y0), crop_box=crop.box
    )
    return None if is_cut_off(mask.corners, crop, size) else mask


def unlike(masks: Sequence[GeneratedMask], scores: Sequence[float], threshold: float) -> list[GeneratedMask]:
    """Return the masks whose boxes are not those of better ones, the best first."""
    kept = suppressed(np.array([mask.corners for mask in masks]), np.array(scores), threshold)
    return [masks[index] for index in kept]


def tidied(masks: Sequence[GeneratedMask], config: GeneratorConfig) -> list[GeneratedMask]:
    """Return the masks without small holes and islands, and without those that are alike then.

    Masks that were left as they are count as better.
    """
    cleaned = [without_small_regions(mask.runs, config.min_mask_region_area) for mask in masks]
    replaced = [replace(mask, runs=runs) for mask, (runs, _) in zip(masks, cleaned)]
    scores = [float(not changed) for _, changed in cleaned]
    return unlike(replaced, scores, max(config.box_nms_thresh, config.crop_nms_thresh))

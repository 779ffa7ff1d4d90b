"""The library call behind ``everything``: an image file in; masks as COCO JSON, an overlay and cut-outs out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import warn
from edgesam_export.files import json_text, staging_folder
from edgesam_export.imaging.mask_runs import MaskRuns
from edgesam_export.imaging.overlay import coloured_overlay
from edgesam_export.imaging.reading import image_for_prompts, save_png
from edgesam_export.predict.mask_generator import GeneratedMask, GeneratorConfig, generate_masks
from edgesam_export.runners import Runner, open_runner
from edgesam_export.spec import Progress

__all__ = ["EverythingResult", "annotation", "coco_entry", "everything_image"]


@dataclass(frozen=True, kw_only=True)
class EverythingResult:
    """Result of ``everything``: the masks found, and the files written."""

    masks: tuple[GeneratedMask, ...]
    masks_path: Path
    overlay_path: Path
    cutouts_path: Path | None
    """Folder of the cut-outs, None when there are none."""
    runner: str
    score_kind: str
    """What ``predicted_iou`` holds: ``iou``, or ``stability`` of the small masks."""

    def files(self) -> list[tuple[str, Path]]:
        """Return what was written, by name."""
        paths = (("masks", self.masks_path), ("overlay", self.overlay_path), ("cutouts", self.cutouts_path))
        return [(name, path) for name, path in paths if path is not None]

    def summary(self) -> str:
        """One line for people."""
        areas = sorted(mask.runs.area for mask in self.masks)
        if len(areas) < 2:
            return f"{self.runner}: " + (f"1 mask, {areas[0]} pixels" if areas else "no mask")
        return f"{self.runner}: {len(areas)} masks, {areas[0]} to {areas[-1]} pixels"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data; the masks themselves are in a file."""
        paths = {"masks": self.masks_path, "overlay": self.overlay_path, "cutouts": self.cutouts_path}
        return {
            "count": len(self.masks),
            "runner": self.runner,
            "score": self.score_kind,
            **{name: None if path is None else str(path) for name, path in paths.items()},
        }


def everything_image(
    image: Path,
    source: Any,
    output: Path,
    config: GeneratorConfig,
    *,
    numerics: str | None = None,
    cutouts: bool = False,
    progress: Progress | None = None,
) -> EverythingResult:
    """Find all masks of an image with a loaded model or exported files; write them into ``output``.

    ``numerics`` are those of ``open_runner``; ``cutouts`` adds a folder with each object as a PNG with transparency.

    Raises:
        UsageError: an unreadable image, files that are not a model, an image too small for the crops.
    """
    pixels = image_for_prompts(image)
    runner = open_runner(source, numerics=numerics)
    masks = generate_masks(runner, pixels, config, progress)
    if not masks:
        warn(f"{image}: no mask passed the filters; lower --min-score or --min-stability, or take a finer --grid")
    return save_result(image, pixels, masks, output, runner=runner, cutouts=cutouts)


def save_result(
    image: Path, pixels: np.ndarray, masks: list[GeneratedMask], output: Path, *, runner: Runner, cutouts: bool
) -> EverythingResult:
    """Write the masks, the overlay and the cut-outs into ``output``; return what was written and found."""
    stem = image.stem
    names = f"{stem}_masks.json", f"{stem}_everything.png", f"{stem}_cutouts"
    document = coco_document(image, pixels, masks, runner=runner.name, score=runner.score_kind)
    with staging_folder(output) as staging:
        (staging / names[0]).write_text(json_text(document), encoding="utf-8")
        save_png(coloured_overlay(pixels, [mask.runs for mask in masks]), staging / names[1])
        if cutouts:
            save_cutouts(pixels, masks, staging / names[2])
    return EverythingResult(
        masks=tuple(masks),
        masks_path=output / names[0],
        overlay_path=output / names[1],
        cutouts_path=output / names[2] if cutouts else None,
        runner=runner.name,
        score_kind=runner.score_kind,
    )


def coco_document(
    image: Path, pixels: np.ndarray, masks: list[GeneratedMask], *, runner: str, score: str
) -> dict[str, Any]:
    """Return the masks as JSON data with the fields of SA-1B, and which scores they are."""
    height, width = pixels.shape[:2]
    return {
        "image": {"image_id": 1, "file_name": image.name, "height": height, "width": width},
        "annotations": [{"id": number, **annotation(mask)} for number, mask in enumerate(masks, start=1)],
        "runner": runner,
        "score": score,
    }


def coco_entry(runs: MaskRuns) -> dict[str, Any]:
    """Return what COCO says of a mask: compressed RLE, area, and the box as x, y, width, height."""
    x0, y0, x1, y1 = runs.bounds or (0, 0, 0, 0)
    return {"segmentation": runs.coco(), "area": runs.area, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def annotation(mask: GeneratedMask) -> dict[str, Any]:
    """Return one mask as JSON data: compressed RLE, boxes as x, y, width, height, as pycocotools reads them."""
    left, top, right, bottom = mask.crop_box
    return {
        **coco_entry(mask.runs),
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "point_coords": [list(mask.point)],
        "crop_box": [left, top, right - left, bottom - top],
    }


def save_cutouts(pixels: np.ndarray, masks: list[GeneratedMask], folder: Path) -> None:
    """Write each object as an image of its bounding box, transparent around it, numbered as the annotations are."""
    folder.mkdir()
    for number, mask in enumerate(masks, start=1):
        bounds = mask.runs.bounds or (0, 0, 1, 1)
        x0, y0, x1, y1 = bounds
        alpha = np.where(mask.runs.window(bounds), 255, 0).astype(np.uint8)
        save_png(np.dstack([pixels[y0:y1, x0:x1], alpha]), folder / f"{number:04}.png")

"""The library call behind ``segment``: files in, files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.files import staging_folder
from edgesam_export.imaging.geometry import to_frame
from edgesam_export.imaging.masks import bounding_box
from edgesam_export.imaging.overlay import overlay
from edgesam_export.imaging.prompts import check_prompt
from edgesam_export.imaging.reading import image_for_prompts, mask_image, read_array, save_png, upright_size
from edgesam_export.predict.predictor import Masks, Predictor

__all__ = ["SegmentResult", "check_inputs", "choose_files", "segment_image"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """Result of ``segment``: the best mask, and the files written."""

    scores: tuple[float, ...]
    best: int
    area: int
    """Pixels of the best mask."""
    box: tuple[int, int, int, int] | None
    """x0, y0, x1, y1 around the best mask, None when it is empty."""
    mask_path: Path
    overlay_path: Path
    logits_path: Path
    runner: str
    prompt_box: Box | None
    """The box that took part: the user's, or what the model proposed for a point."""
    object_score: float | None
    """See ``Masks``."""

    def summary(self) -> str:
        """One line for people."""
        extent = f"box {self.box}" if self.box else "empty"
        return f"{self.runner}: mask {self.best} of {len(self.scores)}, score {self.scores[self.best]:.3f}, {extent}"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "scores": list(self.scores),
            "best": self.best,
            "area_pixels": self.area,
            "box": list(self.box) if self.box else None,
            "mask": str(self.mask_path),
            "overlay": str(self.overlay_path),
            "logits": str(self.logits_path),
            "runner": self.runner,
            "prompt_box": list(self.prompt_box) if self.prompt_box else None,
            "object_score": self.object_score,
        }


def choose_files(paths: tuple[Path, ...], backend: str | None) -> list[Path]:
    """Return the exported files to run; none for the torch backend.

    Raises:
        UsageError: a backend that needs files without any, or files with the torch backend.
    """
    from edgesam_export.artifacts import format_of, list_files

    if backend == "torch" or (backend is None and not paths):
        if paths:
            raise UsageError("backend torch runs a model, not exported files; leave --artifact away")
        return []
    if not paths:
        raise UsageError(f"backend {backend} needs exported files; add --artifact FOLDER")
    files = [Path(file) for file in list_files(paths)]
    if backend is not None:
        formats = {file: format_of(file) for file in files}
        files = [file for file, format in formats.items() if format is not None and format.name == backend]
        if not files:
            raise UsageError(f"no {backend} files among {', '.join(str(path) for path in paths)}")
    return files


def check_inputs(
    image: Path,
    *,
    points: tuple[tuple[float, float], ...] = (),
    background: tuple[tuple[float, float], ...] = (),
    box: Box | None = None,
    mask_input: Path | None = None,
) -> None:
    """Check what can be checked of the inputs of ``segment_image`` without the model, by the image's header.

    Raises:
        UsageError: as ``segment_image``.
    """
    coords = [*points, *background]
    check_prompt(upright_size(image), points=coords or None, box=box, has_mask=mask_input is not None)
    if mask_input is not None:
        read_array(mask_input)


def segment_image(
    image: Path,
    source: Any,
    output: Path,
    *,
    points: tuple[tuple[float, float], ...] = (),
    background: tuple[tuple[float, float], ...] = (),
    box: Box | None = None,
    mask_input: Path | None = None,
    numerics: str | None = None,
) -> SegmentResult:
    """Segment an image with a loaded model or exported files; write mask, overlay and logits into ``output``.

    ``numerics`` are those of ``open_runner``. A model with a proposal head adds a box of its own to points that come
    without box and mask.

    Raises:
        UsageError: an unreadable image, a prompt outside it, or a prompt the decoder does not take.
    """
    from edgesam_export.runners import open_runner

    pixels = image_for_prompts(image)
    runner = open_runner(source, numerics=numerics)
    coords = [*points, *background]
    labels = [1] * len(points) + [0] * len(background)
    logits = None if mask_input is None else read_array(mask_input)
    predictor = Predictor(runner=runner).set_image(pixels)
    if points and box is None and mask_input is None:
        box = proposed_box(predictor, points[0], prompts=len(coords))
    masks = predictor.predict(points=coords or None, labels=labels or None, box=box, mask_input=logits)
    drawn = overlay(pixels, masks.best, points=coords, labels=labels, box=box)
    return save_result(masks, drawn, output, image.stem, runner=runner.name, box=box)


def save_result(
    masks: Masks, drawn: np.ndarray, output: Path, stem: str, *, runner: str, box: Box | None
) -> SegmentResult:
    """Write the best mask, the overlay and the logits into ``output``; return what was written and found."""
    names = [f"{stem}_mask.png", f"{stem}_overlay.png", f"{stem}_logits.npy"]
    with staging_folder(output) as staging:
        save_png(mask_image(masks.best), staging / names[0])
        save_png(drawn, staging / names[1])
        np.save(staging / names[2], masks.logits[masks.best_index], allow_pickle=False)
    return SegmentResult(
        scores=tuple(float(score) for score in masks.scores),
        best=masks.best_index,
        area=int(masks.best.sum()),
        box=bounding_box(masks.best),
        mask_path=output / names[0],
        overlay_path=output / names[1],
        logits_path=output / names[2],
        runner=runner,
        prompt_box=box,
        object_score=masks.object_score,
    )


def proposed_box(predictor: Predictor, point: tuple[float, float], *, prompts: int) -> Box | None:
    """Return the box that the model's proposals suggest for a point, in source pixels.

    None without a proposal head, when no proposal contains the point, or when ``prompts`` points and a box are more
    than the decoder has slots.
    """
    runner, prepared, embedding = predictor.runner, predictor.prepared, predictor.embedding
    if prepared is None or embedding is None:
        return None
    if not runner.proposes or (runner.slots is not None and prompts + 2 > runner.slots):
        return None
    from edgesam_export.modeling.proposals import merge_proposals

    boxes, scores = runner.propose(embedding)
    found = merge_proposals(boxes[0], scores[0], to_frame([point], prepared)[0])
    if found is None:
        return None
    (height, width), (new_height, new_width) = prepared.source_size, prepared.prompt_extent
    corners = found.reshape(2, 2) * (width / new_width, height / new_height)
    x0, y0, x1, y1 = corners.clip(0, (width, height)).reshape(-1).tolist()
    return x0, y0, x1, y1

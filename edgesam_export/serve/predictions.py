"""What the page asks for, computed with a backend: the embedding, masks of a prompt, all masks, files to download."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from math import sqrt
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError, collected_warnings
from edgesam_export.files import json_text
from edgesam_export.imaging.geometry import PreparedImage, prepare, sizes_alone
from edgesam_export.imaging.mask_runs import MaskRuns, shared_area
from edgesam_export.imaging.masks import best_mask
from edgesam_export.imaging.overlay import coloured_overlay, overlay
from edgesam_export.imaging.reading import mask_image
from edgesam_export.imaging.source_masks import mask_at_source
from edgesam_export.predict.everything import annotation, coco_entry
from edgesam_export.predict.mask_generator import GeneratorConfig, generate_masks
from edgesam_export.predict.predictor import Predictor
from edgesam_export.predict.segment import Box, proposed_box
from edgesam_export.runners import Decoded, Runner
from edgesam_export.serve.backends import Backend, OpenRunners
from edgesam_export.serve.sessions import Encoded, Limits, Session

__all__ = ["DOWNLOADS", "Answer", "Click", "Predictions", "difference"]

Report = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Click:
    """A prompt on an image: points x, y in pixels with labels 1 or 0, and a box x0, y0, x1, y1."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What one backend answers to a click; masks are as large as the page shows them."""

    backend: Backend
    runner: Runner
    masks: tuple[MaskRuns, ...]
    scores: tuple[float, ...]
    best: int
    prompt_box: Box | None
    """The box that took part: the user's, or what the model proposed for a point."""
    encode_ms: float
    decode_ms: float
    """Of the decoder alone; the masks are made of its logits after that."""
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON data."""
        tokens = self.runner.candidates if len(self.runner.candidates) == len(self.masks) else ()
        return {
            "backend": self.backend.id,
            "runner": self.runner.name,
            "score_kind": self.runner.score_kind,
            "best": self.best,
            "prompt_box": self.prompt_box,
            "encode_ms": self.encode_ms,
            "decode_ms": self.decode_ms,
            "warnings": list(self.warnings),
            "candidates": [
                {
                    "token": tokens[index] if tokens else None,
                    "score": self.scores[index] if np.isfinite(self.scores[index]) else None,
                    "area": mask.area,
                    "segmentation": mask.coco(),
                }
                for index, mask in enumerate(self.masks)
            ],
        }


def difference(one: Answer, other: Answer) -> list[dict[str, Any]]:
    """Return for each candidate of an answer how the other answer's differs: of the same token, or else the best."""
    entries = []
    theirs = other.runner.candidates
    for index, mask in enumerate(one.masks):
        tokens = one.runner.candidates
        token = tokens[index] if index < len(tokens) else None
        match = theirs.index(token) if token in theirs else other.best
        shared = shared_area(mask, other.masks[match])
        total = mask.area + other.masks[match].area
        union = total - shared
        entries.append({"candidate": match, "pixels": total - 2 * shared, "iou": shared / union if union else 1.0})
    return entries


class Predictions:
    """The work behind the page, each call in the thread of its model's worker."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.runners = OpenRunners(limits.runner_bytes)
        self.last_encode_ms: dict[str, float] = {}
        """By backend: what the next encoding is expected to take."""

    def encoded(self, session: Session, backend: Backend, report: Report) -> tuple[Runner, Encoded]:
        """Return a backend's runner and the image's embedding, computed unless it is there already."""
        if not self.runners.is_open(backend):
            report(step="opening", backend=backend.id)
        runner = self.runners.runner(backend)
        found = session.encoded.get(backend.id)
        if found is None:
            report(step="encoding", backend=backend.id, expected_ms=self.last_encode_ms.get(backend.id))
            start = time.perf_counter()
            prepared = prepare(session.pixels, runner.info.frame)
            embedding = runner.encode(prepared)
            elapsed = milliseconds_since(start)
            # A click needs the sizes alone; the tensor of a 1024 pixel frame would be 12 MB.
            prepared = sizes_alone(prepared.source_size, prepared.frame)
            found = Encoded(prepared=prepared, embedding=embedding, encode_ms=elapsed)
            session.encoded[backend.id] = found
            self.last_encode_ms[backend.id] = elapsed
        return runner, found

    def click(self, session: Session, backend: Backend, click: Click, report: Report) -> Answer:
        """Return the masks of a prompt.

        Raises: UsageError for a prompt that the decoder cannot take.
        """
        runner, encoded = self.encoded(session, backend, report)
        with collected_warnings(silent=True) as warnings:
            decoded, box, elapsed = decode(runner, encoded, click)
        prepared = shown(encoded.prepared, self.limits.shown_pixels)
        return Answer(
            backend=backend,
            runner=runner,
            masks=tuple(mask_at_source(logits, prepared)[0] for logits in decoded.masks[0]),
            scores=tuple(float(score) for score in decoded.scores[0]),
            best=best_mask(decoded.scores[0], len(decoded.masks[0])),
            prompt_box=box,
            encode_ms=encoded.encode_ms,
            decode_ms=elapsed,
            warnings=tuple(warnings),
        )

    def everything(self, session: Session, backend: Backend, config: GeneratorConfig, report: Report) -> dict[str, Any]:
        """Return all masks of the image as COCO annotations; they are kept for the overlay."""
        runner, _ = self.encoded(session, backend, report)
        start = time.perf_counter()

        def progress(done: int, total: int, step: str) -> None:
            report(step=step, backend=backend.id, done=done, total=total)

        with collected_warnings(silent=True) as warnings:
            masks = generate_masks(runner, session.pixels, config, progress)
        session.everything = tuple(masks)
        return {
            "backend": backend.id,
            "runner": runner.name,
            "score": runner.score_kind,
            "image": image_entry(session),
            "annotations": [{"id": number, **annotation(mask)} for number, mask in enumerate(masks, start=1)],
            "total_ms": milliseconds_since(start),
            "warnings": warnings,
        }

    def download(
        self, kind: str, session: Session, backend: Backend, click: Click, candidate: int, report: Report
    ) -> bytes:
        """Return a file of ``DOWNLOADS`` of one candidate, at the image's own size.

        Raises: UsageError for a candidate that there is not.
        """
        runner, encoded = self.encoded(session, backend, report)
        decoded, box, _ = decode(runner, encoded, click)
        count = len(decoded.masks[0])
        if not 0 <= candidate < count:
            raise UsageError(f"candidate is {candidate}; there are {count}, counted from 0")
        mask = mask_at_source(decoded.masks[0, candidate], encoded.prepared)[0]
        if kind == "mask":
            return png_of(mask_image(mask.mask()))
        if kind == "overlay":
            drawn = overlay(session.pixels, mask.mask(), points=click.points, labels=click.labels, box=box)
            return png_of(Image.fromarray(drawn))
        score = float(decoded.scores[0, candidate])
        return json_text(rle_document(session, runner, mask, score, click, box)).encode()


DOWNLOADS = {"mask": "image/png", "overlay": "image/png", "rle": "application/json"}
"""What can be downloaded of a prompt's mask, and its type."""


def decode(runner: Runner, encoded: Encoded, click: Click) -> tuple[Decoded, Box | None, float]:
    """Return what the decoder gives for a click, the box that took part, and the milliseconds that it took.

    A model with a proposal head adds a box of its own to points that come without one, as ``segment`` does.
    """
    predictor = Predictor(runner=runner)
    predictor.prepared, predictor.embedding = encoded.prepared, encoded.embedding
    start = time.perf_counter()
    box = click.box
    if box is None and 1 in click.labels:
        first = click.points[click.labels.index(1)]
        box = proposed_box(predictor, first, prompts=len(click.points))
    decoded = predictor.decode(click.points or None, click.labels or None, box)
    return decoded, box, milliseconds_since(start)


def shown(prepared: PreparedImage, pixels: int) -> PreparedImage:
    """Return the sizes of an image scaled to at most so many pixels, for masks of that size."""
    height, width = prepared.source_size
    scale = min(1.0, sqrt(pixels / (height * width)))
    return replace(prepared, source_size=(max(1, int(height * scale)), max(1, int(width * scale))))


def everything_overlay(session: Session) -> bytes:
    """Return the image with the masks of the latest everything mode as PNG."""
    return png_of(Image.fromarray(coloured_overlay(session.pixels, [mask.runs for mask in session.everything])))


def image_entry(session: Session) -> dict[str, Any]:
    """Return the entry of an image as SA-1B has it; its file name is the page's alone."""
    height, width = session.size
    return {"image_id": 1, "height": height, "width": width}


def rle_document(
    session: Session, runner: Runner, mask: MaskRuns, score: float, click: Click, box: Box | None
) -> dict[str, Any]:
    """Return one mask as JSON data: COCO's compressed RLE, the prompt, and which score it is."""
    entry = {
        "id": 1,
        **coco_entry(mask),
        runner.score_kind: score if np.isfinite(score) else None,
        "point_coords": [list(point) for point in click.points],
        "point_labels": list(click.labels),
        "prompt_box": None if box is None else list(box),
    }
    return {"image": image_entry(session), "annotations": [entry], "runner": runner.name, "score": runner.score_kind}


def png_of(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def milliseconds_since(start: float) -> float:
    """Return the milliseconds since a reading of ``time.perf_counter``."""
    return (time.perf_counter() - start) * 1000

"""What an evaluation found: the IoU of every object, summaries of them, and what was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgesam_export.distill.samples import Skipped

__all__ = ["EvalReport", "ImageResult", "ObjectResult", "Summary", "merged"]

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, None)}
"""COCO's classes by area in pixels of the image, the upper bound excluded."""
ALTERNATIVES = ("oracle", "first_token")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """IoU over objects; what cannot be computed from so few is None."""

    objects: int
    miou: float | None
    standard_error: float | None
    """Of the mean, objects taken as independent."""
    quartiles: tuple[float, float, float] | None

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """Return the summary of some IoUs."""
        if not len(values):
            return Summary(objects=0, miou=None, standard_error=None, quartiles=None)
        found = np.asarray(values, np.float64)
        low, middle, high = (float(value) for value in np.percentile(found, [25, 50, 75]))
        return Summary(
            objects=len(found),
            miou=float(found.mean()),
            standard_error=float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None,
            quartiles=(low, middle, high),
        )

    def document(self) -> dict[str, Any]:
        """Return the summary as JSON data."""
        return {**asdict(self), "quartiles": self.quartiles and list(self.quartiles)}


@dataclass(frozen=True, kw_only=True)
class ObjectResult:
    """One object: its image, its area, and its IoU by prompt; ``point oracle`` and the like beside ``point``."""

    image: str
    index: int
    """Of the object among the image's masks."""
    area: int
    iou: dict[str, float]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {"picture": self.image, "index": self.index, "area": self.area, "iou": dict(self.iou)}

    @staticmethod
    def of(document: dict[str, Any]) -> ObjectResult:
        """Return the result that JSON data states."""
        picture, index, area, values = (document[key] for key in ("picture", "index", "area", "iou"))
        return ObjectResult(image=picture, index=index, area=area, iou=values)


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image of the data: its objects, and what was passed over."""

    index: int
    objects: tuple[ObjectResult, ...] = ()
    skipped: Skipped = field(default_factory=Skipped)

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        objects = [one.document() for one in self.objects]
        return {"index": self.index, "objects": objects, "skipped": asdict(self.skipped)}

    @staticmethod
    def of(document: dict[str, Any]) -> ImageResult:
        """Return the result that JSON data states."""
        objects = tuple(ObjectResult.of(one) for one in document["objects"])
        return ImageResult(index=document["index"], objects=objects, skipped=Skipped(**document["skipped"]))


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """The IoU of every object of some data, for one runner."""

    model: str
    runner: str
    data: str
    prompts: tuple[str, ...]
    mask_prompt: bool
    """Refinement rounds also got the logits of the round before."""
    images: int
    """Images that had objects."""
    objects: tuple[ObjectResult, ...]
    skipped: Skipped = field(default_factory=Skipped)

    def values(self, prompt: str, size: str | None = None) -> list[float]:
        """Return the IoUs of a prompt in the order of the objects, of one class of size or all."""
        low, high = SIZES[size] if size else (0, None)
        chosen = (one for one in self.objects if low <= one.area and (high is None or one.area < high))
        return [one.iou[prompt] for one in chosen if prompt in one.iou]

    def summary(self, prompt: str, size: str | None = None) -> Summary:
        """Return mean, standard error and quartiles of a prompt."""
        return Summary.of(self.values(prompt, size))

    @property
    def rows(self) -> tuple[str, ...]:
        """The prompts, and after ``point`` what another choice of the mask would have given."""
        extra = {"point": [f"point {name}" for name in ALTERNATIVES]}
        rows = [row for prompt in self.prompts for row in (prompt, *extra.get(prompt, ()))]
        return tuple(row for row in rows if row in self.prompts or self.values(row))

    def document(self, *, objects: bool = False) -> dict[str, Any]:
        """Return the report as JSON data, with every object if asked."""
        results = {
            row: {
                **self.summary(row).document(),
                "by_size": {size: self.summary(row, size).document() for size in SIZES},
            }
            for row in self.rows
        }
        document = {
            "model": self.model,
            "runner": self.runner,
            "data": self.data,
            "mask_prompt": self.mask_prompt,
            "pictures": self.images,
            "results": results,
            "skipped": {"pictures": self.skipped.images, "annotations": self.skipped.annotations},
        }
        return {**document, "objects": [one.document() for one in self.objects]} if objects else document


def merged(images: Iterable[ImageResult]) -> tuple[tuple[ObjectResult, ...], Skipped]:
    """Return the objects of some images in their order, and all that was passed over."""
    skipped = Skipped()
    objects: list[ObjectResult] = []
    for image in images:
        objects += image.objects
        skipped.extend(image.skipped)
    return tuple(objects), skipped

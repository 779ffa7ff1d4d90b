"""Samples of data, how their files are read, and what a reader of many of them passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edgesam_export.errors import UsageError, collected_warnings, warn
from edgesam_export.imaging.orientation import UPRIGHT, stored_orientation, stored_size, turned_upright
from edgesam_export.imaging.reading import open_image

__all__ = ["Data", "Reading", "Sample", "Skipped", "readable", "shortened"]

MOST_DAMAGED = 100
"""Images in a row that may be damaged; beyond that the data is not what it should be."""
LISTED = 3
"""Damaged items that a warning names; reports list all."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its objects.

    Shapes: image uint8 (H, W, 3) RGB; masks bool (K, H, W), each with at least one pixel, K may be 0
    """

    name: str
    image: np.ndarray
    masks: np.ndarray
    damaged: tuple[str, ...] = ()
    """A line for each annotation that was left out."""
    orientation: int = UPRIGHT
    """EXIF orientation of the file; the image is upright, whatever it is."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read."""

    strict: bool = True
    """Whatever is damaged is an error, not left out."""
    frame: Literal["upright", "raw"] | None = None
    """Which pixels annotations are of: the upright image's (also without a choice), or those of the file as stored,
    before its EXIF orientation is applied."""

    def sizes(self, path: Path) -> tuple[np.ndarray, int, tuple[int, int]]:
        """Return the upright image of a file, its orientation, and height and width of what annotations are of."""
        image = open_image(path)
        orientation = stored_orientation(path)
        size = (image.shape[0], image.shape[1])
        return image, orientation, stored_size(size, orientation) if self.frame == "raw" else size

    def sample(
        self, name: str, image: np.ndarray, orientation: int, masks: np.ndarray, damaged: Sequence[str]
    ) -> Sample:
        """Return a sample whose masks are of the upright image."""
        masks = turned_upright(masks, orientation) if self.frame == "raw" else masks
        return Sample(name, image, masks, tuple(damaged), orientation)


@dataclass(kw_only=True)
class Skipped:
    """What a reader of many samples passed over, and what it may have read otherwise than meant."""

    images: list[str] = field(default_factory=list)
    """A line for each image."""
    annotations: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    """Annotated images with an EXIF orientation."""
    notes: list[str] = field(default_factory=list)
    """Warnings that images came with."""

    def read(self, data: Data, index: int) -> Sample:
        """Return a sample; what it lacks is noted, and warnings are kept: a long run may have thousands.

        Raises:
            UsageError: it is damaged.
        """
        with collected_warnings(silent=True, apart=True) as notes:
            sample = data[index]
        self.notes += notes
        self.annotations += sample.damaged
        if sample.orientation != UPRIGHT and len(sample.masks):
            self.turned.append(sample.name)
        return sample

    def extend(self, other: Skipped) -> None:
        """Note what another reader noted."""
        for mine, theirs in ((self.images, other.images), (self.annotations, other.annotations)):
            mine += theirs
        self.turned += other.turned
        self.notes += other.notes

    def without_repeats(self) -> Skipped:
        """Return each line once, sorted: of data that was read several times, in any order."""
        return Skipped(
            **{name: sorted(set(getattr(self, name))) for name in ("images", "annotations", "turned", "notes")}
        )

    def warn(self, frame: str | None) -> None:
        """Issue a warning for what was passed over, and for orientations unless ``frame`` was chosen."""
        lines = [*self.images, *self.annotations]
        if lines:
            counts = [
                f"{len(rows)} damaged {noun}{'s' if len(rows) > 1 else ''}"
                for rows, noun in ((self.images, "image"), (self.annotations, "annotation"))
                if rows
            ]
            warn(f"{' and '.join(counts)} left out (--strict stops at the first): {shortened(lines)}")
        if self.notes:
            several = f"{len(self.notes)} images came with a warning: " if len(self.notes) > 1 else ""
            warn(several + shortened(self.notes))
        if self.turned and frame is None:
            warn(
                f"annotated images that EXIF turns: {len(self.turned)} ({shortened(self.turned)}); annotations are"
                " taken to be of the upright image: give --annotations-frame raw where they are of pixels as stored,"
                " or upright where they are not"
            )


def readable(data: Data, index: int, *, strict: bool) -> tuple[Sample, int, Skipped]:
    """Return a sample, its index and what was passed over: for a damaged image the next one stands in.

    Raises:
        UsageError: many damaged ones in a row, or one, when ``strict``.
    """
    skipped = Skipped()
    for number in range(min(len(data), MOST_DAMAGED)):
        chosen = (index + number) % len(data)
        try:
            sample = skipped.read(data, chosen)
        except UsageError as error:
            if strict:
                raise
            skipped.images.append(str(error))
        else:
            return sample, chosen, skipped
    raise UsageError(f"{len(skipped.images)} damaged images in a row: {shortened(skipped.images)}")


def shortened(lines: Sequence[str]) -> str:
    """Return the first of some lines, and how many more there are."""
    more = f"; and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    return "; ".join(lines[:LISTED]) + more


class Data(Protocol):
    """A sequence of samples that are made or read when asked for."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

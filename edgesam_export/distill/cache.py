"""The teacher's embeddings on disk: computed once for each image, FP16, one file for each map."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgesam_export.bench.machine import weights_digest
from edgesam_export.distill.teacher import Seen, Teacher
from edgesam_export.files import write_beside

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Embeddings by index of the data; another teacher, other data or another size is another folder.

    ``masks``: what is kept is for a teacher that decodes: all maps, of images as it was trained to see them. Otherwise
    the first map alone, of squares.
    """

    def __init__(self, root: Path, teacher: Teacher, data: str, side: int, *, masks: bool = True) -> None:
        info = teacher.model.info
        self.own_frame = masks and info.frame.stretches
        frame = " stretched" if self.own_frame else ""
        key = hashlib.sha256(f"{weights_digest(teacher.model)} {data} {side}{frame}".encode()).hexdigest()[:16]
        self.folder = root / f"{info.name}_{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.teacher = teacher
        self.shapes = [shape[1:] for shape in info.embedding_shapes[: None if masks else 1]]

    def see(self, images: Tensor, indexes: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Seen:
        """Return what the teacher sees of these images, float32, from the disk where it is cached.

        Shapes: images uint8 (B, 3, S, S)
        """
        shown = sizes if self.own_frame else None
        found = [self.read(index) for index in indexes]
        missing = [position for position, value in enumerate(found) if value is None]
        if missing:
            sizes_missing = None if shown is None else [shown[position] for position in missing]
            fresh = self.teacher.see(images[missing], sizes_missing)
            for position, *values in zip(missing, *(map_.half().cpu().numpy() for map_ in fresh.maps)):
                found[position] = values[: len(self.shapes)]
                self.write(indexes[position], found[position])
        stacked = (np.stack(values) for values in zip(*found))
        maps = tuple(torch.from_numpy(values).to(images.device).float() for values in stacked)
        return Seen(maps, self.teacher.extents(images, shown))

    def path(self, index: int, number: int = 0) -> Path:
        """Return the file of an image's map."""
        return self.folder / (f"{index:08d}_{number}.npy" if number else f"{index:08d}.npy")

    def read(self, index: int) -> list[np.ndarray] | None:
        """Return the maps of one image, None if one is not there or not whole."""
        maps = []
        for number, shape in enumerate(self.shapes):
            try:
                value = np.load(self.path(index, number), allow_pickle=False)
            except (OSError, ValueError, EOFError):
                return None
            if value.shape != shape or value.dtype != np.float16:
                return None
            maps.append(value)
        return maps

    def write(self, index: int, maps: Sequence[np.ndarray]) -> None:
        """Store the maps of one image, each whole or not at all."""
        for number, value in enumerate(maps):
            with write_beside(self.path(index, number)) as temporary, temporary.open("wb") as file:
                np.save(file, value)

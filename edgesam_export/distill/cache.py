"""The teacher's embeddings on disk: computed once for each image, FP16, one file each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgesam_export.bench.machine import weights_digest
from edgesam_export.distill.loop import teacher_embedding
from edgesam_export.files import write_beside
from edgesam_export.modeling.sam import SamModel

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Embeddings by index of the data; another teacher, other data or another size is another folder."""

    def __init__(self, root: Path, teacher: SamModel, data: str, side: int) -> None:
        key = hashlib.sha256(f"{weights_digest(teacher)} {data} {side}".encode()).hexdigest()[:16]
        self.folder = root / f"{teacher.info.name}_{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.teacher = teacher
        self.shape = teacher.info.embedding_shapes[0][1:]

    def embeddings(self, images: Tensor, indexes: list[int]) -> Tensor:
        """Return the teacher's embeddings of these images, from the disk where they are cached.

        Shapes:
            images uint8 (B, 3, S, S); returns float32 (B, D, 64, 64) on the images' device
        """
        found = [self.read(index) for index in indexes]
        missing = [position for position, value in enumerate(found) if value is None]
        if missing:
            fresh = teacher_embedding(self.teacher, images[missing]).half().cpu().numpy()
            for position, value in zip(missing, fresh):
                self.write(indexes[position], value)
                found[position] = value
        stacked = np.stack([value for value in found if value is not None])
        return torch.from_numpy(stacked).to(images.device).float()

    def path(self, index: int) -> Path:
        return self.folder / f"{index:08d}.npy"

    def read(self, index: int) -> np.ndarray | None:
        """Return one embedding, None if it is not there or not whole."""
        try:
            value = np.load(self.path(index), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return value if value.shape == self.shape and value.dtype == np.float16 else None

    def write(self, index: int, value: np.ndarray) -> None:
        """Store one embedding, whole or not at all."""
        with write_beside(self.path(index)) as temporary, temporary.open("wb") as file:
            np.save(file, value)

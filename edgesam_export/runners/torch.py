"""The reference: the PyTorch model itself, FP32."""

from __future__ import annotations

import numpy as np
import torch

from edgesam_export.modeling.common import stability_score
from edgesam_export.modeling.sam import SamModel
from edgesam_export.predictor import PreparedImage
from edgesam_export.runners import RUNNERS

__all__ = ["TorchRunner"]


@RUNNERS.register("torch")
class TorchRunner:
    """Runs a ``SamModel``; scores are the family's default kind."""

    formats = ()
    numerics = "fp32"

    def __init__(self, model: SamModel, *, device: str = "cpu") -> None:
        self.model = model.to(device)
        self.device = device
        self.name = "torch"
        self.info = model.info
        self.slots: int | None = None
        self.accepts_mask_input = True
        self.candidates = (0, 1, 2, 3)
        self.score_kind = model.info.default_score
        self.takes_image = False
        self.artifacts = ()

    @torch.inference_mode()
    def encode(self, prepared: PreparedImage) -> np.ndarray:
        """Return image embeddings (1, 256, 64, 64), float32."""
        return self.model.encode(torch.from_numpy(prepared.tensor).to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Return embeddings of an 8-bit padded picture (S, S, 3), normalised here: what an image input computes."""
        frame = self.info.frame
        normalised = (pixels.astype(np.float32) - np.float32(frame.mean)) / np.float32(frame.std)
        tensor = torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy())
        return self.model.encode(tensor.to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def decode(
        self,
        embeddings: np.ndarray,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (1, 4, 256, 256) and scores (1, 4), float32."""
        given = (embeddings, point_coords, point_labels) + (() if mask_input is None else (mask_input,))
        tensors = [torch.from_numpy(np.asarray(array, np.float32)).to(self.device) for array in given]
        logits, iou = self.model.decode(*tensors)
        scores = stability_score(logits) if self.score_kind == "stability" else iou
        return logits.cpu().numpy(), scores.cpu().numpy()

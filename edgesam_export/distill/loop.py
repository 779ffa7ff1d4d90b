"""One training step as a module: pictures and masks in, loss and figures out.

A module, so that DistributedDataParallel sees the whole step as one forward pass.
Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.distill import losses
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.prompts import disagreement_points, initial_prompts, to_frame
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel

__all__ = ["EmbeddingStep", "PromptStep", "grid_of", "network_input"]

CANDIDATES_SHARE = 0.8
"""Of the loss of tokens 1 to 3, what the best of them has; the rest is their mean, so that none is left behind."""


def network_input(pictures: Tensor, model: SamModel, size: int) -> Tensor:
    """Return what a model's encoder takes, from square 8-bit pictures: (B, 3, S, S) -> (B, 3, size, size)."""
    image = pictures.float()
    if image.shape[-1] != size:
        image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    frame = model.info.frame
    mean, std = (image.new_tensor(values)[:, None, None] for values in (frame.mean, frame.std))
    return (image - mean) / std


@contextmanager
def grid_of(model: SamModel, embeddings: Tensor) -> Iterator[None]:
    """Let the prompt encoder work on the cells that these embeddings have, as when training at a smaller size."""
    encoder = model.prompt_encoder
    before, encoder.grid = encoder.grid, (int(embeddings.shape[-2]), int(embeddings.shape[-1]))
    try:
        yield
    finally:
        encoder.grid = before


def decode(model: SamModel, embeddings: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (P, 4, h, w) and predicted IoU (P, 4), FP32, of one prompt for each embedding."""
    with grid_of(model, embeddings):
        logits, iou = model.decode(embeddings, coords, labels)
    return logits.float(), iou.float()


class EmbeddingStep(nn.Module):
    """Stage 1: the student's embedding is to be the teacher's."""

    def __init__(self, student: SamModel, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config

    def forward(
        self, pictures: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Shapes:
            pictures uint8 (B, 3, S, S); ``masks`` is not looked at; target (B, C, H, W), the teacher's embeddings
        Raises:
            UsageError: the two embeddings have different shapes.
        """
        embedding = self.student.encode(network_input(pictures, self.student, phase.size)).float()
        if embedding.shape != target.shape:
            raise UsageError(
                f"the student's embedding is {tuple(embedding.shape[1:])}, the teacher's {tuple(target.shape[1:])};"
                " stage 'encoder' needs one shape: train at the student's full size, or use stage 'prompts'"
            )
        parts = {"mse": losses.embedding_loss(embedding, target)}
        loss = parts["mse"]
        for name, weight, term in (
            ("channel", self.config.channel, losses.channel_loss),
            ("correlation", self.config.correlation, losses.correlation_loss),
        ):
            if weight:
                parts[name] = term(embedding, target)
                loss = loss + weight * parts[name]
        return loss, {name: value.detach() for name, value in parts.items()}


@torch.no_grad()
def teacher_embedding(teacher: SamModel, pictures: Tensor) -> Tensor:
    """Return the teacher's embedding of square 8-bit pictures, at its own size."""
    return teacher.encode(network_input(pictures, teacher, teacher.info.frame.size)).float()


class PromptStep(nn.Module):
    """Stages 2 and 3: the student's masks are to be the teacher's, or those of the data, on prompts drawn in a loop."""

    def __init__(self, student: SamModel, teacher: SamModel | None, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config
        self.teacher = [teacher]  # a list: its parameters are not this module's

    def forward(
        self, pictures: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of all rounds, and what each term and the IoU of the first and last round are.

        Shapes:
            pictures uint8 (B, 3, S, S); masks bool (B, M, S, S), what prompts are drawn from; target (B, C, H, W), the
            teacher's embeddings, None when there is no teacher
        """
        config = self.config
        count = masks.shape[1]
        masks = masks.flatten(0, 1)  # (B, M, S, S) -> (P, S, S)
        embeddings = self.student.encode(network_input(pictures, self.student, phase.size)).repeat_interleave(
            count, dim=0
        )
        known = None if target is None else target.repeat_interleave(count, dim=0)
        prompt_size = self.student.info.frame.prompt_size
        coords, labels = initial_prompts(masks, prompt_size, generator, config.box_noise)
        total: list[Tensor] = []
        parts: dict[str, list[Tensor]] = {"bce": [], "dice": [], "score": [], "iou": []}
        rounds = config.rounds if phase.rounds is None else phase.rounds
        for number in range(rounds + 1):
            logits, scores = decode(self.student, embeddings, coords, labels)
            wanted, soft = self.wanted(known, masks, coords, labels, logits)
            total.append(self.loss(logits, scores, wanted, soft, parts))
            if number < rounds:
                new = disagreement_points(
                    logits.detach()[:, 0] > 0, wanted[:, 0], config.points, prompt_size, generator
                )
                coords = torch.cat([coords, new[0]], dim=1)
                labels = torch.cat([labels, new[1]], dim=1)
        figures = {name: torch.stack(values).mean() for name, values in parts.items() if values}
        figures |= {"iou_first": parts["iou"][0], "iou_last": parts["iou"][-1]}
        return torch.stack(total).mean(), figures

    @torch.no_grad()
    def wanted(
        self, known: Tensor | None, masks: Tensor, coords: Tensor, labels: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the right masks as booleans and as coverage 0..1, (P, 4, h, w) both, of the logits' size."""
        if known is None:
            coverage = F.adaptive_avg_pool2d(masks.unsqueeze(1).float(), logits.shape[-2:])
            coverage = coverage.expand(-1, logits.shape[1], -1, -1)
            return coverage > 0.5, coverage
        teacher, _ = decode(self.teacher[0], known, coords, labels)
        if teacher.shape[-2:] != logits.shape[-2:]:
            teacher = F.interpolate(teacher, size=logits.shape[-2:], mode="bilinear", align_corners=False)
        return teacher > 0, (teacher > 0).float()

    def loss(
        self, logits: Tensor, scores: Tensor, wanted: Tensor, soft: Tensor, parts: dict[str, list[Tensor]]
    ) -> Tensor:
        """Return one round's loss; append its terms to ``parts``."""
        config = self.config
        if config.mask_tokens == "first":
            logits, scores, wanted, soft = (value[:, :1] for value in (logits, scores, wanted, soft))
        bce, dice = losses.binary_cross_entropy(logits, soft), losses.dice_loss(logits, soft)
        iou = losses.mask_iou(logits.detach(), wanted)
        each = config.bce * bce + config.dice * dice  # (P, M)
        total = each[:, 0].mean()
        if each.shape[1] > 1 and self.teacher[0] is not None:
            total = each.mean()  # every token has a mask of its own to match
        elif each.shape[1] > 1:
            rest = each[:, 1:]
            best = rest.min(dim=1).values.mean()
            total = (total + CANDIDATES_SHARE * best + (1 - CANDIDATES_SHARE) * rest.mean()) / 2
        if config.iou:
            error = F.mse_loss(scores, iou)
            total = total + config.iou * error
            parts["score"].append(error.detach())
        parts["bce"].append(bce[:, 0].mean().detach())
        parts["dice"].append(dice[:, 0].mean().detach())
        parts["iou"].append(iou[:, 0].mean())
        return total


@torch.no_grad()
def fill_dots(teacher: SamModel, masks: Tensor, dots: Tensor, target: Tensor) -> Tensor:
    """Replace single pixels, which stand in for missing masks, by what the teacher makes of a point there.

    Shapes:
        masks bool (B, M, S, S); dots bool (B); target (B, C, H, W), the teacher's embeddings; returns masks
    """
    chosen = dots.to(masks.device)
    count, side = masks.shape[1], masks.shape[-1]
    flat = masks[chosen].flatten(0, 1)
    prompt_size = teacher.info.frame.prompt_size
    place = flat.flatten(1).int().argmax(dim=1)
    pixels = torch.stack([place % side, place // side], dim=1).float()
    point = to_frame(pixels, side, prompt_size)
    coords = torch.stack([point, torch.zeros_like(point)], dim=1)
    labels = torch.tensor([[1, -1]], device=masks.device).expand(len(flat), 2)
    logits, _ = decode(teacher, target[chosen].repeat_interleave(count, dim=0), coords, labels)
    found = F.interpolate(logits[:, :1], size=(side, side), mode="bilinear", align_corners=False)[:, 0] > 0
    filled = masks.clone()
    filled[chosen] = (found | flat).reshape(-1, count, side, side)  # never empty: the dot stays
    return filled

"""One training step as a module: images and masks in, loss and figures out.

A module, so that DistributedDataParallel sees the whole step as one forward pass.
Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.distill import losses
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.prompts import disagreement_points, initial_prompts, to_frame
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel, as_maps
from edgesam_export.spec import EMPTY_SLOT

__all__ = ["EmbeddingStep", "PromptStep", "Teacher", "grid_of", "network_input"]

CANDIDATES_SHARE = 0.8
"""Of the loss of tokens 1 to 3, what the best of them has; the rest is their mean, so that none is left behind."""


def network_input(images: Tensor, model: SamModel, size: int) -> Tensor:
    """Return the input of a model's encoder for square 8-bit images: (B, 3, S, S) -> (B, 3, size, size)."""
    values = images.float()
    if values.shape[-1] != size:
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    frame = model.info.frame
    mean, std = (
        torch.tensor(numbers)[:, None, None].to(values.device, non_blocking=True) for numbers in (frame.mean, frame.std)
    )
    return (values - mean) / std


@contextmanager
def grid_of(model: SamModel, embeddings: Tensor) -> Iterator[None]:
    """Let the prompt encoder work on the cells that these embeddings have, as when training at a smaller size."""
    encoder = model.prompt_encoder
    before, encoder.grid = encoder.grid, (int(embeddings.shape[-2]), int(embeddings.shape[-1]))
    try:
        yield
    finally:
        encoder.grid = before


def decode(
    model: SamModel,
    embeddings: Tensor,
    coords: Tensor,
    labels: Tensor,
    mask_input: Tensor | None = None,
    has_mask: Tensor | None = None,
    *,
    decoder: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return logits (P, 4, 4h, 4w) and predicted IoU (P, 4), FP32, of one prompt for each embedding.

    What ``SamModel.decode`` computes, without its checks of the labels, each of which would wait for the device.
    ``decoder`` stands in for the model's own, as a compiled one does.

    Shapes:
        embeddings (P, D, h, w); coords (P, N, 2); labels (P, N), -2 for slots that do not count in any prompt
        mask_input (P, 1, 4h, 4w) logits or None; has_mask bool (P), the prompts that they belong to, None: all
    """
    with grid_of(model, embeddings):
        encoder = model.prompt_encoder
        sparse = encoder.encode_points(coords.to(embeddings.dtype), labels)
        dense = encoder.dense(None)
        if mask_input is not None:
            prompted = encoder.dense(mask_input)
            dense = prompted if has_mask is None else torch.where(has_mask[:, None, None, None], prompted, dense)
        token_bias = None
        if decoder is not None:
            empty = (labels == EMPTY_SLOT)[:, None, None, :]
            token_bias = torch.zeros_like(empty, dtype=torch.float32).masked_fill(empty, -torch.inf)
            dense = dense.expand(len(labels), *dense.shape[1:]).contiguous()
        logits, iou = (decoder or model.mask_decoder)(embeddings, encoder.dense_pe(), sparse, dense, token_bias)
    return logits.float(), iou.float()


@dataclass(frozen=True)
class Teacher:
    """A model beside the step, not in it: as a child module its parameters would be the student's to DDP and AdamW."""

    model: SamModel | None


class EmbeddingStep(nn.Module):
    """Stage 1: match the teacher's embeddings."""

    def __init__(self, student: SamModel, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config

    def forward(
        self, images: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Shapes:
            images uint8 (B, 3, S, S); ``masks`` is unused; target (B, C, H, W), the teacher's embeddings
        Raises:
            UsageError: the two embeddings have different shapes.
        """
        embedding = self.student.encode(network_input(images, self.student, phase.size)).float()
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
def teacher_embedding(teacher: SamModel, images: Tensor) -> Tensor:
    """Return the teacher's embedding of square 8-bit images, at its own size; of several maps the first."""
    embedding, *_ = as_maps(teacher.encode(network_input(images, teacher, teacher.info.frame.size)))
    return embedding.float()


class PromptStep(nn.Module):
    """Stages 2 and 3: match the teacher's masks, or those of the data, on prompts drawn in a loop."""

    def __init__(self, student: SamModel, teacher: SamModel | None, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config
        self.teacher = Teacher(teacher)
        self.compiled: dict[str, Callable[..., Any]] = {}
        if config.compile:
            parts: dict[str, Callable[..., Any]]
            parts = {"encode": student.encode, "decode": student.mask_decoder.forward, "terms": losses.mask_terms}
            self.compiled = {name: torch.compile(part, dynamic=False) for name, part in parts.items()}

    def fast(self, phase: Phase, name: str) -> Callable[..., Any] | None:
        """Return a compiled part, None at sizes where nothing is compiled."""
        return self.compiled.get(name) if phase.size == self.config.schedule[-1].size else None

    def forward(
        self, images: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of all rounds, the mean of each term, and the IoU of the first and last round.

        Shapes:
            images uint8 (B, 3, S, S); masks bool (B, M, S, S), what prompts are drawn from; target (B, C, H, W), the
            teacher's embeddings, None when there is no teacher
        """
        config, count = self.config, masks.shape[1]
        masks = masks.flatten(0, 1)  # (B, M, S, S) -> (P, S, S)
        encode = self.fast(phase, "encode") or self.student.encode
        embeddings = encode(network_input(images, self.student, phase.size)).repeat_interleave(count, dim=0)
        known = None if target is None else target.repeat_interleave(count, dim=0)
        coords, labels = initial_prompts(masks, self.student.info.frame.prompt_size, generator, config.box_noise)
        mask_input = has_mask = None
        total: list[Tensor] = []
        parts: dict[str, list[Tensor]] = {"bce": [], "dice": [], "score": [], "iou": []}
        rounds = config.rounds if phase.rounds is None else phase.rounds
        last = rounds + (config.refinements if rounds else 0)
        for number in range(last + 1):
            logits, scores = self.decode(phase, embeddings, coords, labels, mask_input, has_mask)
            right, coverage = self.right_masks(known, masks, coords, labels, logits)
            total.append(self.loss(phase, logits, scores, right, coverage, parts))
            if number == last:
                break
            answer = logits.detach()[:, :1]  # the paper's: points are drawn where the first token is wrong
            if known is None and (config.mask_share or config.refinements):
                answer = answered(logits.detach(), scores.detach(), labels)  # what a user would hand back
            if number < rounds:
                new = self.new_points(answer, right, generator)
                coords, labels = (torch.cat([old, more], dim=1) for old, more in zip((coords, labels), new))
            share = config.mask_share if number < rounds else 1.0
            if share:
                has_mask = torch.rand(len(labels), generator=generator, device=labels.device) < share
                mask_input = answer
        figures = {name: torch.stack(values).mean() for name, values in parts.items() if values}
        figures |= {"iou_first": parts["iou"][0], "iou_last": parts["iou"][-1]}
        return torch.stack(total).mean(), figures

    def decode(self, phase: Phase, embeddings: Tensor, coords: Tensor, labels: Tensor, *mask: Any) -> Any:
        """Return logits and scores; compiled, all rounds have the same number of slots, so that one graph does."""
        decoder = self.fast(phase, "decode")
        missing = 2 + self.config.rounds * self.config.points - labels.shape[1]
        if decoder is not None and missing > 0:
            coords = F.pad(coords, (0, 0, 0, missing))
            labels = F.pad(labels, (0, missing), value=EMPTY_SLOT)
        return decode(self.student, embeddings, coords, labels, *mask, decoder=decoder)

    def new_points(self, answer: Tensor, right: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points where an answer, logits (P, 1, h, w), is wrong: coordinates (P, K, 2), labels (P, K)."""
        side = self.student.info.frame.prompt_size
        return disagreement_points(answer[:, 0] > 0, right[:, 0], self.config.points, side, generator)

    @torch.no_grad()
    def right_masks(
        self, known: Tensor | None, masks: Tensor, coords: Tensor, labels: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the right masks as booleans and as coverage 0..1, (P, 4, h, w) both, of the logits' size."""
        if known is None:
            coverage = F.adaptive_avg_pool2d(masks.unsqueeze(1).float(), (logits.shape[-2], logits.shape[-1]))
            coverage = coverage.expand(-1, logits.shape[1], -1, -1)
            return coverage > 0.5, coverage
        assert self.teacher.model is not None  # whose embeddings are known
        teacher, _ = decode(self.teacher.model, known, coords, labels)
        if teacher.shape[-2:] != logits.shape[-2:]:
            teacher = F.interpolate(teacher, size=logits.shape[-2:], mode="bilinear", align_corners=False)
        return teacher > 0, (teacher > 0).float()

    def loss(
        self,
        phase: Phase,
        logits: Tensor,
        scores: Tensor,
        right: Tensor,
        coverage: Tensor,
        parts: dict[str, list[Tensor]],
    ) -> Tensor:
        """Return one round's loss; append its terms to ``parts``."""
        config = self.config
        if config.mask_tokens == "first":
            logits, scores, right, coverage = (value[:, :1] for value in (logits, scores, right, coverage))
        bce, dice, iou = (self.fast(phase, "terms") or losses.mask_terms)(logits, right, coverage)
        each = config.bce * bce + config.dice * dice  # (P, M)
        total = each[:, 0].mean()
        if each.shape[1] > 1 and self.teacher.model is not None:
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


def answered(logits: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mask that a user would refine: for one point the best score of tokens 1 to 3, else token 0.

    Shapes:
        logits (P, 4, h, w); scores (P, 4); labels (P, N); returns (P, 1, h, w)
    """
    one_point = (labels >= 0).sum(dim=1) == 1
    chosen = torch.where(one_point, scores[:, 1:].argmax(dim=1) + 1, 0)
    return logits[torch.arange(len(logits), device=logits.device), chosen].unsqueeze(1)


@torch.no_grad()
def fill_dots(teacher: SamModel, masks: Tensor, dots: Tensor, target: Tensor) -> Tensor:
    """Replace single pixels, which stand in for missing masks, by the teacher's mask for a point there.

    Shapes:
        masks bool (B, M, S, S); dots bool (B); target (B, C, H, W), the teacher's embeddings; returns masks
    """
    chosen = dots.to(masks.device)
    count, side = masks.shape[1], masks.shape[-1]
    flat = masks[chosen].flatten(0, 1)
    prompt_size = teacher.info.frame.prompt_size
    offset = flat.flatten(1).int().argmax(dim=1)
    pixels = torch.stack([offset % side, offset // side], dim=1).float()
    point = to_frame(pixels, side, prompt_size)
    coords = torch.stack([point, torch.zeros_like(point)], dim=1)
    labels = torch.tensor([[1, -1]], device=masks.device).expand(len(flat), 2)
    logits, _ = decode(teacher, target[chosen].repeat_interleave(count, dim=0), coords, labels)
    found = F.interpolate(logits[:, :1], size=(side, side), mode="bilinear", align_corners=False)[:, 0] > 0
    filled = masks.clone()
    filled[chosen] = (found | flat).reshape(-1, count, side, side)  # never empty: the dot stays
    return filled

"""One training step as a module: images and masks in, loss and figures out.

A module, so that DistributedDataParallel sees the whole step as one forward pass.
Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.distill import losses
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.forward import decode, network_input
from edgesam_export.distill.prompts import disagreement_points, initial_prompts
from edgesam_export.distill.teacher import Seen, Teacher
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import EMPTY_SLOT

__all__ = ["EmbeddingStep", "PromptStep"]

CANDIDATES_SHARE = 0.8
"""Of the loss of tokens 1 to 3, what the best of them has; the rest is their mean, so that none is left behind."""


class EmbeddingStep(nn.Module):
    """Stage 1: match the teacher's embeddings."""

    def __init__(self, student: SamModel, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config

    def forward(
        self, images: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Seen
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Shapes:
            images uint8 (B, 3, S, S); ``masks`` is unused; target: of the teacher's maps the first, (B, C, H, W)
        Raises:
            UsageError: the two embeddings have different shapes.
        """
        embedding = self.student.encode(network_input(images, self.student, phase.size)).float()
        right = target.maps[0]
        if embedding.shape != right.shape:
            raise UsageError(
                f"the student's embedding is {tuple(embedding.shape[1:])}, the teacher's {tuple(right.shape[1:])};"
                " stage 'encoder' needs one shape: train at the student's full size, or use stage 'prompts'"
            )
        parts = {"mse": losses.embedding_loss(embedding, right)}
        loss = parts["mse"]
        for name, weight, term in (
            ("channel", self.config.channel, losses.channel_loss),
            ("correlation", self.config.correlation, losses.correlation_loss),
        ):
            if weight:
                parts[name] = term(embedding, right)
                loss = loss + weight * parts[name]
        return loss, {name: value.detach() for name, value in parts.items()}


class PromptStep(nn.Module):
    """Stages 2 and 3: match the teacher's masks, or those of the data, on prompts drawn in a loop."""

    def __init__(self, student: SamModel, teacher: SamModel | None, config: DistillConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config
        self.teacher = None if teacher is None else Teacher(teacher)
        self.compiled: dict[str, Callable[..., Any]] = {}
        if config.compile:
            parts: dict[str, Callable[..., Any]]
            parts = {"encode": student.encode, "decode": student.mask_decoder.forward, "terms": losses.mask_terms}
            self.compiled = {name: torch.compile(part, dynamic=False) for name, part in parts.items()}

    def fast(self, phase: Phase, name: str) -> Callable[..., Any] | None:
        """Return a compiled part, None at sizes where nothing is compiled."""
        return self.compiled.get(name) if phase.size == self.config.schedule[-1].size else None

    def forward(
        self, images: Tensor, masks: Tensor, phase: Phase, generator: torch.Generator, target: Seen | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of all rounds, the mean of each term, and the IoU of the first and last round.

        Shapes:
            images uint8 (B, 3, S, S); masks bool (B, M, S, S), what prompts are drawn from; target: the teacher's
            embeddings of B images, None when there is no teacher
        """
        config, count = self.config, masks.shape[1]
        masks = masks.flatten(0, 1)  # (B, M, S, S) -> (P, S, S)
        encode = self.fast(phase, "encode") or self.student.encode
        embeddings = encode(network_input(images, self.student, phase.size)).repeat_interleave(count, dim=0)
        known = None if target is None else target.repeated(count)
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
        self, known: Seen | None, masks: Tensor, coords: Tensor, labels: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the right masks as booleans and as coverage 0..1, (P, 4, h, w) both, of the logits' size."""
        if known is None:
            coverage = F.adaptive_avg_pool2d(masks.unsqueeze(1).float(), (logits.shape[-2], logits.shape[-1]))
            coverage = coverage.expand(-1, logits.shape[1], -1, -1)
            return coverage > 0.5, coverage
        assert self.teacher is not None  # whose embeddings are known
        size = (int(logits.shape[-2]), int(logits.shape[-1]))
        prompt_size = self.student.info.frame.prompt_size
        right = self.teacher.logits(known, coords, labels, prompt_size=prompt_size, size=size) > 0
        return right, right.float()

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
        if each.shape[1] > 1 and self.teacher is not None:
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

"""EdgeSAM-RPN: EdgeSAM with a region proposal head whose boxes help a point prompt.

Zhou, Li, Loy, Dai 2023, "EdgeSAM: Prompt-In-the-Loop Distillation for SAM", https://arxiv.org/abs/2312.06660, the
section on granularity priors. ``modeling.proposals`` lists which choices are the paper's and which are ours.

No weights of such a head were ever released. Encoder, prompt encoder and decoder have the keys of EdgeSAM's
checkpoints; the head's begin with ``proposal_head.``. ``join_checkpoints`` makes one file of an EdgeSAM checkpoint and
a trained head; an EdgeSAM checkpoint alone is refused for the keys it lacks.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgesam_export.families import build_model, register_model
from edgesam_export.families.edge_sam import EdgeSamEncoder
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.proposals import MIN_SCORE, NEAREST, ProposalHead
from edgesam_export.modeling.sam import SamModel
from edgesam_export.profiles import Component, embedding_names
from edgesam_export.spec import ExportConfig, ModelInfo, TensorSpec

__all__ = ["EdgeSamRpn", "join_checkpoints"]

HEAD = "proposal_head."


class EdgeSamRpn(SamModel):
    """EdgeSAM and its proposal head."""

    proposes = True

    def __init__(self, *, info: ModelInfo) -> None:
        super().__init__(
            info=info,
            image_encoder=EdgeSamEncoder(info.upsample),
            prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
            mask_decoder=MaskDecoder(),
        )
        self.proposal_head = ProposalHead(info.frame.prompt_size).requires_grad_(False).eval()

    def propose(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (1, K, 4) in pixels of the prompt frame and their scores (1, K) for an image's embedding."""
        return self.proposal_head(embedding)

    def extra_components(self, config: ExportConfig) -> tuple[Component, ...]:
        """Return the component that is exported beside encoder and decoder: the head, as ``proposals``."""
        count = self.proposal_head.boxes.anchors.shape[2]
        return (
            Component(
                name="proposals",
                module=ProposalsForExport(self),
                inputs=(
                    TensorSpec(
                        name=embedding_names(1)[0],
                        shape=(1, 256, 64, 64),
                        dtype=config.precision,
                        description="image embedding as the encoder returns it",
                    ),
                ),
                outputs=(
                    TensorSpec(
                        name="boxes",
                        shape=(1, count, 4),
                        dtype="fp32",
                        description="x0, y0, x1, y1 in pixels of the prompt frame, one for every anchor",
                    ),
                    TensorSpec(name="scores", shape=(1, count), dtype="fp32", description="confidence, one per box"),
                ),
                example=(torch.zeros(1, 256, 64, 64),),
                details={"merging": {"nearest": NEAREST, "min_score": MIN_SCORE, "weights": "score"}},
            ),
        )


class ProposalsForExport(nn.Module):
    """The proposal head alone."""

    def __init__(self, model: EdgeSamRpn) -> None:
        super().__init__()
        self.proposal_head = model.proposal_head

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (1, K, 4) and scores (1, K) from an embedding (1, 256, 64, 64)."""
        return self.proposal_head(embedding)


def join_checkpoints(edge_sam: str | Path, head: str | Path, output: str | Path) -> Path:
    """Write one safetensors file of an EdgeSAM checkpoint and a file with the head's parameters; return its path.

    The head's keys may lack the leading ``proposal_head.``.

    Raises:
        CheckpointError: a file cannot be read, or keys or shapes are not those of EdgeSAM and of the head.
        UsageError: the output cannot be written.
    """
    from safetensors.torch import save_file

    from edgesam_export.checkpoints.reading import check_keys, read_state_dict
    from edgesam_export.files import staging_folder

    model = build_model("edge_sam_rpn").state_dict()
    common, own = read_state_dict(Path(edge_sam)), read_state_dict(Path(head))
    own = {key if key.startswith(HEAD) else HEAD + key: value for key, value in own.items()}
    check_keys({key: v for key, v in model.items() if not key.startswith(HEAD)}, common, where=str(edge_sam))
    check_keys({key: v for key, v in model.items() if key.startswith(HEAD)}, own, where=str(head))
    output = Path(output)
    joined = {key: value.contiguous() for key, value in {**common, **own}.items()}
    with staging_folder(output.parent) as staging:
        save_file(joined, staging / output.name)
    return output


@register_model(
    ModelInfo(
        name="edge_sam_rpn",
        family="edge_sam_rpn",
        default_score="stability",
        description="EdgeSAM with region proposals for point prompts; no released weights",
    )
)
def build(info: ModelInfo) -> SamModel:
    """Return EdgeSAM-RPN with PyTorch's random initialisation."""
    return EdgeSamRpn(info=info)

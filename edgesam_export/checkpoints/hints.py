"""What to say of a checkpoint that does not fit: which keys differ, and whose it looks like."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["addition_beside", "difference", "family_of_keys", "other_release", "shapes_of"]

NAMED_KEYS = 3
"""Keys that an error message lists; it counts the others."""

# family, fragments of which every one occurs in some key, fragments of which none does (a leading dot: anywhere)
SIGNATURES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("sam2 (in transformers' names)", ("vision_encoder.backbone.blocks.", "shared_image_embedding."), ()),
    ("edgetam", ("image_encoder.trunk.body.",), ()),
    ("edgetam (its video part)", ("spatial_perceiver.",), ("image_encoder.",)),
    ("sam2", ("image_encoder.trunk.patch_embed.",), ()),
    ("sam2 or edgetam (the video part)", ("memory_encoder.",), ("image_encoder.",)),
    ("HQ-SAM", ("mask_decoder.hf_token.",), ()),
    ("edge_sam_tiny", ("image_encoder.features.", "image_encoder.fuse_stage1.", "image_encoder.fuse_stage2."), ()),
    ("edge_sam", ("image_encoder.features.", "image_encoder.fuse_stage2."), ()),
    ("repvit_sam", ("image_encoder.features.",), ("image_encoder.fuse_stage2.",)),
    ("mobile_sam (or TinySAM)", ("image_encoder.layers.", "image_encoder.patch_embed.seq."), ()),
    ("sam", ("image_encoder.blocks.", ".attn.rel_pos"), ()),
    ("sam (in transformers' names)", ("vision_encoder.layers.", "shared_image_embedding."), ()),
    ("efficientvit_sam", ("image_encoder.backbone.",), ()),
    ("efficient_sam", ("image_encoder.blocks.", "mask_decoder.final_output_upscaling_layers."), (".rel_pos",)),
)
RELEASES = (("sam2", "SAM 2 of July 2024"), ("sam2.1", "SAM 2.1"))
"""Beginning of a model's name up to the first underscore, and the release; without and with ``NEWER_KEYS``."""
NEWER_KEYS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.")
"""In the video part of SAM 2.1 and not in that of SAM 2 (sam2/modeling/sam2_base.py); their image parts are one."""
NEWER_SPELLINGS = (
    NEWER_KEYS,
    ("occlusion_spatial_embedding_parameter", "temporal_positional_encoding_projection_layer."),
)
"""The same as SAM 2's code and as transformers spell them."""
VIDEO_KEY = "memory_encoder."
ADDITIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("modules_to_save.", "original_module."),
        "PEFT has wrapped its modules: merge them where they were trained (merge_and_unload()) and save the model",
    ),
    (
        ("lora_a", "lora_b", ".lora_", "linear_a_q", "linear_b_q", "w_a_0", "base_layer."),
        "it has LoRA matrices beside the weights: merge them into the weights where they were trained (in PEFT"
        " merge_and_unload()) and save the merged model",
    ),
    (
        (
            "mask_decoder.hf_token",
            "compress_vit_feat",
            "embedding_maskfeature",
            "mask_decoder.hf_mlp",
            "mask_decoder.hq_",
        ),
        "HQ-SAM's decoder has a token and features that this model lacks; it is not exported yet, the SAM it was made"
        " from is",
    ),
    (
        ("adapter", "prompt_generator", "prompt_embeddings", ".prefix_"),
        "it has adapters, layers that this model lacks; they cannot be merged, so such a model needs a family of its"
        " own (CONTRIBUTING.md)",
    ),
    (
        ("_packed_params", ".qweight", ".weight_scale", ".zero_point", ".quant_"),
        "its weights are quantised: save the float weights",
    ),
    (
        ("weight_orig", "weight_mask"),
        "its weights are split by torch's pruning: call torch.nn.utils.prune.remove() for each, then save",
    ),
    (
        (".weight_g", ".weight_v", "parametrizations."),
        "its weights are parametrised (weight or spectral norm): call torch.nn.utils.parametrize."
        "remove_parametrizations(), or remove_weight_norm(), for each, then save",
    ),
    (
        ("flat_param",),
        "its weights are flattened by FSDP: save the full state dict (StateDictType.FULL_STATE_DICT)",
    ),
    (
        ("fp32_groups", "fp32_flat_groups"),
        "it is the optimizer's file of DeepSpeed ZeRO: run zero_to_fp32.py, which lies beside it, and give its output",
    ),
)
"""Fragments of names in small letters, and what they mean."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "positional_encoding_gaussian_matrix")


def family_of_keys(keys: Collection[str]) -> str | None:
    """Return the family that has these parameter names, behind any prefix, None if no known family does."""

    def occurs(fragment: str) -> bool:
        if fragment.startswith("."):
            return any(fragment in key for key in keys)
        return any(key.startswith(fragment) or f".{fragment}" in key for key in keys)

    for family, every, none in SIGNATURES:
        if all(map(occurs, every)) and not any(map(occurs, none)):
            return family
    return None


def other_release(model: str, keys: Collection[str]) -> str | None:
    """Return a line where the video part beside a model's weights shows that they are another release's, else None."""
    release, _, size = model.partition("_")
    if release not in dict(RELEASES) or not any(VIDEO_KEY in key for key in keys):
        return None
    newer = any(all(any(part in key for key in keys) for part in spelling) for spelling in NEWER_SPELLINGS)
    (found, title) = RELEASES[newer]
    if found == release:
        return None
    return (
        f"these are weights of {title}, exported as {model}; the network is the same, so they are used as they are:"
        f" name the model {found}_{size}"
    )


def addition_in(names: Collection[str]) -> str | None:
    """Return the meaning of names that change what the other weights compute, None if there are none."""
    for fragments, meaning in ADDITIONS:
        if any(fragment in name.lower() for name in names for fragment in fragments):
            return meaning
    return None


def addition_beside(names: Collection[str]) -> str | None:
    """Return the meaning of such names beside a complete set of weights; an optimizer's are no weights."""
    return addition_in([name for name in names if "optim" not in name.lower()])


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor; a value that has none is a shape itself."""
    return {key: tuple(value.shape if hasattr(value, "shape") else value) for key, value in values.items()}


def difference(
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    names: Collection[str],
    *,
    where: str = "",
    parts_text: str = "",
) -> str:
    """Return missing, unexpected and misshapen keys in one line, empty when there are none, and what they look like.

    ``names`` are all names of the file, ``where`` says where ``found`` are among them, ``parts_text`` what is known of
    the model's parts.
    """
    missing = [key for key in shapes if key not in found]
    unexpected = [key for key in found if key not in shapes]
    misshapen = [
        f"{key} (expected {as_text(shape)}, found {as_text(found[key])})"
        for key, shape in shapes.items()
        if key in found and found[key] != shape
    ]
    problems = [(missing, "missing"), (unexpected, "unexpected"), (misshapen, "misshapen")]
    parts = [f"{len(keys)} {what}: {listing(keys)}" for keys, what in problems if keys]
    if not parts:
        return ""
    text = hint(shapes, names, unexpected) or shape_hint(shapes, found)
    if not text and not misshapen:
        text = key_hint(missing, unexpected)
    text = text or parts_text
    return f"the checkpoint does not fit the model{text and '; '}{text}; {'; '.join(parts)}{where}"


def hint(shapes: Mapping[str, Any], names: Collection[str], unexpected: Collection[str]) -> str:
    """Return what the names look like, empty without an idea."""
    if meaning := addition_in(unexpected):
        return meaning
    family, expected = family_of_keys(names), family_of_keys(shapes)
    return f"the keys look like {family}" if family is not None and family != expected else ""


def key_hint(missing: Collection[str], unexpected: Collection[str]) -> str:
    """Return what missing and unexpected keys mean where no tensor has another shape, empty without an idea."""
    if missing and not unexpected and all(key.endswith(BUFFERS) for key in missing):
        return "it holds parameters and no buffers: save model.state_dict(), not model.parameters()"
    if missing and unexpected and all(key.rpartition(".")[2].isdigit() or not key for key in unexpected):
        return "its tensors have no names: save model.state_dict(), not a list"
    if unexpected and not missing:
        return (
            "it has tensors that the model lacks: if its masks do not depend on them (a head of its own), save it"
            " without them; else it needs a family of its own (CONTRIBUTING.md)"
        )
    return ""


def shape_hint(shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Return what tensors of another shape say of the training, empty without an idea."""
    sized = [key for key in shapes if key in found]
    if sized and sum(0 in found[key] for key in sized) > len(sized) // 2:
        return (
            "its tensors are empty, as in DeepSpeed ZeRO-3, which keeps values in other files: run zero_to_fp32.py,"
            " which lies beside it, and give its output"
        )
    for key in sized:
        expected, actual = shapes[key], found[key]
        if len(expected) != len(actual) or expected == actual:
            continue
        if key.endswith("mask_tokens.weight") and expected[1] == actual[1]:
            return (
                f"its decoder has {actual[0]} mask tokens, the model's {expected[0]}"
                f" (num_multimask_outputs={actual[0] - 1} in training): only decoders of {expected[0]} are exported"
            )
        if key.endswith("pos_embed") and expected[-1] == actual[-1] and len(expected) == 4:
            return (
                f"it was trained on images of another size: its table of positions has {actual[1]}x{actual[2]} cells,"
                f" the model's {expected[1]}x{expected[2]}; only the model's size is exported"
            )
    return ""


def as_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def listing(keys: list[str]) -> str:
    return ", ".join(key or "(no name)" for key in keys[:NAMED_KEYS]) + (", ..." if len(keys) > NAMED_KEYS else "")

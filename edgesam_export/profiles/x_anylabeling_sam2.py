"""SAM 2 in X-AnyLabeling (``auto_labeling/__base__/sam2.py``): the tensors of profile ``sam2``, with other promises.

The program reads tensors by position, height and width of the image from the encoder's input, and sends 64 points at
once, each a prompt of its own, to segment everything.  So order and free number of prompts are what this profile
promises, and no name.
"""

from __future__ import annotations

from edgesam_export.profiles import ONE_PROMPT, PROFILES, Profile, sam2_decoder, sam2_encoder

__all__: list[str] = []

PROFILES.register("x-anylabeling-sam2")(
    Profile(
        name="x-anylabeling-sam2",
        summary="drop-in for X-AnyLabeling's SAM 2: tensors by position, many prompts at once",
        formats=("onnx",),
        encoder=sam2_encoder,
        decoder=sam2_decoder,
        without=ONE_PROMPT,
    )
)

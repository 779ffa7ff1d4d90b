"""Files for the SAM 2 model of X-AnyLabeling (``SegmentAnything2ONNX`` in ``auto_labeling/__base__/sam2.py``).

It reads every tensor by its position, height and width of the image from the encoder's input, and sends 64 points at
once, each a prompt of its own, to segment everything.  The tensors are those of samexporter's SAM 2 files; their order
and the free number of prompts are what this profile promises, their names are not read.
"""

from __future__ import annotations

from edgesam_export.profiles import ONE_PROMPT, PROFILES, Profile, sam2_decoder, sam2_encoder

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

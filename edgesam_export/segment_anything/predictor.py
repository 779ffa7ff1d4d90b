"""``Sam`` and ``SamPredictor`` with the methods of segment-anything, over any runner."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from edgesam_export.errors import RunnerUnavailableError, UsageError, first_line, warn
from edgesam_export.imaging.geometry import PreparedImage, fitted_size, framed, prepare, sizes_alone
from edgesam_export.imaging.masks import masks_to_source
from edgesam_export.imaging.prompts import kind_of, warn_if_untrained
from edgesam_export.imaging.reading import image_for_prompts
from edgesam_export.predict.mask_generator import columns_of
from edgesam_export.runners import Decoded, Embedding, Runner, open_runner
from edgesam_export.segment_anything.parts import ImageEncoder, MaskDecoder, PromptEncoder
from edgesam_export.segment_anything.prompts import Parts, one_box, one_mask, packed, packed_parts, points_or_none
from edgesam_export.segment_anything.transforms import ResizeLongestSide, Size
from edgesam_export.spec import MASK_SIDE

__all__ = ["Sam", "SamPredictor", "as_runner", "as_sam", "decoded_parts", "enlarged", "usable"]

PROMPT_KEYS = ("point_coords", "point_labels", "boxes", "mask_inputs")
"""Of what ``Sam`` is called with."""


OF_THE_MODULE = ("modules", "named_parameters", "parameters", "state_dict")
"""Of PyTorch's modules, what programs read of a model."""


class Sam:
    """A model or exported files, with what programs use of segment-anything's class of this name."""

    mask_threshold = 0.0
    image_format = "RGB"
    training = False
    known = "SamPredictor, SamAutomaticMaskGenerator and sam(batched_input, multimask_output)"
    """What takes it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.device = torch.device("cpu")
        frame, model = runner.info.frame, runner.model
        self.pixel_mean, self.pixel_std = (torch.tensor(part).reshape(3, 1, 1) for part in (frame.mean, frame.std))
        self.image_encoder = ImageEncoder(frame.prompt_size, model)
        if model is not None and len(runner.embedding_names) == 1:
            self.prompt_encoder, self.mask_decoder = PromptEncoder(model), MaskDecoder(model)

    def __getattr__(self, name: str) -> Any:
        if name == "runner":  # of a copy that is being made: asking for it again would not end
            raise AttributeError(name)
        if name in OF_THE_MODULE and (module := self.runner.model) is not None:
            return getattr(module, name)
        why = ": exported files are run as a whole" if self.runner.model is None else ""
        raise AttributeError(
            f"this {type(self).__name__} has no '{name}'{why}; it is for {self.known}", name=name, obj=self
        )

    def preprocess(self, x: Tensor) -> Tensor:
        """Return resized images normalised and padded. Shapes: (..., 3, h, w), 0..255; returns (..., 3, S, S)"""
        side = self.runner.info.frame.size
        mean, std = self.pixel_mean.to(x.device), self.pixel_std.to(x.device)
        return pad((x - mean) / std, (0, side - x.shape[-1], 0, side - x.shape[-2]))

    def postprocess_masks(self, masks: Tensor, input_size: Size, original_size: Size) -> Tensor:
        """Return small logits at an image's size. Shapes: (B, C, 256, 256); returns (B, C, H, W)"""
        image = sizes_alone((int(original_size[0]), int(original_size[1])), self.runner.info.frame)
        large = masks_to_source(masks.detach().cpu().reshape(-1, MASK_SIDE, MASK_SIDE).numpy(), image)
        return torch.from_numpy(large).reshape(*masks.shape[:2], *image.source_size).to(masks.device)

    def to(self, device: Any = None, dtype: torch.dtype | None = None, non_blocking: bool = False) -> Sam:
        """Move the model to a device; exported files stay on the CPU. Numbers are float32.

        Raises:
            UsageError: for files and another device, or another type of numbers.
            RunnerUnavailableError: this machine has no such device.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype not in (None, torch.float32):
            raise UsageError(f"it computes in float32, not in {dtype}; leave the type out")
        device = self.device if device is None else device
        if self.runner.model is None and str(device) != "cpu":
            raise UsageError(f"{self.runner.name} runs on the CPU, not on {device}; leave .to() out")
        device = usable(device)
        if self.runner.model is not None:
            self.runner = open_runner(self.runner.model, device=str(device))
        self.device = device
        return self

    def cuda(self, device: int | str | torch.device | None = None) -> Sam:
        """Move the model to a GPU of NVIDIA; see ``to``."""
        return self.to("cuda" if device is None else torch.device("cuda", device) if type(device) is int else device)

    def cpu(self) -> Sam:
        """Move the model to the CPU."""
        return self.to("cpu")

    def float(self) -> Sam:
        """Return itself: its numbers are float32."""
        return self

    def half(self) -> Sam:
        """Raise UsageError: its numbers are float32."""
        return self.to(torch.float16)

    def train(self, mode: bool = True) -> Sam:
        """Return itself in evaluation mode. Raises: UsageError when it is to be trained."""
        if mode:
            raise UsageError("this Sam is for masks alone; train with 'edgesam-export distill'")
        return self

    def eval(self) -> Sam:
        """Return itself: it always is in evaluation mode."""
        return self

    def __call__(self, batched_input: list[dict[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """Return masks of several images, each with prompts of its own.

        Shapes, of each image:
            image (3, h, w) resized, 0..255; original_size (H, W); optional point_coords (B, N, 2) and boxes (B, 4) in
            pixels of the prompt frame, point_labels (B, N), mask_inputs (B, 1, 256, 256)
            returns masks bool (B, C, H, W), iou_predictions (B, C), low_res_logits (B, C, 256, 256)
        """
        results = []
        predictor = SamPredictor(self)
        for record in batched_input:
            predictor.set_torch_image(record["image"][None], record["original_size"])
            points, labels, boxes, mask = (record.get(key) for key in PROMPT_KEYS)
            masks, scores, logits = predictor.predict_torch(points, labels, boxes, mask, multimask_output)
            results.append({"masks": masks, "iou_predictions": scores, "low_res_logits": logits})
        return results


def usable(device: Any) -> torch.device:
    """Return a device that this machine has.

    Raises: RunnerUnavailableError when it has not.
    """
    try:
        return torch.empty(0, device=device).device
    except Exception as error:  # each kind of device has its own
        raise RunnerUnavailableError(
            f"device '{device}': {first_line(error).split('. ')[0]}; 'cpu' is always there"
        ) from None


def as_sam(model: Any) -> Sam:
    """Return a ``Sam`` for one, for a runner, or for whatever ``open_runner`` takes: a model, files, a folder."""
    return model if isinstance(model, Sam) else Sam(as_runner(model))


def as_runner(model: Any) -> Runner:
    """Return the runner of a ``Sam``, a runner itself, or one of whatever ``open_runner`` takes."""
    if isinstance(model, Sam):
        return model.runner
    return model if isinstance(model, Runner) else open_runner(model)


def decoded_parts(runner: Runner, prepared: PreparedImage, embedding: Embedding, parts: Parts) -> Decoded:
    """Return what a decoder returns of B prompts on an image, where B may be 0: a detector may find nothing."""
    coords, labels, masks = packed(parts, prepared, runner)
    if not len(coords):
        tokens = max(1, len(runner.candidates))
        return Decoded(np.zeros((0, tokens, MASK_SIDE, MASK_SIDE), np.float32), np.zeros((0, tokens), np.float32))
    warn_if_untrained(runner.info, kind_of(labels[:1], has_mask=masks is not None))
    return runner.decode_many(embedding, coords, labels, masks)


def enlarged(logits: np.ndarray, prepared: PreparedImage) -> np.ndarray:
    """Return small logits at an image's size. Shapes: (B, C, 256, 256); returns float32 (B, C, H, W)"""
    if not len(logits):
        return np.zeros((*logits.shape[:2], *prepared.source_size), np.float32)
    large = masks_to_source(logits.reshape(-1, MASK_SIDE, MASK_SIDE), prepared)
    return large.reshape(*logits.shape[:2], *prepared.source_size)


class SamPredictor:
    """Masks for prompts on one image at a time.

    ``sam_model`` is a ``Sam``, a loaded model, exported files or their folder. What belongs to the current image are
    ``features`` (the embedding; of several maps each by its name), ``original_size``, ``input_size`` and
    ``is_image_set``: kept and set again, they take the place of ``set_image``.
    """

    def __init__(self, sam_model: Any) -> None:
        self.model = as_sam(sam_model)
        frame = self.model.runner.info.frame
        self.transform = ResizeLongestSide(frame.prompt_size, frame=frame)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        """Device of the model, on which results are."""
        return self.model.device

    def reset_image(self) -> None:
        """Forget the current image."""
        self.features: Tensor | dict[str, Tensor] | None = None
        self.is_image_set = False
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Shapes: image uint8 (H, W, 3), ``image_format`` RGB or BGR
        Raises: UsageError when it is no image.
        """
        if image_format not in ("RGB", "BGR"):
            raise UsageError(f"image_format is '{image_format}'; choose RGB or BGR")
        pixels = image_for_prompts(image)
        if image_format != self.model.image_format:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        self.encode(prepare(pixels, self.model.runner.info.frame))

    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Encode an image that ``transform`` has resized.

        Shapes: transformed_image (1, 3, h, w) RGB, 0..255; original_image_size H, W before
        Raises: UsageError when it has another size.
        """
        image = torch.as_tensor(transformed_image).detach().cpu()
        if image.ndim != 4 or image.shape[0] != 1:
            raise UsageError(f"transformed_image is {tuple(image.shape)}; pass (1, 3, h, w)")
        if image.is_floating_point() and (image.min() < 0 or 0 < image.max() <= 1):
            low, high = float(image.min()), float(image.max())
            warn(f"transformed_image has values from {low:g} to {high:g}; they are read as 0 to 255, not normalised")
        size, frame = (int(original_image_size[0]), int(original_image_size[1])), self.model.runner.info.frame
        if image.shape[2:] == fitted_size(size, frame.prompt_size, frame.fit):  # by a transform without ``frame``
            image = self.transform.apply_image_torch(image.float())
        self.encode(framed(image[0].permute(1, 2, 0).numpy(), size, frame))

    def encode(self, prepared: PreparedImage) -> None:
        """Embed a prepared image, which becomes the current one."""
        self.reset_image()
        found = self.model.runner.encode(prepared)
        maps = {name: torch.from_numpy(array).to(self.device) for name, array in found.items()}
        self.features = maps if len(maps) > 1 else next(iter(maps.values()))
        self.original_size, self.input_size, self.is_image_set = prepared.source_size, prepared.scaled_size, True

    def current(self) -> tuple[PreparedImage, dict[str, np.ndarray]]:
        """Return the current image without its pixels, and its embedding.

        Raises: UsageError when there is none, or ``features`` were set that are not of this model.
        """
        if not self.is_image_set or self.features is None or self.original_size is None:
            raise UsageError("no image yet; call set_image first")
        info, names = self.model.runner.info, self.model.runner.embedding_names
        maps = self.features if isinstance(self.features, dict) else {names[0]: self.features}
        shapes = dict(zip(names, info.embedding_shapes, strict=True))
        embedding = {name: torch.as_tensor(part).detach().cpu().float().numpy() for name, part in maps.items()}
        found = {name: part.shape for name, part in embedding.items()}
        if found != shapes:
            raise UsageError(f"features have shape {found}; those of {info.name} have {shapes}")
        height, width = self.original_size
        return sizes_alone((int(height), int(width)), info.frame), embedding

    def get_image_embedding(self) -> Tensor:
        """Return the embedding of the current image, (1, D, 64, 64); of several maps the first."""
        _, embedding = self.current()
        first, *_ = embedding.values()
        return torch.from_numpy(first).to(self.device)

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return masks of one prompt at the image's size, their scores, and small logits for a next ``mask_input``.

        Shapes:
            point_coords (N, 2) x, y in pixels of the image; point_labels (N,) 1 foreground, 0 background
            box (4,) x0, y0, x1, y1; mask_input (1, 256, 256)
            returns bool (or float32 with ``return_logits``) (C, H, W), float32 (C,), float32 (C, 256, 256)
        Raises: UsageError before ``set_image``, and as ``predict_torch``.
        """
        size = self.current()[0].source_size
        coords, labels = points_or_none(point_coords, "point_coords"), points_or_none(point_labels, "point_labels")
        corners = one_box(box)
        if coords is not None and (coords.ndim != 2 or coords.shape[1] != 2):
            raise UsageError(f"point_coords has shape {coords.shape}; give (N, 2), x and y of each point")
        points, kinds, boxes, earlier = (
            None if part is None else torch.as_tensor(part)
            for part in (
                None if coords is None else self.transform.apply_coords(coords, size)[None],
                None if labels is None else labels.reshape(1, -1),
                None if corners is None else self.transform.apply_boxes(corners, size),
                one_mask(mask_input),
            )
        )
        results = self.predict_torch(points, kinds, boxes, earlier, multimask_output, return_logits)
        masks, scores, logits = (part[0].cpu().numpy() for part in results)
        return masks, scores, logits

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks, scores and small logits of B prompts whose coordinates ``transform`` has moved.

        Shapes:
            point_coords (B, N, 2), point_labels (B, N), boxes (B, 4), mask_input (B, 1, 256, 256)
            returns (B, C, H, W), (B, C), (B, C, 256, 256); C is 3, or 1 without ``multimask_output``
        Raises: UsageError for a prompt that is missing or malformed, or that the decoder does not take or answer.
        """
        (prepared, embedding), runner = self.current(), self.model.runner
        columns = columns_of(runner, multimask=multimask_output)
        decoded = decoded_parts(
            runner, prepared, embedding, packed_parts(point_coords, point_labels, boxes, mask_input)
        )
        logits, scores = decoded.masks[:, columns], decoded.scores[:, columns]
        large = enlarged(logits, prepared)
        results = (large if return_logits else large > self.model.mask_threshold, scores, logits)
        moved = [torch.from_numpy(np.ascontiguousarray(part)).to(self.device) for part in results]
        return moved[0], moved[1], moved[2]

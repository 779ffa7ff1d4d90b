"""The curves of a training run, and masks of a few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from edgesam_export.distill.config import DistillConfig
from edgesam_export.distill.data import open_data, scenes_of
from edgesam_export.distill.dataset import reading_of, square
from edgesam_export.distill.forward import decode, network_input
from edgesam_export.distill.prompts import box_corners, to_frame
from edgesam_export.distill.samples import readable
from edgesam_export.files import write_beside
from edgesam_export.imaging.reading import save_png
from edgesam_export.modeling.sam import SamModel

__all__ = ["draw_curves", "draw_samples"]

SHOWN = 6
"""Images in a row of samples."""
PANEL = 256
SHIFT = 1000
"""Drawn scenes that are shown have another seed than those that are trained on."""
PANELS = (
    ("loss", ("loss", "bce", "dice", "mse", "channel", "correlation", "score"), "log"),
    ("mIoU of the step's masks", ("iou_first", "iou_last"), "linear"),
    ("learning rate", ("learning_rate",), "linear"),
)
LABELS = {"iou_first": "first prompt", "iou_last": "after the last round", "score": "predicted IoU"}


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Write the figures of a history as a PNG, one panel for losses, IoU and learning rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not history:
        return
    shown = [(title, [n for n in names if n in history[-1]], scale) for title, names, scale in PANELS]
    shown = [panel for panel in shown if panel[1]]
    figure = Figure(figsize=(5 * len(shown), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    steps = [line["step"] for line in history]
    for axes, (title, names, scale) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
        for name in names:
            axes.plot(steps, [line.get(name, np.nan) for line in history], label=LABELS.get(name, name), linewidth=1.2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_yscale(scale)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with write_beside(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def sample_source(data: str) -> str:
    """Return the data of the sample images: held-out scenes, or the training data itself."""
    if not data.startswith("scenes:"):
        return data
    seed, _, folder = scenes_of(data)
    return f"scenes:{seed + SHIFT}:{SHOWN}" + (f":{folder}" if folder else "")


@torch.no_grad()
def draw_samples(student: SamModel, config: DistillConfig, path: Path) -> None:
    """Write an image of two rows: masks from a box, masks from one point; right outline white, prompt in yellow."""
    side = config.schedule[-1].size
    data = open_data(sample_source(config.data), size=side, reading=reading_of(config))
    mode = [(module, module.training) for module in student.modules()]
    student.eval()
    columns = []
    for index in range(min(SHOWN, len(data))):
        image, masks, size = square(readable(data, index, strict=config.strict)[0], side)
        if not masks.any(axis=(1, 2)).any():
            masks = middle(side, size)
        mask = max(masks, key=lambda one: one.sum())
        columns.append([panel(student, image, mask, side, box=box) for box in (True, False)])
    for module, training in mode:
        module.training = training
    sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(sheet, path)


def middle(side: int, size: tuple[int, int]) -> np.ndarray:
    """Return a mask of the middle of an image that has none."""
    mask = np.zeros((1, side, side), bool)
    mask[0, size[0] // 4 : size[0] * 3 // 4, size[1] // 4 : size[1] * 3 // 4] = True
    return mask


def panel(student: SamModel, image: np.ndarray, mask: np.ndarray, side: int, *, box: bool) -> np.ndarray:
    """Return one image with the student's mask over it, uint8 (PANEL, PANEL, 3)."""
    device = next(student.parameters()).device
    corners = box_corners(torch.from_numpy(mask)[None].to(device))
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    point = torch.tensor([[[columns[nearest], rows[nearest]], [0, 0]]], dtype=torch.float32, device=device)
    prompt_size = student.info.frame.prompt_size
    coords = to_frame(corners if box else point, side, prompt_size)
    labels = torch.tensor([[2, 3] if box else [1, -1]], device=device)
    images = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).to(device)
    logits, _ = decode(student, student.encode(network_input(images, student, side)), coords, labels)
    found = np.asarray(Image.fromarray(logits[0, 0].cpu().numpy()).resize((side, side), Image.Resampling.BILINEAR)) > 0
    painted = image.astype(np.float32)
    painted[found] = painted[found] * 0.45 + np.array([40, 120, 255], np.float32) * 0.55
    edge = mask ^ (mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    painted[edge] = 255
    drawn = Image.fromarray(painted.astype(np.uint8)).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
    scale = PANEL / side
    draw = ImageDraw.Draw(drawn)
    if box:
        draw.rectangle([float(value) * scale for value in corners.flatten()], outline=(255, 220, 0), width=2)
    else:
        x, y = (float(value) * scale for value in point[0, 0])
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(255, 220, 0), outline=(0, 0, 0))
    return np.asarray(drawn)

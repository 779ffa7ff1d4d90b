"""The library calls behind ``run`` and ``segment``: files in, files out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.files import staging_folder
from edgesam_export.picture import mask_image, open_picture, overlay, save_png
from edgesam_export.predictor import Predictor, to_frame

__all__ = ["RunResult", "SegmentResult", "choose_files", "run_package", "segment_image"]


@dataclass(frozen=True, kw_only=True)
class SavedValue:
    """One array that ``run`` wrote."""

    name: str
    kind: str
    """``output`` or ``probe``."""
    shape: tuple[int, ...]
    dtype: str
    smallest: float
    largest: float
    path: Path

    @property
    def shape_text(self) -> str:
        """Shape for a table."""
        return "x".join(str(size) for size in self.shape) or "scalar"

    @property
    def range_text(self) -> str:
        """Range of values for a table."""
        return f"{self.smallest:.6g} .. {self.largest:.6g}"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What ``run`` did."""

    values: tuple[SavedValue, ...]
    times_ms: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data; a value that is not finite becomes text."""
        rows = [
            {
                "name": value.name,
                "kind": value.kind,
                "shape": list(value.shape),
                "dtype": value.dtype,
                "smallest": number(value.smallest),
                "largest": number(value.largest),
                "path": str(value.path),
            }
            for value in self.values
        ]
        return {"values": rows, "times_ms": list(self.times_ms)}


def number(value: float) -> float | str:
    """Return a number that JSON can hold."""
    return value if np.isfinite(value) else str(value)


def run_package(
    package: Path,
    *,
    inputs: tuple[str, ...],
    output: Path,
    function: str | None = None,
    numerics: str = "fp16",
    probes: tuple[str, ...] = (),
    repeats: int | None = None,
) -> RunResult:
    """Run a package on inputs ``NAME=FILE``; save outputs and probed values as ``.npy`` into ``output``.

    Raises:
        UsageError: an input is not NAME=FILE, cannot be read, or a probed value does not exist.
        ProgramError: the package cannot be loaded, or the inputs do not fit it.
    """
    from edgesam_export.mil import load_program

    program = load_program(package) if function is None else load_program(package, function=function)
    feed = dict(read_input(text) for text in inputs)
    known = {output.name for operation in program.operations for output in operation.outputs}
    for name in probes:
        if name not in known:
            raise UsageError(f"'{package}' has no value '{name}' to probe; names are those of its operations' outputs")
    if repeats is not None and not 1 <= repeats <= 10_000:
        raise UsageError(f"time is {repeats}; choose 1 to 10000 runs")
    seen: dict[str, np.ndarray] = {}

    def probe(op: Any, name: str, value: Any) -> None:
        if name in probes:
            seen[name] = value.cpu().numpy().copy()

    state = program.make_state() if program.states else None
    results = program.predict(feed, numerics=numerics, state=state, probe=probe if probes else None)
    times = []
    for _ in range(repeats or 0):
        start = time.perf_counter_ns()
        program.predict(feed, numerics=numerics, state=state)
        times.append((time.perf_counter_ns() - start) / 1e6)
    arrays = [("output", name, np.asarray(value)) for name, value in results.items()]
    arrays += [("probe", name, value) for name, value in seen.items()]
    with staging_folder(output) as staging:
        values = tuple(save_value(kind, name, value, staging, output) for kind, name, value in arrays)
    return RunResult(values=values, times_ms=tuple(times))


def read_input(text: str) -> tuple[str, Any]:
    """Return the feature name and the array or picture of ``NAME=FILE``."""
    name, separator, file = text.partition("=")
    if not separator or not name or not file:
        raise UsageError(f"input '{text}' is not NAME=FILE, for example image=photo.jpg")
    path = Path(file)
    if path.suffix == ".npy":
        return name, read_array(path)
    return name, open_picture(path)


def read_array(path: Path) -> np.ndarray:
    """Return the array in a ``.npy`` file; object arrays, which are pickles, are refused."""
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"'{path}' is not a .npy array of numbers: {' '.join(str(error).split())}") from None


def save_value(kind: str, name: str, value: np.ndarray, staging: Path, output: Path) -> SavedValue:
    """Save one array; a name that is no file name has its odd characters replaced."""
    file = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) + ".npy"
    np.save(staging / file, value, allow_pickle=False)
    numbers = value.astype(np.float64) if value.size and value.dtype.kind in "biuf" else np.zeros(1)
    return SavedValue(
        name=name,
        kind=kind,
        shape=value.shape,
        dtype=str(value.dtype),
        smallest=float(numbers.min()),
        largest=float(numbers.max()),
        path=output / file,
    )


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """What ``segment`` found and wrote."""

    scores: tuple[float, ...]
    best: int
    area: int
    """Pixels of the best mask."""
    box: tuple[int, int, int, int] | None
    """x0, y0, x1, y1 around the best mask, None when it is empty."""
    mask_path: Path
    overlay_path: Path
    logits_path: Path
    runner: str
    prompt_box: tuple[float, float, float, float] | None
    """The box that took part: the user's, or what the model proposed for a point."""

    def summary(self) -> str:
        """One line for people."""
        place = f"box {self.box}" if self.box else "empty"
        return f"{self.runner}: mask {self.best} of {len(self.scores)}, score {self.scores[self.best]:.3f}, {place}"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "scores": list(self.scores),
            "best": self.best,
            "area_pixels": self.area,
            "box": list(self.box) if self.box else None,
            "mask": str(self.mask_path),
            "overlay": str(self.overlay_path),
            "logits": str(self.logits_path),
            "runner": self.runner,
            "prompt_box": list(self.prompt_box) if self.prompt_box else None,
        }


def choose_files(paths: tuple[Path, ...], backend: str | None) -> list[Path]:
    """Return the exported files to run; none for the torch backend.

    Raises:
        UsageError: a backend that needs files without any, or files with the torch backend.
    """
    from edgesam_export.runners import SUFFIXES, list_files

    if backend == "torch" or (backend is None and not paths):
        if paths:
            raise UsageError("backend torch runs a model, not exported files; leave --artifact away")
        return []
    if not paths:
        raise UsageError(f"backend {backend} needs exported files; add --artifact FOLDER")
    files = [Path(file) for file in list_files(paths)]
    if backend is not None:
        files = [file for file in files if SUFFIXES.get(file.suffix) == backend]
        if not files:
            raise UsageError(f"no {backend} files among {', '.join(str(path) for path in paths)}")
    return files


def segment_image(
    image: Path,
    source: Any,
    output: Path,
    *,
    points: tuple[tuple[float, float], ...] = (),
    background: tuple[tuple[float, float], ...] = (),
    box: tuple[float, float, float, float] | None = None,
    mask_input: Path | None = None,
    numerics: str = "fp16",
) -> SegmentResult:
    """Segment a picture with a loaded model or exported files; write mask, overlay and logits into ``output``.

    A model with a proposal head adds a box of its own to points that come without box and mask.

    Raises:
        UsageError: an unreadable picture, a prompt outside it, or a prompt the decoder does not take.
    """
    from edgesam_export.runners import open_runner

    picture = open_picture(image)
    runner = open_runner(source, numerics=numerics)
    coords = [*points, *background]
    labels = [1] * len(points) + [0] * len(background)
    logits = None if mask_input is None else read_array(mask_input)
    predictor = Predictor(runner=runner).set_image(picture)
    if points and box is None and mask_input is None:
        box = proposed_box(predictor, points[0], prompts=len(coords))
    found = predictor.predict(points=coords or None, labels=labels or None, box=box, mask_input=logits)
    drawn = overlay(picture, found.best, points=coords, labels=labels, box=box)
    with staging_folder(output) as staging:
        save_png(mask_image(found.best), staging / f"{image.stem}_mask.png")
        save_png(drawn, staging / f"{image.stem}_overlay.png")
        np.save(staging / f"{image.stem}_logits.npy", found.logits[found.best_index], allow_pickle=False)
    return SegmentResult(
        scores=tuple(float(score) for score in found.scores),
        best=found.best_index,
        area=int(found.best.sum()),
        box=bounding_box(found.best),
        mask_path=output / f"{image.stem}_mask.png",
        overlay_path=output / f"{image.stem}_overlay.png",
        logits_path=output / f"{image.stem}_logits.npy",
        runner=runner.name,
        prompt_box=box,
    )


def proposed_box(
    predictor: Predictor, point: tuple[float, float], *, prompts: int
) -> tuple[float, float, float, float] | None:
    """Return the box that the model's proposals suggest for a point, in source pixels.

    None without a proposal head, when no proposal contains the point, or when ``prompts`` points and a box are more
    than the decoder has slots.
    """
    runner, prepared = predictor.runner, predictor.prepared
    if not getattr(runner, "proposes", False) or (runner.slots is not None and prompts + 2 > runner.slots):
        return None
    from edgesam_export.modeling.proposals import merge_proposals

    boxes, scores = runner.propose(predictor.embeddings)
    found = merge_proposals(boxes[0], scores[0], to_frame([point], prepared)[0])
    if found is None:
        return None
    (height, width), (new_height, new_width) = prepared.source_size, prepared.prompt_extent
    corners = found.reshape(2, 2) * (width / new_width, height / new_height)
    x0, y0, x1, y1 = corners.clip(0, (width, height)).reshape(-1).tolist()
    return x0, y0, x1, y1


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1, y1 (exclusive) around the true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

"""Resizing, masks, run lengths and array files on numbers that the Swift tests read too.

``goldens/masks.json`` holds what torch's ``interpolate`` and Pillow's ``resize`` give, called here directly and not
through the package. Inputs are not stored: ``lcg_bytes`` makes them in whole numbers, so both languages get the same
bits. ``python tests/test_shared_goldens.py`` writes the files anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.masks import best_mask, masks_to_source, stability
from edgesam_export.spec import ImageFrame

GOLDENS = Path(__file__).parent / "goldens"
MASKS = GOLDENS / "masks.json"
GEOMETRY = GOLDENS / "geometry"
SIDE = 256
SOURCES = {  # name: (height, width, prompt_size)
    "landscape": (300, 451, 1024),
    "portrait": (451, 300, 1024),
    "square": (500, 500, 1024),
    "one pixel": (1, 1, 1024),
    "one row": (1, 700, 1024),
    "tiny": (40, 60, 1024),
    "already 1024": (1024, 1024, 1024),
    "larger": (1531, 2041, 1024),
    "larger portrait": (2500, 1111, 1024),
    "prompts 512": (333, 777, 512),
}
STRETCHED = {"stretched landscape": (300, 451), "stretched larger": (1300, 1777), "stretched same": (256, 256)}
FITS = ("longest_side", "stretch", "stretch_antialias")
RESIZED = {  # name: height, width, size
    "up": (30, 45, 64),
    "down": (300, 451, 64),
    "down, not whole": (97, 101, 64),
    "up, not whole": (47, 61, 64),
    "one pixel": (1, 1, 64),
    "one row": (1, 50, 64),
    "one column": (50, 1, 64),
    "row that shrinks": (2, 300, 64),
    "unchanged": (64, 64, 64),
    "width unchanged": (31, 64, 64),
    "larger than 1024": (800, 1500, 1024),
    "portrait larger than 1024": (1403, 1029, 1024),
}
SCORES = [
    [0.25, 0.75, 0.5, 0.75],
    [None, 0.1, None, 0.2],
    [-1.0],
    [None, None, None],
    [-0.5, -0.25, -0.75],
]
"""None stands for NaN."""


def lcg_bytes(seed: int, count: int) -> np.ndarray:
    """Bits 16 to 23 of the states of the generator s <- 1664525 s + 1013904223 mod 2**32 (Numerical Recipes)."""
    states = np.empty(count, np.uint32)
    state = seed
    for index in range(count):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        states[index] = state
    return (states >> 16).astype(np.uint8)


def noisy_logits(seed: int) -> np.ndarray:
    """Sixteenths from -8 to below 8, no structure."""
    return ((lcg_bytes(seed, SIDE * SIDE).astype(np.float32) - 128) / 16).reshape(SIDE, SIDE)


def smooth_logits(seed: int) -> np.ndarray:
    """A bowl, positive inside, with ripples of a few sixteenths: whole numbers until the one division."""
    centre_y, centre_x = (64 + int(value) // 2 for value in lcg_bytes(seed, 2))
    ys, xs = np.mgrid[:SIDE, :SIDE]
    bowl = 5000 - (ys - centre_y) ** 2 - 2 * (xs - centre_x) ** 2 + (ys * 7 + xs * 13) % 61 * 8
    return (bowl / 512).astype(np.float32)


LOGITS = {"noisy": noisy_logits, "smooth": smooth_logits}


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return lcg_bytes(seed, height * width * 3).reshape(height, width, 3)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def run_lengths(walked: np.ndarray) -> list[int]:
    """Lengths of runs of 0, 1, 0 ... of a flat mask, written as a plain loop: the definition."""
    counts, current, length = [], 0, 0
    for bit in walked.tolist():
        if bit != current:
            counts.append(length)
            current, length = bit, 0
        length += 1
    return [*counts, length]


def mask_facts(mask: np.ndarray) -> dict:
    """What both languages say about a mask; box is x0, y0, x1, y1, the last two exclusive."""
    bits = mask.astype(np.uint8)
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None
    counts = run_lengths(bits.T.ravel())
    return {
        "sha256": digest(bits), "area": int(bits.sum()), "box": box, "runs": len(counts),
        "rle": counts if len(counts) <= 2000 else None,
        "rle_sha256": hashlib.sha256(",".join(map(str, counts)).encode()).hexdigest(),
    }  # fmt: skip


def extent_of(height: int, width: int, side: int) -> tuple[int, int]:
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def torch_masks(logits: np.ndarray, source: tuple[int, int], side: int) -> np.ndarray:
    """SAM's post-processing in three lines of torch."""
    import torch
    from torch.nn.functional import interpolate

    height, width = extent_of(*source, side)
    whole = interpolate(torch.from_numpy(logits)[None, None], (side, side), mode="bilinear", align_corners=False)
    return interpolate(whole[..., :height, :width], source, mode="bilinear", align_corners=False)[0, 0].numpy()


def torch_direct(logits: np.ndarray, source: tuple[int, int], mode: str) -> np.ndarray:
    """What Swift does for stretched frames; straight to source size."""
    import torch
    from torch.nn.functional import interpolate

    return interpolate(torch.from_numpy(logits)[None, None], source, mode=mode, align_corners=False)[0, 0].numpy()


def spots(values: np.ndarray) -> list:
    """First, a middle and last value."""
    flat = values.reshape(-1, *values.shape[2:])
    return [flat[index].tolist() for index in (0, len(flat) // 3, len(flat) - 1)]


def mask_cases() -> list[dict]:
    cases = []
    stretches = [(name, "stretch", "bicubic") for name in STRETCHED]
    stretches += [(name, "stretch_antialias", "bilinear_direct") for name in STRETCHED]
    sources = [*((name, "longest_side", "bilinear") for name in SOURCES), *stretches]
    for seed, (name, fit, mode) in enumerate(sources, start=1):
        height, width, prompt_size = (*STRETCHED[name], 1024) if name in STRETCHED else SOURCES[name]
        for kind, make in LOGITS.items():
            logits = make(seed)
            source = (height, width)
            direct = mode.removesuffix("_direct")
            whole = (
                torch_masks(logits, source, prompt_size) if mode == "bilinear" else torch_direct(logits, source, direct)
            )
            inner, outer = int((logits > 1).sum()), int((logits > -1).sum())
            cases.append(
                {
                    "name": f"{name}, {mode}, {kind}" if "direct" in mode else f"{name}, {kind}",
                    "seed": seed, "kind": kind, "source_size": [height, width],
                    "prompt_size": prompt_size, "fit": fit, "mask_resize": mode,
                    "spots": spots(whole), "mask": mask_facts(whole > 0), "stability": [inner, outer],
                }
            )  # fmt: skip
    return cases


def resized_by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rows first, then columns, in two calls: within one call Pillow 13 takes columns first for some shapes."""
    across = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))


def stretched_by_torch(image: np.ndarray, side: int, *, antialias: bool) -> np.ndarray:
    """Both sides to ``side``, halves to even."""
    import torch
    from torch.nn.functional import interpolate

    pixels = torch.from_numpy(image.astype(np.float64).transpose(2, 0, 1)[None].copy())
    whole = interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=antialias)[0]
    return whole.round().to(torch.uint8).numpy().transpose(1, 2, 0).copy()


def resize_cases() -> list[dict]:
    cases = []
    for seed, (name, (height, width, size)) in enumerate(RESIZED.items(), start=101):
        # Of the large pictures one is enough: over millions of sums, some lie so near the middle between two bytes that
        # the order of operations decides, which is torch's own. With antialiasing that is true of both.
        left_out = "stretch" if "portrait" in name else "stretch_antialias" if "larger" in name else "none"
        for fit in (fit for fit in FITS if not fit.startswith(left_out)):
            image = picture(height, width, seed)
            stretched = fit.startswith("stretch")
            new = (size, size) if stretched else extent_of(height, width, size)
            resized = (
                stretched_by_torch(image, size, antialias=fit != "stretch")
                if stretched
                else resized_by_pillow(image, *new)
            )
            cases.append(
                {
                    "name": f"{name}, {fit}", "seed": seed, "source_size": [height, width], "size": size, "fit": fit,
                    "scaled_size": list(new), "sha256": digest(resized), "spots": spots(resized),
                }
            )  # fmt: skip
    return cases


def score_cases() -> list[dict]:
    """Best by the rule itself: highest number, first of equals, null when there is none."""
    cases = []
    for scores in SCORES:
        known = [score for score in scores if score is not None]
        cases.append({"scores": scores, "best": scores.index(max(known)) if known else None})
    return cases


def arrays() -> dict[str, np.ndarray]:
    """Arrays whose values float32 can hold exactly."""
    values = np.arange(-6, 6).reshape(3, 4)
    return {
        "f2": (values / 8).astype("<f2"), "f4": (values / 8).astype("<f4"), "f8": (values / 8).astype("<f8"),
        "i4": (values * 70000).astype("<i4"), "i8": (values * 70000).astype("<i8"), "u1": (values + 130).astype("u1"),
        "b1": values % 3 == 0, "scalar": np.array(2.5, "<f4"), "empty": np.zeros((0, 5), "<f4"),
        "row": np.arange(7, dtype="<f4"),
    }  # fmt: skip


def array_cases() -> dict:
    return {
        name: {"shape": list(array.shape), "values": array.astype(np.float64).ravel().tolist()}
        for name, array in arrays().items()
    }


def masks_text() -> str:
    """The file as it is written: one line a case keeps differences readable."""

    def lines(cases):
        return ",\n".join("  " + json.dumps(case, allow_nan=False) for case in cases)

    note = (
        "Sizes are [height, width]. spots are the values at index 0, count // 3 and the last. stability is the counts"
        " above 1 and above -1. rle is column-major. Made by tests/test_shared_goldens.py, whose lcg_bytes makes the"
        " inputs; read by the Swift tests too."
    )
    sections = [("masks", mask_cases()), ("resized", resize_cases()), ("scores", score_cases())]
    body = ",\n".join(f' "{name}": [\n{lines(cases)}\n ]' for name, cases in sections)
    return f'{{\n "note": {json.dumps(note)},\n{body},\n "arrays": {json.dumps(array_cases())}\n}}\n'


def contracts() -> dict[str, dict]:
    """Contracts of made-up files with every field; the versions of tools are left out, they change."""
    from edgesam_export.export.contract import make_contract
    from edgesam_export.profiles import decoder_details
    from edgesam_export.spec import CoreMLConfig, ModelInfo, Provenance, TensorSpec

    common = {
        "info": ModelInfo(name="edge_sam", family="edge_sam", default_score="stability"),
        "provenance": Provenance(source="random-weights", random_seed=7),
        "config": CoreMLConfig(mask_input=True, candidates=3),
    }
    picture = TensorSpec(name="image", shape=(1, 3, 1024, 1024), dtype="image", description="picture")
    embedding = TensorSpec(name="image_embeddings", shape=(1, 256, 64, 64), dtype="fp16", description="embedding")
    coords = TensorSpec(name="point_coords", shape=(1, "points", 2), dtype="fp32", description="x, y")
    masks = TensorSpec(name="masks", shape=(1, 3, 256, 256), dtype="fp16", description="logits")
    made = {
        "encoder": make_contract(
            component="encoder", inputs=(picture,), outputs=(embedding,), details={"image_input": True}, **common
        ),
        "decoder": make_contract(
            component="decoder",
            inputs=(embedding, coords),
            outputs=(masks,),
            details=decoder_details(8, common["config"], "stability"),
            **common,
        ),
    }
    for contract in made.values():
        del contract["versions"]
    return made


def write() -> None:
    MASKS.write_text(masks_text(), encoding="utf-8")
    GEOMETRY.mkdir(exist_ok=True)
    for name, array in arrays().items():
        np.save(GEOMETRY / f"{name}.npy", array)
    for name, contract in contracts().items():
        text = json.dumps(contract, indent=1, allow_nan=False)
        (GEOMETRY / f"contract_{name}.json").write_text(text + "\n", encoding="utf-8")


def golden(section: str):
    return json.loads(MASKS.read_text(encoding="utf-8"))[section]


def named(section: str):
    return pytest.mark.parametrize("case", golden(section), ids=lambda case: case["name"])


def has_fused_multiply_add() -> bool:
    """Whether torch's loops on this processor round as the files do; others differ in the last place."""
    import torch

    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@named("masks")
def test_masks_are_those_of_the_file(case):
    logits = LOGITS[case["kind"]](case["seed"])
    source = tuple(case["source_size"])
    if case["mask_resize"] == "bicubic":
        whole = torch_direct(logits, source, "bicubic")
    elif case["mask_resize"] == "bilinear_direct":
        frame = ImageFrame(size=64, prompt_size=case["prompt_size"], fit=case["fit"], mask_resize=case["mask_resize"])
        whole = masks_to_source(logits[None], prepare(np.zeros((*source, 3), np.uint8), frame))[0]
    else:
        prepared = prepare(np.zeros((*source, 3), np.uint8), ImageFrame(size=64, prompt_size=case["prompt_size"]))
        whole = masks_to_source(logits[None], prepared)[0]
    facts = mask_facts(whole > 0)
    inner, outer = case["stability"]
    assert stability(logits[None])[0] == np.float32(inner / max(outer, 1))
    np.testing.assert_allclose(spots(whole), case["spots"], rtol=0, atol=1e-5)
    if has_fused_multiply_add():
        assert facts == case["mask"]
        assert spots(whole) == case["spots"]
    else:
        assert abs(facts["area"] - case["mask"]["area"]) <= 1e-5 * whole.size


@named("resized")
def test_resized_pictures_are_those_of_the_file(case):
    frame = ImageFrame(size=case["size"], fit=case["fit"])
    prepared = prepare(picture(*case["source_size"], case["seed"]), frame)
    height, width = prepared.scaled_size
    resized = prepared.pixels[:height, :width]
    assert list(resized.shape[:2]) == case["scaled_size"]
    assert digest(resized) == case["sha256"]
    assert spots(resized) == case["spots"]


@pytest.mark.parametrize("case", golden("scores"), ids=str)
def test_best_mask_is_that_of_the_file(case):
    from edgesam_export.errors import UsageError

    scores = np.array([np.nan if score is None else score for score in case["scores"]], np.float32)
    if case["best"] is None:
        with pytest.raises(UsageError, match="NaN"):
            best_mask(scores, len(scores))
    else:
        assert best_mask(scores, len(scores)) == case["best"]


def test_array_files_hold_what_the_file_says():
    cases = golden("arrays")
    assert set(cases) == {path.stem for path in GEOMETRY.glob("*.npy")}
    for name, case in cases.items():
        array = np.load(GEOMETRY / f"{name}.npy", allow_pickle=False)
        assert list(array.shape) == case["shape"]
        assert array.astype(np.float64).ravel().tolist() == case["values"]


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_contracts_still_say_what_swift_reads(name):
    stored = json.loads((GEOMETRY / f"contract_{name}.json").read_text(encoding="utf-8"))
    written = json.loads(json.dumps(contracts()[name]))
    # New fields do no harm: Swift leaves out what it does not know.
    assert {key: written.get(key) for key in stored if key not in ("export", "frame")} == {
        key: value for key, value in stored.items() if key not in ("export", "frame")
    }
    assert stored["frame"].items() <= written["frame"].items()


if __name__ == "__main__":
    write()

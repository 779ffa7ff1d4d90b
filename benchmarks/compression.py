"""What compression costs masks: every uniform scheme and recipes, on the models whose trained weights are here.

Writes ``benchmarks/compression.json``, and tables and plots into docs/compression.md. Interrupted, it goes on where it
was. Agreement is with the model's own FP32 masks; mIoU is with exact masks of drawn images. Packages are exported again
for the FP32 gates of parity, and one with activations in 8 bits too. Networks with stand-in weights have no masks worth
comparing: of those it is the embedding's error.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgesam_export.artifacts import list_files, open_artifact
from edgesam_export.distill.data import open_data
from edgesam_export.export.compression import compress_modules, kernels_of, schemes_for
from edgesam_export.export.trace import build_components, fp32_modules
from edgesam_export.families import load_model
from edgesam_export.files import read_json, write_json, write_text
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.reading import open_image
from edgesam_export.modeling.sam import SamModel, as_maps
from edgesam_export.parity import check_parity
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.rendering import markdown_table
from edgesam_export.resources import SAMPLES
from edgesam_export.runners import open_runner
from edgesam_export.runners.torch import round_weights
from edgesam_export.shrink.images import bundled_images, split_images
from edgesam_export.shrink.packages import bytes_of, facts_of
from edgesam_export.shrink.prompts import make_case, trained_kinds
from edgesam_export.shrink.search import Goal
from edgesam_export.shrink.shrinking import Images, ShrinkConfig, shrink
from edgesam_export.shrink.simulation import agreement_of
from edgesam_export.spec import PRESETS, UNCOMPRESSED, Artifact, CoreMLConfig, Recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "compression.json", ROOT / "docs" / "compression.md"
OUT = ROOT / "out" / "compression"
BEGIN, END = "<!-- compression: begin -->", "<!-- compression: end -->"
MIN_IOU, TARGET, FAMILY = 0.98, "iOS18", "H15"
UNIFORM = (
    "linear8",
    "palettize8",
    "palettize6",
    "palettize4",
    "palettize4_g8",
    "palettize4_g16",
    "linear4",
    "palettize3",
    "palettize3_g16",
    "palettize2",
    "palettize2_g16",
)
W8A8 = "w8a8"
CALIBRATED = 8
"""Images of the searched half that ranges of activations come from."""
STAND_INS = ("edge_sam", "mobile_sam", "efficient_sam_vitt")
STEPS = ("search", "packages", "stand-ins")
STAND_IN_SCHEMES = ("linear8", "palettize8", "palettize6", "linear4", "palettize4", "palettize4_g16", "palettize2")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the sweep."""

    model: str
    data: str | None
    """As ``shrink --images`` takes it; None: drawn phantoms."""
    count: int
    options: dict[str, Any] = field(default_factory=dict)
    """Of ``ShrinkConfig``."""
    activations: bool = True
    """Whether the encoder's activations are quantised as well, in a row of its own."""
    parity: tuple[str, ...] | None = None
    """Packages whose parity is checked, of every point but the recipes of other sizes unless named."""


ROWS = (
    Row(model="edge_sam_tiny", data="scenes:2000:48", count=24),
    # its encoder takes seconds an image
    Row(
        model="lite_medsam",
        data=None,
        count=24,
        options={"probe_encoder": False},
        activations=False,
        parity=("linear8", *PRESETS, "palettize6", "found"),
    ),
)


def images_of(row: Row) -> Images:
    """Return the images of a model's row."""
    if row.data is None:
        search, held_out = bundled_images(load_model(row.model).info, row.count)
        return Images(name="drawn phantoms", search=search, held_out=held_out)
    search, held_out = split_images(open_data(row.data), row.count)
    return Images(name=row.data, search=search, held_out=held_out)


def measured(row: Row) -> dict[str, Any]:
    """Return the document of a model's search, made now unless it is there, with the analysis of each scheme."""
    folder = OUT / row.model
    if not (folder / "shrink.json").exists():
        goal, export = Goal(min_iou=MIN_IOU), CoreMLConfig(target=TARGET)
        config = ShrinkConfig(goal=goal, export=export, uniform=UNIFORM, **row.options)
        shrink(load_model(row.model), images_of(row), folder, config, progress=say)
    document: dict[str, Any] = read_json(folder / "shrink.json")
    for point in document["points"]:
        if point["kind"] in ("uniform", "preset") and "findings" not in point:
            say(0, 0, f"analysing {row.model} {point['name']}")
            with tempfile.TemporaryDirectory() as packages:
                config = CoreMLConfig(target=TARGET, compress=point["name"])
                facts = facts_of(export_coreml(load_model(row.model), packages, config))
            point |= {"findings": dict(facts.findings), "estimate_ms": dict(facts.estimate_ms)}
            write_json(folder / "shrink.json", document)
    document.pop("files", None)
    return document


def quantised(row: Row) -> dict[str, Any]:
    """Return the point of 8-bit weights with an encoder that computes in 8 bits, by the executor on its packages."""
    model, images, folder = load_model(row.model), images_of(row), OUT / row.model / W8A8
    if not (folder / "export.json").exists():
        calibration = [example.image for example in images.search[:CALIBRATED]]
        export_coreml(model, folder, config_of(row, W8A8, {}), calibration=calibration, progress=say)
    files = [open_artifact(path) for path in list_files(folder)]
    reference, kinds = Predictor(runner=open_runner(model)), trained_kinds(model.info, mask_input=False)
    cases = [make_case(example, reference, kinds, number) for number, example in enumerate(images.held_out)]
    found = agreement_of(open_runner(files), [case for case in cases if case is not None], say, row.model)
    facts = facts_of(files)
    return {
        "name": W8A8,
        "kind": W8A8,
        "bytes": bytes_of(files),
        "held_out": found.document(),
        "findings": dict(facts.findings),
        "estimate_ms": dict(facts.estimate_ms),
        "parity": parity_of(model, files),
    }


def check_packages(row: Row, results: dict[str, Any]) -> Iterator[None]:
    """Export every package of a model's table that is not checked yet, and note its parity; yields after each."""
    document, checked = results["models"][row.model], results["parity"].setdefault(row.model, {})
    names = row.parity or [point["name"] for point in document["points"] if not point["name"].startswith("recipe")]
    for name in (name for name in names if name not in checked):
        say(0, 0, f"parity of {row.model} {name}")
        model = load_model(row.model)
        with tempfile.TemporaryDirectory() as folder:
            checked[name] = parity_of(model, export_coreml(model, folder, config_of(row, name, document)))
        yield


def config_of(row: Row, name: str, document: dict[str, Any]) -> CoreMLConfig:
    """Return the options of a point's packages; ``document`` has the recipe that was found."""
    if name == W8A8:
        return CoreMLConfig(target=TARGET, compress="linear8", activations="int8")
    if name == document["found"]:
        return CoreMLConfig(target=TARGET, compress=Recipe(name=name, model=row.model, components=document["recipe"]))
    return CoreMLConfig(target=TARGET, compress=None if name == UNCOMPRESSED else name)


def parity_of(model: SamModel, files: Sequence[Artifact]) -> dict[str, Any]:
    """Return the lowest PSNR of exact arithmetic on packages against PyTorch with stored weights, and the verdict."""
    report = check_parity(model, files, numerics=("fp32",))
    found = [row.metrics["psnr_db"] for row in report.rows if row.numerics == "fp32" and "psnr_db" in row.metrics]
    return {"psnr_db": round(min(found), 1), "passed": report.passed}


def embedding_errors(name: str, found: dict[str, float]) -> Iterator[None]:
    """Put scheme -> PSNR of the embedding against the FP32 one, dB, of a network with stand-in weights into ``found``.

    Yields after each scheme; those that are there are left out.
    """
    missing = [scheme for scheme in STAND_IN_SCHEMES if scheme not in found]
    if not missing:
        return
    model = load_model(name, random_weights=0)
    prepared = prepare(open_image(SAMPLES / "cat.jpg"), model.info.frame)
    config, image = CoreMLConfig(target=TARGET, tensor_input=True), torch.from_numpy(prepared.tensor)
    with torch.inference_mode():
        expected = as_maps(model.encode(image))[0].numpy()
    for scheme in missing:
        say(0, 0, f"{name} {scheme}")
        with torch.inference_mode():
            encoder = build_components(model, config, format="coreml")[0][0].module
            round_weights(encoder, fp32_modules(encoder, "coreml"))
            kernels = kernels_of(encoder, "encoder")
            compress_modules(encoder, schemes_for(scheme, "encoder", kernels), name)
            found[scheme] = psnr_db(as_maps(encoder(image))[0].numpy(), expected)
        yield


def say(done: int, total: int, text: str) -> None:
    """Print a step."""
    print(f"{text} {done}/{total}" if total else text, flush=True)


# ----------------------------------------------------------------------------------------------------------- the page


def table_of(document: dict[str, Any], parity: Mapping[str, Any]) -> str:
    """Return the table of a model's points; ``parity`` has what was checked, by name."""
    base = max(point["bytes"] for point in document["points"])
    truths = [
        kind for kind in ("box", "point") if "truth_mean" in document["points"][0]["held_out"]["kinds"].get(kind, {})
    ]
    headings = ["stored as", "MB", "of FP16", "IoU with FP32 masks", "lowest 5 %"]
    headings += [f"{kind} mIoU" for kind in truths] + ["findings", f"estimate, {FAMILY}", "parity, FP32"]
    rows = []
    for point in document["points"]:
        found = point["held_out"]
        cells = [point["name"], f"{point['bytes'] / 1e6:.2f}", f"{point['bytes'] / base:.0%}"]
        cells += [f"{found['mean']:.4f} ± {found['standard_error']:.4f}", f"{found['quantile_5']:.3f}"]
        for kind in truths:
            entry = found["kinds"][kind]
            cells.append(f"{entry['truth_mean']:.3f} ± {entry['truth_standard_error']:.3f}")
        counts = point.get("findings")
        cells.append("" if counts is None else ", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
        time = point.get("estimate_ms", {}).get(FAMILY)
        cells.append("" if time is None else f"{time:.2f} ms")
        check = parity.get(point["name"])
        cells.append("" if check is None else f"{check['psnr_db']:.0f} dB, {'ok' if check['passed'] else 'FAILS'}")
        rows.append(cells)
    return markdown_table(headings, rows, right=range(1, len(headings)))


def section_of(document: dict[str, Any], parity: Mapping[str, Any]) -> list[str]:
    """Return the lines of a model's section."""
    model, found = document["model"], next(one for one in document["points"] if one["name"] == document["found"])
    best = next((one for one in document["points"] if one["name"] == document["best_uniform"]), None)
    images = found["held_out"]["images"]
    lines = [f"### {model}", "", f"{images} held-out images of {document['images']}, target {document['target']}."]
    least, size = document["goal"]["min_iou"], found["bytes"]
    if not document["bound_kept"]:
        lines += [
            f"**The bound is missed**: `shrink --min-iou {least}` found {size / 1e6:.2f} MB, whose mean",
            f"on the held-out images is {found['held_out']['mean']:.3f}, and ended with exit 1.",
        ]
    elif best is not None:
        lines += [
            f"`shrink --min-iou {least}` found {size / 1e6:.2f} MB, {1 - size / best['bytes']:.0%} less",
            f"than `{best['name']}`, the smallest uniform scheme whose mean on the held-out images keeps that.",
        ]
    else:
        whole = max(point["bytes"] for point in document["points"])
        lines += [
            f"`shrink --min-iou {least}` found {size / 1e6:.2f} MB, {1 - size / whole:.0%} less than FP16.",
            "No uniform scheme keeps that on the held-out images.",
        ]
    return [*lines, "", table_of(document, parity), "", f"![Size against loss](compression_{model}.png)", ""]


def write_page(results: dict[str, Any]) -> None:
    """Write tables into the page, and plots beside it."""
    lines: list[str] = []
    for model, document in results["models"].items():
        further = [results["quantised"][model]] if model in results["quantised"] else []
        points = sorted([*document["points"], *further], key=lambda point: -point["bytes"])
        parity = results["parity"].get(model, {}) | {point["name"]: point["parity"] for point in further}
        lines += section_of({**document, "points": points}, parity)
        plot = OUT / model / "shrink.png"
        if plot.exists():
            shutil.copy(plot, PAGE.with_name(f"compression_{model}.png"))
    if results["stand_ins"]:
        rows = [
            [model, *(f"{errors[scheme]:.1f}" if scheme in errors else "" for scheme in STAND_IN_SCHEMES)]
            for model, errors in results["stand_ins"].items()
        ]
        headings = ["encoder", *STAND_IN_SCHEMES]
        lines += ["### Networks with stand-in weights", "", "PSNR of the embedding, dB. What it does to masks of"]
        lines += ["trained weights is not known from this.", ""]
        lines += [markdown_table(headings, rows, right=range(1, len(headings))), ""]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    write_text(PAGE, f"{before}{BEGIN}\n" + "\n".join(lines) + after)


def main() -> None:
    """Measure, and write results and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[row.model for row in ROWS], help="Only this one.")
    parser.add_argument("--only", choices=STEPS, help="Only this step.")
    parser.add_argument("--page", action="store_true", help="Only write the page from the results.")
    options = parser.parse_args()
    results: dict[str, Any] = {name: {} for name in ("models", "parity", "quantised", "stand_ins")}
    results |= read_json(RESULTS) if RESULTS.exists() else {}
    steps = () if options.page else (options.only,) if options.only else STEPS
    for _ in measure([row for row in ROWS if options.model in (None, row.model)], steps, results):
        write_json(RESULTS, results)
    write_page(results)


def measure(rows: Sequence[Row], steps: Sequence[str], results: dict[str, Any]) -> Iterator[None]:
    """Put what is not measured yet into ``results``; yields when something is new."""
    for row in rows:
        if "search" in steps:
            results["models"][row.model] = measured(row)
            yield
        if "packages" in steps:
            yield from check_packages(row, results)
            if row.activations and row.model not in results["quantised"]:
                results["quantised"][row.model] = quantised(row)
                yield
    for name in STAND_INS if "stand-ins" in steps else ():
        yield from embedding_errors(name, results["stand_ins"].setdefault(name, {}))


if __name__ == "__main__":
    main()

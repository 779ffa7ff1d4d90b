"""What every model of the project is and what its export looks like: models/figures.json and the table of the README.

Each model is exported in a process of its own, from stand-in weights unless its own are bundled; the saved files are
analysed and, with ``--parity``, judged. Nothing is timed on a phone. ``models/figures.json`` keeps figures of models
that are not named. Published figures come from benchmarks/published.toml, our own times from benchmarks/families.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine, run_child

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "models" / "figures.json"
FAMILIES = Path(__file__).parent / "families.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- models: begin, written by make model-table -->", "<!-- models: end -->"
TARGET = "iPhone 14"
EXPORT = """
import sys, time
from edgesam_export import CoreMLConfig, OnnxConfig, export_coreml, export_onnx, load_model
from edgesam_export.download import checkpoint_for
name, folder = sys.argv[1:]
released = checkpoint_for(name)
model = load_model(name, random_weights=None if released is not None and released.bundled else 0)
parameters = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in
              ("image_encoder", "prompt_encoder", "mask_decoder")}
start = time.perf_counter()
export_coreml(model, folder, CoreMLConfig(mask_input=model.info.slots is None))
coreml_s = time.perf_counter() - start
start = time.perf_counter()
export_onnx(model, folder, OnnxConfig())
result = {"parameters": parameters, "coreml_s": round(coreml_s, 1), "onnx_s": round(time.perf_counter() - start, 1)}
"""
PARITY = """
import sys
from edgesam_export.parity import check_parity
from edgesam_export.parity_inputs import load_reference
from pathlib import Path
files = sorted(Path(sys.argv[1]).glob("*.mlpackage"))
report = check_parity(load_reference(files), files)
failed = sorted({f"{c.gate.metric} {r.component} {r.numerics}" for r in report.rows for c in r.checks if not c.passed})
result = {"passed": report.passed, "outputs": len(report.rows), "failed": failed}
"""
HEADINGS = ("model", "input", "parameters", "G multiply-adds", "Core ML package", "ANE findings", "parity", "published")
HEADINGS += ("encoder, decoder here",)


def main() -> None:
    """Measure the named models, or write the table again."""
    from edgesam_export.families import model_names

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="models to export and measure again (default: those without figures)")
    parser.add_argument("--all", action="store_true", help="measure every model")
    parser.add_argument("--parity", action="store_true", help="judge the packages too: minutes for the large models")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    wanted = options.models or [name for name in model_names() if options.all or name not in figures]
    for name in [] if options.table else wanted:
        print(name, flush=True)
        figures[name] = measure(name, options.parity, figures.get(name, {}))
        text = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False)
        FIGURES.write_text(text + "\n", encoding="utf-8")
    write_table(figures)


def measure(name: str, parity: bool, before: dict[str, Any]) -> dict[str, Any]:
    """Export one model and return its figures; a parity result of before is kept unless it is judged again."""
    with tempfile.TemporaryDirectory() as folder:
        found = run_child(EXPORT, name, folder)
        parts = {part: figures_of(Path(folder), name, part) for part in ("encoder", "decoder")}
        judged = run_child(PARITY, folder) if parity else None
    result = {
        "parameters": sum(found["parameters"].values()),
        "encoder_parameters": found["parameters"]["image_encoder"],
        "export_s": {"coreml": found["coreml_s"], "onnx": found["onnx_s"]},
        "export_peak_mb": round(found["peak_mb"]),
        "machine": machine(2),
        **parts,
    }
    if judged:
        result["parity"] = {key: judged[key] for key in ("passed", "outputs", "failed")}
    elif "parity" in before:
        result["parity"] = before["parity"]
    return result


def figures_of(folder: Path, name: str, part: str) -> dict[str, Any]:
    """Sizes, multiply-adds and ANE findings of one exported component."""
    from edgesam_export.analyzer import analyze

    package = folder / f"{name}_{part}.mlpackage"
    report = analyze(package, target=TARGET)
    severities = [finding.severity for finding in report.findings]
    return {
        "coreml_bytes": sum(file.stat().st_size for file in package.rglob("*") if file.is_file()),
        "onnx_bytes": sum(file.stat().st_size for file in folder.glob(f"{name}_{part}.onnx*")),
        "multiply_adds": int(report.totals.multiply_adds),
        "operations": report.totals.operations,
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "rules": sorted({finding.rule for finding in report.findings if finding.severity in ("error", "warning")}),
    }


def write_table(figures: dict[str, Any]) -> None:
    """Put the table between the README's marks."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table(figures)}\n{END}{after}", encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """Markdown of every model, EdgeSAM first, the others by parameters."""
    from edgesam_export.families import model_info

    host = json.loads(FAMILIES.read_text(encoding="utf-8")) if FAMILIES.is_file() else {"models": {}}
    order = sorted(figures, key=lambda name: (not name.startswith("edge_sam"), figures[name]["parameters"], name))
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + " --- |" * len(HEADINGS)]
    for name in order:
        found = figures[name]
        info = model_info(name)
        both = [found["encoder"], found["decoder"]]
        cells = (
            f"`{name}`",
            str(info.frame.size),
            f"{found['parameters'] / 1e6:.1f} M",
            " + ".join(f"{part['multiply_adds'] / 1e9:.1f}" for part in both),
            " + ".join(f"{part['coreml_bytes'] / 1e6:.1f}" for part in both) + " MB",
            ", ".join(findings(part) for part in both),
            parity_text(found.get("parity")),
            published_text(name),
            host_text(host["models"].get(name)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def findings(part: dict[str, Any]) -> str:
    """Errors and warnings of one component in a few characters."""
    return f"{part['errors']} E {part['warnings']} W"


def parity_text(parity: dict[str, Any] | None) -> str:
    """The verdict on the saved packages."""
    if parity is None:
        return "not judged"
    return "all gates" if parity["passed"] else "fails: " + ", ".join(parity["failed"])


def published_text(name: str) -> str:
    """Published iPhone figures first, then one GPU figure, each with its device."""
    from edgesam_export.catalogue import published_figures

    rows = published_figures(name)
    phones = [row for row in rows if "iPhone" in row["device"]]
    others = [row for row in rows if "iPhone" not in row["device"] and row["part"] in ("total", "encoder")]
    return "; ".join(figure_text(row) for row in (*phones[:2], *others[:1])) or "-"


def figure_text(row: dict[str, Any]) -> str:
    """One published figure."""
    unit = {"fps": "FPS", "ms": "ms"}.get(row["unit"], row["unit"])
    part = "" if row["part"] == "total" else f" {row['part']}"
    return f"{row['value']:g} {unit}{part}, {row['device']}"


def host_text(times: dict[str, Any] | None) -> str:
    """Our own medians in ONNX Runtime."""
    if times is None:
        return "-"
    return ", ".join(f"{statistics.median(times['onnxruntime'][part]):.0f}" for part in ("encoder", "decoder")) + " ms"


if __name__ == "__main__":
    main()

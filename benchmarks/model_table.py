"""What every model of the project is and what its export looks like: models/figures.json and docs/models.md.

Each model goes through ``edgesam-export coreml`` and ``onnx``, each command in a process of its own, on stand-in
weights unless its own are bundled or part of a Python package; the saved files are analysed and checked. Nothing is
timed. models/figures.json keeps figures of models that are not named. Published figures come from
benchmarks/published.toml, our own times from benchmarks/families.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine, run_child

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "models" / "figures.json"
GATE_RECORD = ROOT / "benchmarks" / "gate_roc.json"
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- models: begin, written by make model-table -->", "<!-- models: end -->"
TARGET = "iPhone 14"
FORMATS = {"coreml": "Core ML", "onnx": "ONNX"}
IMAGES = 3
LARGE, LARGE_IMAGES = 30_000_000, 2
"""Models with more parameters are checked on fewer images: ViT-H takes a minute for each, ten times over."""
EXPORT = """
import sys
from edgesam_export.cli.app import cli
cli.main([*sys.argv[1:], "--no-verify", "--quiet"], standalone_mode=False)
result = {}
"""
PARITY = """
import sys
from pathlib import Path
from edgesam_export.parity import check_parity; from edgesam_export.parity.inputs import default_images
from edgesam_export.parity.inputs import load_reference
from edgesam_export.parity.gates import DEFAULT_GATES
from edgesam_export.parity.render.summary import bound, component_of, gate_lines, measured
folder, pattern, pictures = sys.argv[1:]
files = sorted(Path(folder).glob(pattern))
model = load_reference(files)
report = check_parity(model, files, images=default_images(model.info)[: int(pictures)])
lines = [line for line in gate_lines(report) if not line.passed]
result = {
    "passed": report.passed,
    "gates": sorted({gate.metric for gate in DEFAULT_GATES if gate.output != "object_score"}),
    "outputs": len(report.rows),
    "pictures": int(pictures),
    "failed_outputs": len(report.failures),
    "failed": [
        {"candidate": line.candidate, "component": component_of(line), "metric": line.gate.metric, "at": line.location,
         "worst": measured(line.gate.metric, line.worst.value), "gate": bound(line.gate)}
        for line in lines
    ],
    "why": list(dict.fromkeys([*map(str, report.divergences), *(item.text for item in report.explanations)])),
    "sign_margin": max((row.metrics.get("sign_margin", 0.0) for row in report.failures), default=0.0),
}
"""
HEADINGS = ("model", "input", "parameters", "G multiply-adds", "Core ML package", "ANE findings", "parity")
HEADINGS += ("published", "encoder, decoder here")


def main() -> None:
    """Measure the named models, or write the table again."""
    from edgesam_export.families import model_names

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="models to export and check again (default: those without figures)")
    parser.add_argument("--all", action="store_true", help="measure every model: some two hours on two cores")
    parser.add_argument("--no-parity", action="store_true", help="no parity; earlier results are kept")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    chosen = options.models or [name for name in model_names() if options.all or name not in figures]
    for name in [] if options.table else chosen:
        print(name, flush=True)
        figures[name] = measure(name, figures.get(name, {}), check=not options.no_parity)
        text = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False)
        FIGURES.write_text(text + "\n", encoding="utf-8")
    write_table(figures)


def measure(name: str, before: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Export one model and return its figures; an earlier parity result is kept unless it is checked again."""
    import torch

    from edgesam_export.families import build_model

    with torch.device("meta"):  # to be counted, not to be filled: ViT-H would take 2.5 GB
        model = build_model(name)
    parts = (model.image_encoder, model.prompt_encoder, model.mask_decoder)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    weights = [] if weights_at_hand(name) else ["--random-weights", "0"]
    mask_input = ["--mask-input"] if model.info.slots is None else []
    with tempfile.TemporaryDirectory() as folder:
        made = {
            command: run_child(EXPORT, command, name, *weights, *mask_input, "--output", folder)
            for command in ("coreml", "onnx")
        }
        result = {
            "parameters": sum(counts),
            "encoder_parameters": counts[0],
            "export_peak_mb": {command: round(found["peak_mb"]) for command, found in made.items()},
            "machine": machine(torch.get_num_threads()),
            **{part: figures_of(Path(folder), name, part) for part in ("encoder", "decoder")},
        }
        if check:
            images = str(LARGE_IMAGES if sum(counts) > LARGE else IMAGES)
            patterns = {"coreml": "*.mlpackage", "onnx": "*.onnx"}
            checked = {kind: run_child(PARITY, folder, pattern, images) for kind, pattern in patterns.items()}
            result["parity"] = {kind: {**found, "peak_mb": round(found["peak_mb"])} for kind, found in checked.items()}
        elif "parity" in before:
            result["parity"] = before["parity"]
    return result


def weights_at_hand(name: str) -> bool:
    """Whether a model's own weights are bundled, or part of a Python package."""
    from edgesam_export.checkpoints.manifest import checkpoint_for

    released = checkpoint_for(name)
    return released is not None and (released.bundled or released.package is not None)


def figures_of(folder: Path, name: str, part: str) -> dict[str, Any]:
    """Sizes, multiply-adds and ANE findings of one exported component."""
    from edgesam_export.ane.analyzer import analyze

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
    """Put the table between the page's marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(figures)}\n{END}{after}", encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """Markdown of every model, EdgeSAM first, the others by parameters; sources and failed gates below."""
    from edgesam_export.catalogue import host_figures
    from edgesam_export.families import model_info

    order = sorted(figures, key=lambda name: (not name.startswith("edge_sam"), figures[name]["parameters"], name))
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + " --- |" * len(HEADINGS)]
    sources: list[str] = []
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
            parity_text(current_parity(name, found)),
            published_text(name, sources),
            host_text(host_figures(name)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    if sources:
        numbered = "; ".join(f"[{number}] {source}" for number, source in enumerate(sources, start=1))
        lines += ["", f"Published figures, none of them measured here: {numbered}."]
    if failures := [line for name in order for line in failures_of(name, current_parity(name, figures[name]))]:
        lines += ["", "Gates that fail:", "", *failures]
    return "\n".join(lines)


def findings(part: dict[str, Any]) -> str:
    """Errors and warnings of one component in a few characters."""
    return f"{part['errors']} E {part['warnings']} W"


def gate_metrics() -> list[str]:
    """Metrics that a row's export has gates on; it has no object score, which is an option of its own."""
    from edgesam_export.parity.gates import DEFAULT_GATES

    return sorted({gate.metric for gate in DEFAULT_GATES if gate.output != "object_score"})


def current_parity(name: str, found: dict[str, Any]) -> dict[str, Any] | None:
    """The verdict on a model's files by today's gates: of its own row, or of ``make gate-roc``, or None."""
    metrics = gate_metrics()
    parity: dict[str, Any] = found.get("parity", {})
    if parity and all(one.get("gates") == metrics for one in parity.values()):
        return parity
    cases = json.loads(GATE_RECORD.read_text(encoding="utf-8")).values() if GATE_RECORD.is_file() else ()
    own = "trained" if weights_at_hand(name) else "seed 0"
    correct = {
        case["format"]: case
        for case in cases
        if (case["model"], case["weights"], case["kind"]) == (name, own, "correct")
    }
    return {kind: correct[kind] for kind in FORMATS} if set(FORMATS) <= set(correct) else None


def parity_text(parity: dict[str, Any] | None) -> str:
    """The verdict on the saved files of both formats."""
    if parity is None:
        return "not checked"
    if all(found["passed"] for found in parity.values()):
        return "all gates"
    bad = {FORMATS[kind]: found for kind, found in parity.items() if not found["passed"]}
    return ", ".join(f"{kind}: {found['failed_outputs']} of {found['outputs']} fail" for kind, found in bad.items())


def failures_of(name: str, parity: dict[str, Any] | None) -> list[str]:
    """One line of Markdown for each format of a model that fails: every gate with its worst value, and why."""
    lines = []
    for kind, found in (parity or {}).items():
        if found["passed"]:
            continue
        gates: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for one in found["failed"]:
            gates.setdefault((one["metric"], one["gate"]), []).append(one)
        broken = "; ".join(
            f"{metric} {worst_of(ones)} (gate {gate}) under {', '.join(dict.fromkeys(o['candidate'] for o in ones))}"
            for (metric, gate), ones in gates.items()
        )
        flips = f"; signs differ only below {found['sign_margin']:.1%} of the rms logit" if found["sign_margin"] else ""
        lines.append(f"* `{name}`, {FORMATS[kind]}: {broken}. Why: {'; '.join(found['why'])}{flips}.")
    return lines


def worst_of(failed: list[dict[str, Any]]) -> str:
    """The value farthest beyond the one gate that all of these break, as it was printed."""
    pick = min if failed[0]["gate"].startswith(">=") else max
    return pick((one["worst"] for one in failed), key=lambda text: float(text.split()[0]))


def published_text(name: str, sources: list[str]) -> str:
    """Published iPhone figures first, then one of another device, each with the number of its source."""
    from edgesam_export.catalogue import published_figures

    rows = published_figures(name)
    phones = [row for row in rows if "iPhone" in row["device"]]
    others = [row for row in rows if "iPhone" not in row["device"] and row["part"] in ("total", "encoder")]
    shown = (*phones[:2], *others[:1])
    sources += [source for source in dict.fromkeys(row["source"] for row in shown) if source not in sources]
    return "; ".join(f"{figure_text(row)} [{sources.index(row['source']) + 1}]" for row in shown) or "-"


def figure_text(row: dict[str, Any]) -> str:
    """One published figure."""
    unit = {"fps": "FPS", "ms": "ms"}.get(row["unit"], row["unit"])
    part = "" if row["part"] == "total" else f" {row['part']}"
    return f"{row['value']:g} {unit}{part}, {row['device']}"


def host_text(found: dict[str, Any] | None) -> str:
    """Our own medians in ONNX Runtime."""
    if found is None:
        return "-"
    parts = found["runtimes"]["onnxruntime"]
    return ", ".join(f"{parts[part]['median_ms']:.0f}" for part in ("encoder", "decoder")) + " ms"


if __name__ == "__main__":
    main()

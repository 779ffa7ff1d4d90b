"""What the rewrites change in a Core ML export, by static analysis: a Markdown table, the same weights each time.

Nothing is run and nothing is timed: the last column is the cost model's estimate, good for comparing, not for promising
milliseconds. Weights do not matter for any column, so stand-in weights are used. Without rewrites the neck upsamples
bilinearly, as the authors' own export does: coremltools cannot convert the bicubic upsampling of the trained model.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edgesam_export import CoreMLConfig, export_coreml, load_model
from edgesam_export.ane.analyzer import analyze
from edgesam_export.ane.report import AneReport

HEADINGS = ("part", "rewrites", "operations", "layout operations", "errors", "warnings", "off the ANE", "segments")
HEADINGS += ("multiply-adds", "estimate")
LAYOUT_BAR = {"edge_sam_3x": {"decoder": 25}}
"""Most layout operations that a recommended export has."""


def main() -> None:
    """Export, analyse, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="edge_sam_3x")
    parser.add_argument("--target", default="iPhone 14")
    arguments = parser.parse_args()
    variants = (
        ("none, bilinear neck", "bilinear", ()),
        ("bicubic only", "bicubic", ("bicubic_as_matmul",)),
        ("recommended", "bicubic", None),
    )
    reports: dict[str, list[tuple[str, AneReport]]] = {"encoder": [], "decoder": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, upsample, rewrites in variants:
            model = load_model(arguments.model, random_weights=0, upsample=upsample)
            for artifact in export_coreml(model, Path(folder) / name, CoreMLConfig(rewrites=rewrites)):
                reports[artifact.component].append((name, analyze(artifact.path, target=arguments.target)))
    report = reports["encoder"][0][1]
    print(f"{arguments.model}, analysed for {report.target} ({' '.join(report.families)})\n")
    print(f"| {' | '.join(HEADINGS)} |\n|{' --- |' * len(HEADINGS)}")
    for part, rows in reports.items():
        for name, report in rows:
            print(f"| {' | '.join((part, name, *cells(report)))} |")
    for part, bar in LAYOUT_BAR.get(arguments.model, {}).items():
        found = reports[part][-1][1].totals.layout_operations
        print(f"\n{part}: {found} layout operations (bar: {bar})")


def cells(report: AneReport) -> tuple[str, ...]:
    """Return a report's figures as HEADINGS names them."""
    totals = report.totals
    errors = sorted({finding.rule for finding in report.findings if finding.severity == "error"})
    severities = [finding.severity for finding in report.findings]
    return (
        str(totals.operations),
        str(totals.layout_operations),
        f"{severities.count('error')} {' '.join(errors)}".strip(),
        str(severities.count("warning")),
        str(sum(placement.placement == "off" for placement in report.placements)),
        str(len(report.segments)),
        f"{totals.multiply_adds / 1e9:.2f} G",
        f"{report.costs[0].time_ms:.1f} ms",
    )


if __name__ == "__main__":
    main()

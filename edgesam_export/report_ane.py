"""ANE reports as JSON, a page for the terminal, Markdown; and the baseline that lets a gate look at new findings only.

SARIF is in ``report_ane_sarif``, the picture in ``report_ane_picture``. No output says that an operation runs on the
ANE: only a phone can say that. The worst comes last, where a terminal leaves it in view.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesam_export.ane_report import AneReport, CostEstimate, Finding, Measurement, Totals
from edgesam_export.errors import SchemaError
from edgesam_export.files import read_json, staging_folder

__all__ = [
    "finding_keys",
    "load_baseline",
    "new_findings",
    "placement_counts",
    "summary_line",
    "to_json",
    "to_markdown",
    "to_text",
    "write_ane_reports",
]

LEVELS = ("info", "warning", "error")
PLURALS = {"error": "errors", "warning": "warnings", "info": "notes"}
ROWS_SHOWN = 6
"""Findings of one rule that are listed; the JSON has all."""
SEGMENTS_SHOWN = 12
SLOWEST_SHOWN = 5
SCHEMA_VERSION = 1
Key = tuple[str, ...]


# ---------------------------------------------------------------------------------------------------------------- JSON
def to_json(report: AneReport) -> str:
    """The report as JSON with sorted keys, and the counts that follow from it."""
    document = asdict(report) | {
        "worst": report.worst(),
        "counts": severity_counts(report.findings),
        "placement_counts": placement_counts(report),
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def severity_counts(findings: Sequence[Finding]) -> dict[str, int]:
    found = Counter(finding.severity for finding in findings)
    return {level: found[level] for level in LEVELS}  # type: ignore[index]


def placement_counts(report: AneReport) -> dict[str, int]:
    """Count operations by placement."""
    found = Counter(placement.placement for placement in report.placements)
    return {"expected": found["expected"], "at-risk": found["at-risk"], "off": found["off"]}


# ------------------------------------------------------------------------------------------------------------ terminal
def to_text(report: AneReport) -> str:
    """The report for a terminal; the summary is the last line."""
    blocks = [
        [heading(report)],
        list(totals_lines(report.totals)),
        list(segment_lines(report)),
        list(measured_lines(report.measured)),
        list(cost_lines(report)),
        list(finding_lines(report.findings)),
        [summary_line(report)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def heading(report: AneReport) -> str:
    families = "" if report.families == (report.target,) else f" ({' '.join(report.families)})"
    return f"{report.file}, function {report.function}, {report.opset}, for {report.target}{families}"


def summary_line(report: AneReport) -> str:
    """One line: whether anything known stands in the way, and the counts."""
    counts, placed = severity_counts(report.findings), placement_counts(report)
    verdict = f"{placed['off']} of {len(report.placements)} operations expected off the ANE"
    if not placed["off"]:
        verdict = f"no known blocker for {' '.join(report.families)}"
    if not report.placements:
        verdict = "no operations"
    risk = f", {placed['at-risk']} at risk" if placed["at-risk"] else ""
    found = ", ".join(plural(counts[level], level) for level in reversed(LEVELS))
    return f"{verdict}{risk}; {plural(len(report.segments), 'segment')}; {found}"


def plural(number: int, word: str) -> str:
    return f"{number} {PLURALS.get(word, word + 's') if number != 1 else {'info': 'note'}.get(word, word)}"


def totals_lines(totals: Totals) -> Iterator[str]:
    waste = totals.padded_activation_bytes / totals.activation_bytes - 1 if totals.activation_bytes else 0.0
    yield f"operations       {totals.operations}, {totals.layout_operations} of them layout"
    yield f"multiply-adds    {quantity(totals.multiply_adds)}"
    share = f", {totals.compressed_share:.0%} compressed" if totals.compressed_share else ""
    yield f"parameters       {quantity(totals.parameters)} in {size(totals.weight_bytes)}{share}"
    yield f"activations      {size(totals.activation_bytes)}, last-axis padding adds {waste:.1%}"


def segment_lines(report: AneReport) -> Iterator[str]:
    if not report.segments:
        return
    yield f"{'segment':>7}  {'side':4}{'operations':>12}{'bytes in':>12}{'bytes out':>12}  from .. to"
    for number, segment in enumerate(report.segments[:SEGMENTS_SHOWN], 1):
        side = "ANE" if segment.on_ane else "off"
        crossing = f"{size(segment.bytes_in):>12}{size(segment.bytes_out):>12}"
        yield f"{number:>7}  {side:4}{segment.operations:>12}{crossing}  {segment.first} .. {segment.last}"
    if len(report.segments) > SEGMENTS_SHOWN:
        yield f"         and {len(report.segments) - SEGMENTS_SHOWN} more segments"


def measured_lines(measured: Sequence[Measurement]) -> Iterator[str]:
    if measured:
        yield "measured, this very file:"
    for m in measured:
        spread = f"{m.smallest_ms:.2f} to {m.largest_ms:.2f}, {m.samples} samples"
        yield f"  {m.device} ({m.system}), {m.compute_units}: median {m.median_ms:.2f} ms ({spread}), {m.record}"


def cost_lines(report: AneReport) -> Iterator[str]:
    if not report.costs:
        return
    yield f"{'estimate':10}{'ms':>8}{'compute':>9}{'memory':>8}{'dispatch':>10}{'transfer':>10}"
    for cost in report.costs:
        parts = f"{cost.compute_ms:>9.2f}{cost.memory_ms:>8.2f}{cost.dispatch_ms:>10.2f}{cost.transfer_ms:>10.2f}"
        yield f"{cost.family:10}{cost.time_ms:>8.2f}{parts}"
    yield "for ranking, not a promise; against published figures:"
    for families, text in calibrations(report.costs):
        yield f"  {' '.join(families)}: {text}"
    yield f"slowest on {report.costs[0].family}:"
    for row in slowest(report.costs[0]):
        yield f"  {row.time_us:>8.0f} us  {row.op_type:18} {row.operation}, bound by {row.bound}"


def calibrations(costs: Sequence[CostEstimate]) -> list[tuple[list[str], str]]:
    """Gather families whose error reads the same but for the family's name."""
    found: dict[str, list[str]] = {}
    for cost in costs:
        found.setdefault(cost.calibration.replace(cost.family, "this family"), []).append(cost.family)
    return [(families, text) for text, families in found.items()]


def slowest(cost: CostEstimate) -> list[Any]:
    return sorted(cost.operations, key=lambda row: -row.time_us)[:SLOWEST_SHOWN]


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings by rule, notes first and errors last."""
    for group in grouped(findings):
        first = group[0]
        yield f"{first.severity} {first.rule} {first.name} ({first.evidence}), {plural(len(group), 'place')}"
        for finding in group[:ROWS_SHOWN]:
            where = f"{finding.op_type} '{finding.operation}': " if finding.operation else ""
            module = f"  [{finding.module}]" if finding.module else ""
            yield f"    {where}{finding.message}{gate(finding, findings)}{module}"
        if len(group) > ROWS_SHOWN:
            yield f"    and {len(group) - ROWS_SHOWN} more"
        yield f"    source: {first.source}"


def gate(finding: Finding, findings: Sequence[Finding]) -> str:
    """Name the families of a finding when it does not hold for all that were asked about."""
    everywhere = max(len(other.families) for other in findings)
    return f" ({' '.join(finding.families)})" if len(finding.families) < everywhere else ""


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((LEVELS.index(finding.severity), finding.rule), []).append(finding)
    return [groups[key] for key in sorted(groups)]


def quantity(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def size(number: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} B"


# ------------------------------------------------------------------------------------------------------------ Markdown
def to_markdown(report: AneReport, *, picture: str | None = None) -> str:
    """The report as Markdown for a pull request; ``picture`` is the link of the strip."""
    lines = [f"## ANE report: `{report.file}`", "", f"**{escaped(summary_line(report))}**", ""]
    lines += [f"Function `{report.function}`, {report.opset}, for {report.target} ({' '.join(report.families)})", ""]
    lines += [f"![operations by placement, width by estimated cost]({picture})", ""] if picture else []
    lines += [*("- " + re.sub(r"\s{2,}", ": ", line, count=1) for line in totals_lines(report.totals)), ""]
    if report.findings:
        table = [
            (f.severity, f"{f.rule} {f.name}", f.operation or "whole program", f.module or "", f.message, f.evidence)
            for group in grouped(report.findings)
            for f in group
        ]
        lines += markdown_table(("severity", "rule", "operation", "module", "message", "evidence"), table)
    if report.segments:
        rows = [
            (str(n), "ANE" if s.on_ane else "off", str(s.operations), size(s.bytes_in), size(s.bytes_out))
            for n, s in enumerate(report.segments, 1)
        ]
        lines += markdown_table(("segment", "side", "operations", "bytes in", "bytes out"), rows)
    lines += [f"- {escaped(line.strip())}" for line in list(measured_lines(report.measured))[1:]]
    lines += [""] if report.measured else []
    lines += markdown_costs(report.costs)
    return "\n".join(lines).rstrip() + "\n"


def markdown_costs(costs: Sequence[CostEstimate]) -> list[str]:
    if not costs:
        return []
    names = ("time_ms", "compute_ms", "memory_ms", "dispatch_ms", "transfer_ms")
    rows = [(cost.family, *(f"{getattr(cost, name):.2f}" for name in names)) for cost in costs]
    lines = markdown_table(("estimate", "ms", "compute", "memory", "dispatch", "transfer"), rows)
    lines += ["For ranking, not a promise. Against published figures:", ""]
    return lines + [f"- {' '.join(families)}: {text}" for families, text in calibrations(costs)]


def markdown_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *(tuple(escaped(cell) for cell in row) for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells] + [""]


def escaped(text: str) -> str:
    return re.sub(r"([|<>*`\\_\[\]])", r"\\\1", " ".join(text.split()))


# ------------------------------------------------------------------------------------------------------------ baseline
def finding_keys(findings: Sequence[Finding], *, modules: bool) -> list[Key]:
    """Return what identifies each finding from run to run: numbers in names and messages do not count.

    Two findings that differ in numbers only get the same key; compare how often a key occurs.
    """
    return [
        (f.severity, f.rule, shape(f.operation or ""), shape(f.message), (f.module or "") if modules else "")
        for f in findings
    ]


def shape(text: str) -> str:
    """Return a text with every number, and every list of them, as ``#``: renumbering leaves it the same."""
    return re.sub(r"#(?:[^\w#]+#)+", "#", re.sub(r"\d+(?:\.\d+)?", "#", text))


def load_baseline(path: str | Path) -> tuple[Finding, ...]:
    """Return the findings of a report that ``to_json`` wrote; fields that are not known are ignored.

    Raises:
        UsageError: the file is missing or is not JSON.
        SchemaError: it is no ANE report, or of a newer version.
    """
    document = read_json(Path(path))
    if not isinstance(document, Mapping) or not isinstance(document.get("findings"), list):
        raise SchemaError(f"'{path}' is no ANE report: it has no list of findings; write one with analyze --json")
    version = document.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise SchemaError(
            f"'{path}' has schema version {version!r}, this version reads up to {SCHEMA_VERSION}; write it anew"
        )
    known = Finding.__dataclass_fields__
    try:
        entries = [{key: value for key, value in entry.items() if key in known} for entry in document["findings"]]
        return tuple(Finding(**{**entry, "families": tuple(entry["families"])}) for entry in entries)
    except (TypeError, KeyError, AttributeError) as error:
        raise SchemaError(f"'{path}' holds a finding that cannot be read ({error}); write the baseline anew") from None


def new_findings(report: AneReport, baseline: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that the baseline does not have, or has fewer of.

    Modules count when both sides recorded them. A finding that became graver is new.
    """
    modules = all(any(finding.module for finding in side) for side in (report.findings, baseline))
    left = Counter(finding_keys(baseline, modules=modules))
    fresh = []
    for finding, key in zip(report.findings, finding_keys(report.findings, modules=modules)):
        if left[key]:
            left[key] -= 1
        else:
            fresh.append(finding)
    return tuple(fresh)


# --------------------------------------------------------------------------------------------------------------- files
def write_ane_reports(report: AneReport, folder: str | Path) -> list[Path]:
    """Write JSON, text, Markdown, SARIF and the picture as ``<package>_ane.*``; return the paths.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from edgesam_export.report_ane_picture import strip_picture
    from edgesam_export.report_ane_sarif import to_sarif

    stem = f"{Path(report.file).stem}_ane"
    contents = {
        f"{stem}.json": to_json(report).encode(),
        f"{stem}.txt": to_text(report).encode(),
        f"{stem}.md": to_markdown(report, picture=f"{stem}.png").encode(),
        f"{stem}.sarif": to_sarif(report).encode(),
        f"{stem}.png": strip_picture(report),
    }
    with staging_folder(Path(folder)) as staging:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
    return [Path(folder) / name for name in contents]

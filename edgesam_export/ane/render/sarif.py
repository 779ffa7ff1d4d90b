"""ANE findings as SARIF 2.1.0, the format in which code review tools take them.

Source: OASIS, Static Analysis Results Interchange Format Version 2.1.0.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from edgesam_export.ane.baseline import finding_keys, new_findings
from edgesam_export.ane.report import AneReport, Finding
from edgesam_export.ane.rules import RULES, all_rules, explain, sections
from edgesam_export.files import json_text

__all__ = ["SUFFIX", "render"]

SUFFIX = ".sarif"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
FINGERPRINT = "aneFinding/v1"


def render(report: AneReport, *, baseline: Sequence[Finding] | None = None) -> str:
    """Return the findings as a SARIF log; with ``baseline`` each says whether it is new.

    Fingerprints leave numbers out, so that a finding keeps its own when operations are renumbered.
    """
    rules = sorted({finding.rule for finding in report.findings})
    fresh = None if baseline is None else {id(finding) for finding in new_findings(report, baseline)}
    results = []
    seen: Counter[tuple[str, ...]] = Counter()
    for finding, key in zip(report.findings, finding_keys(report.findings, modules=True)):
        seen[key] += 1
        result = result_of(finding, report, rules.index(finding.rule))
        result["partialFingerprints"] = {FINGERPRINT: fingerprint(key, seen[key])}
        if fresh is not None:
            result["baselineState"] = "new" if id(finding) in fresh else "unchanged"
        results.append(result)
    run = {
        "tool": {"driver": driver(report, rules)},
        "automationDetails": {"id": category(report)},
        "artifacts": [artifact(report)],
        "results": results,
        "columnKind": "utf16CodeUnits",
        "properties": {"target": report.target, "families": list(report.families), "accuracy": report.accuracy},
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def category(report: AneReport) -> str:
    """Return what keeps the reports of several packages apart; code scanning takes one of each category at a time.

    What is behind the last slash would be a number of the run. Source: GitHub, SARIF support for code scanning,
    runAutomationDetails; uploads that repeat a category are refused since July 2025.
    """
    return f"ane/{report.file}/{report.function}/{report.target}/"


def driver(report: AneReport, rules: Sequence[str]) -> dict[str, Any]:
    descriptors = [describe(rule, next(f for f in report.findings if f.rule == rule)) for rule in rules]
    return {"name": "edgesam-export", "version": report.tool_version, "rules": descriptors}


def describe(rule: str, example: Finding) -> dict[str, Any]:
    """Return a rule's descriptor from its docstring; of one that is not registered, from the finding alone."""
    all_rules()
    severity, help_text = example.severity, example.source
    short = long = example.name.replace("-", " ")
    if rule in RULES:
        short, long, _ = sections(RULES[rule])
        severity, help_text = RULES[rule].severity, explain(rule)
    return {
        "id": rule,
        "name": "".join(word.capitalize() for word in example.name.split("-")),
        "shortDescription": {"text": " ".join(short.split())},
        "fullDescription": {"text": " ".join(long.split())},
        "help": {"text": help_text},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {"evidence": example.evidence, "source": example.source},
    }


def artifact(report: AneReport) -> dict[str, Any]:
    entry: dict[str, Any] = {"location": {"uri": quote(report.file)}}
    if report.artifact_sha256:
        entry["hashes"] = {"sha-256": report.artifact_sha256}
    return entry


def result_of(finding: Finding, report: AneReport, rule_index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": quote(report.file), "index": 0}}}
    logical = logical_locations(finding, report)
    if logical:
        location["logicalLocations"] = logical
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": LEVELS[finding.severity],
        "kind": "fail",
        "message": {"text": finding.message},
        "locations": [location],
        "properties": {"evidence": finding.evidence, "families": list(finding.families)},
    }


def logical_locations(finding: Finding, report: AneReport) -> list[dict[str, str]]:
    """Return the operation in the program, and the torch module it came from."""
    locations = []
    if finding.operation:
        path = f"{finding.location or report.function}/{finding.operation}"
        locations.append({"name": finding.operation, "fullyQualifiedName": path, "kind": "member"})
    if finding.module:
        leaf = finding.module.rsplit(".", 1)[-1]
        locations.append({"name": leaf, "fullyQualifiedName": finding.module, "kind": "module"})
    return locations


def fingerprint(key: tuple[str, ...], occurrence: int) -> str:
    """Return a digest of what identifies a finding; the severity may change without making it another one."""
    digest = hashlib.sha256("\0".join(key[1:]).encode()).hexdigest()
    return f"{digest[:32]}:{occurrence}"

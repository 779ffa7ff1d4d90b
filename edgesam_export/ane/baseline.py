"""The baseline: which findings of a report are new beside an earlier one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgesam_export.ane.report import AneReport, Finding
from edgesam_export.errors import SchemaError
from edgesam_export.files import read_json

__all__ = ["finding_keys", "load_baseline", "new_findings"]

SCHEMA_VERSION = 1
Key = tuple[str, ...]


def finding_keys(findings: Sequence[Finding], *, modules: bool) -> list[Key]:
    """Return the key that identifies each finding from run to run: numbers in names and messages do not count.

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
    """Return the findings of a report in JSON; unknown fields are ignored.

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
    fields = Finding.__dataclass_fields__
    try:
        entries = [{key: value for key, value in entry.items() if key in fields} for entry in document["findings"]]
        return tuple(Finding(**{**entry, "families": tuple(entry["families"])}) for entry in entries)
    except (TypeError, KeyError, AttributeError) as error:
        raise SchemaError(f"'{path}' holds a finding that cannot be read ({error}); write the baseline again") from None


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

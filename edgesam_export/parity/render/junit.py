"""Parity report as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

from edgesam_export.parity.render.summary import reason_of
from edgesam_export.parity.report import ParityReport, ParityRow

__all__ = ["SUFFIX", "render"]

SUFFIX = ".xml"


def render(report: ParityReport) -> str:
    """Return JUnit XML: a suite for each candidate, a case for each row, a skipped case for what was not compared."""
    root = ElementTree.Element("testsuites", name="parity")
    names = list(dict.fromkeys(row.candidate for row in report.rows))
    for name in names:
        rows = [row for row in report.rows if row.candidate == name]
        failed = sum(not row.passed for row in rows)
        suite = suite_under(root, name, tests=len(rows), failures=failed)
        for row in rows:
            case = ElementTree.SubElement(
                suite, "testcase", classname=xml(f"{name}.{row.component}"), name=xml(row.label)
            )
            if not row.passed:
                failure = ElementTree.SubElement(case, "failure", message=xml(reason_of(row)), type="ParityFailure")
                failure.text = xml("\n".join([*metric_lines(row), *reasons(report, row)]))
    if report.differences:
        suite = suite_under(root, "profile", tests=len(report.differences))
        for difference in report.differences:
            case = ElementTree.SubElement(suite, "testcase", classname="profile", name=xml(difference))
            ElementTree.SubElement(case, "system-out").text = "not as in the profile"
    if report.skipped:
        suite = suite_under(root, "not compared", tests=len(report.skipped), skipped=len(report.skipped))
        for reason in report.skipped:
            case = ElementTree.SubElement(suite, "testcase", classname="skipped", name=xml(reason))
            ElementTree.SubElement(case, "skipped", message=xml(reason))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def metric_lines(row: ParityRow) -> list[str]:
    """Return the row's metrics, one a line."""
    return [f"{name} {value:g}" for name, value in row.metrics.items()]


def reasons(report: ParityReport, row: ParityRow) -> list[str]:
    """Return the explanations of the component that a row belongs to."""
    key = row.candidate, row.component
    return [item.text for item in report.explanations if (item.candidate, item.component) == key]


def suite_under(
    root: ElementTree.Element, name: str, *, tests: int, failures: int = 0, skipped: int = 0
) -> ElementTree.Element:
    """Return a new suite with its counts."""
    counts = {"tests": str(tests), "failures": str(failures), "skipped": str(skipped), "errors": "0"}
    return ElementTree.SubElement(root, "testsuite", {"name": xml(name), **counts})


def xml(text: str) -> str:
    """Return text without the control characters that XML cannot hold, even escaped."""
    return "".join(sign if sign in "\t\n" or sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)

"""Rewrite the tables in ``docs/ane.md``: a line for every rule, from its docstring, and the figures of the evidence."""

from __future__ import annotations

from pathlib import Path

import ane_evidence

from edgesam_export.ane.evidence import DOCUMENT, support_of
from edgesam_export.ane.rules import all_rules, sections
from edgesam_export.rendering import markdown_table

DOCS = Path(__file__).parents[1] / "docs" / "ane.md"
HEADINGS = ("rule", "name", "severity", "evidence", "support", "about", "families", "what it finds")


def rule_table() -> str:
    """Return one line for every rule: its facts and the first thing that ``explain`` says."""
    rows = [
        (
            *(rule.id, rule.name, rule.severity, rule.evidence, support(rule.id), rule.concerns),
            " ".join(rule.families) if rule.families else "all",
            " ".join(sections(rule)[0].split()).removeprefix("Finds "),
        )
        for rule in all_rules()
    ]
    return markdown_table(HEADINGS, rows) + "\n"


def support(rule: str) -> str:
    """Return how many reports of real devices a rule is right about, or that documents are all there is."""
    count = len(support_of(rule))
    return f"{count} report{'' if count == 1 else 's'}" if count else DOCUMENT


def evidence_table() -> str:
    """Return the figures of the rules against public reports, measured now."""
    f = ane_evidence.figures(ane_evidence.outcomes())
    rows = [
        ("trouble that is found", f.hits, f.hits + f.halves + f.misses),
        ("the same by distinct cause", f.patterns_hit, f.patterns),
        ("alarms that are right", f.hits, f.hits + f.alarms),
        ("fine, and without any error", f.fine_without_error, f.fine),
        ("too small for the ANE, and said so", f.small_found, f.small),
        ("whole models within 10 % of their operations", f.models_close, f.models),
        ("trouble that came after the rules, found at first sight", f.later_hits, f.later),
    ]
    cells = [(name, f"{count} of {whole}", f"{count / whole:.0%}") for name, count, whole in rows]
    return markdown_table(("reports of", "count", "share"), cells) + "\n"


def with_table(text: str) -> str:
    """Return the page with the current tables."""
    for name, table in (("rules", rule_table()), ("evidence", evidence_table())):
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = before + start + table + end + after
    return text


def main() -> None:
    DOCS.write_text(with_table(DOCS.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

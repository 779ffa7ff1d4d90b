"""Rewrite the table of rules in ``docs/ane.md``: one line for every rule, from its docstring."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.ane.rules import all_rules, sections
from edgesam_export.rendering import markdown_table

DOCS = Path(__file__).parents[1] / "docs" / "ane.md"
START, END = "<!-- rules -->\n", "<!-- /rules -->"
HEADINGS = ("rule", "name", "severity", "evidence", "about", "families", "what it finds")


def rule_table() -> str:
    """Return one line for every rule: its facts and the first thing that ``explain`` says."""
    rows = [
        (
            *(rule.id, rule.name, rule.severity, rule.evidence, rule.concerns),
            " ".join(rule.families) if rule.families else "all",
            " ".join(sections(rule)[0].split()).removeprefix("Finds "),
        )
        for rule in all_rules()
    ]
    return markdown_table(HEADINGS, rows) + "\n"


def with_table(text: str) -> str:
    """Return the page with the current table."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + rule_table() + END + after


def main() -> None:
    DOCS.write_text(with_table(DOCS.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The open set of ANE rules: one function = one rule, one module = one theme. Drop a function in and it is checked.

A rule looks at a ``GraphView`` and the ``Limits`` of one hardware family and yields a ``Hit`` for each operation it
objects to; the registry decides when it runs. Thresholds are in ``hardware.toml``, never in a rule. The function's name
is the rule's name and describes the smell. Its docstring's first line says what the rule does, ``Why:`` and
``Instead:`` follow; ``explain`` adds the example and the source. ``flags`` and ``passes`` are programs in the text of
``read_example``, the offending line marked ``# flagged``; they are the rule's tests.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edgesam_export.ane.evidence import reports_on
from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.report import Evidence, Severity
from edgesam_export.hardware import Limits
from edgesam_export.registry import Registry, import_submodules

__all__ = ["RULES", "GraphView", "Hit", "Limits", "Rule", "all_rules", "explain", "rule"]

CORE_AI, CORE_AI_SOURCE = "CoreAI", "apple/coreai-models"
Concern = Literal["placement", "speed", "numerics", "size", "interface"]
Check = Callable[[GraphView, Limits], Iterator["Hit"]]


@dataclass(frozen=True)
class Hit:
    """One objection of a rule; ``operation`` None means the whole program."""

    operation: Node | None
    message: str
    severity: Severity | None = None
    """Milder than the rule's own, when this case is."""
    covers: tuple[Node, ...] = ()
    """All operations it is about, when that is more than ``operation``."""
    off: bool | None = None
    """Whether the operations leave the ANE, when the severity does not say it."""
    rejects: bool = False
    """Whether the ANE's compiler refuses the whole function over it, not these operations alone."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule with its facts."""

    id: str
    name: str
    severity: Severity
    evidence: Evidence
    concerns: Concern
    """``placement`` findings decide whether an operation stays on the ANE; the others are about cost or exactness."""
    source: str
    families: tuple[str, ...] | None
    """Families it applies to; None: all."""
    needs_placements: bool
    """Whether it runs after the others and reads ``graph.off``."""
    flags: tuple[str, ...]
    passes: tuple[str, ...]
    check: Check

    def holds_for(self, opset: str) -> bool:
        """Return whether the evidence is about programs of an op set; for Core AI, only what Apple says of it is."""
        return opset != CORE_AI or CORE_AI_SOURCE in self.source


RULES: Registry[Rule] = Registry("rule")


def rule(
    *,
    id: str,
    severity: Severity,
    evidence: Evidence,
    concerns: Concern,
    source: str,
    flags: tuple[str, ...] | str,
    passes: tuple[str, ...] | str,
    families: tuple[str, ...] | None = None,
    needs_placements: bool = False,
) -> Callable[[Check], Check]:
    """Register a function as a rule.

    Raises:
        ValueError: the id is taken, or the severity is error on folklore alone.
    """
    if evidence == "folklore" and severity == "error":
        raise ValueError(f"rule {id}: folklore is never an error")

    def store(check: Check) -> Check:
        RULES.register(id)(
            Rule(
                id=id,
                name=check.__name__.replace("_", "-"),
                severity=severity,
                evidence=evidence,
                concerns=concerns,
                source=source,
                families=families,
                needs_placements=needs_placements,
                flags=programs(flags),
                passes=programs(passes),
                check=check,
            )
        )
        return check

    return store


def programs(texts: tuple[str, ...] | str) -> tuple[str, ...]:
    return tuple(textwrap.dedent(text).strip() for text in ((texts,) if isinstance(texts, str) else texts))


def all_rules() -> list[Rule]:
    """Return every rule, sorted by id."""
    import_submodules(__name__)
    return [RULES[id] for id in RULES]


def explain(id: str) -> str:
    """Return the documentation of a rule, under five headings.

    Raises:
        UsageError: no rule has this id.
    """
    import_submodules(__name__)
    rule = RULES[id.upper()]
    what, why, instead = sections(rule)
    gate = f", {' '.join(rule.families)} only" if rule.families else ""
    blocks = [
        f"{rule.id} {rule.name}: {rule.severity}, {rule.evidence}{gate}, about {rule.concerns}",
        f"What it does\n{textwrap.indent(what, '  ')}",
        f"Why it matters\n{textwrap.indent(why, '  ')}",
        f"Example\n{textwrap.indent(rule.flags[0], '  ')}",
        f"Write instead\n{textwrap.indent(instead, '  ')}\n\n{textwrap.indent(rule.passes[0], '  ')}",
        f"References\n{textwrap.indent(rule.source, '  ')}\n{textwrap.indent(reports_on(rule.id), '  ')}",
    ]
    return "\n\n".join(blocks) + "\n"


def sections(rule: Rule) -> tuple[str, str, str]:
    """Return the three sections of a rule's docstring: what it does, why it matters, what to write instead."""
    text = inspect.getdoc(rule.check) or ""
    match = re.fullmatch(r"(.+?)\n\nWhy: (.+?)\n\nInstead: (.+)", text, re.DOTALL)
    if match is None:
        raise ValueError(f"rule {rule.id}: its docstring needs a first line, then 'Why:' and 'Instead:'")
    what, why, instead = match.groups()
    return what, why, instead

"""What people reported of real devices: statements with their programs, read from ``rules/evidence.toml``.

``benchmarks/ane_evidence.py`` builds each program and compares what the rules say; its figures stand in every report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgesam_export.resources import read_toml

__all__ = [
    "DOCUMENT",
    "EVIDENCE",
    "Statement",
    "WholeModel",
    "accuracy",
    "load_models",
    "load_statements",
    "reports_on",
    "support_of",
]

EVIDENCE = Path(__file__).with_name("rules") / "evidence.toml"
DOCUMENT = "document"
"""The word for a rule that no report supports."""
GRADES = {"P": "compute plan or compiler error", "R": "reproduced with numbers", "S": "said"}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One report about an operation, a pattern or a model on a device."""

    id: str
    said: Literal["off", "rejected", "wrong", "small", "slow", "fine"]
    claim: str
    source: str
    chip: str
    """Empty where the report names none."""
    grade: Literal["P", "R", "S"]
    target: str
    """What the program is analysed for."""
    verdict: Literal["hit", "half", "miss", "quiet", "alarm"]
    """What the rules make of it; a test compares."""
    first: str = ""
    """Verdict when the rules met a report that came after them; empty for those they were revised with."""
    system: str = ""
    pattern: str = ""
    rules: tuple[str, ...] = ()
    """Rules that are right to object."""
    partial: tuple[str, ...] = ()
    """Rules that find it for another reason."""
    allowed: tuple[str, ...] = ()
    """Objections that the report confirms, where it says fine of the rest."""
    about: tuple[str, ...] = ()
    """Rules that a report of something fine keeps from objecting."""
    operations: tuple[str, ...] = ()
    counted: bool = True
    note: str = ""
    program: str = ""
    twin: str = ""

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.chip or "chip not given", self.system)))
        return f"{self.claim} ({where}; {GRADES[self.grade]}): {self.source}"


@dataclass(frozen=True, kw_only=True)
class WholeModel:
    """A whole model of which the share of operations on the ANE is known."""

    name: str
    seen: str
    share: float
    """The same as a number, 0..1."""
    source: str
    target: str
    twin: str


@cache
def evidence() -> Mapping[str, Any]:
    return read_toml(EVIDENCE)


def with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def load_statements() -> tuple[Statement, ...]:
    """Return all statements, in the order of the file."""
    return tuple(Statement(**with_tuples(entry)) for entry in evidence()["statement"])


def load_models() -> tuple[WholeModel, ...]:
    """Return the whole models with public figures."""
    return tuple(WholeModel(**entry) for entry in evidence()["model"])


def accuracy() -> str:
    """Return how often the rules agree with the statements, in words; what the benchmark prints, a test compares."""
    return str(evidence()["accuracy"]["summary"])


def support_of(rule: str) -> tuple[Statement, ...]:
    """Return the statements that a rule is right about; of a rule without one, documents are the only support."""
    return tuple(s for s in load_statements() if rule in s.rules and s.verdict != "miss")


def reports_on(rule: str) -> str:
    """Return what people reported that a rule is about, a line each, for its documentation."""
    seen = [f"reported: {statement}" for statement in support_of(rule)]
    fine = [f"reported as fine: {statement}" for statement in load_statements() if rule in statement.about]
    return "\n".join(seen or [f"support: {DOCUMENT} alone, no public report of a device"]) + "".join(
        f"\n{f}" for f in fine
    )

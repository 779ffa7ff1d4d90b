"""A team's own gates, in a TOML file: they replace defaults or add to them, and say what is worse than a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesam_export.errors import UsageError
from edgesam_export.parity.baseline import ALLOWANCES
from edgesam_export.parity.gates import DEFAULT_GATES, Gate
from edgesam_export.resources import read_toml
from edgesam_export.spec import NUMERICS

__all__ = ["GateFile", "read_gates"]

FIELDS = ("output", "metric", "numerics", "minimum", "maximum")


@dataclass(frozen=True, kw_only=True)
class GateFile:
    """What a gate file sets."""

    gates: tuple[Gate, ...] = DEFAULT_GATES
    allowances: Mapping[str, float] = field(default_factory=lambda: ALLOWANCES)
    """By how much a metric may be worse than a baseline's."""


def read_gates(path: Path) -> GateFile:
    """Return the gates of a file, the default ones where it sets no other.

    Raises: UsageError when the file cannot be read, or sets something that is no gate.
    """
    document = read_toml(path)
    if unknown := sorted(set(document) - {"gate", "baseline", "defaults"}):
        raise UsageError(f"'{path}' has the unknown key '{unknown[0]}'; known are [[gate]], [baseline] and defaults")
    defaults, tables = document.get("defaults", True), document.get("gate", [])
    if not isinstance(defaults, bool) or not isinstance(tables, list):
        raise UsageError(f"'{path}': 'defaults' is true or false, and every gate a table [[gate]]")
    own = [gate for number, table in enumerate(tables) for gate in gates_of(table, f"'{path}': gate {number}")]
    replaced = {(gate.output, gate.metric, gate.numerics) for gate in own}
    kept = [g for g in DEFAULT_GATES if defaults and (g.output, g.metric, g.numerics) not in replaced]
    if not own and not kept:
        raise UsageError(f"'{path}' leaves no gate; comparing without a bound proves nothing")
    return GateFile(gates=(*kept, *own), allowances={**ALLOWANCES, **allowances_of(document, path)})


def gates_of(table: Any, place: str) -> list[Gate]:
    """Return the gates of one table, one for each of its numerics."""
    if not isinstance(table, dict) or set(table) - set(FIELDS) or not {"output", "metric"} <= set(table):
        raise UsageError(f"{place}: give output, metric, numerics (one, a list, or none for all) and one bound")
    numerics = table.get("numerics", list(NUMERICS))
    chosen = numerics if isinstance(numerics, list) else [numerics]
    for name in chosen:
        if name not in NUMERICS:
            raise UsageError(f"{place}: numerics is {name!r}; choose one of {', '.join(NUMERICS)}")
    bounds = {name: table[name] for name in ("minimum", "maximum") if name in table}
    if not all(is_number(bound) for bound in bounds.values()) or not all(
        isinstance(table[name], str) for name in ("output", "metric")
    ):
        raise UsageError(f"{place}: output and metric are texts, minimum or maximum a number")
    try:
        return [Gate(output=table["output"], metric=table["metric"], numerics=name, **bounds) for name in chosen]
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def allowances_of(document: Mapping[str, Any], path: Path) -> dict[str, float]:
    """Return what the table ``[baseline]`` allows, by metric."""
    table = document.get("baseline", {})
    if not isinstance(table, dict) or not all(is_number(value) and value >= 0 for value in table.values()):
        raise UsageError(
            f"'{path}': [baseline] gives, for each metric, by how much it may be worse: a number from 0 on"
        )
    if unknown := sorted(set(table) - set(ALLOWANCES)):
        raise UsageError(
            f"'{path}': [baseline] has the metric '{unknown[0]}'; known are {', '.join(sorted(ALLOWANCES))}"
        )
    return {name: float(value) for name, value in table.items()}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

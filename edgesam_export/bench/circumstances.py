"""What speaks against the samples of a case: the runner reports codes, and this table alone has the words for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["WORDS", "reason_of", "with_reasons"]

WORDS = {
    "unsteady_warmup": "{detail}: warm-up did not become steady",
    "throttled": "the thermal state rose to {detail}",
    "low_power": "low-power mode was on",
    "backgrounded": "the app was in the background",
    "debug_build": "the app is a debug build",
    "debugger_attached": "a debugger was attached",
    "few_iterations": "max_duration_s was over before min_iterations",
    "short_duration": "min_duration_s was not reached",
}
"""Reason by code; ``detail`` is the thermal state, or the stage."""
FLAGS = {
    "throttled": "it was throttled",
    "low_power": WORDS["low_power"],
    "backgrounded": WORDS["backgrounded"],
    "debug_build": WORDS["debug_build"],
}
"""Reason by flag, for results of runners that report neither codes nor reasons."""


def with_reasons(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result whose cases name every circumstance that makes them unfit for comparison, each once."""
    app = document.get("app") or {}
    cases = []
    for case in document["cases"]:
        validity = dict(case.get("validity") or {"reasons": []})
        cases.append({**case, "validity": {**validity, "reasons": reasons_of(validity, app)}})
    return {**document, "cases": cases}


def reasons_of(validity: Mapping[str, Any], app: Mapping[str, Any]) -> list[str]:
    """Return the reasons of one case.

    A runner without codes wrote its own reasons, from the same flags: the flags are read only where it wrote none.
    """
    reasons = list(validity["reasons"])
    if (circumstances := validity.get("circumstances")) is not None:
        return list(dict.fromkeys([*reasons, *(reason_of(entry) for entry in circumstances)]))
    if reasons:
        return reasons
    raised = {flag: validity.get(flag) for flag in FLAGS}
    raised["debug_build"] = raised["debug_build"] or app.get("build_configuration") == "debug"
    debugger = [WORDS["debugger_attached"]] if app.get("debugger_attached") else []
    return [*(words for flag, words in FLAGS.items() if raised[flag]), *debugger]


def reason_of(circumstance: Mapping[str, Any]) -> str:
    """Return the reason for one code; the code itself where a newer runner reports one that is not in the table."""
    code = str(circumstance["code"])
    words = WORDS.get(code, code.replace("_", " "))
    return words.format(detail=circumstance.get("detail") or "an unknown state")

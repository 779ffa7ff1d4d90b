"""The table of all MIL ops in ``edgesam_export/mil/ops/README.md``: ``python tests/conformance/table.py`` writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from coremltools.converters.mil._deployment_compatibility import AvailableTarget
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from edgesam_export.mil.chapters import chapter_of
from edgesam_export.mil.ops import OPS, OPSETS

__all__ = ["README", "known_ops", "render"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
README = ROOT / "edgesam_export" / "mil" / "ops" / "README.md"
ABSENT = {"const": "the loader"}
"""Ops without a function: who deals with them."""
INTRODUCTION = """# MIL operations

Written by `tests/conformance/table.py`; a test compares this file with what it would write.

Every op of coremltools 9.0's op set, with the versions of the op set that define it anew. *here*: the versions that
have a function in the chapter's module; a function also serves newer op sets, up to the next function. *literal*:
`tests/mil/ops` has rows of literal numbers for it. *conformance*: how many of coremltools' own op tests predict with a
program that contains the op, and pass (`tests/conformance`).
"""


def known_ops() -> dict[str, list[str]]:
    """Return every op that a saved ML Program can contain -> op sets for which coremltools defines it anew."""
    found = {}
    for name, versions in SSAOpRegistry.core_ops.items():
        if not name.startswith("_"):
            ordered = [versions[target] for target in sorted(versions)]
            first = [target for target, old in zip(sorted(versions), [None, *ordered]) if versions[target] is not old]
            found[name] = [label(target) for target in first]
    return found | {name: ["iOS18"] for name in ("coreml_update_state", "write_state")}


def label(target: AvailableTarget) -> str:
    """Return the op set of a target; coremltools keeps the first one under iOS13."""
    return "iOS15" if target < AvailableTarget.iOS15 else target.name


def has_literal_case(op: str) -> bool:
    """Whether a test file of ``tests/mil/ops`` names the op; some are written there without their prefix."""
    names = f"{op}|{op.removeprefix('reduce_').removeprefix('upsample_')}"
    files = (ROOT / "tests" / "mil" / "ops").glob("test_*.py")
    return any(re.search(rf"[\"']({names})[\"']", path.read_text(encoding="utf-8")) for path in files)


def render() -> str:
    """Return the text of the README."""
    covered = json.loads((HERE / "covered.json").read_text(encoding="utf-8"))
    here = {name: ", ".join(opset for opset in OPSETS if opset in OPS.versions[name]) for name in {v.name for v in OPS}}
    rows = ["| chapter | op | op sets | here | literal | conformance |", "|---|---|---|---|---|---|"]
    for op, opsets in sorted(known_ops().items(), key=lambda item: (chapter_of(item[0]), item[0])):
        tested = "yes" if has_literal_case(op) else ""
        cells = (chapter_of(op), f"`{op}`", ", ".join(opsets), here.get(op, ABSENT.get(op, "**missing**")), tested)
        rows.append(f"| {' | '.join(cells)} | {covered.get(op, '')} |")
    total = sum(1 for op in known_ops() if op in here)
    return f"{INTRODUCTION}\n{total} of {len(known_ops())} ops have a function.\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    README.write_text(render(), encoding="utf-8")

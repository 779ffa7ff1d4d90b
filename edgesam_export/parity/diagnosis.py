"""What the programs behind a candidate show: how near their values come to limits, and where an error enters.

Only a runner that executes a ``Program`` can be looked into; it has the program and the feed of its latest call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.parity.divergence import Divergence, first_divergence, names_of
from edgesam_export.parity.ranges import RangeRow, range_report
from edgesam_export.parity.reference import Reference
from edgesam_export.parity.report import CheckResult, Component, Explanation, ParityRow
from edgesam_export.runners import Runner
from edgesam_export.spec import Artifact

if TYPE_CHECKING:
    from edgesam_export.mil import Program

__all__ = ["Diagnosis"]

ROUNDING = "rounding alone: no operation stands out, and no output is off by 1 % of its rms value"
NOT_ROUNDING = "no operation stands out, and rounding changes no output by 1 % of its rms value"
IN_FP32 = "the files differ from PyTorch in fp32 already"
RENAMED = (
    "a fresh export has other operations (another version of the tool may have made the files), so none can be named"
)
RANGES_KEPT = 10
"""Operations of a component that the report keeps, those nearest to their limit."""

Call = tuple["Program", Mapping[str, Any]]
"""A program and the feed of its latest call."""


class Diagnosis:
    """Explains the failures of one candidate, each component once."""

    def __init__(self, runner: Runner, reference: Reference, ranged: set[str]) -> None:
        self.runner = runner
        self.reference = reference
        self.ranged = ranged
        """Digests of files whose ranges are reported: they are the same under all numerics, and for all candidates."""
        self.explained: set[str] = set()

    def diagnose(self, component: Component, row: ParityRow) -> CheckResult:
        """Return the ranges at a component's first call, and at its first failure the operation at fault.

        ``row`` is the worst of what the latest call computed. A runner without programs gives an empty result. A
        decoder that gets tokens is diagnosed together with the prompt encoder that made them.
        """
        staged = component == "decoder" and any(file.component == "prompt_encoder" for file in self.runner.artifacts)
        first = self.diagnose_alone("prompt_encoder", row) if staged else CheckResult()
        return first + self.diagnose_alone(component, row)

    def diagnose_alone(self, component: Component, row: ParityRow) -> CheckResult:
        """Return the findings about one component, see ``diagnose``."""
        files = [file for file in self.runner.artifacts if file.component == component]
        calls = self.latest_calls(component, parts=len(files))
        if not calls:
            return CheckResult()
        modules = next((file.contract.get("modules") for file in files), None) or {}
        digest = files[0].sha256 if files else f"{self.runner.name} {component}"
        result = CheckResult()
        if digest not in self.ranged:
            self.ranged.add(digest)
            result += CheckResult(ranges=ranges_of(component, calls, modules))
        if not row.passed and component not in self.explained:
            self.explained.add(component)
            cause = self.cause_of(files, calls, modules, row.numerics)
            result += self.explanation(component, cause)
        return result

    def latest_calls(self, component: Component, *, parts: int) -> list[Call]:
        """Return program and feed of each part of a component; one that is split has several."""
        calls = [self.runner.replay(component, part) for part in range(max(1, parts))]
        return [call for call in calls if call is not None]

    def cause_of(
        self, files: list[Artifact], calls: list[Call], modules: Mapping[str, str], numerics: str
    ) -> Divergence | str:
        """Return the operation at which the error enters, or why no single one is to blame."""
        if numerics == "fp32":
            parts = [[file] for file in files] or [[]]
            causes = [self.against_fresh_export(part, call, modules) for part, call in zip(parts, calls)]
            return next((cause for cause in causes if isinstance(cause, Divergence)), causes[0])
        found = (first_divergence(*call, a="fp32", b=numerics, modules=modules) for call in calls)
        return next((divergence for divergence in found if divergence), cost_of_storage(files) or ROUNDING)

    def against_fresh_export(self, files: list[Artifact], call: Call, modules: Mapping[str, str]) -> Divergence | str:
        """Return the operation at which the saved file leaves a fresh export of the reference, or why there is none.

        FP32 numerics add no error of their own: either the file changed after the export, or conversion is wrong.
        """
        model = self.reference.runner.model
        if model is None or not files:
            return IN_FP32
        from edgesam_export.runners.torch import fresh_program

        program, feed = call
        try:
            with fresh_program(model, files[0]) as (fresh, fresh_modules):
                if signature(fresh) != signature(program):
                    return f"{IN_FP32}; {RENAMED}"
                modules = fresh_modules or modules  # export.json knows only files that did not change
                found = first_divergence(fresh, feed, a="fp32", b="fp32", other=program, modules=modules)
        except EdgeSAMExportError as error:
            return f"{IN_FP32}; exporting again to compare failed: {error}"
        return found or f"{IN_FP32}, and so does a fresh export"

    def explanation(self, component: Component, cause: Divergence | str) -> CheckResult:
        """Return a cause under the name of its component and candidate."""
        name = self.runner.name
        if isinstance(cause, Divergence):
            return CheckResult(divergences=(replace(cause, component=component, candidate=name),))
        return CheckResult(explanations=(Explanation(candidate=name, component=component, text=cause),))


def cost_of_storage(files: list[Artifact]) -> str | None:
    """Return what besides rounding a file is compared with the original network for; None of a plain one."""
    costs = []
    for file in files[:1]:
        if compression := file.contract.get("compression"):
            costs.append(f"compressed weights ({compression.get('scheme') or compression.get('recipe')})")
        if activations := file.contract.get("activations"):
            costs.append(f"{activations.get('dtype')} activations")
    return f"{' and '.join(costs)}: {NOT_ROUNDING}" if costs else None


def signature(program: Program) -> list[tuple[str, list[str]]]:
    """Return kind and outputs of every operation; values of two programs can be matched by name when it is the same."""
    return [(op.type, names_of(op.outputs)) for op in program.operations]


def ranges_of(component: Component, calls: list[Call], modules: Mapping[str, str]) -> tuple[RangeRow, ...]:
    """Return the operations of a component that come nearest to the limit of their kind."""
    rows = [row for call in calls for row in range_report(*call, modules=modules)]
    nearest = sorted(rows, key=lambda row: -row.share)[:RANGES_KEPT]
    return tuple(replace(row, component=component) for row in nearest)

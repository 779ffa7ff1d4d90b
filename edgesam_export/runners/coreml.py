"""Core ML itself, on macOS: a thin adapter that only Apple hardware can exercise (not verified on Linux)."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.artifacts import chains
from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.export.quiet import quiet
from edgesam_export.files import sha256_of
from edgesam_export.mil.program import load_program
from edgesam_export.runners import RUNNERS, ArtifactRunner
from edgesam_export.spec import COMPUTE_UNITS, UNITS_WITH_ANE, Artifact

__all__ = ["CoreMLRunner", "dump_compute_plan"]


@RUNNERS.register("coreml")
class CoreMLRunner(ArtifactRunner):
    """Runs packages with ``MLModel.predict`` on chosen compute units."""

    formats = ("coreml",)
    prefix = "native"
    name = "coreml"

    def __init__(self, artifacts: list[Artifact], *, units: str = "all") -> None:
        super().__init__(artifacts)
        unit = compute_unit(units)
        if sys.platform != "darwin":
            raise RunnerUnavailableError(
                f"cannot run Core ML here: it needs macOS (this is {sys.platform}); use numerics fp32, fp16 or ane"
            )
        with quiet():
            import coremltools as ct

            chosen = getattr(ct.ComputeUnit, unit)
            self.models: dict[str, list[Any]] = chains(
                artifacts, lambda path: ct.models.MLModel(str(path), compute_units=chosen)
            )
        # What may run on the Neural Engine is held to its gates.
        self.numerics = "ane" if units in UNITS_WITH_ANE else "fp16"
        self.name = f"coreml {unit}"

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> CoreMLRunner:
        """Return a runner on the compute units that ``numerics`` names, all by default."""
        return cls(artifacts, units="all" if numerics is None else numerics)

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component, its parts one after the other; outputs by name."""
        values: dict[str, Any] = {n: Image.fromarray(v) if v.dtype == np.uint8 else v for n, v in feed.items()}
        for model in self.models[component]:
            values = model.predict(values)
        return values


def compute_unit(units: str) -> str:
    """Return coremltools' name of compute units.

    Raises:
        UsageError: unknown compute units.
    """
    if units not in COMPUTE_UNITS:
        raise UsageError(f"compute units '{units}'; choose one of: {', '.join(COMPUTE_UNITS)}")
    return units.upper()


def dump_compute_plan(package: Path, units: str = "all") -> dict[str, Any]:
    """Return Core ML's compute plan of a package on this Mac: the document described in ``ane.compute_plan``.

    Compiles the package first, since Core ML reads plans of compiled models only. It is this Mac's anticipation: a
    phone may decide otherwise. Not verified here: written from coremltools' interface; it needs macOS 14.4.

    Raises:
        UsageError: unknown compute units.
        RunnerUnavailableError: not on macOS, or Core ML gives no plan.
        ProgramError: the package cannot be read, or is no ML Program.
    """
    unit = compute_unit(units)
    if sys.platform != "darwin":
        raise RunnerUnavailableError(
            f"cannot ask Core ML for its plan here: it needs macOS 14.4 (this is {sys.platform}); "
            "dump it on a Mac or a phone and give --compute-plan FILE"
        )
    program = load_program(package, require_weights=False)
    with quiet(), tempfile.TemporaryDirectory() as folder:
        import coremltools as ct
        from coremltools.models.compute_plan import MLComputePlan

        try:
            compiled = ct.models.utils.compile_model(str(package), str(Path(folder) / f"{package.stem}.mlmodelc"))
            plan = MLComputePlan.load_from_path(compiled, compute_units=getattr(ct.ComputeUnit, unit))
            functions = plan.model_structure.program.functions
        except Exception as error:
            raise RunnerUnavailableError(
                f"Core ML gives no plan of '{package.name}' ({error}); it needs macOS 14.4 and an ML Program"
            ) from error
        operations = list(plan_rows(plan, functions[program.function.name].block))
    return {
        "kind": "compute_plan",
        "schema_version": 1,
        "model": {"file": package.name, "function": program.function.name, "artifact_sha256": sha256_of(package)},
        "compute_units": units,
        "device": this_mac(),
        "operations": operations,
    }


def plan_rows(plan: Any, block: Any) -> Iterator[dict[str, Any]]:
    """Yield the plan's row of each operation of a block and of the blocks inside."""
    for operation in block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        if operation.operator_name.rpartition(".")[2] != "const" and operation.outputs:
            yield {
                "name": operation.outputs[0].name,
                "type": operation.operator_name,
                "preferred": None if usage is None else unit_of(usage.preferred_compute_device),
                "supported": [] if usage is None else sorted(map(unit_of, usage.supported_compute_devices)),
                "cost": None if cost is None else min(max(cost.weight, 0.0), 1.0),
            }
        for inner in operation.blocks:
            yield from plan_rows(plan, inner)


def unit_of(device: Any) -> str:
    """Return the plan document's word for a compute device of coremltools."""
    words = {"MLNeuralEngineComputeDevice": "ane", "MLGPUComputeDevice": "gpu", "MLCPUComputeDevice": "cpu"}
    return words[type(device).__name__]


def this_mac() -> dict[str, str | None]:
    """Return this Mac's identity in the fields of a plan document."""

    def ask(*command: str) -> str | None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None

    return {
        "product_type": ask("sysctl", "-n", "hw.model"),
        "marketing_name": None,
        "chip": (ask("sysctl", "-n", "machdep.cpu.brand_string") or "").removeprefix("Apple ") or None,
        "os_version": platform.mac_ver()[0] or None,
        "os_build": ask("sw_vers", "-buildVersion"),
    }

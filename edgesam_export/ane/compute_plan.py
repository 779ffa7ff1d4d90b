"""Core ML's own compute plan of a program as a document: what the macOS adapter and the phone app write, read safely.

A plan is Core ML's anticipation on one device and one system; it is no measurement. Unknown fields are ignored, null
stands for unknown::

    {"kind": "compute_plan", "schema_version": 1,
     "model": {"file": "a.mlpackage", "function": "main", "artifact_sha256": "<hex of the package>"},
     "compute_units": "all" | "cpu_and_ne" | "cpu_and_gpu" | "cpu_only",
     "device": {"product_type": "iPhone14,7", "marketing_name": "iPhone 14", "chip": "A15",
                "os_version": "17.4.1", "os_build": "21E236"},
     "operations": [{"name": "x_cast_fp16", "type": "conv", "preferred": "ane", "supported": ["cpu", "gpu", "ane"],
                     "cost": 0.031}]}

``name`` is the operation's first output; ``type`` may carry the opset (``ios17.conv``); ``preferred`` is ``ane``,
``gpu``, ``cpu`` or null; ``cost`` is Core ML's weight, 0 to 1, or null. Constants are left out; the reader skips them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.files import read_json
from edgesam_export.hardware import pick_target
from edgesam_export.mil.op_kinds import is_parameter
from edgesam_export.spec import COMPUTE_UNITS

__all__ = [
    "KIND",
    "SCHEMA_VERSION",
    "Actual",
    "ComputePlan",
    "PlanDevice",
    "PlanOperation",
    "obtain_plan",
    "parse_plan",
    "read_plan",
    "target_of",
]

# 1: first form
SCHEMA_VERSION = 1
KIND = "compute_plan"
DEVICES = ("ane", "gpu", "cpu")
MAX_BYTES = 64 << 20
"""Far more than the largest program's plan: about 150 bytes an operation."""
MAX_OPERATIONS = 200_000
MAX_TEXT = 512
Actual = Literal["ane", "capable", "off", "unknown"]


@dataclass(frozen=True, kw_only=True)
class PlanOperation:
    """Core ML's view of one operation."""

    name: str
    op_type: str
    """Without the opset."""
    preferred: Literal["ane", "gpu", "cpu"] | None
    supported: tuple[str, ...]
    cost: float | None
    """Share of the model's work as Core ML estimates it, 0..1."""

    @property
    def actual(self) -> Actual:
        """``ane`` preferred; ``capable``: the ANE could, another unit is preferred; ``off``: it could not."""
        if self.preferred is None:
            return "unknown"
        if self.preferred == "ane":
            return "ane"
        return "capable" if "ane" in self.supported else "off"


@dataclass(frozen=True, kw_only=True)
class PlanDevice:
    """The device that the plan was made on; None where the document does not say."""

    product_type: str | None = None
    marketing_name: str | None = None
    chip: str | None = None
    os_version: str | None = None
    os_build: str | None = None

    def __str__(self) -> str:
        name = self.marketing_name or self.product_type or "unnamed device"
        chip = f" ({self.chip})" if self.chip else ""
        system = f", OS {self.os_version}" if self.os_version else ""
        return name + chip + system + (f" [{self.os_build}]" if self.os_build else "")


@dataclass(frozen=True, kw_only=True)
class ComputePlan:
    """A plan document that was checked."""

    file: str
    function: str
    artifact_sha256: str | None
    compute_units: str
    device: PlanDevice
    operations: tuple[PlanOperation, ...]

    @property
    def target(self) -> str | None:
        """Chip or device, as ``analyze`` takes it; None when the plan names no known one."""
        for name in filter(None, (self.device.chip, self.device.marketing_name)):
            try:
                return pick_target(name.removeprefix("Apple ")).name
            except UsageError:
                continue
        return None


# ------------------------------------------------------------------------------------------------------------- reading
def read_plan(path: str | Path) -> ComputePlan:
    """Return the plan in a file.

    Raises:
        UsageError: the file is missing or is not JSON.
        SchemaError: it is too large, or has not the form above.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise SchemaError(f"'{path}' has {path.stat().st_size} bytes; a compute plan has at most {MAX_BYTES}")
    try:
        document = read_json(path)
    except RecursionError:
        raise SchemaError(f"'{path}' is nested too deeply for a compute plan; dump the plan anew") from None
    return parse_plan(document, where=f"'{path}'")


def parse_plan(document: Any, *, where: str = "the compute plan") -> ComputePlan:
    """Return a plan from its document; nothing in it is trusted.

    Raises:
        SchemaError: a field is missing, of the wrong type or out of range; the message names it.
    """
    reader = Reader(where)
    plan = reader.mapping(document, "document")
    if plan.get("kind") != KIND:
        raise SchemaError(f"{where} is no compute plan: 'kind' is not '{KIND}'; dump it with analyze --native-plan")
    version = plan.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        shown = repr(version)[:40]
        raise SchemaError(f"{where} has schema version {shown}; this version reads up to {SCHEMA_VERSION}")
    model = reader.mapping(plan.get("model"), "model")
    device = reader.mapping({} if plan.get("device") is None else plan["device"], "device")
    entries = plan.get("operations")
    if not isinstance(entries, list) or len(entries) > MAX_OPERATIONS:
        raise SchemaError(f"{where}: 'operations' must be a list of at most {MAX_OPERATIONS}; dump the plan anew")
    operations = (reader.operation(entry, f"operations[{number}]") for number, entry in enumerate(entries))
    return ComputePlan(
        file=reader.text(model.get("file"), "model.file"),
        function=reader.text(model.get("function", "main"), "model.function"),
        artifact_sha256=reader.optional_text(model.get("artifact_sha256"), "model.artifact_sha256"),
        compute_units=reader.choice(plan.get("compute_units"), COMPUTE_UNITS, "compute_units"),
        device=PlanDevice(
            **{key: reader.optional_text(device.get(key), f"device.{key}") for key in PlanDevice.__dataclass_fields__}
        ),
        operations=tuple(o for o in operations if not is_parameter(o.op_type)),
    )


@dataclass(frozen=True)
class Reader:
    """Checks values of a document; ``where`` names the document in messages."""

    where: str

    def error(self, field: str, expected: str, value: Any) -> SchemaError:
        return SchemaError(f"{self.where}: '{field}' must be {expected}, not {repr(value)[:60]}; dump the plan anew")

    def mapping(self, value: Any, field: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.error(field, "an object", value)
        return value

    def text(self, value: Any, field: str) -> str:
        # Names end up on terminals: escape sequences must not.
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
            raise self.error(field, f"1 to {MAX_TEXT} printable characters", value)
        return value

    def optional_text(self, value: Any, field: str) -> str | None:
        return None if value is None else self.text(value, field)

    def choice(self, value: Any, choices: Sequence[str], field: str) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise self.error(field, f"one of {', '.join(choices)}", value)
        return value

    def operation(self, value: Any, field: str) -> PlanOperation:
        entry = self.mapping(value, field)
        supported = [] if entry.get("supported") is None else entry["supported"]
        if not isinstance(supported, list) or len(supported) > len(DEVICES):
            raise self.error(f"{field}.supported", f"a list of {', '.join(DEVICES)}", supported)
        preferred, cost = entry.get("preferred"), entry.get("cost")
        number = isinstance(cost, int | float) and not isinstance(cost, bool)
        if cost is not None and not (number and 0 <= cost <= 1):  # false for NaN
            raise self.error(f"{field}.cost", "a number from 0 to 1", cost)
        return PlanOperation(
            name=self.text(entry.get("name"), f"{field}.name"),
            op_type=self.text(entry.get("type"), f"{field}.type").rpartition(".")[2],
            preferred=None if preferred in (None, "unknown") else self.choice(preferred, DEVICES, f"{field}.preferred"),
            supported=tuple(self.choice(device, DEVICES, f"{field}.supported") for device in supported),
            cost=None if cost is None else float(cost),
        )


def obtain_plan(stored: str | Path | None, *, native: bool, package: Path) -> ComputePlan | None:
    """Return the stored plan, or Core ML's own for a package on this Mac, or None when neither is asked for.

    Raises:
        UsageError: both are asked for.
        SchemaError: the stored plan has not the form.
        RunnerUnavailableError: ``native`` where there is no Core ML.
    """
    if stored is not None and native:
        raise UsageError("--compute-plan and --native-plan exclude each other; give one of them")
    if native:
        from edgesam_export.runners.coreml import dump_compute_plan

        return parse_plan(dump_compute_plan(package, "all"))
    return None if stored is None else read_plan(stored)


def target_of(plan: ComputePlan | None, asked: str) -> str:
    """Return the target to analyse for: ``asked``, or the plan's device where ``all`` was asked for."""
    return plan.target or asked if plan is not None and asked == "all" else asked

"""The folder of a run and its ``run.json``, from which another process resumes the run."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgesam_export.bench.devices import DeviceDescription
from edgesam_export.bench.schema import parse_document
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.files import write_json

__all__ = ["DEFAULT_RUNS", "RunFolder", "RunState", "find_run"]

DEFAULT_RUNS = Path("bench-runs")
STATE_VERSION = 1
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class RunFolder:
    """``in/`` was pushed, ``out/`` was pulled, ``log/`` has every command; nothing in it is ever deleted."""

    path: Path

    @property
    def bundle(self) -> Path:
        return self.path / "in"

    @property
    def out(self) -> Path:
        return self.path / "out"

    @property
    def expected(self) -> Path:
        """PyTorch's outputs on the inputs of the parity check."""
        return self.path / "expected"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def state(self) -> Path:
        return self.path / "run.json"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Progress of a run on this side. ``phase``: prepared, installed, pushed, launched, interrupted, out_of_reach,
    failed or done."""

    run_id: str
    nonce: str
    backend: str
    device: dict[str, Any]
    settings: dict[str, Any]
    phase: str = "prepared"
    pid: int | None = None
    record: str | None = None
    polls: dict[str, int] = field(default_factory=dict)
    """Looks at the device while samples were taken, by case id."""

    def write(self, folder: RunFolder) -> None:
        """Write ``run.json``."""
        write_json(folder.state, {"state_version": STATE_VERSION} | asdict(self))

    def at(self, phase: str, **changes: Any) -> RunState:
        """Return the state in another phase."""
        return replace(self, phase=phase, **changes)

    def description(self) -> DeviceDescription:
        """Return the device as it was when the run began."""
        fields = DeviceDescription.__dataclass_fields__
        facts = {key: value for key, value in self.device.items() if key in fields}
        return DeviceDescription(**facts | {"warnings": tuple(facts.get("warnings", ()))})


def find_run(run_id: str, runs: Path = DEFAULT_RUNS) -> tuple[RunFolder, RunState]:
    """Return the folder and state of a run by its id, or by a beginning of it that is unique.

    Raises:
        UsageError: no such run, or several.
        SchemaError: its run.json cannot be read.
    """
    if not re.fullmatch(r"[0-9a-fA-F-]{4,36}", run_id):
        raise UsageError(f"'{run_id}' is no run id; take it from `ls {runs}`")
    folders = sorted(path.parent for path in runs.glob(f"{run_id.lower()}*/run.json"))
    if len(folders) != 1:
        known = ", ".join(sorted(path.parent.name for path in runs.glob("*/run.json"))[:8]) or "none"
        problem = "names several runs" if folders else "names no run"
        raise UsageError(f"'{run_id}' {problem} in {runs}; there: {known}")
    folder = RunFolder(folders[0])
    return folder, read_state(folder)


def read_state(folder: RunFolder) -> RunState:
    """Return the state in a run's folder.

    Raises:
        SchemaError: ``run.json`` is not the state of a run, or of another version.
    """
    path = folder.state
    if path.stat().st_size > MAX_BYTES:
        raise SchemaError(f"{path}: found more than {MAX_BYTES} bytes; not the state of a run")
    document = parse_document(path.read_text(encoding="utf-8", errors="replace"), str(path))
    fields = RunState.__dataclass_fields__
    try:
        if document["state_version"] != STATE_VERSION:
            raise SchemaError(f"{path}: found state_version {document['state_version']}, expected {STATE_VERSION}")
        state = RunState(**{key: value for key, value in document.items() if key in fields})
        state.description()
        if not all(isinstance(count, int) for count in state.polls.values()):
            raise TypeError("polls are no counts")
    except (TypeError, KeyError, AttributeError) as error:
        raise SchemaError(f"{path}: is not the state of a run ({error})") from None
    return state

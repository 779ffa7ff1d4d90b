"""This machine and its files as benchmark documents describe them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.bench.request import origin_of
from edgesam_export.files import files_of
from edgesam_export.spec import Artifact, Provenance

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["artifact_entry", "cpu_name", "host_device", "host_entry", "torch_entry"]

CPU_FACTS = Path("/proc/cpuinfo")
COMMAND_S = 10.0


def cpu_name(facts: Path = CPU_FACTS) -> str:
    """Return the processor's marketing name; the architecture where the system has none."""
    if sys.platform == "darwin":
        try:
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=True)
            return done.stdout.strip() or platform.machine()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    try:
        lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in names if name), platform.machine())


def system_name() -> str:
    """Return the operating system with its version."""
    return f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else f"{platform.system()} {platform.release()}"


def host_device() -> dict[str, Any]:
    """Return this machine as the device of a record."""
    return {
        "product_type": {"darwin": "mac-host", "linux": "linux-host"}.get(sys.platform, f"{sys.platform}-host"),
        "marketing_name": cpu_name(),
        "hardware_model": platform.machine(),
        "os_version": system_name(),
        "os_build": platform.version() or None,
        "physical_memory": physical_memory(),
        "active_cores": usable_cores(),
        "compute_devices": [{"kind": "cpu"}],
    }


def physical_memory() -> int | None:
    """Return the machine's memory, bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def usable_cores() -> int | None:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count()


def host_entry() -> dict[str, Any]:
    """Return the ``host`` entry of a record of this machine, with the versions of what was measured."""
    from importlib.metadata import version

    names = ("torch", "onnxruntime", "numpy")
    versions = {name: version(name) for name in names}
    return {"os": system_name(), "backend": "host", "python": platform.python_version(), "versions": versions}


def artifact_entry(artifact: Artifact) -> dict[str, Any]:
    """Return an exported file as a record lists it."""
    return {
        "id": artifact.path.name,
        "role": artifact.component,
        "sha256": artifact.sha256,
        "bytes": sum(path.stat().st_size for path in files_of(artifact.path)),
        "package_type": artifact.path.suffix[1:],
        "inputs": artifact.contract["inputs"],
        "outputs": artifact.contract["outputs"],
        **origin_of(artifact),
    }


def torch_entry(model: SamModel, role: str) -> dict[str, Any]:
    """Return a component of a loaded model as a record lists it, identified by the digest of its file or weights."""
    weights = model.provenance or Provenance(source="unknown")
    return {
        "id": f"{model.info.name}_{role} (PyTorch)",
        "role": role,
        "sha256": weights.sha256 or weights_digest(model),
        "model": model.info.name,
        "compute_precision": "fp32",
        "weights": {"source": weights.source, "sha256": weights.sha256, "random_seed": weights.random_seed},
    }


def weights_digest(model: SamModel) -> str:
    """Return the SHA-256 over names and values of all parameters and buffers."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Exports that tests only read, each made once for all workers, runs and languages while the sources stay the same.

An entry is addressed by what decides its content: the sources that shape an export, the versions of the libraries, the
model, its weights, formats and options.  Everything lies under ``out/test-exports`` of the checkout:

    <sources>/<entry>/        the folder that the export wrote
    <sources>/<entry>.json    what it is, and the digest of each file; without it, or with another, the entry is remade
    <sources>/<entry>.lock    held while the entry is checked or made
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesam_export.spec import Artifact

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "test-exports"
PACKAGE = ROOT / "edgesam_export"
SEED = 11
"""Of the stand-in weights, unless a test needs other ones."""
LIBRARIES = ("torch", "coremltools", "onnx", "numpy")
ABOVE = {
    "cli",
    "distill",
    "bench",
    "segment_anything",
    "serve",
    "shrink",
    "ane",
    "parity",
    "predict",
    "runners",
    "catalogue.py",
}
"""Entries of the package that no export imports (test_export_cache.py holds this against the order of the rooms)."""
RUNNING = ABOVE - {"predict", "runners"}
"""Entries that neither an export nor a prediction with its files imports."""
KEPT = 3
"""States of the sources whose exports stay: switching branches back and forth makes nothing anew."""


def digest_of_files(files: Iterable[Path], root: Path) -> str:
    """Return the SHA-256 over relative paths and contents."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def versions_of_libraries(*more: str) -> list[str]:
    """Return names and versions of the libraries that shape an export, and of others."""
    return [f"{name} {version(name)}" for name in (*LIBRARIES, *more)]


def digest_of_sources(above: Iterable[str] = ABOVE, more: Iterable[Path] = (), package: Path = PACKAGE) -> str:
    """Return the digest of the package without the entries ``above``, of the files ``more`` and of the libraries."""
    entries = [entry for entry in package.iterdir() if entry.name not in {*above, "__pycache__"}]
    members = [member for entry in entries for member in (entry.rglob("*") if entry.is_dir() else [entry])]
    files = [member for member in members if member.is_file() and member.suffix != ".pyc"]
    words = (digest_of_files([*files, *more], package.parent), platform.machine(), *versions_of_libraries())
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``final`` that replaces it when the block ends well, and vanishes otherwise."""
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=final.parent))
    staging.chmod(0o755)
    try:
        yield staging
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def files_and_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file by its path in the folder."""
    members = sorted(member for member in folder.rglob("*") if member.is_file())
    return {m.relative_to(folder).as_posix(): hashlib.sha256(m.read_bytes()).hexdigest() for m in members}


def is_whole(entry: Path) -> bool:
    """Whether an entry is there with every file as it was made."""
    try:
        recorded = json.loads(entry.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(recorded, dict) and recorded.get("files") == files_and_digests(entry)


def cached_folder(sources: Path, description: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that ``make`` fills, made now unless an undamaged one of this description is there."""
    entry = sources / hashlib.sha256(description.encode()).hexdigest()[:16]
    with locked(entry.with_suffix(".lock")):
        if not is_whole(entry):
            record = entry.with_suffix(".json")
            record.unlink(missing_ok=True)
            with staged(entry) as staging:
                make(staging)
            record.write_text(json.dumps({"description": description, "files": files_and_digests(entry)}, indent=1))
    return entry


def damaged_entries(sources: Path) -> list[Path]:
    """Return the entries whose files are no longer as they were made."""
    damaged = []
    for record in sorted(sources.glob("*.json")):
        with locked(record.with_suffix(".lock")):
            if record.is_file() and not is_whole(record.with_suffix("")):
                damaged.append(record.with_suffix(""))
    return damaged


def kept_folder(parent: Path, key: str) -> Path:
    """Return the folder in ``parent`` for what a key decides, made when missing; of the others the last used stay."""
    folder = parent / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()
    older = sorted((f for f in parent.iterdir() if f != folder), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in older[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


@cache
def sources_folder() -> Path:
    """Return the folder for the sources as they are now."""
    return kept_folder(FOLDER, digest_of_sources())


def write_export(folder: Path, model: str, format: str, random_weights: int | None, config: Any) -> None:
    """Export a model into ``folder``, beside what is there."""
    from edgesam_export.families import load_model
    from edgesam_export.formats import find_format

    find_format(format).export(load_model(model, random_weights=random_weights), folder, config)


@cache
def weights_digest(model: str) -> str:
    """Return the digest of the bundled weights, which an export without ``random_weights`` holds."""
    return hashlib.sha256((ROOT / "models" / f"{model}.safetensors").read_bytes()).hexdigest()


@cache
def exported(
    model: str = "edge_sam_tiny",
    format: str | tuple[str, ...] = "coreml",
    *,
    random_weights: int | None = SEED,
    **config: Any,
) -> Path:
    """Return the folder of an export, to be read only: who changes files copies them first.

    Several formats stand in one folder, exported one after the other with the same options.  ``random_weights=None``
    are the bundled ones.  What a test patches would go into the entry: export first, patch then.
    """
    from edgesam_export.formats import find_format

    formats = (format,) if isinstance(format, str) else format
    options = [find_format(name).config(**config) for name in formats]
    weights = f"seed {random_weights}" if random_weights is not None else weights_digest(model)

    def make(folder: Path) -> None:
        if len(formats) > 1:
            earlier = exported(model, formats[:-1], random_weights=random_weights, **config)
            shutil.copytree(earlier, folder, dirs_exist_ok=True)
        write_export(folder, model, formats[-1], random_weights, options[-1])

    return cached_folder(sources_folder(), f"{model}, {weights}, {options}", make)


def artifacts_of(folder: Path, format: str) -> list[Artifact]:
    """Return what the exporter returned, from its record in the folder: encoder, decoder, what else there is."""
    from edgesam_export.artifacts import pick_components
    from edgesam_export.spec import Artifact

    record = json.loads((folder / "export.json").read_text())["artifacts"]
    kept = ("format", "component", "sha256", "contract")
    artifacts = [
        Artifact(path=folder / name, model=entry["contract"]["model"], **{key: entry[key] for key in kept})
        for name, entry in record.items()
        if entry["format"] == format
    ]
    return pick_components(artifacts)

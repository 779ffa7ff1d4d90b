"""Writing files so that a file at its final path is always complete; reading JSON; digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgesam_export.errors import UsageError, first_line

__all__ = [
    "check_output_folder",
    "data_beside",
    "files_of",
    "is_address",
    "json_text",
    "lies_inside",
    "read_json",
    "reason_of",
    "sha256_of",
    "staging_folder",
    "stand_in",
    "write_beside",
    "write_json",
    "write_text",
]

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)
"""How addresses begin; a drive has one letter."""

CHUNK_BYTES = 1 << 20
DATA_SUFFIX = ".data"


def data_beside(path: Path) -> Path:
    """Return the path of a large file's weights: ``<file name>.data`` beside it."""
    return path.with_name(path.name + DATA_SUFFIX)


def files_of(path: Path) -> list[Path]:
    """Return the files of an artifact, sorted: all in a folder, or the file and its external data."""
    if path.is_dir():
        return sorted(member for member in path.rglob("*") if member.is_file())
    return [path, data_beside(path)] if data_beside(path).is_file() else [path]


def lies_inside(path: Path, folder: Path) -> bool:
    """Return whether a path, its links followed, lies in a folder or in the store that the folder's files link to.

    That store is the one of the Hugging Face Hub's cache: the files of ``<repository>/snapshots/<revision>/`` are links
    into ``<repository>/blobs/``. A link to anywhere else leaves the folder.

    Raises: OSError, RuntimeError or ValueError for links without end and names that no file can have.
    """
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
        return False
    resolved = path.resolve()
    if resolved.is_relative_to(folder.resolve()):
        return True
    snapshots = next((above for above in Path(os.path.abspath(folder)).parents if above.name == "snapshots"), None)
    store = None if snapshots is None else snapshots.parent / "blobs"
    return store is not None and not store.is_symlink() and resolved.parent == store.resolve()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, or a file and its data, over sorted names, sizes, contents."""
    digest = hashlib.sha256()
    members = files_of(path)
    if members == [path]:
        feed(digest, path)
        return digest.hexdigest()
    root = path if path.is_dir() else path.parent
    for member in members:
        words = f"{member.relative_to(root).as_posix()}\0{member.stat().st_size}\0"
        digest.update(words.encode("utf-8", "surrogateescape"))  # a name may be any bytes
        feed(digest, member)
    return digest.hexdigest()


def stand_in(path: Path, head: bytes | None = None) -> str:
    """Return what lies in the place of a file, in words that follow its name; empty for anything else.

    A checkout without Git LFS leaves pointers, a browser saves a page. ``head`` is the file's beginning
    where it is known already.
    """
    if head is None:
        try:
            with path.open("rb") as stream:
                head = stream.read(64)
        except OSError:
            return ""
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a Git LFS pointer, not the file it points to; run 'git lfs pull' (GitHub: actions/checkout with lfs:"
            " true) or download it"
        )
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":  # after a byte order mark
        return "is a web page; download the file itself"
    return ""


def feed(digest: Any, path: Path) -> None:
    """Add a file's bytes to ``digest`` without holding them all in memory."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)


def is_address(path: str | Path) -> bool:
    """Return whether a path that does not exist is an address, or data in text; ``Path`` joins its slashes."""
    return ADDRESS.match(str(path)) is not None and not os.path.exists(path)


def check_output_folder(out_dir: Path) -> None:
    """Check that a folder is there or can be made, and written to, as far as it is seen without trying.

    Raises:
        UsageError: a file is in its way, or the folder that is there may not be written to.
    """
    try:
        found = next((path for path in (out_dir, *out_dir.parents) if path.exists()), Path("."))
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise unwritable(out_dir, error.strerror) from None
    if not found.is_dir():
        raise unwritable(out_dir, os.strerror(errno.EEXIST if found == out_dir else errno.ENOTDIR))
    if not os.access(found, os.W_OK | os.X_OK):
        raise unwritable(out_dir, os.strerror(errno.EACCES))


def unwritable(out_dir: Path, reason: str | None) -> UsageError:
    """Return the error for a folder that cannot be written to."""
    return UsageError(f"cannot write to output folder '{out_dir}': {reason}; choose another --output")


STAGING = ".edgesam-export-"
FORSAKEN_S = 2 * 24 * 3600
"""Age at which a staging folder belongs to nobody: no export takes a day."""


def reason_of(error: OSError) -> str:
    """Return why a file could not be written, in the system's words; of a tree that was copied, for its first file."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        text = str(error.args[0][0][-1])
        return re.sub(r"^\[Errno \d+\] ", "", text).partition(": '")[0]
    return error.strerror or first_line(error)


def remove_forsaken(out_dir: Path) -> None:
    """Remove the old staging folders of processes that were killed; another process may be quicker."""
    for left in out_dir.glob(f"{STAGING}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > FORSAKEN_S:
                shutil.rmtree(left)


@contextmanager
def staging_folder(out_dir: Path) -> Iterator[Path]:
    """Yield a folder inside ``out_dir``; on success its contents move to ``out_dir``, on failure it is removed.

    A package that is at the final path already is replaced only then.

    Raises:
        UsageError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        remove_forsaken(out_dir)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=out_dir))
    except OSError as error:
        raise unwritable(out_dir, error.strerror) from None
    try:
        yield staging
        move_all(staging, out_dir)
    except OSError as error:
        raise UsageError(
            f"cannot write to output folder '{out_dir}': {reason_of(error)}; nothing was changed"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def move_all(staging: Path, out_dir: Path) -> None:
    """Move everything in ``staging`` to ``out_dir``.

    A file is removed while its data changes, so that it is never read with the weights of another.
    """
    items = sorted(staging.iterdir(), key=lambda item: (item.suffix != DATA_SUFFIX, item.name))
    for item in items:
        data = data_beside(out_dir / item.name)
        if data.exists() or data_beside(item).exists():
            (out_dir / item.name).unlink(missing_ok=True)
            data.unlink(missing_ok=True)
    for item in items:
        move_over(item, out_dir / item.name)


def move_over(source: Path, final: Path) -> None:
    """Rename ``source`` to ``final``, replacing a file or folder of that name."""
    if final.is_dir() and not final.is_symlink():
        old = source.parent / f"{final.name}.replaced"
        os.replace(final, old)
        try:
            os.replace(source, final)
        except OSError:
            os.replace(old, final)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(source, final)


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; the file gets its name on success and is removed otherwise.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=STAGING, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~current_umask())  # a temporary file is private; a report is read by others
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}; choose another path") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its final path, then rename; raises as ``write_beside`` does."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def current_umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def json_text(document: Any) -> str:
    """Return JSON with sorted keys, no bare NaN and a newline at the end, as in every file of this package."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Write a document as ``json_text``, atomically."""
    write_text(path, json_text(document))


def read_json(path: Path) -> Any:
    """Return the document in a JSON file, in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        UsageError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())  # of bytes it finds the encoding: PowerShell writes the others
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"'{path}' {stand_in(path) or f'is not JSON: {error}'}") from None
    except RecursionError:
        raise UsageError(f"'{path}' is not JSON that can be read: it is nested too deep") from None

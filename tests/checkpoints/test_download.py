"""Downloads against a local server that misbehaves on request."""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgesam_export import resources as resources_module
from edgesam_export.checkpoints import download as download_module
from edgesam_export.checkpoints import manifest as manifest_module
from edgesam_export.checkpoints.download import default_cache_dir, download
from edgesam_export.checkpoints.manifest import CheckpointFile
from edgesam_export.errors import CheckpointError, SchemaError

CONTENTS = bytes(range(251)) * 5000  # 1.26 MB: several pieces


class Server(ThreadingHTTPServer):
    """Serves ``contents``; the attributes say how badly."""

    contents = CONTENTS
    cut_after: list[int | None]
    """Bytes to send before hanging up, one entry a request, then None: all."""
    ignore_range = False
    declare_length = True
    wrong_range = False
    status: int | None = None
    redirect: str | None = None
    ranges: list[str | None]
    """Range header of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights/tiny.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        if server.redirect is not None:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if server.status is not None:
            self.send_error(server.status)
            return
        start = 0 if wanted is None or server.ignore_range else int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.contents):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if server.wrong_range else start
            self.send_header("Content-Range", f"bytes {first}-{len(server.contents) - 1}/{len(server.contents)}")
        if server.declare_length:
            self.send_header("Content-Length", str(len(server.contents) - start))
        self.end_headers()
        cut = server.cut_after.pop(0) if server.cut_after else None
        self.wfile.write(server.contents[start : None if cut is None else start + cut])

    def log_message(self, *parts: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.cut_after, server.ranges = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def described(url: str | None, **changes: object) -> CheckpointFile:
    known = {"bytes": len(CONTENTS), "sha256": hashlib.sha256(CONTENTS).hexdigest(), "name": "tiny.pth", **changes}
    return CheckpointFile(
        model="tiny", family="tiny", kind="checkpoint", home="the home", licence="L", evidence="test", url=url, **known
    )


def refused(file: CheckpointFile, folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        download(file, folder, timeout_s=5)
    assert not (folder / file.name).exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_arrives_whole_with_progress_and_only_once(server, tmp_path):
    seen: list[tuple[int, int, str]] = []
    path = download(described(server.url), tmp_path / "new" / "cache", progress=lambda *now: seen.append(now))
    assert path == tmp_path / "new" / "cache" / "tiny.pth" and path.read_bytes() == CONTENTS
    assert seen[-1] == (len(CONTENTS), len(CONTENTS), "tiny.pth") and len(seen) > 1
    assert [done for done, *_ in seen] == sorted({done for done, *_ in seen})
    assert list(path.parent.iterdir()) == [path]
    assert download(described(server.url), path.parent) == path
    assert server.ranges == [None]


def test_without_size_and_checksum_the_servers_length_is_believed(server, tmp_path):
    path = download(described(server.url, bytes=None, sha256=None), tmp_path)
    assert path.read_bytes() == CONTENTS


def test_a_connection_cut_midway_is_resumed_in_the_same_call(server, tmp_path):
    server.cut_after = [300_000, 400_000]
    assert download(described(server.url), tmp_path).read_bytes() == CONTENTS
    assert server.ranges == [None, "bytes=300000-", "bytes=700000-"]


@pytest.mark.parametrize("known", [{}, {"bytes": None}], ids=["size known", "size unknown"])
def test_a_connection_cut_every_time_keeps_what_came_and_the_next_call_goes_on(server, tmp_path, known):
    file = described(server.url, **known)
    server.cut_after = [100_000] * download_module.ATTEMPTS
    assert "run again to resume" in refused(file, tmp_path)
    assert (tmp_path / "tiny.pth.part").read_bytes() == CONTENTS[: 100_000 * download_module.ATTEMPTS]
    assert download(file, tmp_path).read_bytes() == CONTENTS
    assert server.ranges[-1] == f"bytes={100_000 * download_module.ATTEMPTS}-"
    assert not (tmp_path / "tiny.pth.part").exists()


def test_an_interrupt_keeps_what_came(server, tmp_path):
    def interrupt(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(described(server.url), tmp_path, progress=interrupt)
    part = tmp_path / "tiny.pth.part"
    assert not (tmp_path / "tiny.pth").exists()
    kept = part.stat().st_size
    assert kept and part.read_bytes() == CONTENTS[:kept]
    assert download(described(server.url), tmp_path).read_bytes() == CONTENTS
    assert server.ranges == [None, f"bytes={kept}-"]


def test_a_server_that_ignores_ranges_makes_it_start_again(server, tmp_path):
    (tmp_path / "tiny.pth.part").write_bytes(b"x" * 1000)
    server.ignore_range = True
    assert download(described(server.url), tmp_path).read_bytes() == CONTENTS


def test_a_server_that_sends_another_range_makes_it_start_again(server, tmp_path):
    (tmp_path / "tiny.pth.part").write_bytes(CONTENTS[:1000])
    server.wrong_range = True
    assert download(described(server.url), tmp_path).read_bytes() == CONTENTS
    assert server.ranges == ["bytes=1000-", None]


def test_a_partial_file_longer_than_the_servers_makes_it_start_again(server, tmp_path):
    (tmp_path / "tiny.pth.part").write_bytes(CONTENTS + b"x")
    assert download(described(server.url, bytes=None), tmp_path).read_bytes() == CONTENTS
    assert server.ranges == [f"bytes={len(CONTENTS) + 1}-", None]  # the first is answered with 416


def test_a_complete_partial_file_is_verified_without_asking(server, tmp_path):
    (tmp_path / "tiny.pth.part").write_bytes(CONTENTS)
    assert download(described(server.url), tmp_path).read_bytes() == CONTENTS
    assert server.ranges == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.contents = CONTENTS[:-1] + b"?"
    message = refused(described(server.url), tmp_path)
    assert hashlib.sha256(server.contents).hexdigest() in message and described(None).sha256 in message
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_file_with_a_wrong_beginning_leaves_nothing(server, tmp_path):
    (tmp_path / "tiny.pth.part").write_bytes(b"x" * 1000)
    assert "sha256" in refused(described(server.url), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("declare_length", [True, False])
def test_more_bytes_than_declared_are_never_kept(server, tmp_path, monkeypatch, declare_length):
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 100)
    written: list[int] = []
    store = download_module.store
    monkeypatch.setattr(
        download_module, "store", lambda part, chunk, at: (written.append(at + len(chunk)), store(part, chunk, at))
    )
    server.declare_length = declare_length
    assert "more than the 1000" in refused(described(server.url, bytes=1000), tmp_path)
    assert max(written, default=0) <= 1000
    assert not (declare_length and written)  # refused by its header alone
    assert list(tmp_path.iterdir()) == []


def test_an_undeclared_size_has_a_cap(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_UNDECLARED_BYTES", 500_000)
    server.declare_length = False
    assert "more than the 500000 bytes" in refused(described(server.url, bytes=None), tmp_path)


def test_fewer_bytes_than_declared_are_refused(server, tmp_path):
    message = refused(described(server.url, bytes=len(CONTENTS) + 1, sha256=None), tmp_path)
    assert f"has {len(CONTENTS)} bytes, expected {len(CONTENTS) + 1}" in message


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_answer_that_is_an_error_names_it_and_where_to_put_the_file(server, tmp_path, status):
    server.status = status
    message = refused(described(server.url), tmp_path)
    assert f"HTTP {status}" in message and server.url in message
    assert f"put it at {tmp_path / 'tiny.pth'}" in message
    assert len(server.ranges) == 1


def test_offline_names_the_file_the_url_and_where_to_put_it(server, tmp_path):
    url = "http://127.0.0.1:9/tiny.pth"  # the discard port: nobody listens
    message = refused(described(url), tmp_path)
    assert "cannot download tiny.pth" in message and url in message
    assert f"put it at {tmp_path / 'tiny.pth'}" in message
    assert "resume" not in message


def test_a_file_put_into_the_cache_by_hand_is_used_offline(tmp_path):
    (tmp_path / "tiny.pth").write_bytes(CONTENTS)
    assert download(described("http://127.0.0.1:9/tiny.pth"), tmp_path) == tmp_path / "tiny.pth"


@pytest.mark.parametrize(("contents", "what"), [(b"short", "5 bytes"), (b"?" * len(CONTENTS), "sha256")])
def test_a_damaged_file_in_the_cache_is_refused_and_kept(tmp_path, contents, what):
    (tmp_path / "tiny.pth").write_bytes(contents)
    with pytest.raises(CheckpointError, match=rf"tiny\.pth has {what}.*delete it"):
        download(described("http://127.0.0.1:9/tiny.pth"), tmp_path)
    assert (tmp_path / "tiny.pth").read_bytes() == contents


def test_a_file_without_a_known_url_says_where_to_get_it_and_where_to_put_it(tmp_path):
    message = refused(described(None), tmp_path)
    assert "the home" in message and str(tmp_path / "tiny.pth") in message


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://example.org/x", "file:///etc/hostname", "http://127.0.0.1.example.org/x"]
)
def test_anything_but_https_is_refused_also_after_a_redirect(server, tmp_path, url):
    assert "only https" in refused(described(url), tmp_path)
    server.redirect = url
    assert "allowed" in refused(described(server.url), tmp_path)


def test_a_full_disk_is_one_line_about_the_disk(server, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module, "open", full, raising=False)
    message = refused(described(server.url), tmp_path)
    assert "No space left on device" in message and "cannot write" in message and "free space" in message


def test_a_cache_folder_that_cannot_be_made_is_one_line(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "another cache folder" in refused(described(server.url), tmp_path / "file" / "cache")


def test_the_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_cache_dir() == tmp_path / ".cache" / "edgesam-export"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == tmp_path / ".cache" / "edgesam-export"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "edgesam-export"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_cache_dir() == tmp_path / "Library" / "Caches" / "edgesam-export"


@pytest.mark.parametrize("changes", [{"name": "../x.pth"}, {"name": ".x"}, {"sha256": "ABC"}, {"name": ""}])
def test_a_manifest_row_that_could_write_elsewhere_or_check_nothing_is_refused(changes):
    with pytest.raises(SchemaError):
        described(None, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"bytes": None}, {"sha256": None}, {"url": "https://example.org/tiny.pth"}, {"bundled": "yes"}, {"bundled": 1}],
    ids=str,
)
def test_a_bundled_row_without_its_checksum_or_with_a_url_is_refused(changes):
    with pytest.raises(SchemaError, match=r"tiny\.pth"):
        described(**{"url": None, "bundled": True, **changes})


@pytest.fixture
def installed(monkeypatch, tmp_path) -> Path:
    """The folder ``models`` of an installed package; anything that looks for a network fails the test."""

    def no_network(*_: object) -> None:
        raise AssertionError("a bundled file needs no network")

    folder = tmp_path / "site" / "edgesam_export" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setattr(resources_module, "__file__", str(folder.parent / "resources" / "__init__.py"))
    monkeypatch.setattr(download_module, "fetch", no_network)
    return folder


def test_a_bundled_file_is_used_where_it_lies_whatever_the_cache_holds(installed, tmp_path):
    (installed / "tiny.pth").write_bytes(CONTENTS)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(b"another")
    assert download(described(None, bundled=True), cache) == installed / "tiny.pth"
    assert [path.name for path in cache.iterdir()] == ["tiny.pth"]
    assert download(described(None, bundled=True), tmp_path / "no such folder") == installed / "tiny.pth"
    assert not (tmp_path / "no such folder").exists()


@pytest.mark.parametrize("contents", [CONTENTS[:-1] + b"?", CONTENTS[:-1], None], ids=["changed", "cut", "missing"])
def test_a_bundled_file_that_is_not_the_manifests_says_to_install_again(installed, tmp_path, contents):
    if contents is not None:
        (installed / "tiny.pth").write_bytes(contents)
    message = refused(described(None, bundled=True), tmp_path)
    assert "tiny.pth" in message and "install the package again, or pass your own file as a checkpoint" in message
    assert contents is None or (installed / "tiny.pth").read_bytes() == contents


def test_a_damaged_manifest_is_a_schema_error(monkeypatch, tmp_path):
    path = tmp_path / "manifest.toml"
    monkeypatch.setattr(manifest_module, "manifest_path", lambda: path)
    for text in ("[[file", "x = 1", '[[file]]\nname = "a"\n'):
        path.write_text(text)
        with pytest.raises(SchemaError):
            manifest_module.manifest.__wrapped__()


def test_the_manifest_is_found_in_an_installed_package_first(monkeypatch, tmp_path):
    package = tmp_path / "site" / "edgesam_export"
    for folder in (package, package.parent):
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "manifest.toml").write_text("")
    monkeypatch.setattr(resources_module, "__file__", str(package / "resources" / "__init__.py"))
    assert resources_module.manifest_path() == package / "models" / "manifest.toml"
    (package / "models" / "manifest.toml").unlink()
    assert resources_module.manifest_path() == package.parent / "models" / "manifest.toml"
    (package.parent / "models" / "manifest.toml").unlink()
    with pytest.raises(SchemaError, match="install the package again"):
        resources_module.manifest_path()

"""The server itself: a socket of our own, and an end that leaves nothing running."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from edgesam_export.errors import RunnerUnavailableError, UsageError
from edgesam_export.serve.backends import Backend
from edgesam_export.serve.sessions import Limits

__all__ = ["bound_socket", "require_extra", "serve", "url_of"]

CONNECTIONS = 64
"""Connections at once; further ones are answered with 503."""
KEEP_ALIVE_S = 30
GRACE_S = 2
"""Seconds that open answers have when the server ends."""


def require_extra() -> None:
    """Raise RunnerUnavailableError unless the extra ``serve`` is installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise RunnerUnavailableError(f"{' and '.join(missing)} not installed; pip install 'edgesam-export[serve]'")


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on an address; port 0 takes a free one.

    Raises: UsageError when the port is in use or may not be used, or the host is none of this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: {getattr(error, 'strerror', None) or error}; give an address") from None
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # A port whose last server ended a moment ago can be used again; one that is in use cannot.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(CONNECTIONS)
        except OSError as error:
            raise UsageError(address_error(host, port, error)) from None
        yield listener


def address_error(host: str, port: int, error: OSError) -> str:
    """Return what is wrong with an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use, perhaps by another serve; choose one with --port, 0 takes a free one"
    if error.errno == errno.EACCES:
        return f"port {port} is for the system's own services; choose one with --port, 1024 or above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine; 127.0.0.1 is for this machine alone, 0.0.0.0 for all"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}; choose another with --port"


def url_of(listener: socket.socket) -> str:
    """Return the address of the page, as a browser on this machine opens it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(
    listener: socket.socket,
    host: str,
    backends: Sequence[Backend],
    problem: Callable[[str], None],
    limits: Limits | None = None,
) -> None:
    """Answer requests until the process is interrupted; returns then, also when an answer was being computed."""
    import uvicorn

    from edgesam_export.serve.app import PageServer, make_app

    server = PageServer(backends, limits or Limits(), problem)
    config = uvicorn.Config(
        make_app(server, host),
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        server.stop()

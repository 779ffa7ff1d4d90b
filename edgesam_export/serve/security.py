"""Who may ask: requests of our own page alone, under names of this machine, and headers that lock the page in.

A browser runs pages of strangers too. They can send requests to this machine, so a request that changes something must
come from our origin; and they can have their own domain name resolve to this machine (DNS rebinding), so the name in
``Host`` must be one of ours.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["HEADERS", "Guard", "allowed_names", "is_loopback"]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Of every response."""
READING = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_names(host: str) -> frozenset[str]:
    """Return the names under which a server on ``host`` may be asked; addresses beyond the loopback are checked alone.

    A page of a stranger has a domain name. An address in ``Host`` is one that the browser connected to.
    """
    names = {"localhost", host.lower()}
    if not is_loopback(host):  # as the network knows this machine: its name, alone and by mDNS
        own = socket.gethostname().lower()
        first = own.partition(".")[0]
        names |= {own, first, f"{first}.local"}
    return frozenset(names)


def name_in(host_header: str) -> str:
    """Return the name or address in a ``Host`` header, without port and brackets, in small letters."""
    name, _, port = host_header.rpartition(":")
    bare = name if name and port.isdigit() else host_header
    return bare.strip("[]").removesuffix(".").lower()


class Guard:
    """ASGI middleware: refuses requests of strangers, and adds ``HEADERS`` to every response."""

    def __init__(self, app: Any, names: Collection[str], *, any_address: bool) -> None:
        """``any_address``: the server is reached from other machines, by whatever address they know it."""
        self.app, self.names, self.any_address = app, names, any_address

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_locked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reason = self.refusal(scope["method"], headers)
        answer = self.app if reason is None else JSONResponse({"error": reason, "code": "refused"}, 403)
        await answer(scope, receive, send_locked)

    def refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Return why a request is not answered, None when it is."""
        host = headers.get("host", "")
        if not self.is_ours(name_in(host)):
            return f"this server is not called {name_in(host)[:80]!r}; open the address that it printed"
        if method in READING:
            return None
        # A browser sends Origin with every POST; a program that is no browser need not.
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return "the request comes from another page; open the address that the server printed"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "the request comes from another site; open the address that the server printed"
        return None

    def is_ours(self, name: str) -> bool:
        """Return whether a name or address is one of this server's."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return address.is_loopback or name in self.names or self.any_address

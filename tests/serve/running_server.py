"""A running server, and a client that sends whatever it is told to; not a test module."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from edgesam_export.serve.app import PageServer, make_app
from edgesam_export.serve.backends import Backend
from edgesam_export.serve.server import bound_socket
from edgesam_export.serve.sessions import Limits

PATIENCE_S = 120
"""A machine may be busy; every wait of these tests ends with what is waited for."""


@dataclass
class Client:
    """Requests to a running server."""

    host: str
    port: int
    server: PageServer
    problems: list[str]
    """Errors that no user caused."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; of ``headers`` None leaves one out that would be sent."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="host" in named, skip_accept_encoding=True)
        for name, value in named.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None and "content-length" not in named:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        connection.close()
        return answer

    def post(self, path: str, document: Any, **headers: str | None) -> tuple[int, Any]:
        """Status and what came: the JSON of an answer, of a stream its last line, of a file its bytes."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, answered, content = self.ask("POST", path, body, content_type="application/json", **headers)
        if answered["content-type"] == "application/x-ndjson":
            return status, json.loads(content.splitlines()[-1])
        return status, json.loads(content) if answered["content-type"] == "application/json" else content

    def upload(self, content: bytes | Image.Image, format: str = "PNG", **options: Any) -> tuple[int, Any]:
        """Status and answer to an image, or to bytes that claim to be one."""
        if isinstance(content, Image.Image):
            buffer = BytesIO()
            content.save(buffer, format=format, **options)
            content = buffer.getvalue()
        status, _, answer = self.ask("POST", "/api/images", content, content_type="application/octet-stream")
        return status, json.loads(answer)

    def image(self, width: int = 60, height: int = 40) -> str:
        """Token of an uploaded image."""
        status, answer = self.upload(picture(width, height))
        assert status == 201, answer
        return str(answer["image"])


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """An image of noise."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


@contextmanager
def running(backends: Sequence[Backend], limits: Limits | None = None, host: str = "127.0.0.1") -> Iterator[Client]:
    """A server in a thread, as ``serve`` configures it but for the signals of the process."""
    problems: list[str] = []
    with bound_socket("127.0.0.1", 0) as listener:
        page = PageServer(backends, limits or Limits(), problems.append)
        config = uvicorn.Config(
            make_app(page, host), log_config=None, log_level="critical", lifespan="off", ws="none", http="h11"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Client("127.0.0.1", listener.getsockname()[1], page, problems)
        finally:
            server.should_exit = True
            thread.join()
            page.stop()

"""The server's answers: the page from a fixed table, images in, masks out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgesam_export.errors import EdgeSAMExportError, collected_warnings
from edgesam_export.imaging.reading import MAX_PIXELS
from edgesam_export.resources import SAMPLES
from edgesam_export.serve.backends import Backend
from edgesam_export.serve.parsing import (
    click_of,
    config_of,
    document_of,
    image_of,
    integer_of,
    preview_of,
    text_of,
)
from edgesam_export.serve.predictions import DOWNLOADS, Answer, Click, Predictions, difference, everything_overlay
from edgesam_export.serve.security import Guard, allowed_names, is_loopback
from edgesam_export.serve.sessions import Limits, Session, Sessions
from edgesam_export.serve.streaming import LINES, error_entry, lines
from edgesam_export.serve.worker import Event, Superseded, Worker

__all__ = ["PageServer", "make_app"]

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}
GONE = "the image is kept no longer; it is sent again"
Listener = Callable[[Event], None]


class Refused(Exception):
    """A request that is not answered: status code, what is wrong, and a word for the page."""

    def __init__(self, status: int, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class StaticFile:
    """A file of the page, in memory."""

    content: bytes
    type: str


def static_files() -> dict[str, StaticFile]:
    """Return every file that a request can name, by its path; no other path is looked at."""
    table = {f"/{path.name}": path for path in FOLDER.iterdir() if path.suffix in TYPES}
    table |= {f"/samples/{path.name}": path for path in SAMPLES.iterdir() if path.suffix in TYPES}
    table["/"] = table.pop("/page.html")
    return {name: StaticFile(path.read_bytes(), TYPES[path.suffix]) for name, path in table.items()}


class PageServer:
    """The endpoints of one server. ``problem`` gets a line for errors that no user caused."""

    def __init__(self, backends: Sequence[Backend], limits: Limits, problem: Callable[[str], None]) -> None:
        self.backends = {backend.id: backend for backend in backends}
        self.limits, self.problem = limits, problem
        self.sessions = Sessions(limits)
        self.predictions = Predictions(limits)
        self.workers = {name: Worker(name) for name in {backend.model for backend in backends}}
        self.files = static_files()
        self.receiving = 0
        self.decoding = asyncio.Lock()

    # ------------------------------------------------------------------------------------------------- the page

    async def file(self, request: Request) -> Response:
        """Answer with a file of the table."""
        found = self.files.get(request.scope["path"])
        if found is None:
            raise Refused(404, "there is nothing at this address")
        return Response(found.content, media_type=found.type)

    async def setup(self, request: Request) -> Response:
        """Answer with what there is to choose from."""
        models: dict[str, dict[str, Any]] = {}
        for backend in self.backends.values():
            entry = models.setdefault(backend.model, {**facts(backend), "name": backend.model, "backends": []})
            entry["backends"].append({"id": backend.id, "label": backend.label})
        return JSONResponse(
            {
                "version": version("edgesam-export"),
                "models": list(models.values()),
                "samples": [name for name in self.files if name.startswith("/samples/")],
                "limits": {
                    "upload_bytes": self.limits.upload_bytes,
                    "pixels": MAX_PIXELS,
                    "points": self.limits.points,
                    "grid": self.limits.grid,
                },
            }
        )

    # -------------------------------------------------------------------------------------------------- images

    async def upload(self, request: Request) -> Response:
        """Take an image; answer with its token, its size and what was assumed."""
        require_type(request, "application/octet-stream")
        if self.receiving >= self.limits.uploads:
            raise Refused(503, f"{self.receiving} images are being received; try again in a moment", "busy")
        self.receiving += 1
        try:
            content = await asyncio.wait_for(self.body(request, self.limits.upload_bytes), self.limits.upload_s)
            async with self.decoding:  # one at a time: decoded, an image may take a gigabyte
                session, warnings = await asyncio.to_thread(self.open, content)
        except asyncio.TimeoutError:
            raise Refused(408, f"the image did not arrive within {self.limits.upload_s:g} seconds") from None
        finally:
            self.receiving -= 1
        height, width = session.size
        document = {"image": session.token, "width": width, "height": height, "warnings": warnings}
        return JSONResponse(document, 201)

    def open(self, content: bytes) -> tuple[Session, list[str]]:
        """Return a session for an uploaded file, and the warnings of reading it."""
        with collected_warnings(silent=True) as warnings:
            pixels = image_of(content)
        return self.sessions.add(pixels, preview_of(pixels)), list(warnings)

    async def preview(self, request: Request) -> Response:
        """Answer with an image as it was understood."""
        return Response(self.session(request.path_params["token"]).preview, media_type="image/jpeg")

    async def body(self, request: Request, limit: int) -> bytes:
        """Return the body of a request, read no further than to its limit."""
        declared = request.headers.get("content-length", "0")
        received = bytearray()
        if not declared.isdigit() or int(declared) <= limit:
            async for part in request.stream():
                received += part
                if len(received) > limit:
                    break
            else:
                return bytes(received)
        raise Refused(413, f"the request is larger than {limit / (1 << 20):g} MiB; scale the image down")

    # ------------------------------------------------------------------------------------------------- answers

    async def encode(self, request: Request) -> Response:
        """Stream the encoding of an image with a backend."""
        _, session, backend = await self.opened(request)

        async def compute(listener: Listener) -> dict[str, Any]:
            runner, encoded = await self.run(session, backend, self.predictions.encoded, listener=listener)
            return {
                "backend": backend.id,
                "encode_ms": encoded.encode_ms,
                "slots": runner.slots,
                "candidates": len(runner.candidates),
            }

        return self.stream(compute)

    async def predict(self, request: Request) -> Response:
        """Stream the answer of a backend to a prompt, and of a second one, ``against``, with what differs."""
        document, session, backend = await self.opened(request)
        click = click_of(document, self.limits)
        chosen = [backend]
        if document.get("against") is not None:
            chosen.append(self.backend(document, "against"))

        async def compute(listener: Listener) -> dict[str, Any]:
            answers: list[Answer] = []
            for number, one in enumerate(chosen):
                run = self.run(session, one, self.predictions.click, click, listener=listener, key=f"click {number}")
                answers.append(await run)
            compared = difference(*answers) if len(answers) > 1 else None
            return {"answers": [answer.document() for answer in answers], "difference": compared}

        return self.stream(compute)

    async def everything(self, request: Request) -> Response:
        """Stream all masks of an image."""
        document, session, backend = await self.opened(request)
        config = config_of(document, self.limits)

        async def compute(listener: Listener) -> dict[str, Any]:
            work = self.predictions.everything
            run = self.run(session, backend, work, config, listener=listener, key="everything", yields=True)
            result: dict[str, Any] = await run
            return result

        return self.stream(compute)

    async def download(self, request: Request) -> Response:
        """Answer with a file of a prompt's mask, or of everything mode's overlay, at the image's own size."""
        document, session, backend = await self.opened(request)
        kind = text_of(document, "kind")
        if kind == "everything":
            return Response(await asyncio.to_thread(everything_overlay, session), media_type="image/png")
        if kind not in DOWNLOADS:
            raise Refused(400, f"'kind' is {kind[:40]!r}; choose one of: {', '.join([*DOWNLOADS, 'everything'])}")
        click = click_of(document, self.limits)
        candidate = integer_of(document, "candidate", 0, 1 << 10)

        def work(session: Session, backend: Backend, report: Callable[..., None]) -> bytes:
            return self.predictions.download(kind, session, backend, click, candidate, report)

        content = await self.run(session, backend, work, key=f"download {kind}")
        return Response(content, media_type=DOWNLOADS[kind])

    async def run(
        self,
        session: Session,
        backend: Backend,
        work: Callable[..., Any],
        *arguments: Click | Any,
        listener: Listener = lambda event: None,
        key: str = "encode",
        yields: bool = False,
    ) -> Any:
        """Return what a method of ``Predictions`` computes in the thread of the backend's model."""
        worker = self.workers[backend.model]
        result = await worker.run(
            (session.token, key),
            lambda job: work(session, backend, *arguments, job.report),
            listener=listener,
            yields=yields,
        )
        self.sessions.trim()  # the embedding counts too
        return result

    def stream(self, compute: Callable[[Listener], Awaitable[dict[str, Any]]]) -> Response:
        """Return a response that streams the steps and the result of a computation."""
        return StreamingResponse(lines(compute, self.problem), media_type=LINES)

    # --------------------------------------------------------------------------------------- what requests name

    async def opened(self, request: Request) -> tuple[dict[str, Any], Session, Backend]:
        """Return the document of a request, and the session and the backend that it names."""
        require_type(request, "application/json")
        document = document_of(await self.body(request, self.limits.request_bytes))
        return document, self.session(text_of(document, "image")), self.backend(document, "backend")

    def session(self, token: str) -> Session:
        """Return a session by its token."""
        session = self.sessions.find(token)
        if session is None:
            raise Refused(410, GONE, "gone")
        return session

    def backend(self, document: Mapping[str, Any], name: str) -> Backend:
        """Return the backend that a document names."""
        chosen = text_of(document, name)
        if chosen not in self.backends:
            raise Refused(400, f"'{name}' is {chosen[:80]!r}; choose one of: {', '.join(self.backends)}")
        return self.backends[chosen]

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers.values():
            worker.stop()


def facts(backend: Backend) -> dict[str, Any]:
    """Return what the page says of a model."""
    info = backend.info
    return {"trained_prompts": list(info.trained_prompts), "image_domain": info.image_domain}


def require_type(request: Request, expected: str) -> None:
    """Refuse a body of another type; a page of a stranger cannot send ours without asking first (CORS)."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != expected:
        raise Refused(415, f"content-type is {found[:40]!r}; send {expected}")


def error_handlers(problem: Callable[[str], None]) -> dict[Any, Any]:
    """Return what answers to each kind of exception."""

    def answering(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
        """Return a handler that names an error, with a status."""

        async def answer(request: Request, error: Exception) -> Response:
            return JSONResponse(error_entry(error, problem), status)

        return answer

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return JSONResponse({"error": str(error), "code": error.code}, error.status)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail, "code": "refused"}, error.status_code)

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    return {
        Refused: refused,
        HTTPException: unknown,
        ClientDisconnect: left,
        EdgeSAMExportError: answering(400),
        Superseded: answering(409),
        Exception: answering(500),
    }


def make_app(server: PageServer, host: str) -> Any:
    """Return the ASGI application of a server on ``host``."""
    routes = [
        Route("/api/setup", server.setup),
        Route("/api/images", server.upload, methods=["POST"]),
        Route("/api/images/{token}", server.preview),
        Route("/api/encode", server.encode, methods=["POST"]),
        Route("/api/predict", server.predict, methods=["POST"]),
        Route("/api/everything", server.everything, methods=["POST"]),
        Route("/api/download", server.download, methods=["POST"]),
        Route("/{path:path}", server.file),
    ]
    app = Starlette(routes=routes, exception_handlers=error_handlers(server.problem))
    app.router.redirect_slashes = False
    return Guard(app, allowed_names(host), any_address=not is_loopback(host))

"""Answers as lines of JSON: what is being done, again and again, and at the end the result or an error."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from edgesam_export.errors import EdgeSAMExportError, first_line
from edgesam_export.serve.worker import Event, Superseded

__all__ = ["LINES", "error_entry", "line_of", "lines"]

LINES = "application/x-ndjson"
BEAT_S = 0.2
"""Seconds after which the latest step is sent again: the bar moves, and a client that left is noticed."""


async def lines(
    compute: Callable[[Callable[[Event], None]], Awaitable[dict[str, Any]]], problem: Callable[[str], None]
) -> AsyncIterator[bytes]:
    """Yield a line for each step that ``compute`` reports, and one with ``result``, or with ``error`` and ``code``.

    When the client leaves, the generator is closed, and what it waits for is cancelled. ``problem`` gets a line for
    errors that no user caused.
    """
    events: asyncio.Queue[Event] = asyncio.Queue()
    task = asyncio.ensure_future(compute(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait({}))
    step: Event = {"step": "waiting"}
    began = time.perf_counter()
    try:
        while not task.done():
            with suppress(asyncio.TimeoutError):
                if event := await asyncio.wait_for(events.get(), BEAT_S):
                    began = began if event.get("step") == step.get("step") else time.perf_counter()
                    step = event
            if not task.done():
                yield line_of({"progress": {**step, "elapsed_ms": (time.perf_counter() - began) * 1000}})
        yield line_of(outcome(task, problem))
    finally:
        task.cancel()
        with suppress(BaseException):
            task.exception()  # seen, if the client left before it was sent


def outcome(task: asyncio.Future[dict[str, Any]], problem: Callable[[str], None]) -> dict[str, Any]:
    """Return the last line of an answer."""
    if task.cancelled():
        return {"error": "the server is ending", "code": "stale"}
    error = task.exception()
    return {"result": task.result()} if error is None else error_entry(error, problem)


def error_entry(error: BaseException, problem: Callable[[str], None]) -> dict[str, Any]:
    """Return what a client is told of an error."""
    if isinstance(error, Superseded):
        return {"error": "a later request took its place", "code": "stale"}
    if isinstance(error, EdgeSAMExportError):
        return {"error": " ".join(str(error).split()), "code": "refused"}
    line = f"unexpected {type(error).__name__}: {first_line(error)}"
    problem(line)
    return {"error": line, "code": "failed"}


def line_of(document: dict[str, Any]) -> bytes:
    """Return a document as one line of JSON."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode() + b"\n"

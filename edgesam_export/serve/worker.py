"""A thread that computes for a model: one thing at a time, off the event loop, and only what somebody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["Interrupted", "Job", "Superseded", "Worker"]

T = TypeVar("T")
Event = dict[str, Any]


class Superseded(Exception):
    """A later job of the same key came before this one was begun."""


class Interrupted(Exception):
    """Nobody waits for the job any longer; ends it from inside."""


class Job:
    """Something to compute. Its function gets the job, reports steps to it, and ends early when nobody waits."""

    def __init__(
        self, worker: Worker, function: Callable[[Job], Any], listener: Callable[[Event], None], *, yields: bool
    ) -> None:
        self.worker, self.function, self.listener, self.yields = worker, function, listener, yields
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.abandoned = False

    def report(self, **event: Any) -> None:
        """Hand an event to whoever waits; lets short jobs go first where this one is long.

        Raises: Interrupted when nobody waits.
        """
        if self.abandoned:
            raise Interrupted
        self.call(self.listener, event)
        if self.yields:
            self.worker.run_short_jobs()

    def execute(self) -> None:
        """Compute, in the worker's thread; the result or the exception goes to the event loop."""
        try:
            result = self.function(self)
        except Interrupted:
            self.call(self.future.cancel)
        except Exception as error:
            self.call(self.settle, None, error)
        else:
            self.call(self.settle, result, None)

    def settle(self, result: Any, error: Exception | None) -> None:
        """Give the future its outcome, unless nobody waits for it."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a function called by the event loop; not if that has ended, as nobody waits then."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)


class Worker:
    """Runs jobs one after the other in a thread of its own; of waiting jobs of one key only the latest stays."""

    def __init__(self, name: str) -> None:
        self.waiting: dict[Any, Job] = {}
        self.changed = threading.Condition()
        self.stopping = False
        # A daemon: an encoder of minutes must not keep a server alive that was told to end.
        self.thread = threading.Thread(target=self.serve, name=f"worker of {name}", daemon=True)
        self.thread.start()

    async def run(
        self,
        key: Any,
        function: Callable[[Job], T],
        *,
        listener: Callable[[Event], None] = lambda event: None,
        yields: bool = False,
    ) -> T:
        """Return what the function computes; a waiting job of the same key ends with ``Superseded``.

        A cancelled call takes its job out of the queue, or ends it at its next report. ``yields``: the job is long, and
        lets others go first whenever it reports.
        """
        context = copy_context()
        job = Job(self, lambda job: context.run(function, job), listener, yields=yields)
        with self.changed:
            older = self.waiting.pop(key, None)
            self.waiting[key] = job
            self.changed.notify()
        if older is not None:
            older.settle(None, Superseded())
        try:
            result: T = await job.future
            return result
        finally:
            job.abandoned = True
            with self.changed:
                if self.waiting.get(key) is job:
                    del self.waiting[key]

    def serve(self) -> None:
        """Run jobs until the worker is stopped."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.stopping)
                if self.stopping:
                    return
            if (job := self.take(lambda job: True)) is not None:
                job.execute()

    def run_short_jobs(self) -> None:
        """Run what waits and is short, in the thread of the long job that calls this."""
        while (job := self.take(lambda job: not job.yields)) is not None:
            job.execute()

    def take(self, wanted: Callable[[Job], bool]) -> Job | None:
        """Take the first job of a kind out of the queue, None when there is none."""
        with self.changed:
            key = next((key for key, job in self.waiting.items() if wanted(job)), None)
            return None if key is None else self.waiting.pop(key)

    def stop(self) -> None:
        """End the thread after the job that it is in."""
        with self.changed:
            self.stopping = True
            for job in self.waiting.values():
                job.abandoned = True
            self.changed.notify()

"""A worker computes one thing at a time, and only what somebody still waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from edgesam_export.serve.worker import Job, Superseded, Worker

PATIENCE_S = 60


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.stop()
    worker.thread.join(PATIENCE_S)
    assert not worker.thread.is_alive()


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


class Gate:
    """A job that says when it began, and waits until it may end."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        self.began.set()
        assert self.open.wait(PATIENCE_S)
        return "gate"


def test_results_errors_and_events_reach_the_caller(worker):
    events: list[dict[str, Any]] = []

    def reporting(job: Job) -> int:
        job.report(step="one")
        return 7

    def failing(job: Job) -> None:
        raise ValueError("broken")

    async def work() -> None:
        assert await worker.run("a", reporting, listener=events.append) == 7
        with pytest.raises(ValueError, match="broken"):
            await worker.run("a", failing)
        assert await worker.run("a", reporting) == 7, "the thread goes on after an error"

    run(work)
    assert events == [{"step": "one"}]


def test_of_waiting_jobs_of_a_key_the_latest_is_computed(worker):
    computed: list[int] = []

    async def work() -> None:
        gate = Gate()
        first = asyncio.create_task(worker.run("gate", gate))
        await asyncio.to_thread(gate.began.wait)
        tasks = [asyncio.create_task(worker.run("a", lambda job, n=n: computed.append(n))) for n in range(5)]
        other = asyncio.create_task(worker.run("b", lambda job: computed.append(100)))
        await asyncio.sleep(0)
        gate.open.set()
        outcomes = await asyncio.gather(*tasks, other, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Superseded] * 4 + [type(None)] * 2
        assert await first == "gate", "what was begun is finished"

    run(work)
    assert computed == [4, 100]


def test_a_cancelled_call_takes_its_job_out_of_the_queue(worker):
    computed: list[str] = []

    async def work() -> None:
        gate = Gate()
        first = asyncio.create_task(worker.run("gate", gate))
        await asyncio.to_thread(gate.began.wait)
        task = asyncio.create_task(worker.run("a", lambda job: computed.append("a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert worker.waiting == {}
        gate.open.set()
        await first

    run(work)
    assert computed == []


def test_a_cancelled_call_ends_its_running_job_at_the_next_report(worker):
    ended = threading.Event()
    began = threading.Event()

    def endless(job: Job) -> None:
        try:
            while True:
                began.set()
                job.report(step="again")
        finally:
            ended.set()

    async def work() -> None:
        task = asyncio.create_task(worker.run("a", endless))
        await asyncio.to_thread(began.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await asyncio.to_thread(ended.wait, PATIENCE_S)
        assert await worker.run("b", lambda job: 1) == 1

    run(work)


def test_a_long_job_lets_short_ones_go_first(worker):
    order: list[str] = []
    began, queued = threading.Event(), threading.Event()

    def long(job: Job) -> None:
        began.set()
        assert queued.wait(PATIENCE_S)
        job.report(step="half")
        order.append("long")

    async def work() -> None:
        tasks = [asyncio.create_task(worker.run("long", long, yields=True))]
        await asyncio.to_thread(began.wait)
        tasks += [
            asyncio.create_task(worker.run("other long", lambda job: order.append("other long"), yields=True)),
            asyncio.create_task(worker.run("short", lambda job: order.append("short"))),
        ]
        await asyncio.sleep(0)
        queued.set()
        await asyncio.gather(*tasks)

    run(work)
    assert order == ["short", "long", "other long"]

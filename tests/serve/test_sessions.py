"""Kept images are bounded in number, memory and time."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.imaging.geometry import prepare
from edgesam_export.serve.sessions import Encoded, Limits, Session, Sessions
from edgesam_export.spec import ImageFrame


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(sessions: Sessions, side: int = 10) -> Session:
    return sessions.add(np.zeros((side, side, 3), np.uint8), b"preview")


def test_the_least_recently_used_image_goes_first(clock):
    sessions = Sessions(Limits(images=3), clock)
    first, second, third = (add(sessions) for _ in range(3))
    assert sessions.find(first.token) is first
    fourth = add(sessions)
    kept = [session for session in (first, second, third, fourth) if sessions.find(session.token)]
    assert kept == [first, third, fourth]
    for _ in range(100):
        add(sessions)
    assert len(sessions.kept) == 3


def test_memory_counts_pixels_previews_embeddings_and_the_latest_image_stays(clock):
    sessions = Sessions(Limits(memory_bytes=2_000), clock)
    first = add(sessions)
    assert first.bytes == 300 + 7
    second = add(sessions, side=20)
    assert list(sessions.kept) == [first.token, second.token]
    prepared = prepare(second.pixels, ImageFrame())
    second.encoded["a"] = Encoded(prepared=prepared, embedding={"map": np.zeros(100, np.float32)}, encode_ms=1.0)
    sessions.trim()
    assert second.bytes == 1200 + 7 + 400 and list(sessions.kept) == [first.token, second.token]
    second.encoded["b"] = second.encoded["a"]
    sessions.trim()
    assert list(sessions.kept) == [second.token], "307 and 2007 bytes are too many"
    third = add(sessions, side=50)
    assert list(sessions.kept) == [third.token], "too large alone, and still the one that is worked on"


def test_an_unused_image_goes_after_its_time(clock):
    sessions = Sessions(Limits(idle_s=60), clock)
    first, second = add(sessions), add(sessions)
    clock.now = 50
    assert sessions.find(first.token) is first
    clock.now = 70
    assert sessions.find(second.token) is None
    assert sessions.find(first.token) is first
    clock.now = 131
    sessions.trim()
    assert sessions.kept == {}


def test_tokens_cannot_be_guessed_or_counted(clock):
    sessions = Sessions(Limits(images=1000, memory_bytes=1 << 30), clock)
    tokens = {add(sessions, side=1).token for _ in range(200)}
    assert len(tokens) == 200 and min(map(len, tokens)) >= 22

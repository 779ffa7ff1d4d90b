"""Images that the page works on: bounded in number, memory and time; the least recently used goes first."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.predict.mask_generator import GeneratedMask
from edgesam_export.runners import Embedding

__all__ = ["Encoded", "Limits", "Session", "Sessions"]

TOKEN_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes and keeps."""

    images: int = 16
    """Images kept at once; each tab of a browser has one."""
    memory_bytes: int = 1 << 30
    """Memory of all kept images with their embeddings and masks; the latest image stays whatever it takes."""
    idle_s: float = 1800.0
    """Seconds after which an unused image goes."""
    upload_bytes: int = 100 << 20
    """Bytes of an image file."""
    uploads: int = 2
    """Files received at once; the next one is refused."""
    upload_s: float = 120.0
    """Seconds that a file may take to arrive."""
    request_bytes: int = 64 << 10
    """Bytes of any other request."""
    points: int = 64
    """Points of a prompt."""
    grid: int = 64
    """Points along each side in everything mode."""
    shown_pixels: int = 4_000_000
    """Pixels of the masks that a click is answered with; those of larger images are scaled, downloads are not."""
    runner_bytes: int = 1 << 30
    """Size of the files behind the backends that stay open; two stay whatever their size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """An image as one backend encoded it; ``prepared`` has its sizes alone, no pixels."""

    prepared: PreparedImage
    embedding: Embedding
    encode_ms: float


@dataclass(kw_only=True, eq=False)
class Session:
    """One image of one tab. Shapes: pixels uint8 (H, W, 3) RGB"""

    token: str
    """Names the session; nobody who was not told it can guess it."""
    pixels: np.ndarray
    preview: bytes
    """The image as JPEG, at most some megapixels."""
    used: float
    """When a request last named it, seconds."""
    encoded: dict[str, Encoded] = field(default_factory=dict)
    """By backend."""
    everything: tuple[GeneratedMask, ...] = ()
    """The latest result of everything mode."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        maps = sum(array.nbytes for one in list(self.encoded.values()) for array in one.embedding.values())
        runs = sum(mask.runs.starts.nbytes + mask.runs.ends.nbytes for mask in self.everything)
        return self.pixels.nbytes + len(self.preview) + maps + runs


class Sessions:
    """The sessions of a server, least recently used first."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self.kept: dict[str, Session] = {}
        self.lock = threading.Lock()

    def add(self, pixels: np.ndarray, preview: bytes) -> Session:
        """Return a new session; older ones go where it needs their room."""
        session = Session(token=secrets.token_urlsafe(TOKEN_BYTES), pixels=pixels, preview=preview, used=self.clock())
        with self.lock:
            self.kept[session.token] = session
        self.trim()
        return session

    def find(self, token: str) -> Session | None:
        """Return a session by its token, which counts as use of it; None when it is kept no longer."""
        self.trim()
        with self.lock:
            session = self.kept.pop(token, None)
            if session is not None:
                session.used = self.clock()
                self.kept[token] = session
            return session

    def trim(self) -> None:
        """Release sessions that are too old, or more than the limits allow."""
        with self.lock:
            oldest = self.clock() - self.limits.idle_s
            for token in [token for token, session in self.kept.items() if session.used < oldest]:
                del self.kept[token]
            total = sum(session.bytes for session in self.kept.values())
            while len(self.kept) > 1 and (len(self.kept) > self.limits.images or total > self.limits.memory_bytes):
                total -= self.kept.pop(next(iter(self.kept))).bytes

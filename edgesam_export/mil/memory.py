"""Memory of tensors: its layout, and what malloc does with what they free."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from functools import cache
from typing import Any

import torch

__all__ = ["CHUNK", "channels_last", "flat", "is_dense", "keep_freed_memory", "pieces"]

CHUNK = 1 << 20
"""Elements of a piece: several passes over it stay in the cache."""
MIN_TRANSPOSED = 64
"""Channels from which on a transpose in blocks is faster than torch's copy, which goes element by element."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEEPING = {TRIM_THRESHOLD: (2 << 30) - 1, MMAP_THRESHOLD: 1 << 30}
RELEASING = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20}
"""Where glibc's own adjustment of the two ends."""

RESERVED = 512 << 20
"""Bytes of the heap that are to be huge pages: addresses, not memory, until a value is written there."""
PAGE_BYTES = 4096
MADV_HUGEPAGE = 14
"""Of ``madvise`` on Linux."""

keepers: set[int] = set()
keepers_lock = threading.Lock()


def is_dense(value: torch.Tensor) -> bool:
    """Return whether the elements fill one gapless stretch of memory."""
    if value.is_contiguous() or (value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)):
        return True
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(value.stride(), value.shape) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def channels_last(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor, in channels-last memory if it has two spatial dimensions."""
    if value.ndim != 4 or value.is_contiguous(memory_format=torch.channels_last):
        return value
    batch, channels, height, width = value.shape
    if batch != 1 or channels < MIN_TRANSPOSED or not value.is_contiguous():
        return value.contiguous(memory_format=torch.channels_last)
    pixels = value.new_empty(height * width, channels).copy_(value.view(channels, height * width).t())
    return pixels.view(1, height, width, channels).permute(0, 3, 1, 2)


def flat(value: torch.Tensor) -> torch.Tensor:
    """Return a dense tensor's elements as a vector, in the order of memory."""
    return value.as_strided((value.numel(),), (1,))


def pieces(value: torch.Tensor, row: int = 1) -> tuple[torch.Tensor, ...]:
    """Return a dense tensor's memory as views of at most ``CHUNK`` elements: vectors, or matrices of whole rows."""
    if row > 1:
        return torch.split(flat(value).view(-1, row), max(1, CHUNK // row))
    return (flat(value),) if value.numel() <= CHUNK else torch.split(flat(value), CHUNK)


def keep_freed_memory(owner: object) -> None:
    """Have malloc keep what is freed until ``owner`` is collected, and give all of it back when the last owner is.

    Each value of a program is large enough that glibc returns its memory to the system when it is freed; the next value
    then takes a page fault for every 4 KiB, half the system time of an encoder's run. Elsewhere this does nothing.

    What malloc keeps is in huge pages where the system has them: the translation of addresses, which takes long on a
    virtual machine, costs an encoder's run 2 to 13 % of its time with small ones.
    """
    if glibc() is None:
        return
    with keepers_lock:
        keepers.add(id(owner))
        configure_malloc(KEEPING)
        reserve_huge_pages()
    weakref.finalize(owner, stop_keeping, id(owner)).atexit = False


def stop_keeping(owner_id: int) -> None:
    with keepers_lock:
        keepers.discard(owner_id)
        library = glibc()
        if not keepers and library is not None:
            configure_malloc(RELEASING)
            library.malloc_trim(0)


def configure_malloc(parameters: dict[int, int]) -> None:
    library = glibc()
    for name, value in parameters.items():
        library.mallopt(name, value)


def reserve_huge_pages() -> None:
    """Ask for huge pages at the end of the heap, which malloc is to use for the next values; a refusal does no harm."""
    library = glibc()
    address = library.malloc(RESERVED)
    if address:  # none where the process may not have so many addresses
        start = -(-address // PAGE_BYTES) * PAGE_BYTES
        library.madvise(start, RESERVED - PAGE_BYTES, MADV_HUGEPAGE)
        library.free(address)


@cache
def glibc() -> Any:
    """Return the C library of the process if it is glibc, None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library if hasattr(library, "gnu_get_libc_version") else None

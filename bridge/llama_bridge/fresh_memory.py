"""Memory for a copy of a KV cache."""

from __future__ import annotations

import mmap
from contextlib import suppress

__all__ = ["fresh_memory", "large_pages"]

_LARGE = 32 << 20
"""From here on the C library gives freed memory back at once, so that its pages are to be found anew each time."""
_PAGE = 2 << 20


def fresh_memory(size: int) -> memoryview:
    """Writable memory for a copy that is made again and again; freed with the last view of it."""
    return large_pages(size) if size >= _LARGE else memoryview(bytearray(size))


def large_pages(size: int) -> memoryview:
    """The same for a copy that is made once: in large pages, where there are any.

    To have the system find small ones, one by one, takes longer than to copy a cache into them.
    """
    if size < _PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)

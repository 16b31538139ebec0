"""Memory for a copy of a KV cache."""

from __future__ import annotations

import mmap
from contextlib import suppress

__all__ = ["LARGE", "fresh_memory"]

LARGE = 32 << 20
"""From here on the C library gives freed memory back at once, so that its pages are to be found anew each time."""


def fresh_memory(size: int) -> memoryview:
    """Writable memory; freed with the last view of it.

    What is large comes in large pages where there are any: to have the system find small ones, one by one, takes
    longer than to copy a cache into them.
    """
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)

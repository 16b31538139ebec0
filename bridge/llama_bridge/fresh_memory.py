"""Memory for a copy of a KV cache."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

__all__ = ["fresh_memory"]


def fresh_memory(size: int) -> memoryview:
    """Writable memory that is not filled with zeros first, as a bytearray is; freed with the last view of it.

    Private, and in large pages where there are any: to have the system find small ones, one by one, takes
    several times as long as to copy a cache into them.
    """
    if size == 0:
        return memoryview(bytearray())
    if os.name != "posix":
        return memoryview(mmap.mmap(-1, size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)

"""Memory for a copy of a KV cache, on its way to a file or from one."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from threading import Lock

__all__ = ["copy_memory"]

_PAGE = 2 << 20
_KEPT = 64 << 20
_lock = Lock()
_kept: mmap.mmap | None = None


def copy_memory(size: int) -> memoryview:
    """Writable memory of ``size`` bytes, with anything in it; free again with the last view of it.

    To have the system find and clear new pages takes longer than to copy a cache into them. So they are large
    ones, where there are any, and one block of up to 64 MiB is kept for the next copy.
    """
    global _kept
    if size < _PAGE:
        return memoryview(bytearray(size))
    with _lock:
        # Two references are this module's own and the argument's: nobody has a view of it.
        free = _kept is None or sys.getrefcount(_kept) == 2
        if _kept is not None and free and len(_kept) >= size:
            return memoryview(_kept)[:size]
        memory = _large_pages(size)
        if free and size <= _KEPT:
            _kept = memory
        return memoryview(memory)[:size]


def _large_pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory

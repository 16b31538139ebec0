"""Memory for a copy of a KV cache that goes to a file or comes from one."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from contextlib import suppress

__all__ = ["copy_memory"]

_PAGE = 2 << 20
_KEPT = 64 << 20
_free: list[mmap.mmap] = []
"""At most one block, without any view."""


def copy_memory(size: int) -> memoryview:
    """Writable, uninitialised memory of ``size`` bytes, freed with its last view.

    The system takes longer to find and clear new pages than it takes to copy a cache into them. So large pages are
    used if there are any, and one block of up to 64 MiB is kept for the next copy.
    """
    if size < _PAGE:
        return memoryview(bytearray(size))
    block = _take(size)
    # Every view and every slice holds the lease. Neither block nor view can report that the last one is gone.
    lease = (ctypes.c_ubyte * size).from_buffer(block)
    if len(block) <= _KEPT:
        weakref.finalize(lease, _give_back, block).atexit = False
    return memoryview(lease).cast("B")


def _take(size: int) -> mmap.mmap:
    """The kept block, if it is large enough and free; a new one otherwise."""
    try:
        block = _free.pop()  # two threads cannot take the same one
    except IndexError:
        return _large_pages(size)
    if len(block) >= size:
        return block
    return _large_pages(size)


def _give_back(block: mmap.mmap) -> None:
    """Keep a block for the next copy. Called wherever its last view is freed, so it takes no lock."""
    _free[:] = [block]


def _large_pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory

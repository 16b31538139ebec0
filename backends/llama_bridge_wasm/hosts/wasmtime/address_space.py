"""Checks whether this process may have the address space that wasmtime reserves: ``ulimit -v`` can forbid it."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

from llama_bridge.errors import OutOfMemory

__all__ = ["check_address_space"]

_RESERVED = 2 * ((4 << 30) + (64 << 20))
"""What wasmtime 50 reserves for a memory with its guards, and once more for the first thread's exceptions (a GC heap)."""


def check_address_space(model: Path, extra: int = 0) -> None:
    """Ask the system for as much as one thread needs and some bytes more, and give it back.

    Raises:
        OutOfMemory: the system refuses it; the message says how to get it.
    """
    if sys.platform == "win32":
        return  # address space is not limited there
    try:
        mmap.mmap(-1, _RESERVED + extra, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0).close()
    except (OSError, MemoryError) as error:
        raise OutOfMemory(model, f"{_NEEDS}{_limit()}. {_WAY_OUT}") from error


_NEEDS = (
    "this process cannot get enough address space: wasmtime reserves 4 GiB for the memory of llama.wasm and 4 GiB for "
    "each thread, mostly unused"
)
_WAY_OUT = "Raise the limit (ulimit -v unlimited, or RLIMIT_AS), or use the native backend"


def _limit() -> str:
    import resource  # 0.3 ms; Windows has none

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "" if limit == resource.RLIM_INFINITY else f"; its limit is {limit / 2**30:.1f} GiB"

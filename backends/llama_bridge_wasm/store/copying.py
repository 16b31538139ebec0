"""Tells other tabs that this one copies files, so that they do not take what is there for leftovers.

The browser frees the lock when the tab is closed, whatever became of it.
"""

# JavaScript is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from ..page import js, new, proxy, settled

__all__ = ["copying", "somebody_copies"]

_LOCK = "llama-bridge copies"


@asynccontextmanager
async def copying() -> AsyncGenerator[None]:
    """A block in which :func:`somebody_copies` is true, in every tab."""
    begun, ended = js.Promise.withResolvers(), js.Promise.withResolvers()

    def hold(_lock: Any) -> Any:
        begun.resolve(True)
        return ended.promise

    callback = proxy(hold)
    options = new(js.Object)
    options.mode = "shared"
    request = js.navigator.locks.request(_LOCK, options, callback)
    try:
        await begun.promise
        yield
    finally:
        ended.resolve(True)
        await request
        callback.destroy()


async def somebody_copies() -> bool:
    """Whether a tab is in such a block."""
    state = await settled(js.navigator.locks, "query")
    return any(str(lock.name) == _LOCK for lock in state.held)

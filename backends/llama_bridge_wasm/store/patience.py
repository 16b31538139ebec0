"""How long a page waits for a server: a browser itself waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["SECONDS", "SILENT", "answered"]

SECONDS = 30.0
"""How long a server may send nothing."""
SILENT = f"has sent nothing for {SECONDS:g} s"

T = TypeVar("T")


async def answered(waiting: Awaitable[T]) -> T:
    """What a server sends.

    Raises:
        TimeoutError: nothing.
    """
    return await asyncio.wait_for(waiting, SECONDS)

"""A word that a page keeps from one visit to the next, in the browser's store.

Nothing depends on it: where the store is full, silent or not there, it is as if nothing had been kept.
"""

# JavaScript is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from typing import Any

from ...page import JsException, can_wait, js, new, settled, wait

__all__ = ["keep", "recall"]

_FOLDER = "llama-bridge"
_LONGEST = 64
"""Bytes of a word. What is longer is something else, and Python's memory would stay as large as that."""
_PATIENCE = 0.2
"""Seconds that a load waits for the store; it takes some milliseconds."""
_writing: set[asyncio.Future[None]] = set()


def recall(name: str) -> str:
    """The word that was kept by this name, or an empty one. Also empty where the browser cannot suspend Python (JSPI)."""
    if not can_wait():
        return ""
    try:
        return wait(asyncio.wait_for(_read(name), _PATIENCE))
    except (AttributeError, JsException, TimeoutError):  # AttributeError: no store at all
        return ""


def keep(name: str, word: str) -> None:
    """Keep a word by this name. Returns at once; the browser writes it when Python next waits."""
    writing = asyncio.ensure_future(_write(name, word))
    _writing.add(writing)  # or it could be collected before it ends
    writing.add_done_callback(_writing.discard)


async def _read(name: str) -> str:
    content = await settled(await _file(name, create=False), "getFile")
    if content.size > _LONGEST:
        return ""
    return str(await settled(content, "text"))


async def _write(name: str, word: str) -> None:
    try:
        stream = await settled(await _file(name, create=True), "createWritable")
        await settled(stream, "write", word)
        await settled(stream, "close")
    except (AttributeError, JsException):
        pass


async def _file(name: str, *, create: bool) -> Any:
    options = new(js.Object)
    options.create = create
    root = await settled(js.navigator.storage, "getDirectory")
    folder = await settled(root, "getDirectoryHandle", _FOLDER, options)
    return await settled(folder, "getFileHandle", name, options)

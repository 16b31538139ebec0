"""The page's side: the only module that imports ``js`` and ``pyodide``."""

# Both exist in Pyodide alone, and are untyped.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
from typing import Any

import js as _js  # type: ignore[import-not-found]
from pyodide.ffi import (  # type: ignore[import-not-found]
    JsException,
    can_run_sync,
    create_proxy,
    run_sync,
    to_js,
)

__all__ = ["JsException", "js", "let_messages_in", "new", "proxy", "to_js"]

js: Any = _js


def new(kind: Any, *args: Any) -> Any:
    """``new kind(...args)`` in JavaScript."""
    return kind.new(*args)


def proxy(function: Any) -> Any:
    """A Python function that JavaScript may keep until ``destroy()``."""
    return create_proxy(function)


def let_messages_in() -> None:
    """Handle what waits in the worker's event loop, where the browser can suspend Python for it (JSPI)."""
    if can_run_sync():
        run_sync(_turn())


async def _turn() -> None:
    # A timer of 0 comes after the messages that are there already.
    await asyncio.sleep(0)

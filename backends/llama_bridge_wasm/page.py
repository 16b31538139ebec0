"""The page's side: the only module that imports ``js`` and ``pyodide``."""

# Both exist in Pyodide alone, and are untyped.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
from typing import Any

import js as _js  # type: ignore[import-not-found]
import pyodide.ffi as _ffi  # type: ignore[import-not-found]

__all__ = ["JsException", "js", "let_messages_in", "new", "proxy", "to_js"]

js: Any = _js
to_js: Any = _ffi.to_js
JsException: type[Exception] = _ffi.JsException


def new(kind: Any, *args: Any) -> Any:
    """``new kind(...args)`` in JavaScript."""
    return kind.new(*args)


def proxy(function: Any) -> Any:
    """A Python function that JavaScript may keep until ``destroy()``."""
    return _ffi.create_proxy(function)


def let_messages_in() -> None:
    """Handle what waits in the worker's event loop, where the browser can suspend Python for it (JSPI)."""
    if _ffi.can_run_sync():
        # Below 4 ms Pyodide sets no timer but goes round by itself, and a page's message waits for seconds.
        _ffi.run_sync(asyncio.sleep(0.004))

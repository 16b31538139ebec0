"""The page's side: the only module that imports ``js`` and ``pyodide``. Hosts and the store both stand on it."""

# Both exist in Pyodide alone, and are untyped.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import js as _js  # type: ignore[import-not-found]
import pyodide.ffi as _ffi  # type: ignore[import-not-found]

__all__ = [
    "FillsMemory",
    "JsException",
    "can_wait",
    "is_isolated",
    "js",
    "let_messages_in",
    "new",
    "proxy",
    "to_js",
    "wait",
]

T = TypeVar("T")

js: Any = _js
to_js: Any = _ffi.to_js
_run_sync: Any = _ffi.run_sync
_can_run_sync: Any = _ffi.can_run_sync
JsException: type[Exception] = _ffi.JsException


def new(kind: Any, *args: Any) -> Any:
    """``new kind(...args)`` in JavaScript."""
    return kind.new(*args)


def proxy(function: Any) -> Any:
    """A Python function that JavaScript may keep until ``destroy()``."""
    return _ffi.create_proxy(function)


def is_isolated() -> bool:
    """Whether the page may share memory with its workers: ``crossOriginIsolated``."""
    return bool(getattr(js, "crossOriginIsolated", False))


def can_wait() -> bool:
    """Whether the browser can suspend Python here (JSPI)."""
    return bool(_can_run_sync())


def wait(awaitable: Awaitable[T]) -> T:
    """Its result, with Python suspended until it is there."""
    return cast("T", _run_sync(awaitable))


def let_messages_in() -> None:
    """Handle what waits in the worker's event loop, where the browser can suspend Python for it."""
    if can_wait():
        # Below 4 ms Pyodide sets no timer but goes round by itself, and a page's message waits for seconds.
        wait(asyncio.sleep(0.004))


class FillsMemory(ABC):
    """A file whose bytes JavaScript has: they go into guest memory without a way through Python's."""

    @abstractmethod
    def fill(self, array: Any) -> int:
        """Read into a ``Uint8Array`` as much as fits and there is; how many bytes that was."""

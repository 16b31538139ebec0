"""The only module that imports ``js`` and ``pyodide``; hosts and the store use it."""

# Both exist only in Pyodide, and are untyped.
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
    "settled",
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
    """Suspend Python until the result is there, and return it."""
    return cast("T", _run_sync(awaitable))


async def settled(of: Any, method: str, *args: Any) -> Any:
    """Call a JavaScript method that makes a promise, and return what the promise comes to.

    Pyodide cannot raise a reason that it does not take for an error, and then ``await`` never ends. Chromium's
    ``QuotaExceededError`` is such a one. So the call is made by JavaScript, and its outcome read.

    Raises:
        JsException: it was rejected.
    """
    call = getattr(of, method).bind(of, *args)
    (outcome,) = await js.Promise.allSettled(to_js([None]).map(call))
    if outcome.status == "fulfilled":
        return outcome.value
    reason = outcome.reason
    if not isinstance(reason, JsException):
        told = new(js.Error, str(getattr(reason, "message", reason)))
        told.name = str(getattr(reason, "name", "Error"))
        reason = told
    raise reason


def let_messages_in() -> None:
    """Handle waiting messages in the worker's event loop, if the browser can suspend Python."""
    if can_wait():
        # Below 4 ms Pyodide sets no timer but loops by itself, and a page's message waits for seconds.
        wait(asyncio.sleep(0.004))


class FillsMemory(ABC):
    """A file whose bytes JavaScript has. They go into guest memory without passing through Python's."""

    @abstractmethod
    def fill(self, array: Any) -> int:
        """Fill a ``Uint8Array`` from the file, as far as it goes; return how many bytes were read."""

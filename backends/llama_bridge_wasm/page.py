"""The page's side: the only module that imports ``js`` and ``pyodide``."""

# Both exist in Pyodide alone, and are untyped.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import js as _js  # type: ignore[import-not-found]
from pyodide.ffi import JsException, create_proxy, to_js  # type: ignore[import-not-found]

__all__ = ["JsException", "js", "new", "proxy", "to_js"]

js: Any = _js


def new(kind: Any, *args: Any) -> Any:
    """``new kind(...args)`` in JavaScript."""
    return kind.new(*args)


def proxy(function: Any) -> Any:
    """A Python function that JavaScript may keep until ``destroy()``."""
    return create_proxy(function)

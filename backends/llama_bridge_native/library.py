"""The only module that imports ``llama_cpp``. Its log goes to :mod:`logging`, never to the terminal."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import sys
from collections import deque
from collections.abc import Generator
from typing import Any

# On an assertion ggml would start a debugger and print pages before it ends the process.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp

__all__ = ["abort_callback", "errors_logged", "lib"]

lib: Any = llama_cpp
"""The ctypes layer, ``lib.llama_*``. Untyped here, and nowhere else."""

for _name in ("outnull_file", "errnull_file"):
    # llama_cpp opens /dev/null twice and never closes it: a ResourceWarning at the end of every test run.
    _file = getattr(getattr(lib, "_utils", None), _name, None)
    if _file is not None:
        atexit.register(_file.close)

_log = logging.getLogger("llama_bridge.native")
# GGML_LOG_LEVEL_*: debug, info, warn, error. Its info is a page for every load: debug for an application.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
_recent_errors: deque[str] = deque(maxlen=8)
_stashed: deque[BaseException] = deque(maxlen=1)
_last_level = logging.DEBUG


def _log_line(level: int, text: bytes, _: object) -> None:
    try:
        _take_line(level, text)
    except (
        BaseException
    ) as error:  # ctypes would print it and go on: Ctrl-C during a load would be lost
        _stashed.append(error)


def _take_line(level: int, text: bytes) -> None:
    global _last_level
    if level != _CONTINUED:
        _last_level = _LEVELS.get(level, logging.DEBUG)
    line = text.decode("utf-8", "replace").strip()
    if not line or line == ".":
        return
    if _last_level >= logging.ERROR:
        _recent_errors.append(line)
    if _log.isEnabledFor(_last_level):
        _log.log(_last_level, "%s", line)


_on_log = lib.llama_log_callback(
    _log_line
)  # a name keeps it alive: llama.cpp holds only its address
lib.llama_log_set(_on_log, ctypes.c_void_p(0))
lib.llama_backend_init()


@contextlib.contextmanager
def errors_logged() -> Generator[deque[str]]:
    """Collects what llama.cpp logs as errors inside the block: its only way to say why it failed."""
    _recent_errors.clear()
    _stashed.clear()
    yield _recent_errors
    if _stashed:
        raise _stashed.pop()


def _strlen() -> Any:
    return (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).strlen


abort_callback: Any = ctypes.cast(_strlen(), lib.ggml_abort_callback)
"""Tells llama.cpp to stop once the buffer it is given no longer begins with a zero byte.

ggml asks before every operation of a graph; C's ``strlen`` answers in a nanosecond, a Python function would
cost a token several per cent.
"""

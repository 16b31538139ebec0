"""The only module that imports ``llama_cpp``. Its log goes to :mod:`logging`, never to the terminal."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import threading
from collections import deque
from typing import Any, Self

# Otherwise a failed assertion makes ggml start a debugger and print pages before it ends the process.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp

from llama_bridge.later_signals import LaterSignals, handle_signals

__all__ = ["LoggedErrors", "abort_callback", "has_amx", "lib", "logits_ith", "seq_pos_max"]

lib: Any = llama_cpp
"""The ctypes layer, ``lib.llama_*``. Untyped here, and nowhere else."""

for _name in ("outnull_file", "errnull_file"):
    # llama_cpp opens /dev/null twice and never closes it: a ResourceWarning at the end of every test run.
    _file = getattr(getattr(lib, "_utils", None), _name, None)
    if _file is not None:
        atexit.register(_file.close)

_log = logging.getLogger("llama_bridge.native")
# GGML_LOG_LEVEL_*: debug, info, warn, error. Its info is a page per load, so it is logged as debug.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
_LONG = 1000
"""Characters that are enough for a reason."""


class _OfThread(threading.local):
    """llama.cpp logs in the thread that called it, so each thread has its own state."""

    level = logging.DEBUG
    listener: LoggedErrors | None = None


_here = _OfThread()


class LoggedErrors:
    """Collects the errors that llama.cpp logs in this thread inside a ``with`` block: it gives no other reason.

    Signals wait meanwhile.

    Args:
        quiet: whether its warnings are only for those who debug.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._signals = LaterSignals()
        self._lines: deque[str] = deque(maxlen=8)
        self._failure: BaseException | None = None
        self._before: LoggedErrors | None = None

    def __enter__(self) -> Self:
        self._signals.__enter__()
        self._before, _here.listener = _here.listener, self
        return self

    def __exit__(self, *_: object) -> None:
        _here.listener = self._before
        self._signals.__exit__()

    def __str__(self) -> str:
        return "; ".join(self._lines) or "llama.cpp gave no reason"

    def hear(self, line: str) -> None:
        """Add an error."""
        self._lines.append(line)

    def keep(self, failure: BaseException) -> None:
        """Keep an exception raised while llama.cpp logged: ctypes would print it and go on."""
        self._failure = self._failure or failure

    def reraise(self) -> None:
        """Raise what was raised while llama.cpp logged, such as a Ctrl-C."""
        handle_signals()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def _log_line(level: int, text: bytes, _: object) -> None:
    try:
        if _here.listener is not None:  # it keeps what a handler raises
            handle_signals()
        _take_line(level, text)
    except BaseException as error:
        if _here.listener is None:
            raise
        _here.listener.keep(error)


def _take_line(level: int, text: bytes) -> None:
    if level != _CONTINUED:
        _here.level = _LEVELS.get(level, logging.DEBUG)
    line = text.decode("utf-8", "replace").strip()
    if not line or line == ".":
        return
    if (
        len(line) > _LONG
    ):  # it may quote a model's metadata, which has a megabyte if the file is hostile
        line = line[:_LONG] + "…"
    if _here.level >= logging.ERROR and _here.listener is not None:
        _here.listener.hear(line)
    level = _here.level
    if "failed to find a memory slot" in line:  # CacheFull, for which there is a way out
        level = logging.DEBUG
    if level == logging.WARNING and _here.listener is not None and _here.listener.quiet:
        level = logging.DEBUG
    if _log.isEnabledFor(level):
        _log.log(level, "%s", line)


_on_log = lib.llama_log_callback(
    _log_line
)  # kept alive by its name: llama.cpp has only its address
lib.llama_log_set(_on_log, ctypes.c_void_p(0))
lib.llama_backend_init()


_at_once = ctypes.PyDLL(lib.llama_cpp._lib._name)
"""For calls of nanoseconds: between two of them no other thread of Python gets its turn, which takes tens of microseconds."""


def _quick(name: str) -> Any:
    usual, found = getattr(lib, name), getattr(_at_once, name)
    found.argtypes, found.restype = usual.argtypes, usual.restype
    return found


seq_pos_max: Any = _quick("llama_memory_seq_pos_max")
logits_ith: Any = _quick("llama_get_logits_ith")


def _strlen() -> Any:
    return (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).strlen


def has_amx() -> bool:
    """Whether this build has kernels for AMX. Where GCC before 12.4 compiled them, the first prompt ends the process.

    That compiler takes the configuration of the tiles for eight bytes, and leaves out as unused what sets the others.
    """
    find = getattr(_at_once, "ggml_cpu_has_amx_int8", None)
    return find is not None and bool(find())


abort_callback: Any = ctypes.cast(_strlen(), lib.ggml_abort_callback)
"""Stops llama.cpp once its buffer no longer begins with a zero byte.

ggml calls it before every operation of a graph. C's ``strlen`` takes a nanosecond; a Python function would slow a
token down by several per cent.
"""

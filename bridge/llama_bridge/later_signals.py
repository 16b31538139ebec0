"""Signals wait while C code calls Python functions.

Python handles a signal at the beginning of whatever function runs next, before any ``try`` in it. If C called that function,
ctypes prints what the handler raises and goes on with whatever was in the place of the result. So a Ctrl-C was lost, or the
process ended: wasmtime took that for a trap, and llama.cpp for a token that the grammar allows.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["LaterSignals", "handle_signals", "signals_at_once"]

_NAMES = ["INT", "TERM", "HUP", "QUIT", "ALRM", "VTALRM", "USR1", "USR2", "BREAK"]
_SIGNALS = [getattr(signal, f"SIG{name}") for name in _NAMES if hasattr(signal, f"SIG{name}")]
"""Those that programs have handlers for."""

_holder: LaterSignals | None = None
"""Who holds them back now. Only the main thread handles signals, and only it writes this."""


class LaterSignals:
    """In a ``with`` block, handlers of signals are not called; at its end they are, if signals came.

    It costs 12 µs in the main thread. In others, and inside another such block, it changes nothing.
    """

    def __init__(self) -> None:
        self._handlers: list[tuple[int, Any]] = []  # those that are to come back
        self._held: dict[int, Any] = {}  # all that were held back
        self._came: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Self:
        global _holder
        if _holder is None and threading.current_thread() is threading.main_thread():
            _holder = self
            try:
                self.hold()
            except BaseException:
                _holder = None
                raise
        return self

    def __exit__(self, *_: object) -> None:
        global _holder
        if _holder is self:
            _holder = None
            self.let_go()
            self.handle()

    def hold(self) -> None:
        """Take the place of all handlers."""
        try:
            for number in _SIGNALS:
                if callable(handler := signal.getsignal(number)):
                    self._held[number] = handler
                    self._handlers.append((number, handler))
                    signal.signal(number, self._remember)
        except BaseException as error:
            self.let_go()
            if not isinstance(error, ValueError):  # an interpreter that handles no signals
                raise

    def let_go(self) -> None:
        """Put them back."""
        failure: BaseException | None = None
        while self._handlers:
            try:
                signal.signal(*self._handlers[-1])
                self._handlers.pop()
            except BaseException as error:  # from a handler that is back already
                failure = failure or error
        if failure is not None:
            raise failure

    def handle(self) -> None:
        """Call the handlers of the signals that came."""
        if not self._came:
            return
        number, frame = self._came.pop(0)
        handler = dict(self._handlers).get(number) or signal.getsignal(number)
        try:
            if callable(handler):
                handler(number, frame)
        finally:
            self.handle()  # the next one

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if _holder is self:
            self._came.append((number, frame))
        else:  # another signal's handler raised while they were put back
            signal.signal(number, self._held[number])
            self._held[number](number, frame)


def handle_signals() -> None:
    """Call the handlers of signals that wait: for a function that C called, where it can catch what they raise."""
    holder = _holder
    if holder is not None and threading.current_thread() is threading.main_thread():
        holder.handle()


class signals_at_once:  # noqa: N801 - reads as a word of the language, like contextlib.suppress
    """Inside, signals do not wait: for a caller's own function, which C's caller calls and which may take long."""

    def __init__(self) -> None:
        self._holder: LaterSignals | None = None

    def __enter__(self) -> None:
        global _holder
        holder = _holder
        if holder is not None and threading.current_thread() is threading.main_thread():
            self._holder, _holder = holder, None
            holder.let_go()
            holder.handle()

    def __exit__(self, *_: object) -> None:
        """Hold them back again. If one comes right here, that is left out, and what its handler raises goes to C's caller."""
        global _holder
        if self._holder is not None:
            _holder = self._holder
            try:
                _holder.hold()
            except BaseException:
                _holder = None
                raise

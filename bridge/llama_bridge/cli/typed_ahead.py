"""Keys that come while the model talks: they wait for the next prompt, unseen and in one piece."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

try:
    termios: Any = importlib.import_module("termios")
except ImportError:  # Windows
    termios = None

__all__ = ["TypedAhead"]

_MARK_PASTES, _NO_MARKS = "\x1b[?2004h", "\x1b[?2004l"


class TypedAhead:
    """Holds keys back between :meth:`hold` and :meth:`release`, where standard input is a terminal.

    Without it they would be shown in the middle of the answer, and each pasted line would be a message of its own.
    Ctrl-C interrupts all the same.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def hold(self) -> None:
        """Show no keys, and have the terminal mark what is pasted."""
        if termios is None:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError, termios.error):
            before = termios.tcgetattr(sys.stdin)
            quiet: list[Any] = [*before]
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            quiet[3] |= termios.NOFLSH  # nor does Ctrl-C lose them
            self._before = before
            termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
            self._tell(_MARK_PASTES)

    def release(self) -> None:
        """The terminal as it was before. Twice is silent."""
        before, self._before = self._before, None
        if before is not None:
            with contextlib.suppress(OSError, ValueError, termios.error):
                self._tell(_NO_MARKS)
                termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    @staticmethod
    def _tell(sequence: str) -> None:
        sys.stdout.write(sequence)
        sys.stdout.flush()

"""Keys typed while the model answers: they wait for the next prompt, unseen and in one piece."""

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
    """Holds back keys between :meth:`hold` and :meth:`release` if standard input is a terminal.

    Otherwise they would appear in the middle of the answer, and each pasted line would be a separate message. Ctrl-C
    still interrupts.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def hold(self) -> None:
        """Stop showing keys, and make the terminal mark pasted text."""
        if termios is None:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError, termios.error):
            before = termios.tcgetattr(sys.stdin)
            quiet: list[Any] = [*before]
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            quiet[3] |= termios.NOFLSH  # Ctrl-C does not discard them
            self._before = before
            termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
            self._tell(_MARK_PASTES)

    def release(self) -> None:
        """Restore the terminal. A second call does nothing."""
        before, self._before = self._before, None
        if before is not None:
            with contextlib.suppress(OSError, ValueError, termios.error):
                self._tell(_NO_MARKS)
                termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    @staticmethod
    def _tell(sequence: str) -> None:
        sys.stdout.write(sequence)
        sys.stdout.flush()

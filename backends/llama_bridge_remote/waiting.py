"""Work beside its reader, and how the one waits for the other: a thread, or in a page a task."""

from __future__ import annotations

import sys

if sys.platform == "emscripten":
    from .page import Mailbox, Signal, start
else:
    import threading
    from collections.abc import Callable
    from queue import SimpleQueue as Mailbox
    from threading import Event as Signal

    def start(work: Callable[[], object]) -> bool:
        """Do some work beside the caller; whether that goes on while the caller waits."""
        threading.Thread(target=work, name="llama-bridge remote answer", daemon=True).start()
        return True


__all__ = ["Mailbox", "Signal", "start"]

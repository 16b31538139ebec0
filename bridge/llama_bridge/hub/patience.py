"""How long servers may take for what is only asked, and a way to wait no longer.

A server is given ten seconds for each next byte, by whoever reads it. One that sends a byte every nine, of its answer's first
lines say, would keep us for days.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import DownloadError

__all__ = ["SECONDS", "SECONDS_FOR_A_PART", "in_time"]

SECONDS = 60.0
"""For an answer of the hub; for the header of a file."""
SECONDS_FOR_A_PART = 2.0
"""More for each further file of a split model."""

_Result = TypeVar("_Result")


def in_time(seconds: float, name: str, what: str, work: Callable[[], _Result]) -> _Result:
    """Do something in a thread of its own, and wait for it no longer than this.

    The thread is not stopped: it ends when the server does, at the latest with the process.

    Raises:
        DownloadError: "``what`` has not arrived within so many seconds"; and what ``work`` raises.
    """
    if sys.platform == "emscripten":  # no threads, and no servers that are read so
        return work()
    results: list[_Result] = []
    failures: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=do, name="llama-bridge asks", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise DownloadError(name, f"{what} has not arrived within {seconds:g} s")
    return results[0]

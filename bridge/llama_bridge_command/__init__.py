"""The command ``llama-bridge``, also ``python -m llama_bridge``. It needs the extra ``[cli]``.

A separate package, because importing anything from ``llama_bridge`` imports all of it, and Ctrl-C must already end the
command quietly then. Before this file runs, Python starts (20 ms); what a Ctrl-C shows there is up to Python. With
``python -m llama_bridge`` Python has also imported the library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

_EXTRA = ("click", "rich", "prompt_toolkit", "platformdirs")
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its status, or with 2 if the extra is not installed."""
    own = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # not ignored, as after nohup
    if own:
        signal.signal(signal.SIGINT, _end)
    told = sys.stdout is not None
    _open_streams()
    try:
        from llama_bridge.cli.app import app  # it needs an extra, and takes 200 ms

        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not told:
            print(
                "error: standard output is closed: redirect it to a file or pipe", file=sys.stderr
            )
            sys.exit(1)
        app(prog_name="llama-bridge")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print('the command line needs: pip install "llama-bridge[cli]"', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        _end_without_output(error)


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Handle Ctrl-C during the imports. An exception could get lost in them, and there is nothing to clean up yet."""
    os._exit(_INTERRUPTED)


def _open_streams() -> None:
    """Open the standard streams that the shell closed: otherwise the next opened files would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    # Python sets closed streams to None, which few libraries expect. These stay open as long as the process lives.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", errors="replace")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", errors="replace")  # noqa: SIM115


def _end_without_output(error: OSError) -> None:
    """Exit after output could not be written, with a message if that is possible."""
    if error.errno != errno.EPIPE:  # the reader of the pipe has left
        where = error.filename or "standard output"  # where click writes a help text
        with contextlib.suppress(OSError):
            print(f"error: {where}: {error.strerror or error}", file=sys.stderr, flush=True)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # otherwise Python complains at exit and changes the status
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(1)

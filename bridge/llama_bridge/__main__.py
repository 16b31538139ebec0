"""The command ``llama-bridge``, also ``python -m llama_bridge``. It needs the extra ``[cli]``."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

__all__ = ["main"]

_EXTRA = ("click", "rich", "prompt_toolkit", "platformdirs")
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its status, or with 2 if the extra is not installed."""
    told = sys.stdout is not None
    _open_streams()
    try:
        from .cli.app import app  # it needs an extra

        if not told:
            print(
                "error: standard output is closed: redirect it to a file or pipe", file=sys.stderr
            )
            sys.exit(1)
        app(prog_name="llama-bridge")
    except KeyboardInterrupt:  # during the imports
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print('the command line needs: pip install "llama-bridge[cli]"', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        _end_without_output(error)


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
        with contextlib.suppress(OSError):
            print(f"error: {error}", file=sys.stderr, flush=True)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # otherwise Python complains at exit and changes the status
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(1)


if __name__ == "__main__":
    main()

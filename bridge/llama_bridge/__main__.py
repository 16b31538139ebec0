"""The command ``llama-bridge``, also ``python -m llama_bridge``. Its parser is the extra ``[cli]``."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

__all__ = ["main"]

_EXTRA = ("click", "rich", "prompt_toolkit", "platformdirs")
_INTERRUPTED = 130


def main() -> None:
    """Run the command line; exits with its status, and with 2 where the extra is not installed."""
    told = sys.stdout is not None
    _open_streams()
    try:
        from .cli.app import app  # what it needs is an extra

        if not told:
            print("error: standard output is closed: send it to a file or pipe", file=sys.stderr)
            sys.exit(1)
        app(prog_name="llama-bridge")
    except KeyboardInterrupt:  # while all that was imported
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print('the command line needs: pip install "llama-bridge[cli]"', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        _end_without_output(error)


def _open_streams() -> None:
    """Have all three standard streams, also where the shell closed some: what is opened next would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    # Python has None for those that were closed, which few libraries are made for. Open as long as the process lives.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", errors="replace")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", errors="replace")  # noqa: SIM115


def _end_without_output(error: OSError) -> None:
    """Help or an error of usage could not be written: tell it if that is possible, and end."""
    if error.errno != errno.EPIPE:  # whose reader has seen enough
        with contextlib.suppress(OSError):
            print(f"error: {error}", file=sys.stderr, flush=True)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # or Python complains while it ends, with a status of its own
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(1)


if __name__ == "__main__":
    main()

"""A server in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Program", "free_port"]

_SECONDS = 60


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Program:
    """``llama-bridge serve``, on one port, started again after each end.

    Attributes:
        port: where it answers.
    """

    def __init__(self, *args: str, log: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "llama_bridge", "serve", "--port", str(self.port), *args]
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the server did not start: {self._log.read_text()[-2000:]}")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_SECONDS)

    def end(self) -> int:
        """End it as a service manager does; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(_SECONDS)

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own, and not a file's."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        found = next(line for line in lines if line.startswith("RssAnon:"))
        return 1024 * int(found.split()[1])

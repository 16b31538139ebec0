"""A terminal that tests type at and read, in tmux."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["SECONDS", "Open", "Screen"]

SECONDS = 120
"""For what takes under a second here, on a machine that is busy with something else."""

SETTINGS = """
set -g status off
set -g remain-on-exit on
set -s escape-time 10
set -g default-terminal screen-256color
"""


class Screen:
    """A terminal of some width, with the command on it."""

    def __init__(self, folder: str, columns: int, command: list[str], env: dict[str, str]) -> None:
        self._tmux = ["tmux", "-u", "-S", f"{folder}/tmux", "-f", f"{folder}/settings"]
        Path(folder, "settings").write_text(SETTINGS)
        # The size is the pane's: pytest-xdist says another one in its workers.
        clean = ["env", "-u", "COLUMNS", "-u", "LINES"]
        line = shlex.join([*clean, *(f"{k}={v}" for k, v in env.items()), *command])
        self._status = Path(folder, "status")  # tmux itself does not always come to know it
        line += f"; echo $? > {self._status}"
        self._call("new-session", "-d", "-x", str(columns), "-y", "30", line)

    def _call(self, *args: str) -> str:
        env = os.environ | {"LC_ALL": "C.UTF-8", "TERM": "screen-256color"}
        env.pop("TMUX", None)
        done = subprocess.run(
            [*self._tmux, *args], capture_output=True, text=True, env=env, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def lines(self) -> list[str]:
        """What stands on the screen and above it, without the empty rows at the end."""
        return self._call("capture-pane", "-p", "-S", "-").rstrip("\n").split("\n")

    @property
    def coloured(self) -> list[str]:
        """The same lines with their colours, as ANSI sequences."""
        return self._call("capture-pane", "-e", "-p", "-S", "-").rstrip("\n").split("\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the screen matches."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, "\n".join(self.lines), re.M)):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n" + "\n".join(self.lines)
            time.sleep(0.05)
        return found

    def prompt(self, name: str = "") -> None:
        """Wait for an empty prompt on the last row."""
        self.wait_for(rf"^{name}>\Z")

    def type(self, text: str) -> None:
        """Press letters."""
        self._call("send-keys", "-l", text)

    def key(self, *names: str) -> None:
        """Press keys by their names: Enter, M-Enter, C-c."""
        self._call("send-keys", *names)

    def send(self, text: str) -> None:
        """Type a message, and Enter."""
        self.type(text)
        self.key("Enter")

    def paste(self, text: str) -> None:
        """Paste, marked as pasted where the program asked for that."""
        self._call("set-buffer", text)
        self._call("paste-buffer", "-p")

    def status(self) -> int:
        """Wait for the end; the exit status."""
        deadline = time.monotonic() + SECONDS
        while not (self._status.exists() and (told := self._status.read_text().strip())):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.05)
        return int(told)

    def close(self) -> None:
        self._call("kill-server")


Open = Callable[..., Screen]

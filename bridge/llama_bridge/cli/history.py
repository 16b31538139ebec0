"""What a person typed in earlier chats, kept in a file that nobody else can read."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_state_path
from prompt_toolkit.history import History

__all__ = ["KeptHistory", "history_file"]

_MOST = 1 << 20
"""How many bytes are read; a file twice as long is cut to this size."""


def history_file() -> Path:
    """Path of the history in the user's state folder: ``~/.local/state/llama-bridge`` on Linux."""
    return user_state_path("llama-bridge", appauthor=False) / "chat_history.jsonl"


class KeptHistory(History):
    """One JSON string per line, newest last.

    If the file cannot be read or written, as in a read-only home, the history is that of this chat alone. It never
    ends a chat.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """Read the strings, newest first."""
        lines: list[bytes] = []
        with contextlib.suppress(OSError):
            lines = self._read()
        for line in reversed(lines):
            with contextlib.suppress(ValueError, RecursionError):  # an incomplete or foreign line
                if isinstance(typed := json.loads(line), str):
                    yield typed

    def store_string(self, string: str) -> None:
        """Append one string; other chats may do so at the same time."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self._path, json.dumps(string).encode() + b"\n", os.O_APPEND)

    def _read(self) -> list[bytes]:
        status = self._path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            return []
        with self._path.open("rb") as file:
            if status.st_size <= 2 * _MOST:
                return file.read(2 * _MOST).splitlines()
            file.seek(-_MOST, os.SEEK_END)
            kept = file.read(_MOST).partition(b"\n")[2]
        shorter = self._path.with_name(f".{os.urandom(8).hex()}.tmp")
        with contextlib.suppress(OSError):
            self._write(shorter, kept, os.O_EXCL)
            shorter.replace(self._path)
        return kept.splitlines()

    @staticmethod
    def _write(path: Path, data: bytes, how: int) -> None:
        if path.exists() and not path.is_file():
            return
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
        with open(handle, "wb", buffering=0) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(handle, 0o600)  # even if the file existed with other permissions
            file.write(data)

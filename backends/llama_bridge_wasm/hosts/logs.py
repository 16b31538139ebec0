"""llama.cpp's log from the guest, as lines with levels."""

from __future__ import annotations

import logging
from collections.abc import Iterator

__all__ = ["log_lines"]

_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}


def log_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield level and text of each line that is not blank. A line without a level is llama.cpp's last before an abort: an error."""
    for line in data.decode("utf-8", "replace").splitlines():
        level, text = logging.ERROR, line
        if line[:1].isdigit() and line[1:2] == " ":
            level, text = _LEVELS.get(int(line[0]), logging.DEBUG), line[2:]
        if text.strip():
            yield level, text

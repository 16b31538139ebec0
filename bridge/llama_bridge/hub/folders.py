"""What is in folders, and what files there may be called. One that this user may not read counts as empty: it must not hide what others have."""

from __future__ import annotations

from pathlib import Path

__all__ = ["matching", "short_name"]

_CHARACTERS, _BYTES = 120, 235
"""Of a name, so that it may have a suffix: most systems allow 255 bytes, and a letter takes up to four."""


def matching(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that fit a pattern, sorted. Each may be gone or closed by the time it is looked at."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def short_name(name: str) -> str:
    """The end of a name, as much as a file may be called; it does not begin with a dot."""
    end = name[-_CHARACTERS:].encode()[-_BYTES:]
    return end.decode(errors="ignore").lstrip(".")

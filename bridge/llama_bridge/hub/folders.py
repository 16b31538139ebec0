"""What is in folders. One that this user may not read counts as empty: it must not hide what others have."""

from __future__ import annotations

from pathlib import Path

__all__ = ["matching"]


def matching(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that fit a pattern, sorted. Each may be gone or closed by the time it is looked at."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []

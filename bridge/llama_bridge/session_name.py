"""Session names to file names: every name has one, safe on every system."""

from __future__ import annotations

__all__ = ["MAX_FILE_NAME", "file_name", "session_name"]

MAX_FILE_NAME = 255
"""Characters that a file name may have."""

_SUFFIX = ".session"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10)))
)


def file_name(session: str) -> str:
    """The file name of a session: reversible and unique, even if case is ignored."""
    escaped = [c if c in _PLAIN else "".join(f"%{b:02x}" for b in c.encode()) for c in session]
    if session in _DEVICES:  # Windows opens the device, whatever the suffix
        escaped[0] = f"%{ord(session[0]):02x}"
    return "".join(escaped) + _SUFFIX


def session_name(file: str) -> str | None:
    """The session of a file name; None if :func:`file_name` never gives that name."""
    from urllib.parse import unquote  # 2 ms: only a session folder needs it

    if not file.endswith(_SUFFIX):
        return None
    try:
        name = unquote(file.removesuffix(_SUFFIX), errors="strict")
        return name if name and file_name(name) == file else None
    except UnicodeError:
        return None

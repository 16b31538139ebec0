"""How much memory this process may have: what the machine has, and what a container leaves of that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SystemMemory", "system_memory"]

_UNLIMITED = 1 << 60
"""cgroup v1 writes a number near 2**63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """Bytes of memory, or None where the system does not say.

    Attributes:
        total: the most that this process can have: the machine's memory, or its container's limit if that is lower.
        available: what of it can be had now. What only caches files counts: the system gives it back when it is needed.
        is_limited: whether a container's limit is lower than what the machine has.
    """

    total: int | None
    available: int | None
    is_limited: bool = False


def system_memory(root: Path = Path("/")) -> SystemMemory:
    """Ask the system now.

    On Linux the limits of control groups count, version 1 and 2. macOS does not say what is available.

    Args:
        root: where Linux describes itself.
    """
    if sys.platform == "win32":
        return _of_windows()
    if sys.platform == "emscripten":
        return SystemMemory(None, None)  # a page is not told
    known = _meminfo(root / "proc/meminfo")
    total, available = known.get("MemTotal"), known.get("MemAvailable")
    if total is None:
        return SystemMemory(_installed(), None)
    if available is not None:
        available += known.get("SwapFree", 0)
    is_limited = False
    for limit, used in _groups(root):
        if limit < total:
            total, is_limited = limit, True
        if available is not None:
            available = min(available, max(0, limit - used))
    return SystemMemory(total, available, is_limited)


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _meminfo(path: Path) -> dict[str, int]:
    """Bytes by name."""
    found: dict[str, int] = {}
    for line in _lines(path):
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0]) << 10
    return found


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that this process is in and that has a limit."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("inactive_file", "active_file")
            yield from _limits(top, path, "memory.max", "memory.current", names)
        elif "memory" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/memory", ("total_inactive_file", "total_active_file")
            yield from _limits(top, path, "memory.limit_in_bytes", "memory.usage_in_bytes", names)


def _limits(
    top: Path, path: str, limit: str, used: str, cached: tuple[str, ...]
) -> Iterator[tuple[int, int]]:
    """Of a group and those that it is in. Inside a container its own group is the top."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        folder = top.joinpath(*parts[:n])
        most = _number(folder / limit)
        if most is None or most >= _UNLIMITED:
            continue
        stat = _numbers(folder / "memory.stat")
        files = sum(stat.get(name, 0) for name in cached)
        yield most, max(0, (_number(folder / used) or 0) - files)


def _numbers(path: Path) -> dict[str, int]:
    words = [line.split() for line in _lines(path)]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _of_windows() -> SystemMemory:
    import ctypes  # Windows only

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong),
            ("others", ctypes.c_ulonglong * 5),
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 -- there only
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return SystemMemory(None, None)
    return SystemMemory(int(status.total), int(status.available))

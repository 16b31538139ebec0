"""How many threads an engine uses on this machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..params import ModelParams

__all__ = ["compute_threads", "usable_cores"]

_ONE_THREAD_BYTES = 16 << 20


def compute_threads(params: ModelParams, model_bytes: int, cores: int = 0) -> int:
    """Compute threads for a model of this size: ``n_threads``, or the physical cores this process may use.

    A model of a few MB uses one thread: distributing its tiny layers costs more than it saves.

    Args:
        params: load-time settings.
        model_bytes: size of the file.
        cores: how many there are, if Python cannot know; 0 asks the system.
    """
    if params.n_threads:
        return params.n_threads
    if model_bytes < _ONE_THREAD_BYTES:
        return 1
    return cores or usable_cores()


def usable_cores(system: Path = Path("/sys")) -> int:
    """Physical cores that this process may use.

    The two hardware threads of a core share its vector units, so more threads than cores are no faster. On Linux the
    process's CPU affinity and its container's quota (cgroup v2) count too; elsewhere this is ``os.cpu_count()``.

    Args:
        system: where Linux describes itself.
    """
    if not hasattr(os, "sched_getaffinity"):
        return max(1, os.cpu_count() or 1)
    cores = {_core(system, cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota(system)))


def _core(system: Path, cpu: int) -> str:
    """A text that all hardware threads of a core share."""
    siblings = system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return siblings.read_text().strip() or str(cpu)
    except (OSError, UnicodeDecodeError):
        return str(cpu)


def _quota(system: Path) -> int:
    """CPU time of the container, in cores. The file has ``max 100000``, or microseconds per period."""
    try:
        quota, period = (system / "fs/cgroup/cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return 1 << 16

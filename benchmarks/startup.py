"""The cost of an import: a new interpreter with it, against one without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from .measure import alternate, seconds, spread
from .report import Report, ms

__all__ = ["measure_startup"]

_STATEMENTS = {
    "bare interpreter": "pass",
    "import llama_bridge": "import llama_bridge",
    "import llama_cpp": "import llama_cpp",
}


@dataclass(frozen=True, slots=True)
class _Start:
    """Seconds of one interpreter: wall time and processor time."""

    wall: float
    processor: float


def measure_startup(report: Report, *, rounds: int, limit: float = 0.060) -> None:
    """The cost of an import, and its bound. Bytecode is cached, as after any installation."""
    with TemporaryDirectory() as bytecode:
        environment = dict(os.environ, PYTHONPYCACHEPREFIX=bytecode)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def starter(statement: str) -> Callable[[], _Start]:
            command = [sys.executable, "-c", statement]
            return lambda: _start(command, environment)

        runs = {name: starter(statement) for name, statement in _STATEMENTS.items()}
        for run in runs.values():
            run()
        found = alternate(runs, rounds, "import")
    bare = found["bare interpreter"]
    wall = {
        name: spread([a.wall - b.wall for a, b in zip(starts, bare, strict=True)])
        for name, starts in found.items()
    }
    processor = {
        name: spread([a.processor - b.processor for a, b in zip(starts, bare, strict=True)])
        for name, starts in found.items()
    }
    report.table(
        f"Import time, {rounds} rounds",
        ["", "start, ms", "cost in wall time, ms", "cost in processor time, ms"],
        [
            [name, ms(spread([s.wall for s in starts])), ms(wall[name]), ms(processor[name])]
            for name, starts in found.items()
        ],
        "Costs are taken within a round. Wall time includes other work of the machine.",
    )
    own = processor["import llama_bridge"]
    report.bound(
        f"import llama_bridge under {limit * 1e3:.0f} ms of processor time",
        own.median,
        own.median < limit,
        ms(own),
    )


def _start(command: list[str], environment: dict[str, str]) -> _Start:
    before = _children()
    wall = seconds(lambda: subprocess.run(command, env=environment, check=True))
    return _Start(wall, wall if before is None else (_children() or 0.0) - before)


def _children() -> float | None:
    """Processor time of all ended child processes so far; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

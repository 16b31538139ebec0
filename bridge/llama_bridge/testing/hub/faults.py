"""What can go wrong with a server, on demand."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Fault", "FaultKind", "Faults"]

FaultKind = Literal[
    "status",
    "stall",
    "cut",
    "corrupt",
    "slow",
    "no_ranges",
    "longer",
    "shorter",
    "endless",
    "hang_up",
]


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: ``"status"`` answers with ``status``; ``"stall"`` sends ``after`` bytes and then nothing; ``"cut"`` closes
            after them; ``"corrupt"`` changes the byte there; ``"slow"`` waits ``seconds`` after each 64 kB;
            ``"no_ranges"`` always sends the whole file; ``"longer"`` and ``"shorter"`` send a file that is a byte longer
            or shorter, and say so; ``"endless"`` says no length, and never stops; ``"hang_up"`` closes without an answer.
        path: which requests, by the end of their address: a pattern such as ``"*.gguf"`` or ``"/api/*"``.
        times: how often; None for ever.
        after: bytes of the file that arrive before.
        status: of the answer.
        headers: more of the answer's.
        seconds: of waiting.
    """

    kind: FaultKind
    path: str = "*"
    times: int | None = 1
    after: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.05


class Faults:
    """Those that are still to happen. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let it happen from now on."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def take(self, path: str, kinds: tuple[FaultKind, ...]) -> Fault | None:
        """The next fault of these kinds for this request."""
        with self._lock:
            for fault in self._faults:
                if fault.kind in kinds and fnmatch.fnmatchcase(path, fault.path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault
        return None

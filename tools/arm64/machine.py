"""Runs Python in the emulator."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.random_model.cache import cache_folder
from tools.steps import ROOT, Clock, StepFailed, run

from .debian import Debian

__all__ = ["Machine", "emulator"]

_EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
_ADDRESSES = 64 << 30
"""Bytes of addresses that the emulated process may use. QEMU 7 notes each page that was ever mapped and forgets none: every engine
reserves 4 GiB, elsewhere each time, and 868 tests took more than 8 GB of notes. In a bounded range addresses come again."""


def emulator() -> Path:
    """The path of the emulator.

    Raises:
        StepFailed: there is none, or none is needed.
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        raise StepFailed("this machine is ARM64 itself: make test is enough")
    for name in _EMULATORS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise StepFailed(
        f"{_EMULATORS[0]} is not installed; on Debian: apt-get install qemu-user-static"
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """An ARM64 Python in the emulator.

    Attributes:
        emulator: its path.
        debian: the unpacked system.
        path: folders to import from.
        cpu: one of QEMU's names; by default one that can do all that QEMU can.
    """

    emulator: Path
    debian: Debian
    path: Sequence[Path]
    cpu: str = "max"

    @property
    def cache(self) -> Path:
        """Its own per-user cache, so that its machine code does not displace this machine's, or another CPU's."""
        return cache_folder("arm64") / f"cache-{self.cpu}"

    def python(self, step: str, arguments: Sequence[str | Path], clock: Clock) -> str:
        """Run Python there, in the project's folder, and return its output.

        Raises:
            StepFailed: it failed, or took too long.
        """
        root, cache = self.debian.root, self.cache
        environment = {
            "HOME": str(cache),
            "XDG_CACHE_HOME": str(cache),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(map(str, [*self.path, ROOT])),
        }
        # Through -E: only the emulated Python may see PYTHONHOME.
        command = [
            str(self.emulator),
            "-R",
            str(_ADDRESSES),
            "-cpu",
            self.cpu,
            "-L",
            str(root),
            "-E",
            f"PYTHONHOME={root}/usr",
        ]
        return run(step, [*command, self.debian.python, *arguments], clock, environment=environment)

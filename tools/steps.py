"""Steps of the tools: commands under one time limit, whose errors say what to do."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ROOT", "StepFailed", "Clock", "run"]

ROOT = Path(__file__).resolve().parents[1]


class StepFailed(Exception):
    """A step failed; the message says which, why, and what to do."""


class Clock:
    """The time left for all steps together, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def left(self, step: str) -> float:
        """Seconds that ``step`` may take.

        Raises:
            StepFailed: no time is left.
        """
        left = self._seconds - self.used
        if left <= 0:
            raise StepFailed(self.over(step))
        return left

    def over(self, step: str) -> str:
        """The message if ``step`` did not end in time."""
        return (
            f"{step}: not done within {self._seconds:.0f} seconds in all; allow more with --seconds"
        )


def run(
    step: str,
    command: Sequence[str | Path],
    clock: Clock,
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end, and return its output.

    Args:
        step: a description of the step, for the error.
        command: program and arguments.
        clock: the time limit.
        folder: where it runs.
        environment: variables to add to this process's own.

    Raises:
        StepFailed: it failed, or took too long; the message has its last lines.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=clock.left(step),
        )
    except subprocess.TimeoutExpired as error:
        raise StepFailed(clock.over(step)) from error
    except OSError as error:
        raise StepFailed(f"{step}: {words[0]} cannot be run: {error}") from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise StepFailed(
            f"{step}: {shlex.join(words[:4])} ... failed with status {done.returncode}:\n{last}"
        )
    return done.stdout

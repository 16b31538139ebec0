"""Runs attacks, bounded in time, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from .arguments import wrong_arguments
from .folders import strange_folders
from .interrupts import interrupts
from .readers import half_read

__all__ = ["ATTACKS", "Attack", "Outcome", "run"]

Attack = Callable[[int], Iterator[str | None]]
"""Given a seed, tries one thing after the other: each time None, or what it found."""

ATTACKS: Mapping[str, Attack] = {
    "interrupts": interrupts,
    "arguments": wrong_arguments,
    "readers": half_read,
    "folders": strange_folders,
}


@dataclass
class Outcome:
    """What came of an attack.

    Attributes:
        tries: how often something was tried.
        found: what went wrong.
        whole: whether it came to its end before the time was over.
        seconds: that it took.
    """

    tries: int = 0
    found: list[str] = field(default_factory=list)
    whole: bool = False
    seconds: float = 0.0


def run(attack: Attack, *, seed: int, seconds: float) -> Outcome:
    """Run one attack until it is through or the time is over."""
    outcome, start = Outcome(), time.monotonic()
    for found in attack(seed):
        outcome.tries += 1
        if found is not None:
            outcome.found.append(found)
        outcome.seconds = time.monotonic() - start
        if outcome.seconds > seconds:
            return outcome
    outcome.whole = True
    return outcome

"""How many tokens of a prompt a step may have beside the answers in it, so that no stream stops for long."""

from __future__ import annotations

__all__ = ["Pace"]

_LONGEST = 2.4
"""A step with a piece of a prompt takes at most as long as so many without one; three were promised."""


class Pace:
    """Learns from the time that steps take."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}  # seconds of a step with so many answers and no prompt
        self._room = 4.0

    def room(self, n_answers: int) -> int:
        """How many tokens of prompts the next step may have."""
        if n_answers not in self._plain:  # measure one without
            return 0
        return max(1, int(self._room))

    def note(self, n_answers: int, n_prompt: int, seconds: float) -> None:
        """A step with so many answers and tokens of prompts has taken so long."""
        if not n_answers:
            return
        known = self._plain.get(n_answers)
        if not n_prompt:
            self._plain[n_answers] = seconds if known is None else 0.8 * known + 0.2 * seconds
        elif known is not None:
            fitting = _LONGEST * known / seconds
            self._room = min(max(self._room * min(max(fitting, 0.5), 1.5), 1.0), 1e4)

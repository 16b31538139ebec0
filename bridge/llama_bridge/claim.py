"""Whether a call that waits for its turn is still wanted: a task that is cancelled gives it up before it begins."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["CLAIM", "Claim", "GivenUp"]


class GivenUp(Exception):
    """Nobody waits for this call any more. Ends it; no user sees it."""


class Claim:
    """A call that waits for its turn.

    No lock: garbage collection, in any thread and on any line, may give it up.

    Attributes:
        begun: whether its work has begun.
        given_up: whether nobody waits for it any more.
        ending: ends the work from any thread, when it is given up after it has begun; None where nothing can.
    """

    def __init__(self) -> None:
        self.begun = self.given_up = False
        self.ending: Callable[[], None] | None = None
        self._chance = [True]  # who takes it out decides whether the work begins

    def begin(self) -> None:
        """Begin the work.

        Raises:
            GivenUp: it must not begin any more.
        """
        if not self.begun:
            try:
                self._chance.pop()
            except IndexError:
                raise GivenUp from None
            self.begun = True

    def give_up(self) -> bool:
        """Give it up; whether that was in time, so that it never begins."""
        self.given_up = True
        try:
            self._chance.pop()
        except IndexError:
            if self.begun and self.ending is not None:
                self.ending()
            return not self.begun
        return True

    def check(self) -> None:
        """Raise GivenUp if it has not begun, and nobody waits for it any more."""
        if self.given_up and not self.begun:
            raise GivenUp

    def stop(self) -> None:
        """Raise GivenUp if nobody waits for it any more, although it has begun."""
        if self.given_up:
            raise GivenUp


CLAIM: ContextVar[Claim | None] = ContextVar("CLAIM", default=None)
"""The claim of the call that runs in this thread; None if it cannot be given up."""

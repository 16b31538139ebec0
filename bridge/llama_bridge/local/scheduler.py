"""Who may use the engine when: calls take turns, and answers in progress are computed together.

A call owns the engine only while it computes. An answer that was left half read holds nothing but its seat: a call that
needs one first computes the rest of that answer for its reader. No thread is started: who waits for a text computes the
next one, for all.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..bell import Bell
from ..claim import CLAIM, Claim
from ..engine import Engine
from ..errors import Busy, EngineError, InvalidInput
from .company import Company
from .running_turn import RunningTurn

__all__ = ["InTheWay", "Scheduler"]

T = TypeVar("T")

_A_MOMENT = 0.002
"""Seconds that a call lets others go first which came earlier."""


class _Ticket:
    """A call that wants the engine for itself.

    Attributes:
        thread: the thread that makes it.
        arrives: whether it is next, or stands in the door.
        over: whether it has ended.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.arrives = self.over = False


@dataclass(frozen=True, slots=True)
class InTheWay:
    """What a call must wait for.

    Attributes:
        turns: one of these must end first.
        seat: whether it needs a seat that it has not; those who wait for one get it in their order.
    """

    turns: Sequence[RunningTurn] = ()
    seat: bool = False


class Scheduler:
    """Lets one call at a time use an engine.

    Attributes:
        bell: rung when there is another text or the engine is free.
        lock: whoever holds it computes.

    Args:
        engine: the engine.
        turns: gives the answers in progress, oldest first.
        most_waiting: how many calls may wait for a seat.
        check: brings all ledgers in line with the cache.
        keep: called after each call of :meth:`alone`.
        free: called each time before the engine is let go of.
        ended: called after turns have come to their end.
    """

    def __init__(
        self,
        engine: Engine,
        turns: Callable[[], list[RunningTurn]],
        most_waiting: int,
        check: Callable[[], None],
        keep: Callable[[], None],
        free: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._turns = turns
        self.bell = Bell()
        self.lock = threading.Lock()
        self._door = threading.Lock()  # held while a call waits for the lock, so that it is next
        # Weak, so that each is gone with its call, whatever interrupts that. A new list for each, as others look at it.
        self._calls: list[weakref.ref[_Ticket]] = []
        self._engine = engine
        self._keep = keep
        self._free = free
        self._ended = ended
        self._company = Company(engine, check)
        self._most_waiting = most_waiting
        self._queue: list[_Ticket] = []
        self._process = os.getpid()
        self._owner = 0  # the thread that holds the lock
        self._gate = threading.RLock()  # guards the next two attributes, held briefly
        self._computing: Sequence[RunningTurn] = ()  # the answers being computed
        self._ended_one = False  # whether the engine was told to stop for the sake of one of them

    # calls

    def alone(
        self,
        work: Callable[[], T],
        look: Callable[[], InTheWay],
        *,
        patient: bool = True,
    ) -> T:
        """Use the engine exclusively, once nothing is in the way.

        Raises:
            Busy: not ``patient``, and too many calls wait for a seat.
            GivenUp: nobody waits for the work any more.
        """
        claim, ticket = CLAIM.get(), _Ticket()
        # In a signal handler: this thread may hold the door.
        inside = any(call.thread == ticket.thread for call in self._arriving())
        door = contextlib.nullcontext() if inside else self._door
        waiting = [one for one in self._calls if (call := one()) is not None and not call.over]
        self._calls = [*waiting, weakref.ref(ticket)]
        try:
            while True:
                self.refuse_waiting()
                try:
                    ticket.arrives = True
                    with door, self.lock:
                        self._owner = ticket.thread
                        try:
                            found = look()
                            if not found.turns and not (found.seat and self._others_wait(ticket)):
                                if claim is not None:
                                    claim.begin()
                                return work()
                            if found.seat:
                                self._line_up(ticket, patient)
                        finally:
                            self._settle()
                finally:
                    ticket.arrives = False
                    self.tell()
                self._wait(found.turns, claim)
        finally:
            ticket.over = True

    def _settle(self) -> None:
        try:
            self._keep()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._free()
        finally:
            self._owner = 0

    def _others_wait(self, ticket: _Ticket) -> bool:
        """Whether a call that came earlier waits for a seat."""
        self._queue = queue = [one for one in self._queue if not one.over]
        return bool(queue) and queue[0] is not ticket

    def _line_up(self, ticket: _Ticket, patient: bool) -> None:
        """Wait for a seat, behind the others."""
        self._queue = queue = [one for one in self._queue if not one.over]
        if ticket in queue:
            return
        if not patient and len(queue) >= self._most_waiting:
            raise Busy(len(queue))
        queue.append(ticket)

    def _wait(self, turns: Sequence[RunningTurn], claim: Claim | None) -> None:
        """Help until one of these turns has ended."""
        if claim is not None:
            claim.check()
        if not turns:  # a call that came earlier is to be served first
            self.bell.wait(lambda: False, _A_MOMENT)
            return

        def ended() -> bool:
            return any(turn.done for turn in turns)

        while not ended():
            turn = next((turn for turn in turns if not turn.goes_on), turns[0])
            turn.needed = True
            self.go_on(turn, ended, reading=False)
            if claim is not None:
                claim.check()

    def go_on(self, turn: RunningTurn, ready: Callable[[], bool], *, reading: bool) -> None:
        """Compute what comes next for an answer that is not ``ready``, or wait while another call has the engine."""
        self.refuse_waiting()
        lock = self.lock
        if lock.locked() or self._arriving():
            self.bell.wait(lambda: ready() or not (lock.locked() or self._arriving()))
            return
        try:
            with lock:
                self._owner = threading.get_ident()
                try:
                    if not ready():
                        self.compute(turn, reading=reading)
                finally:
                    self._let_go()
        finally:
            if self.bell.waiters:
                self.bell.ring()

    def _arriving(self) -> list[_Ticket]:
        calls = [one() for one in self._calls]
        return [call for call in calls if call is not None and call.arrives and not call.over]

    def compute(self, turn: RunningTurn, *, reading: bool) -> None:
        """Compute what comes next, for an answer and for those in its company. The reader of each gets its errors.

        An interrupt is raised here.
        """
        everyone = self._turns()
        turns = [
            one
            for one in everyone
            if one.ended or (not one.parked and (one is turn or one.goes_on))
        ]
        if not turns:  # those that it made way for are not read any more
            self._company.call_back(everyone)
            turns = [turn]
        self._take_up(turns)
        try:
            self._company.advance(turns, turn if reading else None)
        finally:
            with self._gate:
                self._computing = ()
            if any(one.done for one in everyone):
                self._company.call_back(everyone)
                self._ended()

    def _take_up(self, turns: Sequence[RunningTurn]) -> None:
        """Note that these are computed, and let no cancel of others reach them."""
        with self._gate:
            self._computing = turns
            if self._engine.info.n_parallel > 1:
                if self.stopped_from_outside:
                    for turn in turns:
                        turn.end()
                self.listen()

    def listen(self) -> None:
        """From here on, a cancel means what comes next."""
        with self._gate:
            self._ended_one = False
            self._engine.clear_cancel()

    @property
    def stopped_from_outside(self) -> bool:
        """Whether the engine was told to stop, and not for the sake of one answer: a page wrote into its flag."""
        with self._gate:
            return self._engine.cancelled and not self._ended_one

    def end(self, turn: RunningTurn) -> None:
        """End an answer now. Waits for nothing."""
        turn.end()
        if self._process != os.getpid():
            return  # forked, perhaps while another thread held the gate
        with self._gate:  # so that no other answer is cancelled instead
            if turn in self._computing:
                self._ended_one = True
                self._engine.cancel()

    def refuse_waiting(self) -> None:
        """Refuse to wait if that would never end.

        Raises:
            EngineError: in a forked process.
            InvalidInput: inside ``on_progress``, or in a signal handler that interrupted this.
        """
        if (
            self._process != os.getpid()
        ):  # a thread that held the engine does not exist here and never releases it
            raise EngineError(
                "this process was forked after the model was loaded: load it again here"
            )
        if self.is_inside:
            raise InvalidInput(
                "called from inside on_progress or a signal handler, while the model is busy: "
                "call again after it has returned"
            )

    @property
    def is_inside(self) -> bool:
        """Whether this thread uses the engine just now."""
        return self._owner == threading.get_ident() and self.lock.locked()

    def tell(self) -> None:
        """Wake the readers that wait for a text or for the engine."""
        if self.bell.waiters:
            self.bell.ring()

"""A turn in progress: evaluated and answered piece by piece, for any caller, alone or in company."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence

from ..chat.message import Message
from ..engine import CacheFull
from ..errors import EngineError
from ..generation import FinishReason, Generation, Mode
from ..request import Request
from ..snapshot import Snapshot, TurnMark
from .active import Active
from .token_loop import TokenLoop
from .turn import Turn

__all__ = ["RunningTurn"]

_numbers = itertools.count()
_AHEAD = 8
"""How many texts are computed ahead of a reader, while others are computed."""


class RunningTurn:
    """A turn in progress: evaluated and answered piece by piece, for any caller.

    After a cancel, what was said stays in the conversation. If the turn failed, or was cancelled before anything was
    said, the conversation is as it was before the turn, or empty if the turn was fresh.

    Args:
        active: the conversation.
        turn: what is appended to it.
        request: what was asked.
        begins: called just before anything changes.

    Attributes:
        active: the conversation.
        session: name of the conversation that it becomes a part of.
        texts: text that was generated but not read yet.
        generation: the whole answer, once it is in the conversation.
        error: the error it failed with, or None.
        told: whether the reader has received that error.
        number: its place in the order of arrival.
        needed: whether a call waits for its end, so that it is computed though nobody reads it.
        read_by: how many readers wait for its next text.
        again: whether it is evaluated again, because numbers were NaN and the cache was emptied.
        parked: whether it left its cells in the KV cache to other turns.
    """

    def __init__(
        self,
        active: Active,
        turn: Turn,
        request: Request,
        begins: Callable[[], None] | None = None,
    ) -> None:
        self.texts: deque[str] = deque()
        self.generation: Generation | None = None
        self.error: BaseException | None = None
        self.told = False
        self.number = next(_numbers)
        self.needed = False
        self.read_by = 0
        self.parked = False
        self.active = active
        self.session = request.session
        self._begins = begins
        self.again = False
        self._turn = turn
        self._sampling = request.sampling
        self._reads = request.reads
        spelling = active.spelling
        self._loop = TokenLoop(
            active.kv,
            request,
            spelling.by_ids(request.sampling),
            spelling.spell,
            active.guesses if request.sampling.speculate else None,
        )
        self._before: Snapshot | None = None  # set before anything is touched
        self._mark: TurnMark | None = None
        self._prompt: list[int] = []  # everything the answer is conditioned on
        self._given: list[str] = []  # all text that was given out

    @property
    def done(self) -> bool:
        """Whether it is over, successful or not."""
        return self.generation is not None or self.error is not None

    def is_done(self) -> bool:
        """The same, as a function."""
        return self.done

    def has_news(self) -> bool:
        """Whether there is something to read: a text or the end."""
        return bool(self.texts) or self.generation is not None or self.error is not None

    @property
    def goes_on(self) -> bool:
        """Whether it is computed when others are: somebody reads it, or will."""
        return self.needed or self.read_by > 0 or len(self.texts) < _AHEAD

    @property
    def ended(self) -> bool:
        """Whether it was told to end now."""
        return self._loop.ended

    def end(self) -> None:
        """End it now. Works from any thread."""
        self._loop.ended = True

    @property
    def in_prefill(self) -> bool:
        """Whether its prompt is not in the KV cache yet."""
        return self._before is None or self._loop.in_prefill

    @property
    def n_waiting(self) -> int:
        """How many tokens are to be evaluated before the next one is drawn, once it has begun."""
        return self._loop.n_waiting

    def advance(self, *, reading: bool) -> None:
        """Compute up to the next text or the end, or one piece of the prompt.

        Args:
            reading: whether the reader is the caller. If another caller is interrupted, the answer ends there and the
                reader gets what was said. If the reader is interrupted, the turn is undone.

        Raises:
            CacheFull: other turns hold the cells that it needs. Nothing has changed.
            EngineError: it failed; :attr:`error` has the error too.
        """
        self._go_on(self._loop.advance, reading)

    def begin(self, *, reading: bool) -> None:
        """Make room in conversation and cache, if that is still to be done: then :attr:`n_waiting` is known.

        Raises:
            EngineError: as in :meth:`advance`.
        """
        self._go_on(lambda: "", reading)

    def wants(self, room: int, *, reading: bool) -> list[int] | None:
        """The tokens that it appends next, as a part of a batch, at most so many; None if it must :meth:`advance`.

        Raises:
            EngineError: as in :meth:`advance`.
        """
        wanted: list[int] | None = None

        def ask() -> str:
            nonlocal wanted
            wanted = self._loop.wants(room)
            return ""

        self._go_on(ask, reading)
        return None if self.done else wanted

    def took(self, piece: Sequence[int], seconds: float, *, reading: bool) -> None:
        """These tokens were appended, in so many seconds: draw the next one if these were all.

        Raises:
            EngineError: as in :meth:`advance`.
        """
        self._go_on(lambda: self._loop.took(piece, seconds), reading)

    def _compute(self, work: Callable[[], str]) -> str:
        kv = self.active.kv
        try:
            return work()
        except CacheFull:
            raise
        except EngineError:
            # Attention reads NaN in the cells of others, too. The cache is empty now, so evaluate it again, once.
            alone, emptied = (
                kv.engine.info.n_parallel == 1,
                kv.sequence.length < len(kv.conversation),
            )
            if alone or self.again or not emptied:
                raise
            self.again = True
            kv.check()
            return ""

    def _go_on(self, compute: Callable[[], str], reading: bool) -> None:
        loop = self._loop
        if self.done:  # an interrupt came before this was noticed
            return
        try:
            if self._before is None:
                self._begin()
            text = self._compute(compute) if loop.finish is None else ""
            if loop.finish is not None:
                self._enter(loop.finish, loop.text)
            if text:
                self._given.append(text)
                self.texts.append(text)
        except CacheFull:
            raise
        except BaseException as error:
            if self._given and not reading and not isinstance(error, Exception):
                self._cut_short()
                raise
            self.error = error
            if self.generation is None and self._before is not None:
                self.active.restore(self._before)
            raise

    def fail(self, error: Exception) -> None:
        """End it with an error."""

        def refuse() -> str:
            raise error

        with contextlib.suppress(type(error)):
            self._go_on(refuse, reading=True)

    def park(self) -> None:
        """Leave its cells to others; its tokens are evaluated again when it goes on."""
        self.parked = True
        self.active.kv.give_up()

    def _cut_short(self) -> None:
        """End after an interrupt: what was given out is what was said."""
        assert self._before is not None
        kv, turns = self.active.kv, self._before.turns
        kv.check()
        kv.aim([*self._prompt, *self._loop.tokens], kv.origin)
        if self.generation is None:
            self.active.turns = list(turns[:-1] if self._turn.again else turns)
            self._enter("cancelled", "".join(self._given))

    def _begin(self) -> None:
        """Make room in conversation and cache for the prompt."""
        active, turn = self.active, self._turn
        if self.ended:  # before anything was touched
            self._loop.finish = "cancelled"
            return
        active.kv.check()
        if (begins := self._begins) is not None:
            begins()
            self._begins = None
        before = Snapshot() if turn.fresh else active.bare_snapshot()
        start = len(before.tokens)
        self._mark = turn.again or TurnMark(start, start + len(turn.tokens), len(before.messages))
        self._before = before
        tokens = active.make_way(turn)
        self._prompt = [*active.kv.conversation, *tokens]
        self._loop.prefill(tokens)

    def _enter(self, finish: FinishReason, text: str) -> None:
        """End: what was said becomes part of the conversation."""
        active, turn, loop = self.active, self._turn, self._loop
        if loop.said_nothing and finish == "cancelled":
            if self._before is not None:
                active.restore(self._before)
        else:
            assert self._mark is not None
            active.sampling = self._sampling
            active.turns.append(self._mark)
            if turn.messages:
                active.messages = [*turn.messages, self._message(text, finish)]
        self.generation = Generation(
            text=text,
            finish_reason=finish,
            mode=Mode.FRESH if turn.fresh else Mode.CONTINUED,
            usage=loop.usage,
            fallback=turn.fallback,
            seed=loop.seed,
            logprobs=loop.logprobs,
        )

    def _message(self, text: str, finish: FinishReason) -> Message:
        """The answer as a message of the conversation."""
        if self._reads is None:
            return Message(role="assistant", content=text)
        return Message(self._reads(text, finish != "stop"))

"""The token ledger: which tokens are in the KV cache, always in step with the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ..engine import CacheFull, Engine
from ..kv_sequence import KvSequence
from ..progress import OnProgress, Progress

__all__ = ["KvLedger", "Prefill", "common_beginning"]


def common_beginning(held: Sequence[int], wanted: Sequence[int]) -> int:
    """Length of the common beginning."""
    for i, (a, b) in enumerate(zip(held, wanted, strict=False)):
        if a != b:
            return i
    return min(len(held), len(wanted))


class KvLedger:
    """The only way to change a sequence in an engine's KV cache.

    Attributes:
        engine: the engine that owns the cache.
        sequence: the sequence; by default the engine's first.
        make_room: frees cells that other conversations hold; False if none does. Called when there are too few.
        tokens: tokens in the cache; ``len(tokens) == sequence.length`` after every call.
        owed: tokens that follow ``tokens`` but are not in the cache, because a cancel kept them out or this kind of
            memory could not rewind. The next :meth:`append` evaluates them first.
        origin: where the cache came from, see :class:`~llama_bridge.snapshot.Snapshot`.
    """

    def __init__(self, engine: Engine, sequence: KvSequence | None = None) -> None:
        self.engine = engine
        self.sequence = engine if sequence is None else sequence
        self.make_room: Callable[[], bool] = lambda: False
        self.origin: object | None = None
        # One attribute, so that an interrupt finds both changed or neither: no token is lost or counted twice.
        self._held_and_owed: tuple[list[int], list[int]] = [], []

    @property
    def tokens(self) -> list[int]:
        """The tokens in the cache."""
        return self._held_and_owed[0]

    @property
    def owed(self) -> list[int]:
        """The tokens that are still to be evaluated."""
        return self._held_and_owed[1]

    @property
    def conversation(self) -> list[int]:
        """The tokens of the conversation, whether in the cache or still owed."""
        held, owed = self._held_and_owed
        return held + owed

    def append(self, tokens: Sequence[int], on_progress: OnProgress | None = None) -> bool:
        """Evaluate what is owed, then ``tokens``; False if cancelled before the end."""
        prefill = Prefill(self, tokens, on_progress)
        while not prefill.over:
            if not prefill.advance():
                return False
        return True

    def evaluate(self, piece: list[int]) -> int:
        """Evaluate tokens, as many as one call of the engine takes; returns how many. Those that were owed no longer are."""
        while True:
            try:
                return self.sequence.decode(piece)
            except CacheFull:
                if not self.make_room():
                    raise
            finally:
                self._follow(piece)

    def settle(self, tokens: Sequence[int]) -> None:
        """Append tokens that belong to the conversation in any case: those that a cancel keeps out are owed.

        If some are owed already, because the cells went to others, so are these.
        """
        owed = self.owed
        self._held_and_owed = self.tokens, [*owed, *tokens]
        if not owed:
            with contextlib.suppress(CacheFull):
                self.append([])

    def step(self, token: int) -> int | None:
        """Append a token and draw the next one; None if cancelled before the token was in the cache."""
        following: int | None = None
        try:
            following = self.sequence.step(token)
        except CacheFull:
            if not self.make_room():
                raise
            return self.step(token)
        finally:
            if following is None:
                self._follow([token])
        if following is not None:
            self.tokens.append(token)
        return following

    def append_ahead(self, tokens: Sequence[int], guesses: Sequence[int]) -> bool:
        """Append tokens, and guesses that :meth:`rewind` takes back if they do not come; False if cancelled before."""
        done = False
        try:
            done = self.sequence.decode_ahead(tokens, guesses)
        except CacheFull:
            if not self.make_room():
                raise
            return self.append_ahead(tokens, guesses)
        finally:
            if not done:
                self._follow([*tokens, *guesses])
        if done:
            self.tokens.extend((*tokens, *guesses))
        return done

    def took(self, piece: Sequence[int]) -> None:
        """The engine has appended tokens, the first of those that are owed, if there are such."""
        if self.owed:
            self._held_and_owed = [*self.tokens, *piece], self.owed[len(piece) :]
        else:
            self.tokens.extend(piece)

    def share(self, other: KvLedger, length: int) -> None:
        """Make the first tokens of another sequence all of this one's, in the same cells, if the memory can."""
        self.clear()  # also the ledger: an interrupt finds nothing here, or cells that it does not know
        if self.engine.share(other.sequence, self.sequence, length):
            self.origin = other.origin
            self._held_and_owed = other.tokens[:length], []

    def give_up(self) -> None:
        """Leave the cache to others: the conversation is owed."""
        self._empty(owed=self.conversation)

    def rewind(self, length: int) -> None:
        """Go back to the first ``length`` tokens of the conversation.

        If the memory cannot rewind, it is emptied and the tokens are owed: correct, but slower.
        """
        keep = self.conversation[:length]
        if length <= len(self.tokens) and self.sequence.truncate(length):
            self._held_and_owed = keep, []
        elif length > len(self.tokens):
            self._held_and_owed = self.tokens, keep[len(self.tokens) :]
        else:
            self._empty(owed=keep)

    def clear(self) -> None:
        """Empty cache and ledger."""
        self._empty(owed=[])

    def _empty(self, owed: list[int]) -> None:
        self._held_and_owed = [], owed
        self.origin = None
        self.sequence.clear()

    def aim(self, tokens: Sequence[int], origin: object | None = None) -> None:
        """Make ``tokens`` the conversation. Their beginning stays in the cache if it is there; the rest is owed.

        Nothing from another conversation's file stays.
        """
        if self.origin is not None and self.origin is not origin:
            self.clear()
        self.rewind(common_beginning(self.tokens, tokens))
        self._held_and_owed = self.tokens, list(tokens[len(self.tokens) :])

    def replace(self, load: Callable[[], bool], tokens: Sequence[int], held: int) -> bool:
        """Let the engine load a cache that holds the first ``held`` of ``tokens``; the others are owed.

        False if it refuses or then holds a different number of tokens. The previous conversation stays in the cache
        if the engine did not touch it; otherwise it is owed.
        """
        before = self.conversation
        loaded = untouched = False
        try:
            taken = load()
            length = self.sequence.length
            loaded = taken and length == held
            untouched = not taken and length == len(self.tokens)
        finally:
            if loaded:
                self._held_and_owed = list(tokens[:held]), list(tokens[held:])
            elif not untouched:
                self._empty(owed=before)
        return loaded

    def disturb(self, work: Callable[[], None]) -> None:
        """Let the engine do what may empty its cache. What it then no longer holds is owed."""
        try:
            work()
        finally:
            self.check()

    def check(self) -> None:
        """Repair the ledger if an interrupt left it out of step with the cache: both keep what they share."""
        held = self.sequence.length
        if held < len(self.tokens):
            self._held_and_owed = self.tokens[:held], self.tokens[held:] + self.owed
        elif held > len(self.tokens) and not self.sequence.truncate(len(self.tokens)):
            self._empty(owed=self.conversation)

    def _follow(self, pending: list[int]) -> None:
        """Add as many of the pending tokens as the engine now holds; they are no longer owed."""
        length = self.sequence.length
        if length < len(self.tokens):  # it was emptied, because it computed NaN
            self.check()
            return
        tokens = (self.tokens + pending)[:length]
        self._held_and_owed = tokens, self.owed[max(0, len(tokens) - len(self.tokens)) :]


class Prefill:
    """Tokens that are evaluated in pieces, a batch each. Whatever is owed comes first."""

    def __init__(self, kv: KvLedger, tokens: Sequence[int], on_progress: OnProgress | None) -> None:
        self._kv = kv
        self._before = len(kv.tokens)
        self._all = kv.conversation + list(tokens)
        self._told = -1
        self._on_progress = on_progress

    @property
    def over(self) -> bool:
        """Whether all of them are in the cache."""
        return len(self._kv.tokens) >= len(self._all)

    @property
    def n_waiting(self) -> int:
        """How many are not in the cache yet."""
        return len(self._all) - len(self._kv.tokens)

    def piece(self, room: int) -> list[int]:
        """The next ones, at most so many."""
        self.tell()
        start = len(self._kv.tokens)
        return self._all[start : start + room]

    def advance(self) -> bool:
        """Evaluate the next piece; False if it was cancelled."""
        piece = self.piece(self._kv.engine.info.n_batch)
        if self._kv.evaluate(piece) < len(piece):
            return False
        if self.over:
            self.tell()
        return True

    def tell(self) -> None:
        """Report how far it is, if that is news."""
        done = len(self._kv.tokens) - self._before
        if self._on_progress is not None and done > self._told:
            self._told = done
            total = len(self._all) - self._before
            self._on_progress(Progress("prefill", done, total, "tokens"))

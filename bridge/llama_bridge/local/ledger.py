"""The token ledger: which tokens are in the KV cache, always in step with the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..engine import Engine
from ..progress import OnProgress, Progress

__all__ = ["KvLedger", "Prefill", "common_beginning"]


def common_beginning(held: Sequence[int], wanted: Sequence[int]) -> int:
    """Length of the common beginning."""
    for i, (a, b) in enumerate(zip(held, wanted, strict=False)):
        if a != b:
            return i
    return min(len(held), len(wanted))


class KvLedger:
    """The only way to change an engine's KV cache.

    Attributes:
        engine: the engine that owns the cache.
        tokens: tokens in the cache; ``len(tokens) == engine.length`` after every call.
        owed: tokens that follow ``tokens`` but are not in the cache, because a cancel kept them out or this kind of
            memory could not rewind. The next :meth:`append` evaluates them first.
        origin: where the cache came from, see :class:`~llama_bridge.snapshot.Snapshot`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
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
        try:
            return self.engine.decode(piece)
        finally:
            self._follow(piece)

    def settle(self, tokens: Sequence[int]) -> None:
        """Append tokens that belong to the conversation in any case: those that a cancel keeps out are owed."""
        self._held_and_owed = self.tokens, [*self.owed, *tokens]
        self.append([])

    def step(self, token: int) -> int | None:
        """Append a token and draw the next one; None if cancelled before the token was in the cache."""
        following: int | None = None
        try:
            following = self.engine.step(token)
        finally:
            if following is None:
                self._follow([token])
        if following is not None:
            self.tokens.append(token)
        return following

    def rewind(self, length: int) -> None:
        """Go back to the first ``length`` tokens of the conversation.

        If the memory cannot rewind, it is emptied and the tokens are owed: correct, but slower.
        """
        keep = self.conversation[:length]
        if length <= len(self.tokens) and self.engine.truncate(length):
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
        self.engine.clear()

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
            length = self.engine.length
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
        held = self.engine.length
        if held < len(self.tokens):
            self._held_and_owed = self.tokens[:held], self.tokens[held:] + self.owed
        elif held > len(self.tokens) and not self.engine.truncate(len(self.tokens)):
            self._empty(owed=self.conversation)

    def _follow(self, pending: list[int]) -> None:
        """Add as many of the pending tokens as the engine now holds; they are no longer owed."""
        tokens = (self.tokens + pending)[: self.engine.length]
        self._held_and_owed = tokens, self.owed[max(0, len(tokens) - len(self.tokens)) :]


class Prefill:
    """Tokens that are evaluated in pieces, a batch each. Whatever is owed comes first.

    Attributes:
        over: whether all of them are in the cache.
    """

    def __init__(self, kv: KvLedger, tokens: Sequence[int], on_progress: OnProgress | None) -> None:
        self._kv = kv
        self._pending = kv.owed + list(tokens)
        self._done = 0
        self._on_progress = on_progress
        self.over = not self._pending

    def advance(self) -> bool:
        """Evaluate the next piece; False if it was cancelled."""
        done, total = self._done, len(self._pending)
        self._tell(done, total)
        piece = self._pending[done : done + self._kv.engine.info.n_batch]
        taken = self._kv.evaluate(piece)
        self._done = done = done + taken
        if taken < len(piece):
            return False
        if done == total:
            self._tell(done, total)
            self.over = True
        return True

    def _tell(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress("prefill", done, total, "tokens"))

"""A conversation at rest: all that is needed to go on with it, in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from .chat.message import Message

__all__ = ["SessionInfo", "Snapshot", "TurnMark"]


@dataclass(frozen=True, slots=True)
class TurnMark:
    """Where a turn lies in the conversation, so that it can be taken back or answered anew.

    Attributes:
        start: tokens before the turn.
        prompt_end: tokens up to where the answer begins.
        n_messages: messages before the turn.
    """

    start: int
    prompt_end: int
    n_messages: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation and, where it was taken with it, its KV cache.

    Attributes:
        tokens: of the whole conversation.
        held: how many of them the state holds; the rest are owed.
        messages: what was said, where the prompts were chat turns.
        turns: where each turn lies.
        origin: stands for the file that the KV cache came from, None where it was evaluated here. Other
            conversations take nothing from it: a file may say that its cells are of tokens that they are not.
        state: copy of the KV cache with the engine's prefix, or None: then all tokens are owed.
    """

    tokens: tuple[int, ...] = ()
    held: int = 0
    messages: tuple[Message, ...] = ()
    turns: tuple[TurnMark, ...] = ()
    state: memoryview | None = field(default=None, repr=False)
    origin: object | None = field(default=None, repr=False, compare=False)

    @property
    def n_bytes(self) -> int:
        """Memory the state takes."""
        return 0 if self.state is None else self.state.nbytes

    def bare(self) -> Snapshot:
        """The conversation without its KV cache."""
        return replace(self, state=None, held=0)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session file that was written or taken over.

    Attributes:
        path: of the file.
        n_tokens: length of the token ledger.
        n_bytes: size of the file.
        messages: the conversation, where it was chat.
        created: when it was saved, ISO 8601, UTC; empty where the file does not say.
        cached_tokens: of the ledger, those that the KV cache has without being evaluated by this call.
        evaluated_tokens: of the ledger, those that this call evaluated.
        replayed: why the conversation was evaluated again instead of taken from the file, or None.
    """

    path: Path
    n_tokens: int
    n_bytes: int
    messages: tuple[Message, ...]
    created: str
    cached_tokens: int = 0
    evaluated_tokens: int = 0
    replayed: str | None = None

    @property
    def owed_tokens(self) -> int:
        """Of the ledger, those that the next call evaluates first."""
        return self.n_tokens - self.cached_tokens - self.evaluated_tokens

"""A conversation at rest: everything that is needed to go on with it, in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from .chat.message import Message
from .markup import brief, rows
from .models.adapter import Adapter
from .params import SamplingParams

__all__ = ["SessionInfo", "Snapshot", "TurnMark"]


@dataclass(frozen=True, slots=True)
class TurnMark:
    """Where a turn is in the conversation, so that it can be undone or answered again.

    Attributes:
        start: tokens before the turn.
        prompt_end: tokens before the answer.
        n_messages: messages before the turn.
    """

    start: int
    prompt_end: int
    n_messages: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation, with or without its KV cache.

    Attributes:
        tokens: the whole conversation.
        held: how many of them the state holds; the rest are still to be evaluated.
        messages: what was said, if the prompts were chat turns.
        turns: where each turn is.
        sampling: how the last answer was drawn, if there is one.
        origin: stands for the file that the KV cache came from; None if it was evaluated here. Other
            conversations reuse nothing from a file, because it may claim tokens that its cells do not hold.
        state: a copy of the KV cache, with the engine's prefix; None if there is no copy.
        adapters: the LoRA adapters that the state was computed with. With others it is of no use.
    """

    tokens: tuple[int, ...] = ()
    held: int = 0
    messages: tuple[Message, ...] = ()
    turns: tuple[TurnMark, ...] = ()
    state: memoryview | None = field(default=None, repr=False)
    origin: object | None = field(default=None, repr=False, compare=False)
    sampling: SamplingParams | None = field(default=None, repr=False, compare=False)
    adapters: tuple[Adapter, ...] = field(default=(), repr=False, compare=False)

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that the state takes."""
        return 0 if self.state is None else self.state.nbytes

    def bare(self) -> Snapshot:
        """The conversation without its KV cache."""
        return replace(self, state=None, held=0)


@dataclass(frozen=True, slots=True, repr=False)
class SessionInfo:
    """A session file that was saved or loaded.

    Attributes:
        path: the file, absolute.
        n_tokens: how many tokens the conversation has.
        n_bytes: size of the file.
        messages: the conversation, if it was a chat.
        created: when it was saved (ISO 8601, UTC); empty if the file does not say.
        cached_tokens: how many of the tokens were in the KV cache without being evaluated by this call.
        evaluated_tokens: how many of them this call evaluated.
        replayed: why the conversation was evaluated again instead of being taken from the file, or None.
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
        """How many of the tokens the next call has to evaluate first."""
        return self.n_tokens - self.cached_tokens - self.evaluated_tokens

    def __repr__(self) -> str:
        parts = [brief(str(self.path), 120), f"{self.n_tokens:,} tokens", f"{self.n_bytes:,} bytes"]
        if self.messages:
            parts.append(f"{len(self.messages):,} messages")
        if self.replayed is not None:
            parts.append("replayed")
        return f"SessionInfo({', '.join(parts)})"

    def _repr_html_(self) -> str:
        facts = {
            "tokens": f"{self.n_tokens:,}",
            "bytes": f"{self.n_bytes:,}",
            "messages": f"{len(self.messages):,}",
            "saved": self.created or "unknown",
            "cached": f"{self.cached_tokens:,}",
            "evaluated": f"{self.evaluated_tokens:,}",
        }
        if self.replayed is not None:
            facts["evaluated again because"] = self.replayed
        return rows(str(self.path), facts)

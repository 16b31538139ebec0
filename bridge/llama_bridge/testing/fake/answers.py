"""What the fake says: answers as data, and two that make themselves up."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Answers", "Asked", "FakeAnswer", "babble", "echo"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is conditioned on.

    Attributes:
        prompt: the user's new turn; of raw text, everything since the last finished answer.
        context: all that the KV cache holds, control tokens spelled out.
    """

    prompt: str
    context: str


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """An answer, and what goes wrong in it.

    Attributes:
        text: what is said.
        fails_after: tokens (bytes) drawn before ``error`` is raised; None for never.
        error: what is raised then; None for an EngineError.
        token_seconds: time each further token takes, unless it is cancelled.
    """

    text: str = ""
    fails_after: int | None = None
    error: Exception | None = None
    token_seconds: float = 0.0


Answer = str | FakeAnswer
Answers = Answer | Mapping[str, Answer] | Callable[[Asked], Answer] | Iterable[Answer]


def echo(asked: Asked) -> str:
    """The answer where a test gives none: what was said, repeated."""
    return f"You said: {asked.prompt}"


def babble(asked: Asked) -> str:
    """Letters that depend on every byte of the context, so that they tell whether a KV cache is right."""
    said = ""
    while (sign := zlib.crc32((asked.context + said).encode())) % 24 and len(said) < 1000:
        said += chr(ord("a") + sign // 24 % 26)
    return said

"""What the fake answers: answers as data, and two functions that compute them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Answers", "Asked", "FakeAnswer", "babble", "echo"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is conditioned on.

    Attributes:
        prompt: the user's new turn; for raw text, everything since the last finished answer.
        context: everything in the KV cache, with control tokens spelled out.
    """

    prompt: str
    context: str


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """An answer, and what goes wrong with it.

    Attributes:
        text: text of the answer.
        fails_after: tokens (bytes) drawn before ``error`` is raised; None for never.
        error: the error to raise then; None for an EngineError.
        token_seconds: time that each token after the first takes, unless it is cancelled.
    """

    text: str = ""
    fails_after: int | None = None
    error: Exception | None = None
    token_seconds: float = 0.0


Answer = str | FakeAnswer
Answers = Answer | Mapping[str, Answer] | Callable[[Asked], Answer] | Iterable[Answer]


def echo(asked: Asked) -> str:
    """The default answer: repeats what was said."""
    return f"You said: {asked.prompt}"


def babble(asked: Asked) -> str:
    """Letters that depend on every byte of the context, so they show whether a KV cache is right."""
    said = ""
    while (sign := zlib.crc32((asked.context + said).encode())) % 24 and len(said) < 1000:
        said += chr(ord("a") + sign // 24 % 26)
    return said

"""What the fake answers: answers as data, and two functions that compute them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ...checks import check_count, check_text, shown
from ...errors import InvalidInput

__all__ = ["Answer", "Answers", "Asked", "FakeAnswer", "babble", "check_seconds", "echo"]


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

    Raises:
        InvalidInput: one of them has the wrong type.
    """

    text: str = ""
    fails_after: int | None = None
    error: BaseException | None = None
    token_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_text("text of an answer", self.text)
        if self.fails_after is not None:
            check_count("fails_after", self.fails_after)
        if not isinstance(self.error, BaseException | None):
            raise InvalidInput(f"error={shown(self.error)}: give an exception, or None")
        check_seconds("token_seconds", self.token_seconds)


def check_seconds(name: str, value: float) -> float:
    """Return a time, or raise an InvalidInput that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise InvalidInput(f"{name}={shown(value)}: give a number of seconds")
    return value


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

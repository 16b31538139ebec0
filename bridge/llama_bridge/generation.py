"""What a generation gives back: the text, how it ended, what it cost; and a stream of its text."""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from .errors import EngineError

__all__ = ["FinishReason", "Generation", "Mode", "StreamClosed", "TextStream", "Usage"]

FinishReason = Literal["stop", "length", "cancelled"]


class Mode(enum.Enum):
    """Whether an answer continued the session in the KV cache."""

    FRESH = "fresh"
    CONTINUED = "continued"


@dataclass(frozen=True, slots=True)
class Usage:
    """Measured cost of one generation.

    Attributes:
        prompt_tokens: all tokens that the answer was conditioned on.
        cached_tokens: of these, those already in the KV cache; with ``Capability.PREFIX_CACHE`` a fresh
            prompt can have some, too.
        evaluated_tokens: of these, those evaluated now.
        completion_tokens: tokens drawn, the one that ends the generation included.
        prompt_seconds: wall time of the prefill.
        completion_seconds: wall time from the first drawn token to the last; in a stream without the
            time the consumer took between two deltas.
    """

    prompt_tokens: int
    cached_tokens: int
    evaluated_tokens: int
    completion_tokens: int
    prompt_seconds: float
    completion_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding; 0 where nothing was generated."""
        return (
            self.completion_tokens / self.completion_seconds if self.completion_seconds > 0 else 0.0
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer. ``str()`` gives its text.

    Attributes:
        text: the answer, without control tokens and without the stop string.
        finish_reason: ``"stop"`` (the model ended, or a stop string came), ``"length"`` (``max_tokens``
            or the context is used up), ``"cancelled"``.
        mode: fresh or continued.
        usage: measured cost.
        fallback: why a ``generate_continue`` ran fresh, or None.
        seed: what the sampler was seeded with: with it, the same call gives the same text.
    """

    text: str
    finish_reason: FinishReason
    mode: Mode
    usage: Usage
    fallback: str | None = None
    seed: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.text


class StreamClosed(Exception):
    """Thrown into a running generation to end it where it stands. Never leaves the library."""


class TextStream(Iterator[str]):
    """Text deltas of a running generation; joined, they are ``result.text``, if it is read to its end.

    The bridge is busy until the stream ends: by its last delta, ``close()``, the end of a ``with`` block,
    or the next call on the bridge from the thread that reads it. Ended early, the answer so far stays
    in the session, as after ``cancel()``.
    """

    def __init__(self, deltas: Generator[str, None, Generation]) -> None:
        self._deltas = deltas
        self._result: Generation | None = None
        self._error: BaseException | None = None
        self.owner = threading.get_ident()
        self._inside = threading.Lock()
        next(deltas)  # up to the point where work would start: from here on its clean-up is certain

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        self.owner = threading.get_ident()
        return self._advance(lambda: next(self._deltas))

    def _advance(self, move: Callable[[], str]) -> str:
        # Asked for here: CPython 3.11 does not always notice that a generator is running, and crashes.
        if not self._inside.acquire(blocking=False):
            raise ValueError("another thread is inside the generation; end it with cancel()")
        try:
            return move()
        except StopIteration as stop:
            self._result = self._result or stop.value
            raise StopIteration from None
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            self._inside.release()

    def close(self) -> None:
        """End the generation here; ``result`` is then what was said so far. Twice is silent.

        Raises:
            ValueError: another thread is inside the generation just now; use ``cancel()``.
        """
        if self._result is None and self._error is None:
            with contextlib.suppress(StopIteration):
                self._advance(lambda: self._deltas.throw(StreamClosed()))

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def result(self) -> Generation:
        """The finished generation; reads the rest of the stream first if there is any.

        Raises:
            EngineError: the generation failed; the cause is chained.
        """
        for _ in self:
            pass
        if self._result is None:
            raise EngineError("the generation failed, so there is no result") from self._error
        return self._result

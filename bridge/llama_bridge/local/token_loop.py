"""The token loop: one turn evaluated, one answer drawn token by token."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ..chat.template import Message
from ..engine import MemoryKind
from ..generation import FinishReason, Generation, Mode, StreamClosed, Usage
from ..params import SamplingParams
from ..snapshot import TurnMark
from .ledger import KvLedger
from .text_and_stops import TextAssembler

__all__ = ["Answer", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A checked and tokenised prompt, ready to be evaluated.

    Attributes:
        tokens: to append to the conversation; the whole prompt where ``fresh``.
        fresh: whether a new conversation begins.
        messages: the conversation up to and including this prompt; empty for raw text.
        fallback: why a continuation runs fresh, or None.
        again: the turn that is answered anew, or None.
    """

    tokens: list[int]
    fresh: bool
    messages: list[Message]
    fallback: str | None = None
    again: TurnMark | None = None


class Answer:
    """One generation on its way. Every token whose text was given out is in the ledger, or owed to it, at the end."""

    def __init__(
        self, kv: KvLedger, turn: Turn, params: SamplingParams, stop: Sequence[str]
    ) -> None:
        self._kv = kv
        self._engine = kv.engine
        self._turn = turn
        self._params = params
        self._seed = _new_seed() if params.seed is None else params.seed
        self._assembler = TextAssembler(stop)
        self._pieces: list[bytes] = []
        self._drawn = 0
        self._cached = self._evaluated = 0
        self._prompt_seconds = self._completion_seconds = 0.0

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._assembler.text

    @property
    def said_nothing(self) -> bool:
        """Whether the answer ended before its first token."""
        return self._drawn == 0

    def result(self, finish: FinishReason) -> Generation:
        """The generation as measured."""
        return Generation(
            text=self.text,
            finish_reason=finish,
            mode=Mode.FRESH if self._turn.fresh else Mode.CONTINUED,
            usage=Usage(
                prompt_tokens=self._cached + self._evaluated,
                cached_tokens=self._cached,
                evaluated_tokens=self._evaluated,
                completion_tokens=self._drawn,
                prompt_seconds=self._prompt_seconds,
                completion_seconds=self._completion_seconds,
            ),
            fallback=self._turn.fallback,
            seed=self._seed,
        )

    def run(self, tokens: Sequence[int]) -> Generator[str, None, FinishReason]:
        """Prefill what is owed and ``tokens``, then decode; yields text as soon as it is certain."""
        if not self._prefill(tokens):
            return "cancelled"
        start = len(self._kv.tokens)
        clock = time.perf_counter()
        recent = (
            self._kv.tokens[-self._params.repeat_last_n :] if self._params.has_penalties else []
        )
        self._engine.set_sampler(self._params, self._seed, recent)
        limit = self._engine.info.n_ctx - start
        if self._params.max_tokens is not None:
            limit = min(limit, self._params.max_tokens)

        finish: FinishReason = "cancelled"
        token = self._engine.sample()
        while True:
            self._drawn += 1
            if token in self._engine.info.end_of_generation:
                finish, delta = "stop", self._assembler.finish()
            else:
                self._pieces.append(self._engine.token_bytes(token))
                delta = self._assembler.push(self._pieces[-1])
                if self._assembler.stop is not None:
                    finish = "stop"
                elif self._drawn >= limit:
                    finish = "length"
                    delta += self._assembler.finish()
            goes_on = finish == "cancelled"
            following: int | None = None
            if delta:
                self._completion_seconds += time.perf_counter() - clock
                try:
                    yield delta
                except (StreamClosed, GeneratorExit):
                    self._assembler.finish()
                    break
                finally:
                    clock = time.perf_counter()
            if goes_on and not self._engine.cancelled:
                following = self._kv.step(token)
            if following is None:
                break
            token = following

        if rest := self._assembler.finish():  # cancelled while a stop string seemed to begin
            with contextlib.suppress(StreamClosed, GeneratorExit):
                yield rest
        self._engine.clear_cancel()
        self._complete(token, start)
        self._completion_seconds += time.perf_counter() - clock
        return finish

    def _prefill(self, tokens: Sequence[int]) -> bool:
        self._cached = len(self._kv.tokens)
        clock = time.perf_counter()
        finished = self._kv.append(tokens)
        self._prompt_seconds = time.perf_counter() - clock
        self._evaluated = len(self._kv.tokens) - self._cached
        return finished and not self._engine.cancelled

    def _complete(self, last: int, start: int) -> None:
        """Bring the KV cache to what was said: the last token in, a stop string out."""
        if self._assembler.stop is None or not self._cut(self._assembler.stop.encode(), start):
            self._kv.settle([last])

    def _cut(self, stop: bytes, start: int) -> bool:
        """Take the stop string back out of the KV cache; False where that cannot be done exactly."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return False
        said = b"".join(self._pieces)
        at = said.find(stop)
        if at < 0:  # a stop string of U+FFFD, which stands for other bytes
            return False
        said = said[:at]
        keep = size = 0
        while size + len(self._pieces[keep]) <= len(said):
            size += len(self._pieces[keep])
            keep += 1
        # A token may hold both the end of the answer and the start of the stop string: spell the rest.
        rest = self._engine.tokenize(
            said[size:].decode("utf-8", "replace"), add_special=False, parse_special=False
        )
        spelled = b"".join(map(self._engine.token_bytes, rest)) == said[size:]
        if not spelled or start + keep + len(rest) > self._engine.info.n_ctx:
            return False
        self._kv.rewind(start + keep)
        if rest:
            self._kv.settle(rest)
        return True


def _new_seed() -> int:
    # One below the largest: llama.cpp takes that as "draw one", and would not tell which it was.
    return int.from_bytes(os.urandom(4)) % (2**32 - 1)

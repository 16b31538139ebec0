"""The token loop: evaluates one turn and draws one answer, token by token."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ..engine import MemoryKind
from ..generation import FinishReason, Usage
from ..params import SamplingParams
from ..progress import OnProgress
from .ledger import KvLedger
from .text_and_stops import TextAssembler

__all__ = ["TokenLoop"]


class TokenLoop:
    """One answer: :meth:`prefill` once, then :meth:`advance` until :attr:`finish` is set.

    At the end, every token whose text was given out is in the ledger or owed to it.

    Attributes:
        ended: set to end the answer now.
        finish: how it ended; None while it runs.
        seed: seed of the sampler.
        tokens: tokens drawn so far, including the end of generation.
    """

    def __init__(
        self,
        kv: KvLedger,
        params: SamplingParams,
        stop: Sequence[str],
        on_progress: OnProgress | None,
    ) -> None:
        self.ended = False
        self.finish: FinishReason | None = None
        self.seed = _new_seed() if params.seed is None else params.seed
        self._kv = kv
        self._engine = kv.engine
        self._params = params
        self._on_progress = on_progress
        self._assembler = TextAssembler(stop)
        self.tokens: list[int] = []
        self._pieces: list[bytes] = []
        self._token: int | None = None  # drawn, and not in the KV cache yet
        self._finish: FinishReason | None = None  # how it will end once its last text was given out
        self._start = self._limit = 0
        self._cached = self._evaluated = 0
        self._prompt_seconds = self._completion_seconds = 0.0

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._assembler.text

    @property
    def said_nothing(self) -> bool:
        """Whether the answer ended before its first token."""
        return not self.tokens

    @property
    def usage(self) -> Usage:
        """The measured cost so far."""
        return Usage(
            prompt_tokens=self._cached + self._evaluated,
            cached_tokens=self._cached,
            evaluated_tokens=self._evaluated,
            completion_tokens=len(self.tokens),
            prompt_seconds=self._prompt_seconds,
            completion_seconds=self._completion_seconds,
        )

    def prefill(self, prompt: Sequence[int]) -> None:
        """Evaluate what is owed and a prompt. A cancel meanwhile ends the answer."""
        self._cached = len(self._kv.tokens)
        clock = time.perf_counter()
        finished = not self.ended and self._kv.append(prompt, self._on_progress)
        self._prompt_seconds = time.perf_counter() - clock
        self._start = len(self._kv.tokens)
        self._evaluated = self._start - self._cached
        if not finished or self.ended or self._engine.cancelled:
            self.finish = "cancelled"

    def advance(self) -> str:
        """Compute until some text is certain and return it, or until the end, which sets :attr:`finish`."""
        clock = time.perf_counter()
        try:
            return self._decode()
        finally:
            self._completion_seconds += time.perf_counter() - clock

    def _decode(self) -> str:
        while self._finish is None:
            if self._token is None:
                token = self._first()
            elif self.ended or self._engine.cancelled:
                token = None
            else:
                token = self._kv.step(self._token)
            if token is None:
                self._finish = "cancelled"
            elif text := self._hear(token):
                return text
        return self._end(self._finish)

    def _first(self) -> int:
        """Draw the first token."""
        last = self._params.repeat_last_n
        recent = self._kv.tokens[-last:] if last else []
        self._engine.set_sampler(self._params, self.seed, recent)
        self._limit = self._engine.info.n_ctx - self._start
        if self._params.max_tokens is not None:
            self._limit = min(self._limit, self._params.max_tokens)
        return self._engine.sample()

    def _hear(self, token: int) -> str:
        """Record a drawn token; returns the text that it makes certain, and notes whether it is the last."""
        self._token = token
        self.tokens.append(token)
        engine, assembler = self._engine, self._assembler
        if token in engine.info.end_of_generation:
            self._finish = "stop"
            return assembler.finish()
        piece = engine.token_bytes(token)
        self._pieces.append(piece)
        text = assembler.push(piece)
        if assembler.stop is not None:
            self._finish = "stop"
        elif len(self.tokens) >= self._limit:
            self._finish = "length"
            text += assembler.finish()
        return text

    def _end(self, finish: FinishReason) -> str:
        """Bring the KV cache in line with what was said; returns the text held back for a stop string."""
        assert self._token is not None
        self._engine.clear_cancel()
        self._complete(self._token, self._start)
        rest = self._assembler.finish()
        self.finish = finish
        return rest

    def _complete(self, last: int, start: int) -> None:
        """Bring the KV cache in line with what was said: add the last token or remove a stop string."""
        if self._assembler.stop is None or not self._cut(self._assembler.stop.encode(), start):
            self._kv.settle([last])

    def _cut(self, stop: bytes, start: int) -> bool:
        """Remove the stop string from the KV cache; False if that cannot be done exactly."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return False
        said = b"".join(self._pieces)
        at = said.find(stop)
        if at < 0:  # a stop string with U+FFFD, which replaces other bytes
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
    # Below the largest: llama.cpp reads that as "draw a seed" and would not report which.
    return int.from_bytes(os.urandom(4)) % (2**32 - 1)

"""The token loop: evaluates one turn and draws one answer, token by token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..checks import shown
from ..engine import MemoryKind
from ..errors import EngineError, OutOfMemory
from ..generation import FinishReason, TokenLogprob, Usage
from ..grammar import Grammar
from ..params import SamplingParams
from ..request import Request
from .ledger import KvLedger, Prefill, common_beginning
from .text_and_stops import TextAssembler

if TYPE_CHECKING:
    from .forced import ForcedText
    from .guesses import Guesses

__all__ = ["TokenLoop"]

_ROWS = 63
"""As in company: from 64 rows on, sums are in another order."""


class TokenLoop:
    """One answer: :meth:`prefill` once, then :meth:`advance` until :attr:`finish` is set.

    In company with other answers, a batch has the tokens that it :meth:`wants`, and then it :meth:`took` them. At the end, every token whose text was given out is in the ledger or owed to it.

    Attributes:
        ended: set to end the answer now.
        finish: how it ended; None while it runs.
        seed: seed of the sampler.
        tokens: tokens of the answer so far, including the end of generation.

    Args:
        kv: the ledger of the conversation.
        request: what is asked.
        params: its sampling, with token ids in ``logit_bias``.
        spell: tokens of a text inside an answer.
        guesses: guesses tokens of this conversation; None to draw one by one.
    """

    def __init__(
        self,
        kv: KvLedger,
        request: Request,
        params: SamplingParams,
        spell: Callable[[str], list[int]],
        guesses: Guesses | None = None,
    ) -> None:
        self.ended = False
        self.finish: FinishReason | None = None
        self.seed = _new_seed() if params.seed is None else params.seed
        self._kv = kv
        self._engine = kv.engine
        self._sequence = kv.sequence
        self._params = params
        self._on_progress = request.on_progress
        self._assembler = TextAssembler(request.stop)
        self._grammar = request.grammar
        self._n_logprobs = request.logprobs
        self._logprobs: list[TokenLogprob] = []
        self._forced: ForcedText | None = None
        self._spell = spell
        self._guesses = guesses
        self._drafted = self._accepted = 0
        # A forced token is not drawn, so it has no logits. And where control tokens stand for their spelling, no text
        # is forced to be spelled in other tokens.
        if (
            self._grammar is not None
            and not (self._grammar.lazy or self._grammar.controls)
            and request.logprobs is None
        ):
            from .forced import ForcedText  # 60 ms with the matcher, for those who give a grammar

            self._forced = ForcedText(self._grammar, kv.engine, kv.sequence, spell)
        self._keeps = self._kept(request.keeps)
        self.tokens: list[int] = []
        self._pieces: list[bytes] = []
        self._prefill: Prefill | None = None  # the prompt, until all of it is in the KV cache
        self._token: int | None = None  # the last one drawn, if it alone is not in the KV cache yet
        self._finish: FinishReason | None = None  # how it will end once its last text was given out
        self._started = False  # whether there is a sampler
        self._start = self._limit = 0
        self._prompt: list[int] = []  # what the answer follows, once it is in the KV cache
        self._cached = self._evaluated = 0
        self._prompt_seconds = self._completion_seconds = 0.0

    def _kept(self, texts: Sequence[str]) -> frozenset[int]:
        """The control tokens whose spelling is part of the text."""
        spelled = (
            self._engine.tokenize(text, add_special=False, parse_special=True) for text in texts
        )
        return frozenset(tokens[0] for tokens in spelled if len(tokens) == 1)

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._assembler.text

    @property
    def said_nothing(self) -> bool:
        """Whether the answer ended before its first token."""
        return not self.tokens

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...] | None:
        """One for each token so far, if they were asked for."""
        return None if self._n_logprobs is None else tuple(self._logprobs)

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
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
        )

    def prefill(self, prompt: Sequence[int]) -> None:
        """Begin to evaluate what is owed and a prompt; :meth:`advance` does it. A cancel meanwhile ends the answer."""
        self._cached = len(self._kv.tokens)
        self._prefill = Prefill(self._kv, prompt, self._on_progress)

    # alone

    def advance(self) -> str:
        """Compute until some text is certain and return it, or until the end, which sets :attr:`finish`.

        While the prompt is being evaluated, one piece of it; there is no text before its end.
        """
        clock = time.perf_counter()
        if self._prefill is not None:
            try:
                self._evaluate(self._prefill)
            finally:
                now = time.perf_counter()
                self._prompt_seconds += now - clock
            if self.in_prefill or self.finish is not None:
                return ""
            clock = now  # draw at once: the logits are gone when another answer is computed
        try:
            return self._decode()
        finally:
            self._completion_seconds += time.perf_counter() - clock

    def _evaluate(self, prefill: Prefill) -> None:
        """Evaluate the next piece of the prompt."""
        finished = not self.ended and (prefill.over or prefill.advance())
        self._note_prompt()
        if not finished or self.ended or self._engine.cancelled:
            self.finish = "cancelled"
        if prefill.over:
            self._prefill = None

    def _note_prompt(self) -> None:
        self._start = len(self._kv.tokens)
        self._evaluated = max(self._evaluated, self._start - self._cached)

    def _decode(self) -> str:
        if not self._started and (text := self._start_drawing()):
            return text
        while self._finish is None:
            last = self._token
            if self.tokens and (self.ended or self._engine.cancelled):
                token = None
            elif self._guesses is not None and (guessed := self._guess(self._guesses)):
                if text := self._draw_ahead(guessed, self._guesses):
                    return text
                continue
            elif last is None or self._kv.owed:
                token = self._draw_after_others()
            elif self._guesses is None:
                token = self._kv.step(last)
            else:
                clock = time.perf_counter()
                token = self._kv.step(last)
                self._guesses.took_single(time.perf_counter() - clock)
            if token is None:
                self._finish = "cancelled"
            elif text := self._hear(token):
                return text
        return self._end(self._finish)

    # in company

    @property
    def in_prefill(self) -> bool:
        """Whether the prompt is not in the KV cache yet."""
        return self._prefill is not None

    @property
    def n_waiting(self) -> int:
        """How many tokens are to be appended before the next one is drawn."""
        return self._prefill.n_waiting if self._prefill is not None else len(self._waiting())

    def wants(self, room: int) -> list[int] | None:
        """The tokens to append next, at most so many; None if :meth:`advance` must do what comes next.

        The last tokens of an answer are among them, so that they cost no step of their own.
        """
        if self.ended or self.finish is not None:
            return None
        if self._finish == "cancelled" or self._assembler.stop is not None:
            return None
        if self._prefill is not None:
            return self._prefill.piece(room) or None
        return self._waiting()[:room] or None

    def took(self, piece: Sequence[int], seconds: float) -> str:
        """These tokens were appended, in so many seconds. Returns the text that is now certain."""
        prefill = self._prefill
        self._kv.took(piece)
        if prefill is not None:
            self._prompt_seconds += seconds
            self._note_prompt()
            prefill.tell()
            if not prefill.over:
                return ""
            self._prefill = None
            if self.ended:  # now: the logits are gone when another answer is computed
                self.finish = "cancelled"
                return ""
        else:
            self._completion_seconds += seconds
            if self._waiting():
                return ""
        if self.ended:
            return ""
        if self._finish is not None:
            return self._end(self._finish)
        if not self._started and ((text := self._start_drawing()) or self._waiting()):
            return text
        return self._hear(self._sequence.sample())

    def _waiting(self) -> list[int]:
        """The tokens of prompt and answer that are not in the KV cache."""
        n = len(self._kv.tokens) - self._start
        return self.tokens[n:] if n >= 0 else self._prompt[n:] + self.tokens

    def _start_drawing(self) -> str:
        """Make the sampler; returns the text that the grammar forces before the first token is drawn."""
        info = self._engine.info
        self._prompt = list(self._kv.tokens)
        last = _counted(self._params, info.n_ctx)
        recent = self._kv.tokens[-last:] if last else []
        if self._grammar is None:
            self._sequence.set_sampler(self._params, self.seed, recent)
        else:
            self._sequence.set_sampler(self._params, self.seed, recent, self._grammar)
            self._begin(self._grammar)
        self._started = True
        if self._guesses is not None:
            self._guesses.follow(self._prompt)
        self._limit = info.n_ctx - self._start
        if self._params.max_tokens is not None:
            self._limit = min(self._limit, self._params.max_tokens)
        return "" if self._forced is None else self._force(self._forced, b"")

    def _begin(self, grammar: Grammar) -> None:
        """Let the sampler take for granted what the grammar begins with and the prompt ends with."""
        if not grammar.begun or grammar.lazy:
            return
        tokens = self._spell(grammar.begun)
        if self._sequence.accept(tokens) < len(tokens):
            raise EngineError(f"the grammar does not begin with {shown(grammar.begun)}")

    def _draw_after_others(self) -> int | None:
        """Draw the first token, or one after others that are not in the KV cache; None if cancelled before they were."""
        waiting = self._waiting()
        if waiting and not self._kv.append(waiting[len(self._kv.owed) :]):
            return None
        return self._sequence.sample()

    def _guess(self, guesses: Guesses) -> list[int]:
        """What to guess now, if anything."""
        if not self.tokens or self._kv.owed:
            return []
        room = min(self._engine.info.n_batch, _ROWS) - len(self._waiting())
        return guesses.next(min(room, self._limit - len(self.tokens) - 1))

    def _draw_ahead(self, guessed: list[int], guesses: Guesses) -> str:
        """Append what waits and what is guessed at once, and draw for as long as it comes; returns the text that is now certain."""
        clock, said_before = time.perf_counter(), len(self.tokens)
        held = len(self._kv.tokens)
        try:
            if not self._kv.append_ahead(self._waiting(), guessed):
                self._finish = "cancelled"
                return ""
        except (EngineError, OutOfMemory):
            if len(self._kv.tokens) != held:
                raise
            self._guesses = None  # there was no room for so many: go on one by one
            return ""
        self._drafted += len(guessed)
        text, said = "", self.tokens[:0]
        try:
            while said == guessed[: len(said)] and self._finish is None and not self.ended:
                if said:
                    self._sequence.look(len(said))
                text += self._hear(self._sequence.sample())
                said = self.tokens[said_before:]
        finally:
            right = common_beginning(said, guessed)
            self._accepted += right
            # At least one waits, to draw behind it.
            if (kept := max(0, min(right, len(said) - 1))) < len(guessed):
                self._kv.rewind(self._start + said_before + kept)
        guesses.took(len(guessed), len(said), time.perf_counter() - clock)
        return text

    def _owed(self) -> list[int]:
        """The tokens of the answer that the ledger does not know."""
        return self.tokens[len(self._kv.conversation) - self._start :]

    def _hear(self, token: int) -> str:
        """Record a drawn token; returns the text that it makes certain, and notes whether it is the last."""
        self._token = token
        if self._n_logprobs is not None:
            self._logprobs.append(self._logprob(token, self._n_logprobs))
        if token in self._engine.info.end_of_generation:
            self._add(token)
            self._finish = "stop"
            return self._assembler.finish()
        text = self._say(token)
        if self._forced is not None and self._finish is None:
            text += self._force(self._forced, self._pieces[-1])
        return text

    def _say(self, token: int) -> str:
        """Add a token to the answer; returns the text that it makes certain, and notes whether it is the last."""
        self._add(token)
        assembler = self._assembler
        piece = self._engine.token_bytes(token, special=token in self._keeps)
        self._pieces.append(piece)
        text = assembler.push(piece)
        if assembler.stop is not None:
            self._finish = "stop"
        elif len(self.tokens) >= self._limit:
            self._finish = "length"
            text += assembler.finish()
        return text

    def _add(self, token: int) -> None:
        self.tokens.append(token)
        if self._guesses is not None:
            self._guesses.said(token)

    def _force(self, forced: ForcedText, piece: bytes) -> str:
        """Say the tokens that the grammar leaves no choice about after these bytes."""
        text = ""
        for token in forced.after(piece):
            text += self._say(token)
            self._token = None
            self._drafted += 1
            self._accepted += 1
            if self._finish is not None:
                break
        return text

    def _logprob(self, token: int, n: int) -> TokenLogprob:
        logprob, best = self._sequence.logprobs(token, n)
        top = tuple(self._named(one, value) for one, value in best)
        return self._named(token, logprob, top)

    def _named(
        self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
    ) -> TokenLogprob:
        data = self._engine.token_bytes(token, special=True)
        return TokenLogprob(token, data.decode("utf-8", "replace"), data, logprob, top)

    def _end(self, finish: FinishReason) -> str:
        """Bring the KV cache in line with what was said; returns the text held back for a stop string."""
        self._engine.clear_cancel()
        self._complete(self._start)
        rest = self._assembler.finish()
        self.finish = finish
        return rest

    def _complete(self, start: int) -> None:
        """Bring the KV cache in line with what was said: add the last tokens or remove a stop string."""
        if self._assembler.stop is None or not self._cut(self._assembler.stop.encode(), start):
            self._kv.settle(self._owed())

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


def _counted(params: SamplingParams, n_ctx: int) -> int:
    """How many recent tokens the samplers count."""
    last = params.repeat_last_n
    if params.dry_multiplier > 0:
        last = max(last, n_ctx if params.dry_penalty_last_n < 0 else params.dry_penalty_last_n)
    return last


def _new_seed() -> int:
    # Below the largest: llama.cpp reads that as "draw a seed" and would not report which.
    return int.from_bytes(os.urandom(4)) % (2**32 - 1)

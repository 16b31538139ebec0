"""One sequence in the guest's KV cache: its tokens, and the sampler that draws the next one."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from llama_bridge.checks import check_count
from llama_bridge.engine import CacheFull, MemoryKind
from llama_bridge.engine_arguments import (
    check_ahead,
    check_length,
    check_room,
    check_sampler,
    check_token,
    check_tokens,
)
from llama_bridge.errors import ContextOverflow, EngineError
from llama_bridge.grammar import Grammar
from llama_bridge.kv_sequence import KvSequence
from llama_bridge.params import SamplingParams

from .. import abi
from ..abi import Accept, Status
from .lazy_grammar import LazyGrammar
from .marshal import as_pointer, last_error
from .sampler import pack_sampler

if TYPE_CHECKING:
    from .wasm_engine import WasmEngine

__all__ = ["NAME", "WasmSequence"]

NAME = "wasm"
_MOST_GUESSES = 15
_LARGEST = (1 << 31) - 1


class WasmSequence(KvSequence):
    """A sequence of an engine.

    Attributes:
        number: the guest's number of it.
    """

    backend = NAME
    _lazy: LazyGrammar | None = None
    _banned: frozenset[int] = frozenset()

    def begin_as(self, engine: WasmEngine, number: int) -> None:
        """Be the sequence of this number. A method, because an engine is its own first sequence."""
        self.engine = engine
        self.number = number
        if engine.info.memory is MemoryKind.DENSE:
            self.max_guesses = min(_MOST_GUESSES, engine.info.n_batch - 1)

    # the KV cache

    @property
    def length(self) -> int:
        return self.engine.call("lb_length", self.number)

    def decode(self, tokens: Sequence[int]) -> int:
        info = self.engine.info
        before = self.length
        packed = check_tokens("tokens", tokens, info.n_vocab)
        check_room(before, len(packed), info.n_ctx)
        try:
            for start in range(0, len(packed), info.n_batch):
                if not self._decode(packed[start : start + info.n_batch]):
                    return self.length - before
        except CacheFull:
            self.truncate(before)  # of the pieces that had room; not where the memory cannot rewind
            raise
        return len(packed)

    def _decode(self, chunk: array[int]) -> bool:
        """Evaluate one chunk; False if cancelled."""
        engine = self.engine
        engine.settle_adapters()
        engine.calls.line_up()
        with engine.calls.lock:
            pointer = engine.buffer.put(chunk.tobytes())
            status = engine.guest.call("lb_decode", self.number, pointer, len(chunk))
            if status != Status.CANCELLED:
                self._checked(status)
        return engine.went_on(status, len(chunk))

    def truncate(self, length: int) -> bool:
        if check_length(length) > self.length:
            return False
        return self.engine.call("lb_truncate", self.number, length) == 1

    def clear(self) -> None:
        self.engine.call("lb_clear", self.number)

    # sampling

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        engine = self.engine
        seen = check_sampler(params, seed, recent, engine.info.n_vocab, grammar)
        packed = pack_sampler(params, seed, seen, engine.info.n_ctx)
        if grammar is not None:
            self.set_grammar(grammar)  # llama.cpp refuses it now, with nothing changed, or never
        engine.calls.line_up()
        with engine.calls.lock:
            arguments = packed.arguments(engine.buffer.put(packed.data))
            engine.calls.call("lb_sampler", self.number, *arguments)
        self._lazy = None
        if grammar is not None and grammar.lazy:
            self._lazy = LazyGrammar(grammar, self, partial(engine.token_bytes, special=True))
        elif grammar is not None:
            self.set_grammar(grammar)
        self._banned = frozenset(
            token
            for token, bias in params.logit_bias.items()
            if bias == -math.inf and isinstance(token, int)
        )

    def sample(self) -> int:
        if self._lazy is not None and self._lazy.waits:
            return self._lazy.draw()
        return self._let_through(self.engine.call("lb_step", self.number, abi.NO_TOKEN))

    def step(self, token: int) -> int | None:
        engine = self.engine
        check_token(token, engine.info.n_vocab)
        if self._lazy is not None and self._lazy.waits:
            return self._lazy.draw() if self.decode([token]) else None
        engine.settle_adapters()
        engine.calls.line_up()
        with engine.calls.lock:
            drawn = engine.guest.call("lb_step", self.number, token)
            if drawn >= 0:
                return self._let_through(drawn) if self._banned else drawn
            if drawn != Status.CANCELLED:
                self._checked(drawn)
        engine.went_on(drawn, 1)
        return None

    def decode_ahead(self, tokens: Sequence[int], guesses: Sequence[int]) -> bool:
        engine, before = self.engine, self.length
        if self.max_guesses == 0:
            return super().decode_ahead(tokens, guesses)
        info = engine.info
        packed, more = check_ahead(tokens, guesses, self.max_guesses, info.n_vocab, info.n_batch)
        check_room(before, len(packed) + len(more), info.n_ctx)
        engine.settle_adapters()
        engine.calls.line_up()
        with engine.calls.lock:
            pointer = engine.buffer.put((packed + more).tobytes())
            n = len(packed) + len(more)
            status = engine.guest.call("lb_decode_ahead", self.number, pointer, n, len(more))
            if status != Status.CANCELLED:
                self._checked(status)
        if engine.went_on(status, n):
            return True
        self.truncate(before)  # of more than one micro-batch, the first may be there
        return False

    def look(self, n: int) -> None:
        if self.max_guesses == 0:
            super().look(n)
        check_count("n", n)
        self.engine.call("lb_look", self.number, min(n, _LARGEST))

    def _let_through(self, token: int) -> int:
        if token in self._banned:
            raise EngineError("no token is left: logit_bias bans all that the samplers keep")
        return token

    def accept(self, tokens: Sequence[int]) -> int:
        packed = check_tokens("tokens", tokens, self.engine.info.n_vocab)
        if self._lazy is not None and self._lazy.waits:
            return self._lazy.accept(packed)
        return self.accept_tokens(packed)

    def accept_tokens(self, tokens: Sequence[int], by: Accept = Accept.ALL) -> int:
        """Accept tokens; returns how many fit the grammar."""
        engine, data = self.engine, array("i", tokens).tobytes()
        engine.calls.line_up()
        with engine.calls.lock:
            pointer = engine.buffer.put(data)
            return engine.calls.call("lb_accept", self.number, pointer, len(tokens), by)

    def draw(self, refused: Sequence[int]) -> int:
        """Draw a token that is none of these, and do not accept it."""
        engine, data = self.engine, array("i", refused).tobytes()
        engine.calls.line_up()
        with engine.calls.lock:
            return engine.calls.call("lb_draw", self.number, engine.buffer.put(data), len(refused))

    def set_grammar(self, grammar: Grammar | None, said: bytes = b"") -> bool:
        """Put a grammar in force, or none; False, and none is, if what was said does not fit it.

        Raises:
            InvalidInput: llama.cpp refuses the grammar.
        """
        engine = self.engine
        texts = [] if grammar is None else [grammar.text.encode(), grammar.root.encode(), said]
        engine.calls.line_up()
        with engine.calls.lock:
            if grammar is None:
                return engine.calls.call("lb_grammar", self.number, 0, 0, 0, 0, 0) == 1
            text, root, _ = texts
            pointer = engine.buffer.put(b"\0".join(texts))
            root_at = pointer + len(text) + 1
            said_at = root_at + len(root) + 1
            controls = int(grammar.controls or grammar.lazy)
            arguments = pointer, root_at, controls, said_at, len(said)
            return engine.calls.call("lb_grammar", self.number, *arguments) == 1

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        engine = self.engine
        check_token(token, engine.info.n_vocab)
        n = min(check_count("n", n), engine.info.n_vocab)
        engine.calls.line_up()
        with engine.calls.lock:
            pointer = engine.buffer.reserve(abi.LOGPROB.size * (n + 1))
            engine.calls.call("lb_logprobs", self.number, token, n, pointer)
            data = engine.guest.read(pointer, abi.LOGPROB.size * (n + 1))
        (_, logprob), *best = abi.LOGPROB.iter_unpack(data)
        return logprob, best

    def logits(self) -> memoryview[float]:
        engine = self.engine
        engine.calls.line_up()
        with engine.calls.lock:
            pointer = as_pointer(engine.guest.call("lb_logits", self.number))
            if pointer == 0:
                raise EngineError(last_error(engine.guest))
            # A copy: a view would dangle once the guest is closed.
            copy = memoryview(engine.guest.read(pointer, 4 * engine.info.n_vocab))
        return copy.cast("f")

    def _checked(self, status: int) -> None:
        """Raise what a status of a decode means, with the lock held."""
        engine = self.engine
        if status == Status.CONTEXT_FULL:
            held = engine.guest.call("lb_length", self.number)
            raise ContextOverflow(held + 1, engine.info.n_ctx)
        engine.calls.checked(status)

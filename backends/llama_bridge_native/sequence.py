"""One sequence in llama.cpp's KV cache: its tokens, the sampler that draws the next one, and copies of its state."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import struct
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_bridge.capabilities import Capability
from llama_bridge.checks import check_count
from llama_bridge.engine import CacheFull, MemoryKind
from llama_bridge.engine_arguments import (
    check_ahead,
    check_length,
    check_room,
    check_sampler,
    check_state,
    check_token,
    check_tokens,
)
from llama_bridge.errors import BridgeError, EngineError, InvalidInput
from llama_bridge.files.copy_memory import copy_memory
from llama_bridge.grammar import Grammar
from llama_bridge.kv_sequence import KvSequence
from llama_bridge.later_signals import LaterSignals
from llama_bridge.params import SamplingParams

from .batch import Batch
from .constraint import Constraint
from .library import LoggedErrors, lib, logits_ith, seq_pos_max

if TYPE_CHECKING:
    from .engine import NativeEngine

__all__ = ["NOTHING_AHEAD", "NativeSequence"]

_STATE_HEAD = struct.Struct("<Ii")
_STATE_MAGIC = (
    0xAF143CD8  # llama-context.cpp: a state in memory begins with this, then its sequence
)
_NAN = "llama.cpp computed NaN"
_MOST_GUESSES = 15
NOTHING_AHEAD = (0, -1)
_log = logging.getLogger("llama_bridge.native")


class NativeSequence(KvSequence):
    """A sequence of an engine.

    Attributes:
        number: llama.cpp's number of the sequence.
        row: where the logits of its last token are in llama.cpp's last batch; None if there are none.
        ahead: the first and the last row of its last :meth:`decode_ahead`, if their logits are there.
    """

    backend = "native"
    row: int | None = None
    ahead = NOTHING_AHEAD
    _sampler: Any = None
    _constraint: Constraint | None = None
    _banned: frozenset[int] = frozenset()
    _checked = False  # whether this sampler has seen that the logits are not NaN

    @property
    def engine(self) -> NativeEngine:
        """The engine whose sequence this is."""
        return self._engine

    def _begin_as(self, engine: NativeEngine, number: int) -> None:
        """Be the sequence of this number. A method, because an engine is its own first sequence."""
        if engine is not self:
            self._engine = engine
        self.number = number
        self._one = Batch(1)
        self._one.fill([(number, array("i", [0]))])
        if engine.info.memory is MemoryKind.DENSE:
            self.max_guesses = min(_MOST_GUESSES, engine.chunk - 1)

    # the KV cache

    @property
    def length(self) -> int:
        engine = self.engine
        return int(seq_pos_max(engine.open(engine.memory), self.number)) + 1

    def decode(self, tokens: Sequence[int]) -> int:
        engine, before = self.engine, self.length
        packed = check_tokens("tokens", tokens, engine.info.n_vocab)
        if not packed:
            return 0
        check_room(before, len(packed), engine.info.n_ctx)
        try:
            for start in range(0, len(packed), engine.chunk):
                piece = self, packed[start : start + engine.chunk]
                if engine.cancelled or not engine.append([piece]):
                    return self.length - before
        except CacheFull:
            self.truncate(before)  # of the pieces that had room; not where the memory cannot rewind
            raise
        return len(packed)

    def truncate(self, length: int) -> bool:
        held = self.length
        if check_length(length) > held:
            return False
        if length < held and not self._truncate(length):
            return False
        self.row = None
        return True

    def _truncate(self, length: int) -> bool:
        if length == 0:
            self.clear()
            return True
        engine = self.engine
        if engine.info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
            return False
        if engine.info.memory is MemoryKind.SWA:
            # seq_rm succeeds even if the window before position `length` is gone.
            first = lib.llama_memory_seq_pos_min(engine.memory, self.number)
            if first > engine.layout.window_start(length):
                return False
        return bool(lib.llama_memory_seq_rm(engine.memory, self.number, length, -1))

    def clear(self) -> None:
        engine = self.engine
        memory = engine.open(engine.memory)
        if engine.info.n_parallel == 1:
            lib.llama_memory_clear(memory, True)
        else:
            lib.llama_memory_seq_rm(memory, self.number, -1, -1)
        self.row = None

    # sampling

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        engine = self.engine
        engine.check_alive()
        seen = check_sampler(params, seed, recent, engine.info.n_vocab, grammar)
        constraint = None
        sampler = engine.chains.make(params, seed, seen)
        try:
            if grammar is not None:
                greedy = params.temperature <= 0
                constraint = Constraint(grammar, engine.vocabulary, sampler, greedy, self._logits)
        except BaseException:
            lib.llama_sampler_free(sampler)
            raise
        self.free_sampler()
        self._constraint = constraint
        self._banned = frozenset(
            token
            for token, bias in params.logit_bias.items()
            if bias == -math.inf and isinstance(token, int)
        )
        self._sampler = sampler
        self._checked = False

    def free_sampler(self) -> None:
        """Free the sampler and its grammar."""
        sampler, self._sampler = self._sampler, None  # so that an interrupt cannot free it twice
        if sampler is not None:
            lib.llama_sampler_free(sampler)
        constraint, self._constraint = self._constraint, None
        if constraint is not None:
            constraint.close()

    def sample(self) -> int:
        self.engine.check_alive()
        if self._sampler is None:
            raise self._cannot_draw()
        if not self._checked:
            self._refuse_nan(self._logits())
            self._checked = True
        if self.row is None:
            raise _no_logits()
        return self._draw(self.row)

    def step(self, token: int) -> int | None:
        engine = self.engine
        if self._sampler is None or engine.process != os.getpid():
            raise self._cannot_draw()
        if (
            engine.info.memory is MemoryKind.RECURRENT
        ):  # whose running state llama.cpp lets go on for ever
            check_room(self.length, 1, engine.info.n_ctx)
        row, one = self.row, self._one
        try:
            one.tokens[0] = token
            if engine.cancelled or not engine.compute(one):
                check_token(token, engine.info.n_vocab)
                return None
        except (TypeError, OverflowError, EngineError):
            # llama.cpp refuses a bad token before it changes anything
            self.row = row
            check_token(token, engine.info.n_vocab)  # only now, so a good token costs nothing
            check_room(self.length, 1, engine.info.n_ctx)
            self.row = None
            raise
        self.row = 0
        return self._draw(0)

    def decode_ahead(self, tokens: Sequence[int], guesses: Sequence[int]) -> bool:
        engine, before = self.engine, self.length
        if self.max_guesses == 0:
            return super().decode_ahead(tokens, guesses)
        packed, more = check_ahead(
            tokens, guesses, self.max_guesses, engine.info.n_vocab, engine.chunk
        )
        check_room(before, len(packed) + len(more), engine.info.n_ctx)
        if engine.cancelled or not engine.append([(self, packed + more)], n_wanted=len(more) + 1):
            self.truncate(before)  # of more than one micro-batch, the first may be there
            return False
        assert self.row is not None
        self.ahead = self.row - len(more), self.row
        self.row -= len(more)
        return True

    def look(self, n: int) -> None:
        self.engine.check_alive()
        if self.max_guesses == 0:
            super().look(n)
        first, last = self.ahead
        if check_count("n", n) > last - first >= 0:
            raise InvalidInput(f"n={n}: there were {last - first} guesses")
        if self.row is None or last < first:
            raise _no_logits()
        self.row = first + n

    def accept(self, tokens: Sequence[int]) -> int:
        self.engine.check_alive()
        packed = check_tokens("tokens", tokens, self.engine.info.n_vocab)
        if self._sampler is None:
            raise self._cannot_draw()
        taken = len(packed) if self._constraint is None else self._constraint.accept(packed)
        for token in packed[:taken]:
            lib.llama_sampler_accept(self._sampler, token)
        return taken

    def _draw(self, row: int) -> int:
        context = self.engine.context
        values = logits_ith(context, row)
        # A NaN inside the model makes all logits NaN, and llama.cpp would sample some token anyway.
        if values[0] != values[0]:
            self._refuse_nan(self._logits())
        draw = lib.llama_sampler_sample
        if self._constraint is None:
            token = int(draw(self._sampler, context, row))
        else:
            self._constraint.begin()
            with LaterSignals():
                token = int(draw(self._sampler, context, row))
        if values[token] != values[token]:
            self._refuse_nan(self._logits())
        if self._constraint is not None:
            self._constraint.settle(token)
        if token in self._banned:
            raise EngineError("no token is left: logit_bias bans all that the samplers keep")
        return token

    def _cannot_draw(self) -> BridgeError:
        """The error for a missing sampler."""
        self.engine.check_alive()
        return EngineError("there is no sampler: call set_sampler() first")

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        engine = self.engine
        engine.check_alive()
        check_token(token, engine.info.n_vocab)
        n = min(check_count("n", n), engine.info.n_vocab)
        row = self._logits()
        assert self.row is not None
        total, best = engine.best_tokens.best(n, self.row)
        if total != total:
            raise EngineError(f"{_NAN}: the model or the KV cache is damaged")
        return row[token] - total, best

    def logits(self) -> memoryview[float]:
        self.engine.check_alive()
        values = self._logits()
        if _has_nan(values):
            raise EngineError(f"{_NAN}: the model or the KV cache is damaged")
        return values

    def _logits(self) -> memoryview[float]:
        """The last logits, without a copy."""
        engine, row = self.engine, self.row
        values = None if row is None else logits_ith(engine.context, row)
        if not values:
            raise _no_logits()
        cells = ctypes.cast(values, ctypes.POINTER(ctypes.c_float * engine.info.n_vocab)).contents
        view: memoryview[float] = memoryview(cells).cast("B").cast("f")
        return view

    def _refuse_nan(self, values: memoryview[float]) -> None:
        if _has_nan(values):
            # Attention may read NaN in cells of others too, so all go.
            lib.llama_memory_clear(self.engine.memory, True)
            self.engine.forget_logits()
            raise EngineError(
                f"{_NAN}: the model is damaged, or the KV cache is, perhaps by a forged session file. "
                "The cache was emptied; the next turn evaluates the conversation again"
            )

    # state

    state_prefix = _STATE_HEAD.size

    def state_get(self) -> memoryview:
        engine = self.engine
        engine.check_alive()
        if Capability.SESSION_PERSISTENCE not in engine.capabilities:
            return super().state_get()
        size = lib.llama_state_seq_get_size(engine.context, self.number)
        state = copy_memory(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        with LoggedErrors() as errors:
            taken = lib.llama_state_seq_get_data(engine.context, buffer, size, self.number)
            if taken != size:
                raise EngineError(f"llama.cpp could not copy its KV state: {errors}")
            errors.reraise()
        if self.number:
            engine.layout.disown(state[_STATE_HEAD.size :])
        return state

    def state_length(self, state: memoryview) -> int:
        self.engine.check_alive()
        if Capability.SESSION_PERSISTENCE not in self.engine.capabilities:
            return super().state_length(state)
        return self.engine.layout.n_tokens(check_state(state)[_STATE_HEAD.size :])

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        engine = self.engine
        engine.check_alive()
        if Capability.SESSION_PERSISTENCE not in engine.capabilities:
            return super().state_set(state, tokens)
        state = check_state(state)
        tokens = check_tokens("tokens", tokens, engine.info.n_vocab)
        try:
            engine.layout.check(state[_STATE_HEAD.size :], tokens)
        except ValueError as error:
            _log.warning("a copy of the KV cache was refused: %s", error)
            return False
        _STATE_HEAD.pack_into(state, 0, _STATE_MAGIC, self.number)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        self.row = None
        engine.make_way_for_copy(self)
        with LaterSignals():
            taken = lib.llama_state_seq_set_data(engine.context, buffer, len(state), self.number)
        if taken != len(state):
            self.clear()
            return False
        return True


def _no_logits() -> EngineError:
    return EngineError("there are no logits: decode something first")


def _has_nan(values: memoryview[float]) -> bool:
    """Whether a value is NaN. Summing is the fastest way to see that none is: 1 ms for 100,000."""
    return not math.isfinite(sum(values.tolist())) and any(map(math.isnan, values))

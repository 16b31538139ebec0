"""The fake's engine: it computes nothing but follows the whole engine contract.

Its tokens are bytes and the control tokens of the GGUF file. If a caller breaks the contract (too many tokens,
two threads at once, sampling without logits), it raises instead of guessing.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING

from ...bell import Bell
from ...capabilities import Capability
from ...chat.message import Message
from ...chat.module.host import missing
from ...chat.template import ChatTemplate
from ...checks import check_count
from ...engine import Engine, EngineInfo, MemoryKind
from ...engine_arguments import (
    check_ahead,
    check_length,
    check_room,
    check_sampler,
    check_sequences,
    check_state,
    check_text,
    check_token,
    check_tokens,
)
from ...errors import ClosedError, EngineError, InvalidInput
from ...grammar import Grammar
from ...models.adapter import Adapter, check_unchanged
from ...models.adapter_preflight import check_adapters
from ...models.source import ModelFile
from ...params import ModelParams, Pooling, SamplingParams
from .answers import Asked, FakeAnswer
from .model import read_special_tokens
from .vectors import WIDTH, overlap, vector

if TYPE_CHECKING:
    from .constrained import Constraint

__all__ = ["FakeEngine"]

_N_BYTES = 256
_PREFILL_CHUNK = 32
_MOST_GUESSES = 15
_POOLING: Pooling = "mean"
_OF_POOLING = Capability.EMBEDDINGS | Capability.RERANK
_KEY = "@what the user says@"
_CERTAIN = 10.0
"""The logit of the planned token; all others have 0."""
_STATE = struct.Struct("<III")
"""Number of tokens, their checksum, and the adapters' that they were computed with."""


class FakeEngine(Engine):
    """An engine whose KV cache is a list of tokens.

    Args:
        backend: name of the backend that made it.
        answer: called for each new answer.
        capabilities, memory, prefill_token_seconds: as in :class:`~llama_bridge.testing.FakeBackend`.
    """

    def __init__(
        self,
        model: ModelFile,
        params: ModelParams,
        answer: Callable[[Asked], FakeAnswer],
        *,
        backend: str = "fake",
        capabilities: Capability,
        memory: MemoryKind = MemoryKind.DENSE,
        prefill_token_seconds: float = 0.0,
    ) -> None:
        self.backend = backend
        self._next_answer = answer
        self._prefill_token_seconds = prefill_token_seconds
        self._special = read_special_tokens(model)
        self._ids = {text: _N_BYTES + i for i, text in enumerate(self._special.control)}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._model = model
        self._template = model.chat_template
        self._tokens: list[int] = []
        self._ready = False  # whether there are logits
        self._guessed = 0  # how many guesses there are logits for
        self._unseen = 0  # how many of the last tokens come after those that the logits are for
        if memory is MemoryKind.DENSE:
            self.max_guesses = _MOST_GUESSES
        self._sampling = False
        self._params = SamplingParams()
        self._constraint: Constraint | None = None
        self._begun = False  # whether something before the answer is to be taken for granted
        self._answer: FakeAnswer | None = None
        self._planned: list[int] = []
        self._start = 0
        self._cancel = False
        self._bell = Bell()
        self._one_at_a_time = threading.Lock()
        self._closed = False
        self.capabilities = capabilities
        if not self._template or missing():
            self.capabilities &= ~(Capability.CHAT_TEMPLATE | Capability.TOOLS)
        if memory is not MemoryKind.DENSE:
            self.capabilities &= ~Capability.PREFIX_CACHE
        pooling = params.pooling or _POOLING
        self.capabilities &= ~_OF_POOLING | _OF_POOLING & (
            Capability.RERANK
            if pooling == "rank"
            else Capability(0)
            if pooling == "none"
            else Capability.EMBEDDINGS
        )
        n_ctx_train = model.n_ctx_train or 1 << 16
        ends = [self._ids[text] for text in self._special.ends]
        self.info = EngineInfo(
            n_ctx=params.asked_n_ctx or max(n_ctx_train, 1 << 16),
            n_ctx_train=n_ctx_train,
            n_vocab=_N_BYTES + len(self._ids),
            bos=None if self._special.bos is None else self._ids[self._special.bos],
            eos=ends[0],
            add_bos=self._special.add_bos,
            end_of_generation=frozenset(ends),
            memory=memory,
            n_threads=1,
            flash_attn=params.flash_attn,
            type_k=params.type_k,
            type_v=params.type_v,
            version="fake",
            state_format="fake-1",
            n_batch=_PREFILL_CHUNK,
            n_embd=WIDTH,
            pooling=pooling,
            sep=ends[0],
            add_sep=pooling == "rank",
        )

    # vocabulary

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self._open()
        check_text("text", text)
        tokens = [self.info.bos] if add_special and self.info.add_bos else []
        for piece in self._split.split(text) if parse_special else [text]:
            tokens += [self._ids[piece]] if parse_special and piece in self._ids else piece.encode()
        tokens += [self.info.sep] if add_special and self.info.add_sep else []
        return [token for token in tokens if token is not None]

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        self._open()
        check_token(token, self.info.n_vocab)
        if token < _N_BYTES:
            return bytes([token])
        return self._special.control[token - _N_BYTES].encode() if special else b""

    # the KV cache

    @property
    def length(self) -> int:
        self._open()
        return len(self._tokens)

    def decode(self, tokens: Sequence[int]) -> int:
        with self._working():
            packed = check_tokens("tokens", tokens, self.info.n_vocab)
            check_room(len(self._tokens), len(packed), self.info.n_ctx)
            before = len(self._tokens)
            for start in range(0, len(packed), _PREFILL_CHUNK):
                chunk = packed[start : start + _PREFILL_CHUNK]
                self._forget_logits()
                if self._cancelled_within(self._prefill_token_seconds * len(chunk)):
                    break
                self._tokens += chunk
                self._ready = True
            return len(self._tokens) - before

    def truncate(self, length: int) -> bool:
        with self._working():
            held = len(self._tokens)
            check_length(length)
            if 0 < length < held and self.info.memory is not MemoryKind.DENSE:
                return False
            if length > held:
                return False
            del self._tokens[length:]
            self._forget_logits()
            return True

    def clear(self) -> None:
        with self._working():
            self._tokens = []
            self._forget_logits()

    def _forget_logits(self) -> None:
        self._ready, self._guessed, self._unseen = False, 0, 0

    @property
    def _seen(self) -> list[int]:
        """The tokens that the logits are for."""
        return self._tokens[: len(self._tokens) - self._unseen] if self._unseen else self._tokens

    # sampling

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        with self._working():
            check_sampler(params, seed, recent, self.info.n_vocab, grammar)
            self._constraint = None
            self._begun = grammar is not None and bool(grammar.begun) and not grammar.lazy
            if grammar is not None:
                from .constrained import Constraint  # 60 ms with the matcher

                self._constraint = Constraint(grammar)
            self._params, self._sampling, self._answer = params, True, None

    def sample(self) -> int:
        with self._working():
            self._check_sampler()
            return self._draw()

    def accept(self, tokens: Sequence[int]) -> int:
        with self._working():
            packed = check_tokens("tokens", tokens, self.info.n_vocab)
            self._check_sampler()
            if self._ready and not self._begun:
                self._next()  # plan the answer before a part of it is taken for granted
            self._begun = False
            for i, token in enumerate(packed):
                if self._constraint and (token >= _N_BYTES or not self._constraint.accept(token)):
                    return i
            return len(packed)

    def step(self, token: int) -> int | None:
        with self._working():
            self._check_sampler()
            check_token(token, self.info.n_vocab)
            check_room(len(self._tokens), 1, self.info.n_ctx)
            if self._cancelled_within(self._answer.token_seconds if self._answer else 0):
                return None
            self._forget_logits()
            self._tokens.append(token)
            self._ready = True
            return self._draw()

    def decode_ahead(self, tokens: Sequence[int], guesses: Sequence[int]) -> bool:
        if not self.max_guesses:
            return super().decode_ahead(tokens, guesses)
        with self._working():
            info = self.info
            packed, more = check_ahead(
                tokens, guesses, self.max_guesses, info.n_vocab, info.n_batch
            )
            check_room(len(self._tokens), len(packed) + len(more), info.n_ctx)
            self._forget_logits()
            seconds = self._answer.token_seconds if self._answer else 0
            if self._cancelled_within(seconds * (1 + len(more))):  # guesses save no time here
                return False
            self._tokens += packed + more
            self._ready, self._guessed, self._unseen = True, len(more), len(more)
            return True

    def look(self, n: int) -> None:
        if not self.max_guesses:
            super().look(n)
        with self._working():
            if not self._ready:
                raise EngineError("there are no logits: decode something first")
            if check_count("n", n) > self._guessed:
                raise InvalidInput(f"n={n}: there were {self._guessed} guesses")
            self._unseen = self._guessed - n

    def logits(self) -> memoryview[float]:
        with self._working():
            values = [0.0] * self.info.n_vocab
            values[self._next()] = _CERTAIN + sum(map(_effect, self.info.adapters))
            return memoryview(struct.pack(f"{len(values)}f", *values)).cast("f")

    def _check_sampler(self) -> None:
        if not self._sampling:
            raise EngineError("the caller samples before it calls set_sampler()")

    def _draw(self) -> int:
        """The next token, accepted."""
        token = self._biased(self._next())
        if self._constraint is not None and token < _N_BYTES:
            self._constraint.accept(token)
        return token

    def _biased(self, planned: int) -> int:
        """The token with the best logit, of those that fit the grammar."""
        bias, constraint, ends = (
            self._params.logit_bias,
            self._constraint,
            self.info.end_of_generation,
        )
        if not bias:
            return planned
        logits = [0.0] * self.info.n_vocab
        logits[planned] = _CERTAIN
        for token, value in bias.items():
            logits[int(token)] += value
        for token in sorted(range(len(logits)), key=logits.__getitem__, reverse=True):
            if logits[token] == -math.inf:
                break
            if constraint is None or token == planned or constraint.fits(token, ends):
                return token
        raise EngineError("no token is left: the grammar and logit_bias allow none")

    def _next(self) -> int:
        """The next token of the current answer, or the first one of a new answer."""
        if not self._ready:
            raise EngineError("there are no logits: decode something first")
        seen = self._seen
        said = seen[self._start :]
        if self._answer is None or said != self._planned[: len(said)] or said == self._planned:
            self._answer = self._next_answer(self._asked())
            text = self._answer.text
            if self._constraint is not None:
                text = self._constraint.fit(text)
            self._planned = [*text.encode(), min(self.info.end_of_generation)]
            self._start, said = len(seen), []
        if self._answer.fails_after is not None and len(said) >= self._answer.fails_after:
            raise self._answer.error or EngineError("the fake failed, as it was told to")
        return self._planned[len(said)]

    def _asked(self) -> Asked:
        held = _signs(self._seen)
        head, tail = self._turn
        if head and tail and held.endswith(tail):
            prompt = held.removesuffix(tail).rpartition(head)[2]
        else:
            ends = "".join(map(chr, self.info.end_of_generation))
            prompt = re.split(f"[{re.escape(ends)}]", held)[-1]
        return Asked(self._text(prompt, special=False), self._text(held, special=True))

    @cached_property
    def _turn(self) -> tuple[str, str]:
        """What the chat template puts directly before and after a user's words, as characters."""
        if not self._template or missing():
            return "", ""
        specials = self._special
        template = ChatTemplate(self._template, bos=specials.bos or "", eos=specials.ends[0])
        user = Message(role="user", content=_KEY)
        first, _, tail = template.render([user]).partition(_KEY)
        again, _ = template.next_turn([user, Message(role="assistant", content=_KEY), user])
        pairs = zip(reversed(first), reversed(str(again)), strict=False)
        head = "".join(sign for sign, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))[::-1]
        before, after = (
            _signs(self.tokenize(text, add_special=False, parse_special=True))
            for text in (head, tail)
        )
        return before, after

    def _text(self, signs: str, *, special: bool) -> str:
        spelled = self._spelled[special]
        return b"".join([spelled[ord(sign)] for sign in signs]).decode("utf-8", "replace")

    @cached_property
    def _spelled(self) -> tuple[list[bytes], list[bytes]]:
        """The bytes of each token, without and with those of control tokens."""
        plain, full = (
            [self.token_bytes(token, special=special) for token in range(self.info.n_vocab)]
            for special in (False, True)
        )
        return plain, full

    # embeddings

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        if not self.capabilities & _OF_POOLING:
            return super().embed(sequences)
        with self._working():
            packed = check_sequences(sequences, self.info.n_vocab, self.info.n_ctx)
            rows: list[float] = []
            for tokens in packed:
                if self._cancelled_within(self._prefill_token_seconds * len(tokens)):
                    return None
                rows += self._row(_signs(tokens))
            width = len(rows) // len(packed)
            return memoryview(struct.pack(f"{len(rows)}f", *rows)).cast("f", (len(packed), width))

    def _row(self, signs: str) -> list[float]:
        if self.info.pooling != "rank" or self.info.sep is None:
            return vector(self._text(signs, special=False))
        query, _, document = signs.partition(chr(self.info.sep))
        return [overlap(self._text(query, special=False), self._text(document, special=False))]

    # adapters

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        if Capability.ADAPTERS not in self.capabilities:
            super().set_adapters(adapters)
        with self._working():
            wanted = tuple(adapters)
            if wanted == self.info.adapters:
                return
            check_adapters(wanted, self._model)
            for adapter in wanted:
                check_unchanged(adapter)
            self._tokens = []
            self._forget_logits()
            self.info = replace(self.info, adapters=wanted)

    # cancelling

    def cancel(self) -> None:
        self._cancel = True
        self._bell.ring()

    def clear_cancel(self) -> None:
        self._cancel = False

    @property
    def cancelled(self) -> bool:
        return self._cancel

    def _cancelled_within(self, seconds: float) -> bool:
        if seconds > 0:
            self._bell.wait(lambda: self._cancel, seconds)
        return self._cancel

    # state

    def state_get(self) -> memoryview:
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_get()
        with self._working():
            memory = struct.pack(f"<{len(self._tokens)}i", *self._tokens)
            return memoryview(
                bytearray(
                    _STATE.pack(len(self._tokens), zlib.crc32(memory), self._checksum) + memory
                )
            )

    def state_length(self, state: memoryview) -> int:
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_length(state)
        self._open()
        state = check_state(state)
        return int(_STATE.unpack_from(state)[0]) if len(state) >= _STATE.size else 0

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_set(state, tokens)
        with self._working():
            state, tokens = check_state(state), check_tokens("tokens", tokens, self.info.n_vocab)
            if len(state) >= _STATE.size and _STATE.unpack_from(state)[2] != self._checksum:
                raise EngineError("the caller uses a state that other adapters computed")
            self._tokens = []
            self._forget_logits()
            try:
                held = _read_state(state)
            except (ValueError, struct.error):
                return False
            if held != list(tokens):
                return False
            self._tokens = held
            return True

    @property
    def _checksum(self) -> int:
        """Of the adapters in force."""
        return zlib.crc32(repr([(a.sha256, a.scale) for a in self.info.adapters]).encode())

    # life

    def close(self) -> None:
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise ClosedError("this engine is closed")

    @contextmanager
    def _working(self) -> Generator[None]:
        self._open()
        if self._one_at_a_time.locked():
            raise EngineError("the caller uses the engine from two threads at once")
        with self._one_at_a_time:  # released even after an interrupt
            yield


def _signs(tokens: Sequence[int]) -> str:
    """One character per token, so that a conversation can be searched as a string."""
    return "".join(map(chr, tokens))


def _effect(adapter: Adapter) -> float:
    """What an adapter adds to the logit of the planned token: nothing else can tell that it is in force."""
    return adapter.scale * (1 + int(adapter.sha256[:2], 16)) / 256


def _read_state(state: memoryview) -> list[int]:
    count, crc, _ = _STATE.unpack_from(state)
    memory = state[_STATE.size :]
    if len(memory) != 4 * count or zlib.crc32(memory) != crc:
        raise ValueError("damaged")
    return list(struct.unpack(f"<{count}i", memory))

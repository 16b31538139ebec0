"""The engine contract on top of a guest. It knows llama.wasm's ABI and no host."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Sequence
from dataclasses import replace

from llama_bridge.capabilities import Capability
from llama_bridge.chat.module.host import missing
from llama_bridge.checks import check_count
from llama_bridge.engine import EncoderCalls, Engine, EngineInfo, MemoryKind
from llama_bridge.engine_arguments import (
    check_length,
    check_room,
    check_sampler,
    check_sequences,
    check_text,
    check_token,
    check_tokens,
)
from llama_bridge.errors import EngineError
from llama_bridge.grammar import Grammar
from llama_bridge.models.adapter import Adapter
from llama_bridge.models.adapter_preflight import check_adapters
from llama_bridge.models.least_tokens import LeastTokens
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams

from .. import abi
from ..abi import Accept, Guest, Status
from .adapters import LoadedAdapters
from .calls import Calls
from .embedder import Embedder
from .lazy_grammar import LazyGrammar
from .loading import describe, is_encoder, load_model
from .marshal import Buffer, as_pointer, last_error
from .reading import Reading
from .sampler import pack_sampler
from .vocabulary import Vocabulary

__all__ = ["CAPABILITIES", "NAME", "WasmEngine"]

NAME = "wasm"
CAPABILITIES = (
    Capability.GENERATE
    | Capability.STREAM
    | Capability.CANCEL
    | Capability.JSON_SCHEMA
    | Capability.LOGPROBS
    | Capability.CHAT_TEMPLATE
    | Capability.TOOLS
    | Capability.TOKENS
    | Capability.PREFIX_CACHE
    | Capability.SANDBOX
    | Capability.EMBEDDINGS
    | Capability.RERANK
    | Capability.ADAPTERS
)
_OF_ENCODERS = (
    Capability.CANCEL
    | Capability.TOKENS
    | Capability.SANDBOX
    | Capability.THREADS
    | Capability.EMBEDDINGS
    | Capability.RERANK
    | Capability.ADAPTERS
)


class WasmEngine(Engine):
    """A model loaded into a guest. :meth:`load` makes it; it owns the guest."""

    backend = NAME

    def __init__(
        self,
        guest: Guest,
        buffer: Buffer,
        model: ModelFile,
        capabilities: Capability,
        info: EngineInfo,
    ) -> None:
        self.guest = guest
        self.capabilities = capabilities
        self.info = info
        self._calls = Calls(guest, str(model.path))
        self._vocabulary = Vocabulary(guest, self._calls, model.header, info.n_vocab)
        self._least = LeastTokens(model)
        self._buffer = buffer
        self._model = model
        self._adapters = LoadedAdapters(guest, self._calls, buffer, model)
        self._applied = info.adapters  # what the guest was told
        self._embedder = Embedder(guest, self._calls, buffer, info)
        self._set_flag = guest.flag(as_pointer(guest.call("lb_cancel_flag")))
        self._cancelled = False
        self._lazy: LazyGrammar | None = None
        self._banned: frozenset[int] = frozenset()

    @classmethod
    def load(
        cls,
        guest: Guest,
        model: ModelFile,
        params: ModelParams,
        version: str,
        reading: Reading | None = None,
    ) -> WasmEngine:
        """Load ``model``, which the guest can read by ``abi.model_paths``, and take ownership of the guest.

        Args:
            guest: a new one; closed if this fails.
            model: a checked file.
            params: load-time settings.
            version: versions of llama.cpp and the host.
            reading: reports what the guest reads.

        Raises:
            OutOfMemory: weights, KV cache or work space do not fit.
            ModelLoadError: llama.cpp refused the file; the reason has its own message.
        """
        reading = reading or Reading(model.header.file_size, None)
        try:
            found = guest.call("lb_abi_version")
            if found != abi.ABI_VERSION:
                raise EngineError(
                    f"llama.wasm has ABI {found}, but this package needs {abi.ABI_VERSION}: build it again"
                )
            buffer = Buffer(guest)
            reading.begin()
            load_model(guest, buffer, model, params, reading)
            capabilities = CAPABILITIES
            if guest.has_threads:
                capabilities |= Capability.THREADS
            if model.chat_template is None or missing():
                capabilities &= ~(Capability.CHAT_TEMPLATE | Capability.TOOLS)
            info = describe(guest, buffer, model, params, version)
            if info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
                capabilities &= ~Capability.PREFIX_CACHE
            if info.pooling == "none":
                capabilities &= ~(Capability.EMBEDDINGS | Capability.RERANK)
            elif info.pooling == "rank":
                capabilities &= ~Capability.EMBEDDINGS
            else:
                capabilities &= ~Capability.RERANK
            kind = cls
            if is_encoder(guest):
                kind, capabilities = WasmEncoder, capabilities & _OF_ENCODERS
            engine = kind(guest, buffer, model, capabilities, info)
            reading.finish()
            return engine
        except BaseException:
            guest.close()
            raise

    # vocabulary: from any thread

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def least_tokens(self, text: str) -> int:
        return self._least.of(check_text("text", text))

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        return self._vocabulary.token_bytes(token, special=special)

    # the KV cache

    @property
    def length(self) -> int:
        return self._call("lb_length")

    def decode(self, tokens: Sequence[int]) -> int:
        before = self.length
        packed = check_tokens("tokens", tokens, self.info.n_vocab)
        check_room(before, len(packed), self.info.n_ctx)
        for start in range(0, len(packed), self.info.n_batch):
            if not self._decode(packed[start : start + self.info.n_batch]):
                self._cancelled = True
                return self.length - before
        return len(packed)

    def _decode(self, chunk: array[int]) -> bool:
        """Evaluate one chunk; False if cancelled."""
        if self._applied is not self.info.adapters:
            self._apply_adapters()
        self._calls.line_up()
        with self._calls.lock:
            status = self.guest.call("lb_decode", self._buffer.put(chunk.tobytes()), len(chunk))
            if status == Status.CANCELLED:
                return False
            self._calls.checked(status)
        if len(chunk) == self.info.n_batch:  # more may follow, in this call or the next
            self.guest.pause()
        return True

    def truncate(self, length: int) -> bool:
        if check_length(length) > self.length:
            return False
        return self._call("lb_truncate", length) == 1

    def clear(self) -> None:
        self._call("lb_clear")

    # sampling

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        seen = check_sampler(params, seed, recent, self.info.n_vocab, grammar)
        packed = pack_sampler(params, seed, seen, self.info.n_ctx)
        if grammar is not None:
            self.set_grammar(grammar)  # llama.cpp refuses it now, with nothing changed, or never
        self._calls.line_up()
        with self._calls.lock:
            self._calls.call("lb_sampler", *packed.arguments(self._buffer.put(packed.data)))
        self._lazy = None
        if grammar is not None and grammar.lazy:
            self._lazy = LazyGrammar(grammar, self)
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
        return self._let_through(self._call("lb_step", abi.NO_TOKEN))

    def step(self, token: int) -> int | None:
        check_token(token, self.info.n_vocab)
        if self._lazy is not None and self._lazy.waits:
            return self._lazy.draw() if self.decode([token]) else None
        if self._applied is not self.info.adapters:
            self._apply_adapters()
        self._calls.line_up()
        with self._calls.lock:
            drawn = self.guest.call("lb_step", token)
            if drawn >= 0:
                return self._let_through(drawn) if self._banned else drawn
            if drawn != Status.CANCELLED:
                return self._calls.checked(drawn)
        self._cancelled = True
        return None

    def _let_through(self, token: int) -> int:
        if token in self._banned:
            raise EngineError("no token is left: logit_bias bans all that the samplers keep")
        return token

    def accept(self, tokens: Sequence[int]) -> int:
        packed = check_tokens("tokens", tokens, self.info.n_vocab)
        if self._lazy is not None and self._lazy.waits:
            return self._lazy.accept(packed)
        return self.accept_tokens(packed)

    def accept_tokens(self, tokens: Sequence[int], by: Accept = Accept.ALL) -> int:
        """Accept tokens; returns how many fit the grammar."""
        data = array("i", tokens).tobytes()
        self._calls.line_up()
        with self._calls.lock:
            pointer = self._buffer.put(data)
            return self._calls.call("lb_accept", pointer, len(tokens), by)

    def draw(self, refused: Sequence[int]) -> int:
        """Draw a token that is none of these, and do not accept it."""
        data = array("i", refused).tobytes()
        self._calls.line_up()
        with self._calls.lock:
            return self._calls.call("lb_draw", self._buffer.put(data), len(refused))

    def set_grammar(self, grammar: Grammar | None, said: bytes = b"") -> bool:
        """Put a grammar in force, or none; False, and none is, if what was said does not fit it.

        Raises:
            InvalidInput: llama.cpp refuses the grammar.
        """
        texts = [] if grammar is None else [grammar.text.encode(), grammar.root.encode(), said]
        self._calls.line_up()
        with self._calls.lock:
            if grammar is None:
                return self._calls.call("lb_grammar", 0, 0, 0, 0, 0) == 1
            text, root, _ = texts
            pointer = self._buffer.put(b"\0".join(texts))
            root_at = pointer + len(text) + 1
            said_at = root_at + len(root) + 1
            controls = int(grammar.controls or grammar.lazy)
            return (
                self._calls.call("lb_grammar", pointer, root_at, controls, said_at, len(said)) == 1
            )

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        check_token(token, self.info.n_vocab)
        n = min(check_count("n", n), self.info.n_vocab)
        self._calls.line_up()
        with self._calls.lock:
            pointer = self._buffer.reserve(abi.LOGPROB.size * (n + 1))
            self._calls.call("lb_logprobs", token, n, pointer)
            data = self.guest.read(pointer, abi.LOGPROB.size * (n + 1))
        (_, logprob), *best = abi.LOGPROB.iter_unpack(data)
        return logprob, best

    def logits(self) -> memoryview[float]:
        self._calls.line_up()
        with self._calls.lock:
            pointer = as_pointer(self.guest.call("lb_logits"))
            if pointer == 0:
                raise EngineError(last_error(self.guest))
            # A copy: a view would dangle once the guest is closed.
            copy = memoryview(self.guest.read(pointer, 4 * self.info.n_vocab))
        return copy.cast("f")

    # embeddings

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        if not self.capabilities & (Capability.EMBEDDINGS | Capability.RERANK):
            return super().embed(sequences)
        self._call("lb_length")  # after close() a wrong argument is not what to tell
        packed = check_sequences(sequences, self.info.n_vocab, self.info.n_ctx)
        if self._applied is not self.info.adapters:
            self._apply_adapters()
        found = self._embedder.embed(packed, lambda: self._cancelled)
        if found is None:
            self._cancelled = True
        return found

    # adapters

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        self._call("lb_length")  # after close() a wrong argument is not what to tell
        wanted = tuple(adapters)
        if wanted == self.info.adapters:
            return
        check_adapters(wanted, self._model)
        self._adapters.load(wanted)
        # What was computed with the others goes first. The next line decides; an interrupt after it is made good by
        # the next decode.
        self.clear()
        self.info = replace(self.info, adapters=wanted)
        self._apply_adapters()
        self._adapters.keep_only(wanted)

    def _apply_adapters(self) -> None:
        wanted = self.info.adapters
        self._calls.line_up()
        with self._calls.lock:
            self._adapters.apply(wanted)
        self._applied = wanted

    # cancelling: takes no lock

    def cancel(self) -> None:
        self._cancelled = True
        self._set_flag(1)

    def clear_cancel(self) -> None:
        self._cancelled = False
        self._set_flag(0)
        self.guest.clear_stop()

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def close(self) -> None:
        if self._calls.interrupted:  # by a signal handler: once that call has ended
            threading.Thread(target=self.close, name="llama-bridge-closing").start()
            return
        with self._calls.turnstile, self._calls.lock:  # so nobody is in a call
            self.guest.close()
            self._vocabulary.forget()

    # inside

    def _call(self, name: str, *args: int) -> int:
        self._calls.line_up()
        with self._calls.lock:
            return self._calls.call(name, *args)


class WasmEncoder(EncoderCalls, WasmEngine):
    """A model that only embeds, loaded into a guest."""

    @property
    def length(self) -> int:
        return self._call("lb_length")

    def truncate(self, length: int) -> bool:
        return check_length(length) == self.length

    def clear(self) -> None:
        self._call("lb_clear")

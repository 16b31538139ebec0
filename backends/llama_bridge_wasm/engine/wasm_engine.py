"""The engine contract on top of a guest. It knows llama.wasm's ABI and no host."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from dataclasses import replace

from llama_bridge.capabilities import Capability
from llama_bridge.chat.module.host import missing
from llama_bridge.engine import EncoderCalls, Engine, EngineInfo, MemoryKind
from llama_bridge.engine_arguments import (
    check_length,
    check_pieces,
    check_room,
    check_sequence,
    check_sequences,
    check_text,
)
from llama_bridge.errors import EngineError
from llama_bridge.kv_sequence import KvSequence
from llama_bridge.models.adapter import Adapter
from llama_bridge.models.adapter_preflight import check_adapters
from llama_bridge.models.least_tokens import LeastTokens
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams

from .. import abi
from ..abi import Guest, Status
from .adapters import LoadedAdapters
from .byte_sums import ByteSums
from .calls import Calls
from .embedder import Embedder
from .loading import describe, is_encoder, load_model
from .marshal import Buffer, as_pointer
from .reading import Reading
from .sequence import NAME, WasmSequence
from .vocabulary import Vocabulary

__all__ = ["CAPABILITIES", "NAME", "WasmEngine"]

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
    | Capability.PARALLEL
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
_SUMMED = ", bytes summed in "
_A_PROMPT = 8
"""Tokens from which a decode is one of a prompt, which a few milliseconds more do not matter to."""


class WasmEngine(WasmSequence, Engine):
    """A model loaded into a guest. :meth:`load` makes it; it owns the guest.

    Attributes:
        guest: what computes.
        calls: access to it.
        buffer: arguments in its memory; with the lock of ``calls`` held.
    """

    def __init__(
        self,
        guest: Guest,
        buffer: Buffer,
        model: ModelFile,
        capabilities: Capability,
        info: EngineInfo,
        sums: ByteSums,
    ) -> None:
        self.guest = guest
        self.capabilities = capabilities
        self.info = info
        self.calls = Calls(guest, str(model.path))
        self._vocabulary = Vocabulary(guest, self.calls, model.header, info.n_vocab)
        self._least = LeastTokens(model)
        self.buffer = buffer
        self._model = model
        self._adapters = LoadedAdapters(guest, self.calls, buffer, model)
        self._applied = info.adapters  # what the guest was told
        self._embedder = Embedder(guest, self.calls, buffer, model, info)
        self._sums = sums
        self._set_flag = guest.flag(as_pointer(guest.call("lb_cancel_flag")))
        self._cancelled = False
        self.begin_as(self, 0)
        others = [WasmSequence() for _ in range(1, info.n_parallel)]
        for number, sequence in enumerate(others, 1):
            sequence.begin_as(self, number)
        self._sequences: tuple[WasmSequence, ...] = (self, *others)

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
            sums = ByteSums(guest)
            buffer = Buffer(guest)
            reading.begin()
            load_model(guest, buffer, model, params, reading)
            capabilities = CAPABILITIES
            if guest.has_threads:
                capabilities |= Capability.THREADS
            if model.chat_template is None or missing():
                capabilities &= ~(Capability.CHAT_TEMPLATE | Capability.TOOLS)
            info = describe(guest, buffer, model, params, _told(version, sums))
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
            engine = kind(guest, buffer, model, capabilities, info, sums)
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

    # several sequences

    @property
    def sequences(self) -> Sequence[WasmSequence]:
        return self._sequences

    def decode_together(self, pieces: Sequence[tuple[KvSequence, Sequence[int]]]) -> bool:
        info = self.info
        self.calls.check_open()  # a wrong argument is not what to tell
        checked = check_pieces(pieces, self._sequences, info.n_vocab, info.n_batch)
        if not checked:
            return True
        self.settle_adapters()
        numbers = array("i", [number for number, _ in checked])
        lengths = array("i", [len(tokens) for _, tokens in checked])
        data = b"".join(part.tobytes() for part in (numbers, lengths, *(t for _, t in checked)))
        self.calls.line_up()
        with self.calls.lock:
            pointer = self.buffer.put(data)
            places = [pointer + 4 * len(checked) * i for i in range(3)]
            status = self.guest.call("lb_decode_together", *places, len(checked))
            if status == Status.CONTEXT_FULL:
                for number, tokens in checked:
                    check_room(self.guest.call("lb_length", number), len(tokens), info.n_ctx)
            if status != Status.CANCELLED:
                self.calls.checked(status)
        return self.went_on(status, sum(lengths))

    def share(self, source: KvSequence, target: KvSequence, length: int) -> bool:
        self.calls.check_open()  # as above
        origin, other = (check_sequence(s, self._sequences) for s in (source, target))
        check_length(length)
        return length <= self.info.n_ctx and self.call("lb_share", origin, other, length) == 1

    # embeddings

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        if not self.capabilities & (Capability.EMBEDDINGS | Capability.RERANK):
            return super().embed(sequences)
        self.calls.check_open()  # a wrong argument is not what to tell
        packed = check_sequences(sequences, self.info.n_vocab, self.info.n_ctx)
        self.settle_adapters()
        found = self._embedder.embed(packed, lambda: self.cancelled)
        self._settle_sums()
        if found is None:
            self._cancelled = True
        return found

    # adapters

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        self.calls.check_open()  # a wrong argument is not what to tell
        wanted = tuple(adapters)
        if wanted == self.info.adapters:
            return
        check_adapters(wanted, self._model)
        self._adapters.load(wanted)
        # What was computed with the others goes first. The next line decides; an interrupt after it is made good by
        # the next decode.
        for sequence in self._sequences:
            sequence.clear()
        self.info = replace(self.info, adapters=wanted)
        self._apply_adapters()
        self._adapters.keep_only(wanted)

    def _apply_adapters(self) -> None:
        wanted = self.info.adapters
        self.calls.line_up()
        with self.calls.lock:
            self._adapters.apply(wanted)
            self._embedder.use(wanted)
        self._applied = wanted

    # cancelling: takes no lock

    def cancel(self) -> None:
        self._cancelled = True
        self._set_flag(1)

    def clear_cancel(self) -> None:
        self._cancelled = False
        self._set_flag(0)

    @property
    def cancelled(self) -> bool:
        return self._cancelled or self.guest.stopped

    def close(self) -> None:
        if self.calls.interrupted:  # by a signal handler: once that call has ended
            threading.Thread(target=self.close, name="llama-bridge-closing").start()
            return
        with self.calls.turnstile, self.calls.lock:  # so nobody is in a call
            self.guest.close()
            self._vocabulary.forget()

    # inside: for the sequences

    def call(self, name: str, *args: int) -> int:
        """One call into the guest."""
        self.calls.line_up()
        with self.calls.lock:
            return self.calls.call(name, *args)

    def went_on(self, status: int, n_tokens: int) -> bool:
        """After so many tokens were to be decoded: False if that was cancelled. Else the host may do something between."""
        if status == Status.CANCELLED:
            self._cancelled = True
            return False
        if n_tokens >= _A_PROMPT:
            self._settle_sums()
        if n_tokens == self.info.n_batch:  # more may follow, in this call or the next
            self.guest.pause()
        return True

    def _settle_sums(self) -> None:
        with self.calls.lock:
            changed = self._sums.try_again()
        if changed:
            self.info = replace(self.info, version=_told(self.info.version, self._sums))

    def settle_adapters(self) -> None:
        """Make good what an interrupt of :meth:`set_adapters` left undone."""
        if self._applied is not self.info.adapters:
            self._apply_adapters()


def _told(version: str, sums: ByteSums) -> str:
    return f"{version.partition(_SUMMED)[0]}{_SUMMED}{sums.form}"


class WasmEncoder(EncoderCalls, WasmEngine):
    """A model that only embeds, loaded into a guest."""

    @property
    def length(self) -> int:
        return self.call("lb_length", 0)

    def truncate(self, length: int) -> bool:
        return check_length(length) == self.length

    def clear(self) -> None:
        self.call("lb_clear", 0)

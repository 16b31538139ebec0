"""The engine contract over a guest. It knows llama.wasm's ABI and no host."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from llama_bridge.capabilities import Capability
from llama_bridge.engine import Engine, EngineInfo, MemoryKind
from llama_bridge.errors import (
    ContextOverflow,
    EngineError,
    InvalidInput,
    OutOfMemory,
)
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams

from .. import abi
from ..abi import Guest, Info, Status
from .loading import describe, load_model
from .marshal import Buffer, as_pointer, last_error

__all__ = ["CAPABILITIES", "NAME", "WasmEngine"]

NAME = "wasm"
CAPABILITIES = (
    Capability.GENERATE
    | Capability.STREAM
    | Capability.CANCEL
    | Capability.CHAT_TEMPLATE
    | Capability.PREFIX_CACHE
    | Capability.SANDBOX
)
_STATEFUL_CHUNK = 32
"""Tokens per call where a call cannot be cancelled half-way: recurrent and hybrid models."""


class WasmEngine(Engine):
    """A model loaded into a guest. Made by :meth:`load`; owns the guest.

    Attributes:
        on_prefill: told how many tokens of how many are evaluated, where that takes more than one call.
    """

    backend = NAME
    on_prefill: Callable[[int, int], object] | None = None

    def __init__(
        self, guest: Guest, buffer: Buffer, path: str, capabilities: Capability, info: EngineInfo
    ) -> None:
        self.guest = guest
        self._path = path
        self.capabilities = capabilities
        self.info = info
        self._chunk = min(guest.call("lb_info", Info.N_BATCH), guest.chunk)
        if info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
            self._chunk = min(self._chunk, _STATEFUL_CHUNK)
        self._buffer = buffer
        self._set_flag = guest.flag(as_pointer(guest.call("lb_cancel_flag")))
        self._cancelled = False
        self._pieces: dict[int, bytes] = {}

    @classmethod
    def load(cls, guest: Guest, model: ModelFile, params: ModelParams, version: str) -> WasmEngine:
        """Load ``model``, which the guest can read as ``abi.MODEL_PATH``, and take over the guest.

        Raises:
            OutOfMemory: weights, KV cache or work space do not fit.
            ModelLoadError: llama.cpp refused the file; its own words are in the reason.
        """
        try:
            found = guest.call("lb_abi_version")
            if found != abi.ABI_VERSION:
                raise EngineError(
                    f"llama.wasm has ABI {found}, this package speaks {abi.ABI_VERSION}: build it again"
                )
            buffer = Buffer(guest)
            load_model(guest, buffer, model, params)
            capabilities = CAPABILITIES
            if guest.has_threads:
                capabilities |= Capability.THREADS
            if model.chat_template is None:
                capabilities &= ~Capability.CHAT_TEMPLATE
            info = describe(guest, buffer, params, version)
            if info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
                capabilities &= ~Capability.PREFIX_CACHE
            return cls(guest, buffer, str(model.path), capabilities, info)
        except BaseException:
            guest.close()
            raise

    # vocabulary

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        # Rarely more tokens than bytes; a few more for what the model puts around a text.
        capacity = len(data) + 16
        while True:
            pointer = self._buffer.reserve(len(data) + 3 + 4 * capacity)
            self.guest.write(pointer, data)
            out = pointer + (len(data) + 3 & ~3)
            flags = (int(add_special), int(parse_special))
            n = self._call("lb_tokenize", pointer, len(data), *flags, out, capacity)
            if n <= capacity:
                return list(struct.unpack(f"<{n}i", self.guest.read(out, 4 * n)))
            capacity = n

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        if not special and (known := self._pieces.get(token)) is not None:
            return known
        capacity = 256
        while True:
            pointer = self._buffer.reserve(capacity)
            n = self._call("lb_token_bytes", token, int(special), pointer, capacity)
            if n <= capacity:
                break
            capacity = n
        piece = bytes(self.guest.read(pointer, n))
        if not special:
            self._pieces[token] = piece
        return piece

    # the KV cache

    @property
    def length(self) -> int:
        return self._call("lb_length")

    def decode(self, tokens: Sequence[int]) -> int:
        before = self.length
        if before + len(tokens) > self.info.n_ctx:
            raise ContextOverflow(before + len(tokens), self.info.n_ctx)
        for start in range(0, len(tokens), self._chunk):
            if start:
                self.guest.pause()
            chunk = tokens[start : start + self._chunk]
            pointer = self._buffer.put(struct.pack(f"<{len(chunk)}i", *chunk))
            status = self.guest.call("lb_decode", pointer, len(chunk))
            if status == Status.CANCELLED:
                self._cancelled = True
                return self.length - before
            self._check(status)
            if self.on_prefill is not None and len(tokens) > self._chunk:
                self.on_prefill(start + len(chunk), len(tokens))
        return len(tokens)

    def truncate(self, length: int) -> bool:
        return self._call("lb_truncate", length) == 1

    def clear(self) -> None:
        self._call("lb_clear")

    # sampling

    def set_sampler(self, params: SamplingParams, seed: int, recent: Sequence[int]) -> None:
        packed = abi.SAMPLER_PARAMS.pack(
            seed,
            params.temperature,
            params.top_k,
            params.top_p,
            params.min_p,
            params.repeat_last_n,
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )
        pointer = self._buffer.put(packed + struct.pack(f"<{len(recent)}i", *recent))
        self._call("lb_sampler", pointer, pointer + len(packed), len(recent))

    def sample(self) -> int:
        return self._call("lb_step", abi.NO_TOKEN)

    def step(self, token: int) -> int | None:
        if token < 0:
            raise InvalidInput(f"token={token}: token ids are not negative")
        drawn = self.guest.call("lb_step", token)
        if drawn == Status.CANCELLED:
            self._cancelled = True
            return None
        return self._check(drawn)

    def logits(self) -> memoryview[float]:
        pointer = as_pointer(self.guest.call("lb_logits"))
        if pointer == 0:
            raise EngineError("there are no logits: decode at least one token first")
        # A copy: a view would dangle once the guest is closed.
        copy = memoryview(self.guest.read(pointer, 4 * self.info.n_vocab))
        return copy.cast("f")

    # cancelling

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
        self.guest.close()

    # inside

    def _call(self, name: str, *args: int) -> int:
        return self._check(self.guest.call(name, *args))

    def _check(self, result: int) -> int:
        """The result of a call, if it is no status."""
        if result >= 0:
            return result
        message = last_error(self.guest)
        if result == Status.BAD_ARGUMENT:
            raise InvalidInput(message)
        if result == Status.CONTEXT_FULL:
            raise ContextOverflow(self.length + 1, self.info.n_ctx)
        if result == Status.OUT_OF_MEMORY:
            raise OutOfMemory(self._path, message)
        raise EngineError(message)

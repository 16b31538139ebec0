"""The engine contract over a guest. It knows llama.wasm's ABI and no host."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from llama_bridge.capabilities import Capability
from llama_bridge.engine import Engine, EngineInfo, MemoryKind
from llama_bridge.errors import ContextOverflow, EngineError, InvalidInput, ModelLoadError, OutOfMemory
from llama_bridge.models import ModelFile
from llama_bridge.params import ModelParams, SamplingParams

from . import abi
from .abi import Guest, Info, Status

__all__ = ["CAPABILITIES", "NAME", "WasmEngine"]

NAME = "wasm"
CAPABILITIES = (
    Capability.GENERATE
    | Capability.STREAM
    | Capability.CANCEL
    | Capability.CHAT_TEMPLATE
    | Capability.SANDBOX
)
_MIB = 1 << 20
_MICRO_BATCH = 512
_STATEFUL_CHUNK = 32
"""Tokens per call where a call cannot be cancelled half-way: recurrent and hybrid models."""


class WasmEngine(Engine):
    """A model loaded into a guest. Made by :meth:`load`; owns the guest."""

    backend = NAME

    def __init__(self, guest: Guest, path: str, capabilities: Capability, info: EngineInfo) -> None:
        self._guest = guest
        self._path = path
        self.capabilities = capabilities
        self.info = info
        self._chunk = guest.call("lb_info", Info.N_BATCH)
        if info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
            self._chunk = min(self._chunk, _STATEFUL_CHUNK)
        self._buffer = _Buffer(guest)
        self._set_flag = guest.flag(_pointer(guest.call("lb_cancel_flag")))
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
            _load(guest, model, params)
            capabilities = CAPABILITIES
            if model.chat_template is None:
                capabilities &= ~Capability.CHAT_TEMPLATE
            return cls(guest, str(model.path), capabilities, _info(guest, params, version))
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
            self._guest.write(pointer, data)
            out = pointer + (len(data) + 3 & ~3)
            flags = (int(add_special), int(parse_special))
            n = self._call("lb_tokenize", pointer, len(data), *flags, out, capacity)
            if n <= capacity:
                return list(struct.unpack(f"<{n}i", self._guest.read(out, 4 * n)))
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
        piece = bytes(self._guest.read(pointer, n))
        if not special:
            self._pieces[token] = piece
        return piece

    # the KV cache

    @property
    def length(self) -> int:
        return self._call("lb_length")

    def decode(self, tokens: Sequence[int]) -> int:
        before = self.length
        for start in range(0, len(tokens), self._chunk):
            chunk = tokens[start : start + self._chunk]
            pointer = self._buffer.put(struct.pack(f"<{len(chunk)}i", *chunk))
            status = self._guest.call("lb_decode", pointer, len(chunk))
            if status == Status.CANCELLED:
                return self.length - before
            self._check(status)
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
        drawn = self._guest.call("lb_step", token)
        if drawn == Status.CANCELLED:
            return None
        return self._check(drawn)

    def logits(self) -> memoryview:
        pointer = _pointer(self._guest.call("lb_logits"))
        if pointer == 0:
            raise EngineError("there are no logits: decode at least one token first")
        # A copy: a view would dangle once the guest is closed.
        return memoryview(self._guest.read(pointer, 4 * self.info.n_vocab)).cast("f")

    # cancelling

    def cancel(self) -> None:
        self._cancelled = True
        self._set_flag(1)

    def clear_cancel(self) -> None:
        self._cancelled = False
        self._set_flag(0)

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def close(self) -> None:
        self._guest.close()

    # inside

    def _call(self, name: str, *args: int) -> int:
        return self._check(self._guest.call(name, *args))

    def _check(self, result: int) -> int:
        """The result of a call, if it is no status."""
        if result >= 0:
            return result
        message = _last_error(self._guest)
        if result == Status.BAD_ARGUMENT:
            raise InvalidInput(message)
        if result == Status.CONTEXT_FULL:
            raise ContextOverflow(self.length + 1, self.info.n_ctx)
        if result == Status.OUT_OF_MEMORY:
            raise OutOfMemory(self._path, message)
        raise EngineError(message)


class _Buffer:
    """One piece of guest memory for arguments and results, grown when more is asked for."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pointer = 0
        self._size = 0

    def reserve(self, size: int) -> int:
        """A pointer to at least ``size`` bytes; what was in them is lost."""
        if size > self._size:
            self._guest.call("lb_free", self._pointer)
            self._pointer = self._size = 0
            wanted = max(size, 4096)
            self._pointer = _pointer(self._guest.call("lb_alloc", wanted))
            if self._pointer == 0:
                raise EngineError(f"llama.wasm has no room for {wanted} bytes of arguments")
            self._size = wanted
        return self._pointer

    def put(self, data: bytes) -> int:
        """A pointer to a copy of ``data``."""
        pointer = self.reserve(len(data))
        self._guest.write(pointer, data)
        return pointer


def _pointer(result: int) -> int:
    """Results are signed; a pointer is not."""
    return result & 0xFFFFFFFF


def _last_error(guest: Guest) -> str:
    pointer = _pointer(guest.call("lb_last_error"))
    text = bytearray()
    while len(text) < 1 << 16:
        size = min(256, guest.memory_size - pointer - len(text))
        part = guest.read(pointer + len(text), size)
        end = part.find(0)
        text += part if end < 0 else part[:end]
        if end >= 0 or not part:
            break
    return text.decode("utf-8", "replace") or "no reason given"


def _load(guest: Guest, model: ModelFile, params: ModelParams) -> None:
    size = model.path.stat().st_size
    if size > params.memory_limit:
        raise _too_large(model, params, "its weights alone are larger than that", 0)
    micro_batch = min(params.n_batch, _MICRO_BATCH)
    packed = abi.LOAD_PARAMS.pack(
        params.context_length(model.n_ctx_train),
        params.n_batch,
        micro_batch,
        1,
        abi.KV_TYPES[params.kv_type_k],
        abi.KV_TYPES[params.kv_type_v],
        int(params.flash_attention),
    )
    buffer = _Buffer(guest)
    try:
        pointer = buffer.put(packed + abi.MODEL_PATH.encode() + b"\0")
        status = guest.call("lb_load", pointer + len(packed), pointer)
        reason = "" if status == 0 else _last_error(guest)
    except EngineError as error:
        # llama.cpp aborts where a size does not fit the address space: its last words tell.
        if "allocate" in guest.log_tail or "not enough" in guest.log_tail:
            raise _too_large(model, params, str(error), guest.memory_size) from error
        raise ModelLoadError(model.path, str(error)) from error
    if status == Status.OUT_OF_MEMORY:
        raise _too_large(model, params, reason, guest.memory_size)
    if status == Status.BAD_ARGUMENT:
        raise InvalidInput(reason)
    if status != 0:
        raise ModelLoadError(model.path, reason)


def _too_large(model: ModelFile, params: ModelParams, reason: str, used: int) -> OutOfMemory:
    size = model.path.stat().st_size
    return OutOfMemory(
        model.path,
        f"the file of {size / _MIB:.0f} MiB and a context of "
        f"{params.context_length(model.n_ctx_train)} tokens do not fit {params.memory_limit / _MIB:.0f} MiB "
        f"({used / _MIB:.0f} MiB in use when it failed: {reason}). Load with a smaller n_ctx, a smaller model, "
        "or a larger memory_limit (4 GiB at most), or use the native backend.",
    )


def _info(guest: Guest, params: ModelParams, version: str) -> EngineInfo:
    def ask(key: Info) -> int:
        return guest.call("lb_info", key)

    def token(key: Info) -> int | None:
        return None if (found := ask(key)) < 0 else found

    n = guest.call("lb_eog_tokens", 0, 0)
    pointer = _Buffer(guest).reserve(4 * n)
    guest.call("lb_eog_tokens", pointer, n)
    return EngineInfo(
        n_ctx=ask(Info.N_CTX),
        n_ctx_train=ask(Info.N_CTX_TRAIN),
        n_vocab=ask(Info.N_VOCAB),
        bos=token(Info.BOS),
        eos=token(Info.EOS),
        add_bos=ask(Info.ADD_BOS) == 1,
        end_of_generation=frozenset(struct.unpack(f"<{n}i", guest.read(pointer, 4 * n))),
        memory=_memory_kind(ask(Info.IS_RECURRENT), ask(Info.IS_HYBRID), ask(Info.N_SWA)),
        n_threads=ask(Info.N_THREADS),
        flash_attention=params.flash_attention,
        kv_type_k=params.kv_type_k,
        kv_type_v=params.kv_type_v,
        version=version,
    )


def _memory_kind(recurrent: int, hybrid: int, n_swa: int) -> MemoryKind:
    if hybrid:
        return MemoryKind.HYBRID
    if recurrent:
        return MemoryKind.RECURRENT
    return MemoryKind.SWA if n_swa > 0 else MemoryKind.DENSE

"""Loads a model into a guest, describes it, and explains a failure."""

from __future__ import annotations

import struct

from llama_bridge.engine import EngineInfo, MemoryKind
from llama_bridge.errors import (
    BridgeError,
    EngineError,
    InvalidInput,
    InvalidModel,
    ModelLoadError,
    OutOfMemory,
)
from llama_bridge.models.finite import about_tensor
from llama_bridge.models.ggml_types import KV_TYPES
from llama_bridge.models.pooling import POOLINGS, pooling_of
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams

from .. import abi
from ..abi import Guest, Info, Status
from .marshal import Buffer, as_pointer, last_error
from .reading import Reading

__all__ = ["describe", "is_encoder", "load_model"]

_MIB = 1 << 20
_BATCH = 128
"""Tokens per call: a cancel or a Ctrl-C waits for no more than that. Larger batches are no faster here."""
_STATEFUL_BATCH = 32
"""The same for recurrent and hybrid models, where a running call cannot be cancelled."""
_MAX_VOCABULARY = 1 << 22
_MEAN = POOLINGS.index("mean")


def load_model(
    guest: Guest, buffer: Buffer, model: ModelFile, params: ModelParams, reading: Reading
) -> None:
    """Load ``model``, which the guest knows by ``abi.model_paths``; ``reading`` reports progress.

    Raises:
        OutOfMemory: weights, KV cache or work space do not fit; the message has the numbers.
        InvalidModel: a tensor holds NaN or infinity.
        ModelLoadError: llama.cpp refused it; the message is its own.
        InvalidInput: llama.wasm does not accept a parameter.
    """
    try:
        _load(guest, buffer, model, params)
    except BridgeError:
        if reading.failure is None:
            raise
    if reading.failure is not None:
        raise reading.failure  # unchanged: neither the host nor the model failed


def _load(guest: Guest, buffer: Buffer, model: ModelFile, params: ModelParams) -> None:
    batch = min(params.n_batch, _BATCH)
    packed = abi.LOAD_PARAMS.pack(
        params.context_length(model.n_ctx_train),
        batch,
        batch,
        guest.threads,
        KV_TYPES[params.type_k],
        KV_TYPES[params.type_v],
        int(params.flash_attn),
        params.n_parallel,
    )
    path = abi.model_paths(len(model.files))[0]
    refused = as_pointer(guest.call("lb_refused_flag"))
    try:
        pointer = buffer.put(packed + path.encode() + b"\0")
        status = guest.call("lb_load", pointer + len(packed), pointer)
        reason = "" if status == 0 else last_error(guest)
    except EngineError as error:
        # In some places llama.cpp aborts if it gets no memory. A stopped guest's memory can still be read.
        if any(guest.read(refused, 4)):
            raise _too_large(model, params, str(error), guest.memory_size) from error
        raise ModelLoadError(model.path, str(error)) from error
    if status == Status.OUT_OF_MEMORY:
        raise _too_large(model, params, reason, guest.memory_size)
    if status == Status.NOT_FINITE:
        raise InvalidModel(model.path, about_tensor(model, reason))
    if status == Status.BAD_ARGUMENT:
        raise InvalidInput(reason)
    if status != 0:
        raise ModelLoadError(model.path, reason)


def _too_large(model: ModelFile, params: ModelParams, reason: str, used: int) -> OutOfMemory:
    size = model.header.file_size
    return OutOfMemory(
        model.path,
        f"a file of {size / _MIB:.0f} MiB and a context of "
        f"{params.context_length(model.n_ctx_train)} tokens do not fit {params.memory_limit / _MIB:.0f} MiB "
        f"({used / _MIB:.0f} MiB in use when it failed: {reason}). Load with a smaller n_ctx, a smaller model, "
        "or a larger memory_limit (4 GiB at most), or use the native backend.",
    )


def describe(
    guest: Guest, buffer: Buffer, model: ModelFile, params: ModelParams, version: str
) -> EngineInfo:
    """Describe the loaded model and its context."""

    def ask(key: Info) -> int:
        return guest.call("lb_info", key)

    def token(key: Info) -> int | None:
        return None if (found := ask(key)) < 0 else found

    n_vocab, n = ask(Info.N_VOCAB), guest.call("lb_eog_tokens", 0, 0)
    if not 0 <= n <= n_vocab <= _MAX_VOCABULARY:  # the host copies that much
        raise EngineError(
            f"llama.wasm reports {n_vocab:,} tokens, {n:,} of them end-of-generation tokens"
        )
    pointer = buffer.reserve(4 * n)
    guest.call("lb_eog_tokens", pointer, n)
    memory = _memory_kind(ask(Info.IS_RECURRENT), ask(Info.IS_HYBRID), ask(Info.N_SWA))
    n_batch = min(ask(Info.N_BATCH), guest.chunk)
    if memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
        n_batch = min(n_batch, _STATEFUL_BATCH)
    n_ctx = ask(Info.N_CTX)
    if is_encoder(
        guest
    ):  # its own context holds next to nothing; positions it was not trained with are refused
        n_ctx = ask(Info.N_CTX_TRAIN)
        n_ctx, n_batch = min(n_ctx, params.asked_n_ctx or n_ctx), min(params.n_batch, _BATCH)
    return EngineInfo(
        n_ctx=n_ctx,
        n_ctx_train=ask(Info.N_CTX_TRAIN),
        n_vocab=n_vocab,
        bos=token(Info.BOS),
        eos=token(Info.EOS),
        add_bos=ask(Info.ADD_BOS) == 1,
        end_of_generation=frozenset(struct.unpack(f"<{n}i", guest.read(pointer, 4 * n))),
        memory=memory,
        n_threads=ask(Info.N_THREADS),
        flash_attn=params.flash_attn,
        type_k=params.type_k,
        type_v=params.type_v,
        version=version,
        n_batch=n_batch,
        n_embd=guest.call("lb_embed_width", _MEAN),
        pooling=pooling_of(model.header, params),
        sep=token(Info.SEP),
        add_eos=ask(Info.ADD_EOS) == 1,
        add_sep=ask(Info.ADD_SEP) == 1,
        n_parallel=1 if is_encoder(guest) else params.n_parallel,
    )


def is_encoder(guest: Guest) -> bool:
    """Whether the loaded model only embeds."""
    return guest.call("lb_info", Info.IS_ENCODER) == 1


def _memory_kind(recurrent: int, hybrid: int, n_swa: int) -> MemoryKind:
    if hybrid:
        return MemoryKind.HYBRID
    if recurrent:
        return MemoryKind.RECURRENT
    return MemoryKind.SWA if n_swa > 0 else MemoryKind.DENSE

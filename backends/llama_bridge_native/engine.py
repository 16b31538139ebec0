"""The engine over llama.cpp's C interface: one model, one context, one sequence."""

from __future__ import annotations

import ctypes
import logging
import os
import struct
import threading
from collections.abc import Sequence
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.engine import Engine, EngineInfo, MemoryKind
from llama_bridge.errors import ClosedError, EngineError, ModelLoadError, OutOfMemory
from llama_bridge.files.copy_memory import copy_memory
from llama_bridge.local.cores import compute_threads
from llama_bridge.models.ggml_types import KV_TYPES
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge.progress import OnProgress

from .deep_stack import with_deep_stack
from .library import abort_callback, errors_logged, lib
from .load_progress import LoadProgress
from .sampler import make_sampler
from .state_layout import SPARSE_ATTENTION, StateLayout

__all__ = ["NativeEngine"]

_SEQ = 0
_STATE_HEAD = struct.Struct("<Ii")
_STATE_MAGIC = (
    0xAF143CD8  # llama-context.cpp: what a state in memory begins with, then its sequence
)
_DONE, _ABORTED = 0, 2
_LONG_TEXT = 4096
_UNINTERRUPTED = 64  # tokens per call where a running call cannot be aborted
_log = logging.getLogger("llama_bridge.native")


class NativeEngine(Engine):
    """Owns a llama.cpp model and context."""

    backend = "native"

    def __init__(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        self._model: Any = model
        self._context: Any = context
        self._sampler: Any = None
        self._process = os.getpid()
        self._vocab: Any = lib.llama_model_get_vocab(model)
        self._memory: Any = lib.llama_get_memory(context)
        self._flag = ctypes.create_string_buffer(2)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._token = (ctypes.c_int32 * 1)()
        self._single = lib.llama_batch_get_one(self._token, 1)
        self._took_copy = False
        self._n_swa: int = lib.llama_model_n_swa(model)
        self._words = threading.Lock()  # the vocabulary is for any thread, until it is freed
        memory = self._memory_kind()
        self._chunk = int(lib.llama_n_batch(context))  # llama.cpp rounds n_ctx up, not n_batch
        if memory in (MemoryKind.DENSE, MemoryKind.SWA):
            lib.llama_set_abort_callback(
                context, abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        else:  # an aborted call would leave the running state half advanced
            self._chunk = min(self._chunk, _UNINTERRUPTED)
        self.info = self._describe(file, params, memory)
        self._layout = self._memory_layout(file, params)
        self.capabilities = (
            Capability.GENERATE
            | Capability.STREAM
            | Capability.CANCEL
            | Capability.TOKENS
            | Capability.KV_CONTINUATION
            | Capability.SESSION_PERSISTENCE
            | Capability.SESSION_TOOLS
            | Capability.THREADS
        )
        if self.info.memory in (MemoryKind.DENSE, MemoryKind.SWA):
            self.capabilities |= Capability.PREFIX_CACHE
        if file.header.architecture in SPARSE_ATTENTION:
            self.capabilities &= ~Capability.SESSION_PERSISTENCE
        if file.chat_template:
            self.capabilities |= Capability.CHAT_TEMPLATE
        if lib.llama_supports_gpu_offload():
            self.capabilities |= Capability.GPU_OFFLOAD

    @classmethod
    def load(
        cls, file: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> NativeEngine:
        """Load the weights and make the context.

        Raises:
            ModelLoadError, OutOfMemory: with llama.cpp's own words.
        """
        model_params = lib.llama_model_default_params()
        progress = LoadProgress(on_progress, file.header.file_size)
        model_params.progress_callback = progress.callback
        model_params.load_mode = lib.LLAMA_LOAD_MODE_MMAP
        model_params.n_gpu_layers = params.n_gpu_layers
        with errors_logged() as errors:
            model = lib.llama_model_load_from_file(os.fsencode(file.path), model_params)
            if not model:
                progress.reraise()
                raise _refusal(file, errors)
            try:
                progress.reraise()
                return cls(model, _make_context(model, file, params, errors), file, params)
            except BaseException:
                lib.llama_model_free(model)
                raise

    def _memory_kind(self) -> MemoryKind:
        if lib.llama_model_is_hybrid(self._model):
            return MemoryKind.HYBRID
        if lib.llama_model_is_recurrent(self._model):
            return MemoryKind.RECURRENT
        return MemoryKind.SWA if self._n_swa > 0 else MemoryKind.DENSE

    def _describe(self, file: ModelFile, params: ModelParams, memory: MemoryKind) -> EngineInfo:
        model, vocab = self._model, self._vocab
        n_vocab = lib.llama_vocab_n_tokens(vocab)
        bos, eos = lib.llama_vocab_bos(vocab), lib.llama_vocab_eos(vocab)
        return EngineInfo(
            n_ctx=lib.llama_n_ctx(self._context),
            n_ctx_train=lib.llama_model_n_ctx_train(model),
            n_vocab=n_vocab,
            bos=bos if bos >= 0 else None,
            eos=eos if eos >= 0 else None,
            add_bos=bool(lib.llama_vocab_get_add_bos(vocab)),
            end_of_generation=frozenset(
                token for token in range(n_vocab) if lib.llama_vocab_is_eog(vocab, token)
            ),
            memory=memory,
            n_threads=compute_threads(params, file.header.file_size),
            flash_attn=params.flash_attn,
            type_k=params.type_k,
            type_v=params.type_v,
            version=f"llama-cpp-python {lib.__version__}",
            state_format=f"ggsq-{lib.LLAMA_STATE_SEQ_VERSION}",
            n_batch=self._chunk,
        )

    def _memory_layout(self, file: ModelFile, params: ModelParams) -> StateLayout:
        architecture = file.header.architecture
        rope = lib.llama_model_rope_type(self._model)
        return StateLayout(
            type_k=KV_TYPES[params.type_k],
            type_v=KV_TYPES[params.type_v],
            attention=self.info.memory is not MemoryKind.RECURRENT,
            recurrent=self.info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID),
            n_layers=lib.llama_model_n_layer(self._model),
            values=not all(
                file.header.number(f"{architecture}.attention.{side}_length_mla")
                for side in ("key", "value")
            ),
            extended=rope in (lib.LLAMA_ROPE_TYPE_MROPE, lib.LLAMA_ROPE_TYPE_IMROPE),
            window=self._n_swa,
            chunked=architecture == "llama4",
        )

    # vocabulary

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self._refuse_fork()
        data = text.encode()
        with self._words:
            if len(data) < _LONG_TEXT:
                return self._tokenize(data, add_special, parse_special)
            return with_deep_stack(
                lambda: self._tokenize(data, add_special, parse_special), len(data)
            )

    def _tokenize(self, data: bytes, add_special: bool, parse_special: bool) -> list[int]:
        room = len(data) + 8
        while True:
            buffer = (ctypes.c_int32 * room)()
            n = lib.llama_tokenize(
                self._open(self._vocab), data, len(data), buffer, room, add_special, parse_special
            )
            if n >= 0:
                return buffer[:n]
            room = -n

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        piece = self._pieces.get((token, special))
        if piece is None:
            self._refuse_fork()
            with self._words:
                piece = self._pieces[token, special] = self._read_piece(token, special)
        return piece

    def _read_piece(self, token: int, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            n = lib.llama_token_to_piece(self._open(self._vocab), token, buffer, room, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    # the KV cache

    @property
    def length(self) -> int:
        return int(lib.llama_memory_seq_pos_max(self._open(self._memory), _SEQ)) + 1

    def decode(self, tokens: Sequence[int]) -> int:
        before = self.length
        data = (ctypes.c_int32 * len(tokens))(*tokens)
        for start in range(0, len(tokens), self._chunk):
            n = min(self._chunk, len(tokens) - start)
            part = ctypes.cast(ctypes.byref(data, 4 * start), ctypes.POINTER(ctypes.c_int32))
            if self.cancelled or not self._decode(lib.llama_batch_get_one(part, n)):
                break
        return self.length - before

    def _decode(self, batch: Any) -> bool:
        """One call of llama_decode; False if it was aborted."""
        status = lib.llama_decode(self._context, batch)
        if status == _DONE:
            return True
        if status == _ABORTED:
            return False
        why = "no room in the KV cache" if status == 1 else "see the log llama_bridge.native"
        raise EngineError(f"llama_decode failed with status {status}: {why}")

    def truncate(self, length: int) -> bool:
        held = self.length
        if length >= held:
            return length == held
        if length == 0:
            self.clear()
            return True
        if self.info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
            return False
        if self.info.memory is MemoryKind.SWA:
            # seq_rm says yes even when the window that position `length` looks back on is gone.
            first = lib.llama_memory_seq_pos_min(self._memory, _SEQ)
            if first > self._layout.window_start(length):
                return False
        return bool(lib.llama_memory_seq_rm(self._memory, _SEQ, length, -1))

    def clear(self) -> None:
        lib.llama_memory_clear(self._open(self._memory), True)

    # sampling

    def set_sampler(self, params: SamplingParams, seed: int, recent: Sequence[int]) -> None:
        self._open(self._context)
        sampler = make_sampler(params, seed, recent, self.info.n_vocab)
        self._free_sampler()
        self._sampler = sampler

    def _free_sampler(self) -> None:
        sampler, self._sampler = self._sampler, None  # an interrupt must not free it twice
        if sampler is not None:
            lib.llama_sampler_free(sampler)

    def sample(self) -> int:
        return self._draw(self._open(self._sampler))

    def step(self, token: int) -> int | None:
        self._token[0] = token
        if not self._decode(self._single):
            return None
        return self._draw(self._sampler)

    def _draw(self, sampler: Any) -> int:
        logits = lib.llama_get_logits_ith(self._context, -1)
        if not logits:
            raise EngineError("there are no logits: decode something first")
        if logits[0] != logits[0]:
            # One NaN inside the model makes all logits NaN, and llama.cpp would draw some token all the same.
            self.clear()
            raise EngineError(
                "llama.cpp computed NaN: the model or the KV cache, say from a forged session file, is damaged. "
                "The cache was emptied; the next turn evaluates the conversation again"
            )
        return int(lib.llama_sampler_sample(sampler, self._context, -1))

    def logits(self) -> memoryview[float]:
        values = lib.llama_get_logits_ith(self._open(self._context), -1)
        if not values:
            raise EngineError("there are no logits: decode something first")
        row = ctypes.cast(values, ctypes.POINTER(ctypes.c_float * self.info.n_vocab)).contents
        view: memoryview[float] = memoryview(row).cast("B").cast("f")
        return view

    # cancelling

    def cancel(self) -> None:
        self._flag[0] = b"\1"

    def clear_cancel(self) -> None:
        self._flag[0] = b"\0"

    @property
    def cancelled(self) -> bool:
        return self._flag[0] != b"\0"

    # state

    state_prefix = _STATE_HEAD.size

    def state_get(self) -> memoryview:
        size = lib.llama_state_seq_get_size(self._open(self._context), _SEQ)
        state = copy_memory(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        with errors_logged() as errors:
            if lib.llama_state_seq_get_data(self._context, buffer, size, _SEQ) != size:
                raise EngineError(f"llama.cpp could not copy its state: {'; '.join(errors)}")
        return state

    def state_length(self, state: memoryview) -> int:
        return self._layout.n_tokens(state[_STATE_HEAD.size :])

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        self._open(self._context)
        try:
            self._layout.check(state[_STATE_HEAD.size :], tokens)
        except ValueError as error:
            _log.warning("a copy of the KV cache was refused: %s", error)
            return False
        _STATE_HEAD.pack_into(state, 0, _STATE_MAGIC, _SEQ)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        # Attention computes over some free cells too, and a NaN that is masked is still NaN: what a copy left
        # there goes. Without flash attention any decoded cell may be the one.
        lib.llama_memory_clear(self._memory, self._took_copy or not self.info.flash_attn)
        self._took_copy = True
        taken = lib.llama_state_seq_set_data(self._context, buffer, len(state), _SEQ)
        if taken != len(state):
            self.clear()
            return False
        return True

    # life

    def close(self) -> None:
        if self._model is None:
            return
        with self._words:  # nobody is in the middle of it
            self._vocab = None
        model, context, self._model = self._model, self._context, None
        self._free_sampler()
        self._context = self._memory = None
        lib.llama_free(context)
        lib.llama_model_free(model)

    def _open(self, handle: Any) -> Any:
        """A llama.cpp handle, unless it is gone: a null pointer would end the process."""
        if handle is None:
            raise ClosedError("this engine is closed")
        self._refuse_fork()
        return handle

    def _refuse_fork(self) -> None:
        # Threads do not survive a fork: the first decode would wait for them for ever, or for a lock they had.
        if self._process != os.getpid():
            raise EngineError(
                "this process was forked after the model was loaded: load it again here"
            )


def _make_context(model: Any, file: ModelFile, params: ModelParams, errors: Any) -> Any:
    if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
        raise ModelLoadError(file.path, "an encoder model: it cannot generate text")
    n_ctx = params.context_length(lib.llama_model_n_ctx_train(model))
    options = lib.llama_context_default_params()
    options.n_ctx = n_ctx
    options.n_batch = min(params.n_batch, n_ctx)
    options.n_ubatch = min(params.n_batch, 512, n_ctx)
    options.n_seq_max = 1
    options.n_threads = options.n_threads_batch = compute_threads(params, file.header.file_size)
    options.type_k = KV_TYPES[params.type_k]
    options.type_v = KV_TYPES[params.type_v]
    options.flash_attn_type = (
        lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if params.flash_attn
        else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    options.swa_full = False
    context = lib.llama_init_from_model(model, options)
    if not context:
        raise _refusal(file, errors)
    return context


def _refusal(file: ModelFile, errors: Sequence[str]) -> ModelLoadError:
    why = "; ".join(errors) or "llama.cpp gave no reason"
    kind = OutOfMemory if "alloc" in why else ModelLoadError
    return kind(file.path, f"llama.cpp could not load it: {why}")

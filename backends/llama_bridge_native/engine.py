"""The engine on llama.cpp's C interface: one model, one context, one sequence. ``opening.py`` makes it."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import struct
import threading
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.chat.module.host import missing
from llama_bridge.checks import check_count
from llama_bridge.engine import Engine, EngineInfo, MemoryKind
from llama_bridge.engine_arguments import (
    check_length,
    check_room,
    check_sampler,
    check_sequences,
    check_state,
    check_text,
    check_token,
    check_tokens,
)
from llama_bridge.errors import BridgeError, ClosedError, EngineError
from llama_bridge.files.copy_memory import copy_memory
from llama_bridge.grammar import Grammar
from llama_bridge.later_signals import LaterSignals
from llama_bridge.local.cores import compute_threads
from llama_bridge.models.adapter import Adapter
from llama_bridge.models.adapter_preflight import check_adapters
from llama_bridge.models.ggml_types import KV_TYPES
from llama_bridge.models.least_tokens import LeastTokens
from llama_bridge.models.long_runs import longest_run
from llama_bridge.models.pooling import is_causal, pooling_of
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams

from .adapters import LoadedAdapters
from .constraint import Constraint, Vocabulary
from .deep_stack import with_deep_stack
from .devices import gpu_names
from .embedder import Embedder
from .library import LoggedErrors, abort_callback, lib
from .loading import load_embedding_context
from .logprobs import Logprobs
from .sampler import SamplerChains
from .state_layout import SPARSE_ATTENTION, StateLayout

__all__ = ["NativeEngine"]

_SEQ = 0
_STATE_HEAD = struct.Struct("<Ii")
_STATE_MAGIC = (
    0xAF143CD8  # llama-context.cpp: a state in memory begins with this, then its sequence
)
_DONE, _ABORTED = 0, 2
_WHY = {1: "no room in the KV cache", -2: "not enough memory to compute"}
_UNINTERRUPTED = 64  # tokens per call if a running call cannot be aborted
_NAN = "llama.cpp computed NaN"
_log = logging.getLogger("llama_bridge.native")


class NativeEngine(Engine):
    """Owns a llama.cpp model and context."""

    backend = "native"
    # before it is complete and after close() all are None, and every call raises
    _model: Any = None
    _context: Any = None
    _memory: Any = None
    _vocab: Any = None
    _sampler: Any = None
    _constraint: Constraint | None = None
    _vocabulary: Vocabulary | None = None
    _banned: frozenset[int] = frozenset()
    _embedder: Embedder | None = None

    def __init__(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        try:
            self._set_up(model, context, file, params)
        except BaseException:  # the caller made them and frees them
            self._model = self._context = self._memory = self._vocab = None
            raise

    def _set_up(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        self._model = model
        self._context = context
        self._process = os.getpid()
        self._vocab = lib.llama_model_get_vocab(model)
        self._memory = lib.llama_get_memory(context)
        self._flag = ctypes.create_string_buffer(2)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._token = array("i", [0])  # raises unless given an int32; a ctypes array would truncate
        self._single = lib.llama_batch_get_one((ctypes.c_int32 * 1).from_buffer(self._token), 1)
        self._file = file
        self._header = file.header
        self._least = LeastTokens(file)
        self._has_logits = False
        self._checked = False  # whether this sampler has seen that the logits are not NaN
        self._took_copy = False
        self._n_swa: int = lib.llama_model_n_swa(model)
        # Any thread may use the vocabulary until it is freed, and a signal handler in the middle of that.
        self._words = threading.RLock()
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
        self._adapters = LoadedAdapters(model)
        self._applied = self.info.adapters  # what llama.cpp was told
        self._chains = SamplerChains(self._vocab, self.info.n_vocab, self.info.n_ctx)
        self._logprobs = Logprobs(context)
        self.capabilities = (
            Capability.GENERATE
            | Capability.STREAM
            | Capability.CANCEL
            | Capability.JSON_SCHEMA
            | Capability.LOGPROBS
            | Capability.TOKENS
            | Capability.KV_CONTINUATION
            | Capability.SESSION_PERSISTENCE
            | Capability.SESSION_TOOLS
            | Capability.THREADS
            | Capability.ADAPTERS
        )
        if self.info.memory in (MemoryKind.DENSE, MemoryKind.SWA):
            self.capabilities |= Capability.PREFIX_CACHE
        if file.header.architecture in SPARSE_ATTENTION:
            self.capabilities &= ~Capability.SESSION_PERSISTENCE
        if file.chat_template and not missing():
            self.capabilities |= Capability.CHAT_TEMPLATE | Capability.TOOLS
        if lib.llama_supports_gpu_offload():
            self.capabilities |= Capability.GPU_OFFLOAD
        self._set_up_embedder(file, params)

    def _set_up_embedder(self, file: ModelFile, params: ModelParams) -> None:
        info, stop = self.info, ctypes.cast(self._flag, ctypes.c_void_p)
        if info.pooling == "none":
            return

        def make_context(n_tokens: int, at_once: int, n_sequences: int, n_outputs: int) -> Any:
            context = load_embedding_context(
                self._model, file, params, n_tokens, at_once, n_sequences, n_outputs
            )
            with LaterSignals():
                lib.llama_set_abort_callback(context, abort_callback, stop)
            self._adapters.apply(context, self.info.adapters)
            return context

        self._embedder = Embedder(
            self._model,
            make_context,
            info.pooling,
            n_batch=info.n_batch,
            n_ctx=info.n_ctx,
            causal=self._memory is not None and is_causal(file.header),
            stateful=info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID),
            stop=lambda: self.cancelled,
        )
        self.capabilities |= Capability.RERANK if info.pooling == "rank" else Capability.EMBEDDINGS

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
        sep = lib.llama_vocab_sep(vocab)
        found = gpu_names()
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
            n_embd=lib.llama_model_n_embd_out(model),
            pooling=pooling_of(file.header, params),
            sep=sep if sep >= 0 else None,
            add_eos=bool(lib.llama_vocab_get_add_eos(vocab)),
            add_sep=bool(lib.llama_vocab_get_add_sep(vocab)),
            n_gpu_layers=self._layers_on_gpus(params) if found else 0,
            gpus=found,
        )

    def _layers_on_gpus(self, params: ModelParams) -> int:
        """How many layers llama.cpp has put there; the output counts as one."""
        most = int(lib.llama_model_n_layer(self._model)) + 1
        asked = params.asked_gpu_layers
        return most if asked < 0 else min(asked, most)

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
        data = check_text("text", text).encode()
        self._check_alive()
        run = longest_run(text, self._header)

        def work() -> list[int]:
            with self._words:
                return self._tokenize(data, bool(add_special), bool(parse_special))

        return with_deep_stack(work, run) if run else work()

    def least_tokens(self, text: str) -> int:
        return self._least.of(check_text("text", text))

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
        try:
            piece = self._pieces.get((token, special))
        except TypeError:  # unhashable, so not a token
            piece = None
        if piece is None:
            self._check_alive()
            check_token(token, self.info.n_vocab)
            with self._words:
                piece = self._read_piece(token, bool(special))
                self._pieces[token, special] = piece
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
        packed = check_tokens("tokens", tokens, self.info.n_vocab)
        if not packed:
            return 0
        check_room(before, len(packed), self.info.n_ctx)
        self._has_logits = False
        data = (ctypes.c_int32 * len(packed)).from_buffer(packed)
        for start in range(0, len(packed), self._chunk):
            n = min(self._chunk, len(packed) - start)
            part = ctypes.cast(ctypes.byref(data, 4 * start), ctypes.POINTER(ctypes.c_int32))
            if self.cancelled or not self._decode(lib.llama_batch_get_one(part, n)):
                return self.length - before
        self._has_logits = True
        return len(packed)

    def _decode(self, batch: Any) -> bool:
        """One call of llama_decode; False if it was aborted."""
        if self._applied is not self.info.adapters:
            self._apply_adapters()
        status = lib.llama_decode(self._context, batch)
        if status == _DONE:
            return True
        self._has_logits = False
        if status == _ABORTED:
            return False
        check_room(self.length, 1, self.info.n_ctx)
        why = _WHY.get(status, "see the log llama_bridge.native")
        raise EngineError(f"llama_decode failed with status {status}: {why}")

    def truncate(self, length: int) -> bool:
        held = self.length
        if check_length(length) > held:
            return False
        if length < held and not self._truncate(length):
            return False
        self._has_logits = False
        return True

    def _truncate(self, length: int) -> bool:
        if length == 0:
            self.clear()
            return True
        if self.info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID):
            return False
        if self.info.memory is MemoryKind.SWA:
            # seq_rm succeeds even if the window before position `length` is gone.
            first = lib.llama_memory_seq_pos_min(self._memory, _SEQ)
            if first > self._layout.window_start(length):
                return False
        return bool(lib.llama_memory_seq_rm(self._memory, _SEQ, length, -1))

    def clear(self) -> None:
        lib.llama_memory_clear(self._open(self._memory), True)
        self._has_logits = False

    # sampling

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        self._check_alive()
        seen = check_sampler(params, seed, recent, self.info.n_vocab, grammar)
        constraint = None
        sampler = self._chains.make(params, seed, seen)
        try:
            if grammar is not None:
                if self._vocabulary is None:
                    self._vocabulary = self._describe_vocabulary()
                greedy = params.temperature <= 0
                constraint = Constraint(grammar, self._vocabulary, sampler, greedy, self._logits)
        except BaseException:
            lib.llama_sampler_free(sampler)
            raise
        self._free_sampler()
        self._constraint = constraint
        self._banned = frozenset(
            token
            for token, bias in params.logit_bias.items()
            if bias == -math.inf and isinstance(token, int)
        )
        self._sampler = sampler
        self._checked = False

    def _describe_vocabulary(self) -> Vocabulary:
        return Vocabulary(
            self._vocab,
            self.info.n_vocab,
            self.info.end_of_generation,
            self.token_bytes,
            lambda token: self.token_bytes(token, special=True),
            lambda text: self.tokenize(text, add_special=False, parse_special=True),
        )

    def _free_sampler(self) -> None:
        sampler, self._sampler = self._sampler, None  # so that an interrupt cannot free it twice
        if sampler is not None:
            lib.llama_sampler_free(sampler)
        constraint, self._constraint = self._constraint, None
        if constraint is not None:
            constraint.close()

    def sample(self) -> int:
        self._check_alive()
        if self._sampler is None:
            raise self._cannot_draw()
        if not self._checked:
            self._refuse_nan(self._logits())
            self._checked = True
        return self._draw()

    def step(self, token: int) -> int | None:
        if self._sampler is None or self._process != os.getpid():
            raise self._cannot_draw()
        had_logits = self._has_logits
        try:
            self._token[0] = token
            if not self._decode(self._single):
                return None
        except (TypeError, OverflowError, EngineError):
            self._has_logits = (
                had_logits  # llama.cpp refuses a bad token before it changes anything
            )
            check_token(token, self.info.n_vocab)  # only now, so a good token costs nothing
            self._has_logits = False
            raise
        self._has_logits = True
        return self._draw()

    def accept(self, tokens: Sequence[int]) -> int:
        self._check_alive()
        packed = check_tokens("tokens", tokens, self.info.n_vocab)
        if self._sampler is None:
            raise self._cannot_draw()
        taken = len(packed) if self._constraint is None else self._constraint.accept(packed)
        for token in packed[:taken]:
            lib.llama_sampler_accept(self._sampler, token)
        return taken

    def _draw(self) -> int:
        values = lib.llama_get_logits_ith(self._context, -1)
        # A NaN inside the model makes all logits NaN, and llama.cpp would sample some token anyway.
        if values[0] != values[0]:
            self._refuse_nan(self._logits())
        draw = lib.llama_sampler_sample
        if self._constraint is None:
            token = int(draw(self._sampler, self._context, -1))
        else:
            self._constraint.begin()
            with LaterSignals():
                token = int(draw(self._sampler, self._context, -1))
        if values[token] != values[token]:
            self._refuse_nan(self._logits())
        if self._constraint is not None:
            self._constraint.settle(token)
        if token in self._banned:
            raise EngineError("no token is left: logit_bias bans all that the samplers keep")
        return token

    def _cannot_draw(self) -> BridgeError:
        """The error for a missing sampler."""
        self._check_alive()
        return EngineError("there is no sampler: call set_sampler() first")

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        self._check_alive()
        check_token(token, self.info.n_vocab)
        n = min(check_count("n", n), self.info.n_vocab)
        row = self._logits()
        total, best = self._logprobs.best(n)
        if total != total:
            raise EngineError(f"{_NAN}: the model or the KV cache is damaged")
        return row[token] - total, best

    def logits(self) -> memoryview[float]:
        self._check_alive()
        values = self._logits()
        if _has_nan(values):
            raise EngineError(f"{_NAN}: the model or the KV cache is damaged")
        return values

    def _logits(self) -> memoryview[float]:
        """The last logits, without a copy."""
        values = lib.llama_get_logits_ith(self._context, -1) if self._has_logits else None
        if not values:
            raise EngineError("there are no logits: decode something first")
        row = ctypes.cast(values, ctypes.POINTER(ctypes.c_float * self.info.n_vocab)).contents
        view: memoryview[float] = memoryview(row).cast("B").cast("f")
        return view

    def _refuse_nan(self, values: memoryview[float]) -> None:
        if _has_nan(values):
            self.clear()
            raise EngineError(
                f"{_NAN}: the model is damaged, or the KV cache is, perhaps by a forged session file. "
                "The cache was emptied; the next turn evaluates the conversation again"
            )

    # embeddings

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        self._check_alive()
        if self._embedder is None:
            return super().embed(sequences)
        packed = check_sequences(sequences, self.info.n_vocab, self.info.n_ctx)
        return self._embedder.embed(packed)

    # adapters

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        self._check_alive()
        wanted = tuple(adapters)
        if wanted == self.info.adapters:
            return
        check_adapters(wanted, self._file)
        self._adapters.load(wanted)
        # What was computed with the others goes first. The next line decides; an interrupt after it is made good by
        # the next decode.
        self.clear()
        if self._embedder is not None:
            self._embedder.close()
        self.info = replace(self.info, adapters=wanted)
        self._apply_adapters()
        self._adapters.keep_only(wanted)

    def _apply_adapters(self) -> None:
        wanted = self.info.adapters
        self._adapters.apply(self._context, wanted)
        self._applied = wanted

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
        self._check_alive()
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_get()
        size = lib.llama_state_seq_get_size(self._context, _SEQ)
        state = copy_memory(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        with LoggedErrors() as errors:
            if lib.llama_state_seq_get_data(self._context, buffer, size, _SEQ) != size:
                raise EngineError(f"llama.cpp could not copy its KV state: {errors}")
            errors.reraise()
        return state

    def state_length(self, state: memoryview) -> int:
        self._check_alive()
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_length(state)
        return self._layout.n_tokens(check_state(state)[_STATE_HEAD.size :])

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        self._check_alive()
        if Capability.SESSION_PERSISTENCE not in self.capabilities:
            return super().state_set(state, tokens)
        state = check_state(state)
        tokens = check_tokens("tokens", tokens, self.info.n_vocab)
        try:
            self._layout.check(state[_STATE_HEAD.size :], tokens)
        except ValueError as error:
            _log.warning("a copy of the KV cache was refused: %s", error)
            return False
        _STATE_HEAD.pack_into(state, 0, _STATE_MAGIC, _SEQ)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        # Attention also computes over some free cells, and a masked NaN is still NaN, so cells that a copy
        # filled are cleared. Without flash attention any decoded cell can hold one.
        self._has_logits = False
        lib.llama_memory_clear(self._memory, self._took_copy or not self.info.flash_attn)
        self._took_copy = True
        with LaterSignals():
            taken = lib.llama_state_seq_set_data(self._context, buffer, len(state), _SEQ)
        if taken != len(state):
            self.clear()
            return False
        return True

    # life

    def close(self) -> None:
        if self._model is None:
            return
        if self._words._is_owned():  # type: ignore[attr-defined]  # a signal handler: once its thread is done
            threading.Thread(target=self.close, name="llama-bridge-closing").start()
            return
        with self._words:  # so nobody is using it
            self._vocab = None
            self._pieces = {}
        model, context, self._model = self._model, self._context, None
        self._free_sampler()
        self._chains.close()
        self._logprobs.close()
        if self._embedder is not None:
            self._embedder.close()
        self._context = self._memory = None
        with LaterSignals():  # llama.cpp logs
            lib.llama_free(context)
            lib.llama_model_free(model)

    def _check_alive(self) -> None:
        self._open(self._context)

    def _open(self, handle: Any) -> Any:
        """Return a llama.cpp handle, or raise if it is gone: a null pointer would end the process."""
        if handle is None:
            raise ClosedError("this engine is closed")
        self._refuse_fork()
        return handle

    def _refuse_fork(self) -> None:
        # Threads do not survive a fork: the first decode would wait forever for them, or for a lock of theirs.
        if self._process != os.getpid():
            raise EngineError(
                "this process was forked after the model was loaded: load it again in this process"
            )


def _has_nan(values: memoryview[float]) -> bool:
    """Whether a value is NaN. Summing is the fastest way to see that none is: 1 ms for 100,000."""
    return not math.isfinite(sum(values.tolist())) and any(map(math.isnan, values))

"""The engine on llama.cpp's C interface: one model, one context. ``opening.py`` makes it, ``sequence.py`` has its sequences."""

from __future__ import annotations

import ctypes
import os
import threading
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.chat.module.host import missing
from llama_bridge.engine import CacheFull, Engine, EngineInfo, MemoryKind
from llama_bridge.engine_arguments import (
    check_length,
    check_pieces,
    check_room,
    check_sequence,
    check_sequences,
    check_text,
    check_token,
)
from llama_bridge.errors import ClosedError, EngineError
from llama_bridge.kv_sequence import KvSequence
from llama_bridge.later_signals import LaterSignals
from llama_bridge.local.cores import compute_threads
from llama_bridge.models.adapter import Adapter
from llama_bridge.models.adapter_preflight import check_adapters
from llama_bridge.models.ggml_types import KV_TYPES
from llama_bridge.models.least_tokens import LeastTokens
from llama_bridge.models.long_runs import longest_run
from llama_bridge.models.pooling import is_causal, pooling_of
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams

from .adapters import LoadedAdapters
from .batch import Batch
from .constraint import Vocabulary
from .deep_stack import with_deep_stack
from .devices import gpu_names
from .embedder import Embedder
from .library import abort_callback, lib
from .loading import load_embedding_context
from .logprobs import Logprobs
from .sampler import SamplerChains
from .sequence import NOTHING_AHEAD, NativeSequence
from .state_layout import SPARSE_ATTENTION, StateLayout

__all__ = ["NativeEngine"]

_DONE, _NO_ROOM, _ABORTED = 0, 1, 2
_WHY = {1: "no room in the KV cache", -2: "not enough memory to compute"}
_UNINTERRUPTED = 64  # tokens per call if a running call cannot be aborted


class NativeEngine(NativeSequence, Engine):
    """Owns a llama.cpp model and context.

    Attributes:
        context, memory: llama.cpp's context and its KV cache. Before the engine is complete and after :meth:`close` they
            are None, and every call raises.
        process: the process that loaded the model.
        chunk: the most tokens in one call of llama_decode.
        layout: what a copy of the KV state looks like.
        chains: makes chains of samplers.
        best_tokens: reads log-probabilities.
    """

    context: Any = None
    memory: Any = None
    _model: Any = None
    _vocab: Any = None
    _vocabulary: Vocabulary | None = None
    _embedder: Embedder | None = None
    _others: tuple[NativeSequence, ...] = ()  # those after the first, which is the engine

    def __init__(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        try:
            self._set_up(model, context, file, params)
        except BaseException:  # the caller made them and frees them
            self._model = self.context = self.memory = self._vocab = None
            raise

    def _set_up(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        self._model = model
        self.context = context
        self.process = os.getpid()
        self._vocab = lib.llama_model_get_vocab(model)
        self.memory = lib.llama_get_memory(context)
        self._flag = ctypes.create_string_buffer(2)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._file = file
        self._header = file.header
        self._least = LeastTokens(file)
        self._took_copy = False
        self._n_swa: int = lib.llama_model_n_swa(model)
        # Any thread may use the vocabulary until it is freed, and a signal handler in the middle of that.
        self._words = threading.RLock()
        memory = self._memory_kind()
        self.chunk = int(lib.llama_n_batch(context))  # llama.cpp rounds n_ctx up, not n_batch
        if memory in (MemoryKind.DENSE, MemoryKind.SWA):
            lib.llama_set_abort_callback(
                context, abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        else:  # an aborted call would leave the running state half advanced
            self.chunk = min(self.chunk, _UNINTERRUPTED)
        self.info = self._describe(file, params, memory)
        self.layout = self._memory_layout(file, params)
        self._adapters = LoadedAdapters(model)
        self._applied = self.info.adapters  # what llama.cpp was told
        self.chains = SamplerChains(self._vocab, self.info.n_vocab, self.info.n_ctx)
        self.best_tokens = Logprobs(context)
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
            | Capability.PARALLEL
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
        self._batch = Batch(self.chunk)
        self._begin_as(self, 0)
        self._others = tuple(NativeSequence() for _ in range(1, self.info.n_parallel))
        for number, sequence in enumerate(self._others, 1):
            sequence._begin_as(self, number)

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
            causal=self.memory is not None and is_causal(file.header),
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
            n_ctx=lib.llama_n_ctx(self.context),
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
            n_batch=self.chunk,
            n_embd=lib.llama_model_n_embd_out(model),
            pooling=pooling_of(file.header, params),
            sep=sep if sep >= 0 else None,
            add_eos=bool(lib.llama_vocab_get_add_eos(vocab)),
            add_sep=bool(lib.llama_vocab_get_add_sep(vocab)),
            n_gpu_layers=self._layers_on_gpus(params) if found else 0,
            gpus=found,
            n_parallel=int(lib.llama_n_seq_max(self.context)),
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
        self.check_alive()
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
                self.open(self._vocab), data, len(data), buffer, room, add_special, parse_special
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
            self.check_alive()
            check_token(token, self.info.n_vocab)
            with self._words:
                piece = self._read_piece(token, bool(special))
                self._pieces[token, special] = piece
        return piece

    def _read_piece(self, token: int, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            n = lib.llama_token_to_piece(self.open(self._vocab), token, buffer, room, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary as grammars need it."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(
                self._vocab,
                self.info.n_vocab,
                self.info.end_of_generation,
                self.token_bytes,
                lambda token: self.token_bytes(token, special=True),
                lambda text: self.tokenize(text, add_special=False, parse_special=True),
            )
        return self._vocabulary

    # several sequences

    @property
    def engine(self) -> NativeEngine:
        return self  # no reference to itself, so that it is freed at once when nobody uses it

    @property
    def sequences(self) -> Sequence[NativeSequence]:
        return self._sequences

    @property
    def _sequences(self) -> tuple[NativeSequence, ...]:
        return (self, *self._others)

    def decode_together(self, pieces: Sequence[tuple[KvSequence, Sequence[int]]]) -> bool:
        self.check_alive()
        found = check_pieces(pieces, self._sequences, self.info.n_vocab, self.chunk)
        checked = [(self._sequences[number], tokens) for number, tokens in found]
        for sequence, tokens in checked:
            check_room(sequence.length, len(tokens), self.info.n_ctx)
        return not checked or (not self.cancelled and self.append(checked))

    def share(self, source: KvSequence, target: KvSequence, length: int) -> bool:
        self.check_alive()
        origin, other = (
            self._sequences[check_sequence(each, self._sequences)] for each in (source, target)
        )
        held = origin.length
        if check_length(length) > held or origin is other:
            return False
        if length < held and self.info.memory is not MemoryKind.DENSE:
            return False  # only whole: the rest could not be taken back
        other.clear()
        if length:
            lib.llama_memory_seq_cp(self.memory, origin.number, other.number, 0, length)
        return True

    # inside: for the sequences

    def append(
        self, pieces: Sequence[tuple[NativeSequence, array[int]]], n_wanted: int = 1
    ) -> bool:
        """Append checked tokens, at most :attr:`chunk`, for the logits of so many last ones; False if cancelled."""
        numbered = [(sequence.number, tokens) for sequence, tokens in pieces]
        rows = self._batch.fill(numbered, n_wanted)
        if not self.compute(self._batch):
            return False
        for (sequence, _), row in zip(pieces, rows, strict=True):
            sequence.row = row
        return True

    def compute(self, batch: Batch) -> bool:
        """One call of llama_decode; False if it was aborted. No sequence has logits until the caller says where they are."""
        if self._applied is not self.info.adapters:
            self._apply_adapters()
        self.forget_logits()
        status = lib.llama_decode(self.context, batch.given)
        if status == _DONE:
            return True
        if status == _ABORTED:
            return False
        if status == _NO_ROOM:
            held, n_ctx = sum(sequence.length for sequence in self._sequences), self.info.n_ctx
            if self.info.n_parallel > 1:
                raise CacheFull(
                    f"no room in the KV cache of {n_ctx} cells: its sequences hold {held}"
                )
            check_room(held, 1, n_ctx)
        why = _WHY.get(status, "see the log llama_bridge.native")
        raise EngineError(f"llama_decode failed with status {status}: {why}")

    def forget_logits(self) -> None:
        """There are no logits any more."""
        for sequence in self._sequences:
            sequence.row, sequence.ahead = None, NOTHING_AHEAD

    def make_way_for_copy(self, sequence: NativeSequence) -> None:
        """Empty a sequence for a copy that llama.cpp is about to read."""
        # Attention also computes over some free cells, and a masked NaN is still NaN, so cells that a copy
        # filled are cleared. Without flash attention any decoded cell can hold one.
        if any(other.length for other in self._sequences if other is not sequence):
            sequence.clear()
        else:
            lib.llama_memory_clear(self.memory, self._took_copy or not self.info.flash_attn)
        self._took_copy = True

    # embeddings

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        self.check_alive()
        if self._embedder is None:
            return super().embed(sequences)
        packed = check_sequences(sequences, self.info.n_vocab, self.info.n_ctx)
        return self._embedder.embed(packed)

    # adapters

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        self.check_alive()
        wanted = tuple(adapters)
        if wanted == self.info.adapters:
            return
        check_adapters(wanted, self._file)
        self._adapters.load(wanted)
        # What was computed with the others goes first. The next line decides; an interrupt after it is made good by
        # the next decode.
        lib.llama_memory_clear(self.memory, True)
        self.forget_logits()
        if self._embedder is not None:
            self._embedder.close()
        self.info = replace(self.info, adapters=wanted)
        self._apply_adapters()
        self._adapters.keep_only(wanted)

    def _apply_adapters(self) -> None:
        wanted = self.info.adapters
        self._adapters.apply(self.context, wanted)
        self._applied = wanted

    # cancelling

    def cancel(self) -> None:
        self._flag[0] = b"\1"

    def clear_cancel(self) -> None:
        self._flag[0] = b"\0"

    @property
    def cancelled(self) -> bool:
        return self._flag[0] != b"\0"

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
        model, context, self._model = self._model, self.context, None
        for sequence in self._sequences:
            sequence.free_sampler()
        self.chains.close()
        self.best_tokens.close()
        if self._embedder is not None:
            self._embedder.close()
        self.context = self.memory = None
        with LaterSignals():  # llama.cpp logs
            lib.llama_free(context)
            lib.llama_model_free(model)

    def check_alive(self) -> None:
        self.open(self.context)

    def open(self, handle: Any) -> Any:
        """Return a llama.cpp handle, or raise if it is gone: a null pointer would end the process."""
        if handle is None:
            raise ClosedError("this engine is closed")
        self._refuse_fork()
        return handle

    def _refuse_fork(self) -> None:
        # Threads do not survive a fork: the first decode would wait forever for them, or for a lock of theirs.
        if self.process != os.getpid():
            raise EngineError(
                "this process was forked after the model was loaded: load it again in this process"
            )

"""Contract 2: an engine works on tokens. It is a loaded model with a KV cache of one or more sequences; backends implement it.

Everything above it (turns, chat templates, stop strings, UTF-8, sessions, files) is written once, on top of
these calls, in :mod:`llama_bridge.local`. One thread at a time uses an engine; only its vocabulary, ``info`` and
``cancel`` may be used from any thread at any time.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .capabilities import Capability
from .errors import EngineError, UnsupportedCapability
from .grammar import Grammar
from .kv_sequence import KvSequence
from .models.adapter import Adapter
from .params import Pooling, SamplingParams

__all__ = ["CacheFull", "EncoderCalls", "Engine", "EngineInfo", "MemoryKind", "batches_of"]


class MemoryKind(enum.Enum):
    """How a model remembers, and so whether its memory can be rewound."""

    DENSE = "dense"
    """Every token has its own KV cell: any rewind is possible."""
    SWA = "swa"
    """Some layers keep only a sliding window: a rewind works only within the window."""
    RECURRENT = "recurrent"
    """One running state: no rewind."""
    HYBRID = "hybrid"
    """Attention and recurrent layers: no rewind."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about a loaded model, as its engine reports them.

    Attributes:
        n_ctx: tokens the context holds.
        n_ctx_train: context length the model was trained with.
        n_vocab: size of the vocabulary; token ids are ``0 <= id < n_vocab``.
        bos, eos: ids of the BOS and EOS tokens, or None.
        add_bos: whether the tokens of a whole text begin with ``bos``.
        end_of_generation: every id that ends an answer.
        memory: how the model remembers.
        n_threads: compute threads in use.
        flash_attn, type_k, type_v: the settings of the context.
        version: version of the engine, including llama.cpp's.
        state_format: name and version of the engine's KV state, which a saved session must match.
        n_batch: tokens that one call of the engine evaluates. A prompt is evaluated in pieces of this size, and
            progress is reported between them.
        n_embd: how many numbers an embedding has.
        pooling: how the vectors of a text's tokens become one; ``"none"`` if they do not.
        sep: id of the SEP token, or None.
        add_eos, add_sep: whether the tokens of a whole text end with ``eos`` or ``sep``.
        n_gpu_layers: how many layers are on GPUs; the output counts as one.
        gpus: the GPUs that the engine can use, in its words.
        adapters: the LoRA adapters in force: each file once, ordered by its digest, none with the scale 0.
        n_parallel: how many sequences the KV cache has.
    """

    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    bos: int | None
    eos: int | None
    add_bos: bool
    end_of_generation: frozenset[int]
    memory: MemoryKind
    n_threads: int
    flash_attn: bool
    type_k: str
    type_v: str
    version: str
    state_format: str = ""
    n_batch: int = 512
    n_embd: int = 0
    pooling: Pooling = "none"
    sep: int | None = None
    add_eos: bool = False
    add_sep: bool = False
    adapters: tuple[Adapter, ...] = ()
    n_gpu_layers: int = 0
    gpus: tuple[str, ...] = ()
    n_parallel: int = 1


class CacheFull(EngineError):
    """The cells that a sequence needs are held by others of the same KV cache. Nothing was appended."""


class Engine(KvSequence):
    """A loaded model and its KV cache. It is the first of its sequences itself; most engines need no other.

    ``tokenize``, ``least_tokens``, ``token_bytes``, ``info`` and ``cancel`` are called from any thread, even while another is inside
    ``decode`` or ``step``; they wait at most for one batch. Everything else is called by one thread at a time.

    Whatever is called, in any order, an engine returns or raises. It must never end the process.

    - ``ClosedError`` after :meth:`close`, except from ``close``, ``cancel``, ``clear_cancel``, ``cancelled``,
      ``least_tokens`` and the attributes.
    - ``InvalidInput`` for an argument of the wrong type, an unknown token id or a negative length; ``ContextOverflow``
      if there is no room. Nothing has changed then. :mod:`llama_bridge.engine_arguments` has these checks.
    - ``EngineError`` for sampling before :meth:`set_sampler`, for sampling or logits before :meth:`decode`, for logits
      that are NaN, and in a forked process, unless the engine works there.

    Attributes:
        backend: name of the backend that made it.
        capabilities: what this model can do here.
        info: facts about the model and context.
    """

    capabilities: Capability
    info: EngineInfo

    # vocabulary

    @abstractmethod
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of ``text``.

        ``add_special`` adds what the model expects around a whole text, such as BOS. ``parse_special`` reads
        control tokens in the text instead of spelling them.
        """

    def least_tokens(self, text: str) -> int:
        """A lower bound of how many tokens ``text`` has, found much faster than by :meth:`tokenize`.

        It counts tokens of the text itself, none that ``add_special`` adds. The default is 0: nothing is known.
        """
        return 0

    @abstractmethod
    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token, possibly part of a UTF-8 character.

        A control token gives ``b""`` unless ``special`` is set.
        """

    # several sequences; only with Capability.PARALLEL

    @property
    def sequences(self) -> Sequence[KvSequence]:
        """The sequences, ``info.n_parallel`` of them; the first is the engine. They share ``info.n_ctx`` cells."""
        return (self,)

    def decode_together(self, pieces: Sequence[tuple[KvSequence, Sequence[int]]]) -> bool:
        """Append tokens to several sequences in one computation, each given once; together at most ``info.n_batch``.

        The logits of the last token of each are then available to it, until the engine decodes again.

        False if :meth:`cancel` was called meanwhile: ask each sequence's length; there are no logits then.

        Raises:
            InvalidInput, ContextOverflow: nothing was appended.
            CacheFull: there are not enough cells for all; nothing was appended.
            EngineError: decoding failed; each sequence's length says what was kept.
        """
        raise UnsupportedCapability(Capability.PARALLEL, self.backend)

    def share(self, source: KvSequence, target: KvSequence, length: int) -> bool:
        """Make the first ``length`` tokens of one sequence all of the other's, in the same cells.

        False, with no change, if this memory cannot.
        """
        return False

    # embeddings; only with Capability.EMBEDDINGS or RERANK

    def embed(self, sequences: Sequence[Sequence[int]]) -> memoryview[float] | None:
        """One vector for the tokens of each text: float32, format ``"f"``, shape ``(len(sequences), info.n_embd)``.

        With the pooling ``"rank"`` a row is the scores instead, of which the first counts. Several sequences are
        computed at once, up to ``info.n_batch`` tokens or one longer sequence. The KV cache, its length and its logits
        stay as they are.

        None if :meth:`cancel` was called before all were computed; there is no part of a result.

        Raises:
            UnsupportedCapability: the model cannot.
            InvalidInput: no sequences, an empty one, or no such token; ContextOverflow: one is longer than ``info.n_ctx``.
            EngineError: a number is NaN or infinite; OutOfMemory: a sequence needs more memory than there is.
        """
        raise UnsupportedCapability(Capability.EMBEDDINGS, self.backend)

    # adapters; only with Capability.ADAPTERS

    def set_adapters(self, adapters: Sequence[Adapter]) -> None:
        """Put these LoRA adapters in force in place of the others; :attr:`info` tells them.

        Each file comes once and with a scale that is not 0, as :func:`~llama_bridge.models.adapter.read_adapters` gives
        them. The KV cache is empty afterwards, unless the same were in force already. After an error the adapters and
        the cache are as before.

        Raises:
            UnsupportedCapability: the engine cannot.
            InvalidModel: one is for another model, or would end the process.
            ModelLoadError: the engine refused one; OutOfMemory: there is not enough memory for it.
        """
        raise UnsupportedCapability(Capability.ADAPTERS, self.backend)

    # cancelling

    @abstractmethod
    def cancel(self) -> None:
        """Make a running :meth:`decode` or :meth:`step` end soon. Works from any thread and takes no lock."""

    @abstractmethod
    def clear_cancel(self) -> None:
        """Forget an earlier :meth:`cancel`. Called before work starts."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called since :meth:`clear_cancel`."""

    @abstractmethod
    def close(self) -> None:
        """Free everything. Closing twice does nothing."""


S = TypeVar("S", bound=Sequence[int])


def batches_of(sequences: Sequence[S], n_tokens: int, n_sequences: int) -> Iterator[list[S]]:
    """Sequences in their order, as many at a time as fit; a longer one alone."""
    batch: list[S] = []
    total = 0
    for sequence in sequences:
        total += len(sequence)
        if batch and (total > n_tokens or len(batch) == n_sequences):
            yield batch
            batch, total = [], len(sequence)
        batch.append(sequence)
    yield batch


class EncoderCalls(Engine):
    """The calls of an engine whose model only embeds: it has no KV cache, and whatever generates is refused.

    Give it before another engine class: ``class MyEncoder(EncoderCalls, MyEngine)``.
    """

    @property
    def length(self) -> int:
        """Always 0."""
        return 0

    def decode(self, tokens: Sequence[int]) -> int:
        """Refused."""
        raise self._cannot_generate()

    def truncate(self, length: int) -> bool:
        """True for 0, which changes nothing."""
        return length == 0

    def clear(self) -> None:
        """Does nothing."""

    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        """Refused."""
        raise self._cannot_generate()

    def sample(self) -> int:
        """Refused."""
        raise self._cannot_generate()

    def step(self, token: int) -> int | None:
        """Refused."""
        raise self._cannot_generate()

    def accept(self, tokens: Sequence[int]) -> int:
        """Refused."""
        raise self._cannot_generate()

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        """Refused."""
        raise self._cannot_generate()

    def logits(self) -> memoryview[float]:
        """Refused."""
        raise self._cannot_generate()

    def _cannot_generate(self) -> UnsupportedCapability:
        return UnsupportedCapability(
            Capability.GENERATE, self.backend, why="the model only gives embeddings"
        )

"""Contract 2: an engine knows tokens. A loaded model with one KV-cache sequence, as native, wasm and others write it.

Everything above it (turns, chat templates, stop strings, UTF-8, sessions, files) is written once, over
these calls, in :mod:`llama_bridge.local`. One thread at a time uses an engine; only its vocabulary, ``info`` and
``cancel`` are for any thread at any time.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from .capabilities import Capability
from .checks import NotCopied
from .errors import UnsupportedCapability
from .params import SamplingParams

__all__ = ["Engine", "EngineInfo", "MemoryKind"]


class MemoryKind(enum.Enum):
    """How a model remembers, which decides whether its memory can be rewound."""

    DENSE = "dense"
    """Every token has its own KV cell: any rewind is possible."""
    SWA = "swa"
    """Some layers keep only a sliding window: a rewind needs the window still there."""
    RECURRENT = "recurrent"
    """One running state: no rewind."""
    HYBRID = "hybrid"
    """Attention and recurrent layers: no rewind."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a loaded model is, as its engine knows it.

    Attributes:
        n_ctx: tokens the context holds.
        n_ctx_train: tokens the model was trained to hold.
        n_vocab: size of the vocabulary; token ids are ``0 <= id < n_vocab``.
        bos, eos: ids of the begin and end tokens, or None.
        add_bos: whether tokenisation of a whole text begins with ``bos``.
        end_of_generation: all the ids that end an answer.
        memory: the kind of memory.
        n_threads: compute threads in use.
        flash_attn, type_k, type_v: what the context was made with.
        version: of the engine, llama.cpp's included.
        state_format: name and version of the engine's KV state, which a saved session must match.
        n_batch: tokens that one call of the engine evaluates; a prompt comes in such pieces, with a look at
            the progress between them.
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


class Engine(NotCopied, ABC):
    """A loaded model and its one KV-cache sequence.

    ``tokenize``, ``token_bytes``, ``info`` and ``cancel`` are called from any thread, also while another is inside
    ``decode`` or ``step``; they wait for no more than a piece of that. All else is called by one thread at a time.

    Whatever is called, in whatever order, an engine answers or raises: never may it end the process.

    - ``ClosedError`` after :meth:`close`, from all but ``close``, ``cancel``, ``clear_cancel``, ``cancelled`` and the attributes.
    - ``InvalidInput`` for an argument of a wrong type, an id that is no token, a negative length; ``ContextOverflow``
      where there is no room. Nothing has changed then. :mod:`llama_bridge.engine_arguments` has these checks.
    - ``EngineError`` for sampling before :meth:`set_sampler`, sampling or logits before :meth:`decode`, logits that are
      no numbers (NaN), and in a process that was forked, unless the engine works there.

    Attributes:
        backend: name of the backend that made it.
        capabilities: what this model can do here.
        info: numbers of the model and context.
    """

    backend: str
    capabilities: Capability
    info: EngineInfo

    # vocabulary

    @abstractmethod
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of ``text``.

        ``add_special`` adds what the model wants around a whole text (BOS, say); ``parse_special`` reads
        control tokens out of the text instead of spelling them.
        """

    @abstractmethod
    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token, possibly a part of a UTF-8 character.

        Control tokens give ``b""`` unless ``special``.
        """

    # the KV cache

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens in the KV cache: last position + 1, as the engine itself reports it."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> int:
        """Append tokens to the KV cache; the logits of the last one are then ready.

        Returns how many were appended: fewer than given only if :meth:`cancel` was called.

        Raises:
            InvalidInput, ContextOverflow: nothing was appended.
            EngineError: it failed on the way; :attr:`length` says what was kept.
        """

    @abstractmethod
    def truncate(self, length: int) -> bool:
        """Keep only the first ``length`` tokens; False, and nothing changed, where memory cannot rewind, or holds fewer.

        ``length == self.length`` is always True. The logits are gone afterwards.
        """

    @abstractmethod
    def clear(self) -> None:
        """Empty the KV cache. Never fails on a live engine."""

    # sampling

    @abstractmethod
    def set_sampler(self, params: SamplingParams, seed: int, recent: Sequence[int]) -> None:
        """Start a new sampler; ``recent`` are the tokens that penalties already see."""

    @abstractmethod
    def sample(self) -> int:
        """Draw and accept a token from the last logits.

        Raises:
            EngineError: there is no sampler or there are no logits, or they are NaN: the model is damaged, or the KV
                cache, which is then empty.
        """

    @abstractmethod
    def step(self, token: int) -> int | None:
        """Append ``token``, then draw and accept the next one: one crossing per generated token.

        None if :meth:`cancel` came in between; ``token`` is then not in the KV cache.

        Raises:
            InvalidInput, ContextOverflow, EngineError: as :meth:`decode` and :meth:`sample`.
        """

    @abstractmethod
    def logits(self) -> memoryview[float]:
        """The last logits as ``n_vocab`` float32 (format ``"f"``); valid until the next call.

        Raises:
            EngineError: there are none, or they are NaN, as in :meth:`sample`.
        """

    # cancelling

    @abstractmethod
    def cancel(self) -> None:
        """Make a running :meth:`decode` or :meth:`step` end soon. From any thread, takes no lock."""

    @abstractmethod
    def clear_cancel(self) -> None:
        """Forget a cancel; called before work starts."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called since :meth:`clear_cancel`."""

    # state; only with Capability.SESSION_PERSISTENCE

    state_prefix: int = 0
    """Bytes at the front of a state buffer that are the engine's own and go into no file."""

    def state_get(self) -> memoryview:
        """A copy of the KV cache: ``state_prefix`` bytes, then what a sequence file holds behind its tokens."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def state_length(self, state: memoryview) -> int:
        """How many tokens a copy says that it holds; 0 where it cannot be told. Not checked further."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        """Replace the KV cache by a copy of it that holds ``tokens``; False if the engine refused it.

        The buffer is writable; its first ``state_prefix`` bytes may hold anything. The copy may come from a
        hostile file: only what :meth:`state_get` gives for so many tokens may get through. After a refusal
        the cache is as it was, or empty.
        """
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    @abstractmethod
    def close(self) -> None:
        """Free everything. Twice is silent."""

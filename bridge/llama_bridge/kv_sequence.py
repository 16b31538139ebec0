"""One sequence in an engine's KV cache: its tokens, its sampler, its state. Part of contract 2, see :mod:`llama_bridge.engine`."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .capabilities import Capability
from .checks import NotCopied, check_count
from .engine_arguments import check_token
from .errors import UnsupportedCapability
from .grammar import Grammar
from .params import SamplingParams

__all__ = ["KvSequence"]


class KvSequence(NotCopied, ABC):
    """A sequence of tokens in a KV cache, with its own sampler. An engine with one sequence is that sequence.

    What is computed for one sequence changes no other. Errors are those of :class:`~llama_bridge.engine.Engine`.

    Attributes:
        backend: name of the backend that made it.
        max_guesses: how many guesses :meth:`decode_ahead` takes at most; 0 if it takes none.
    """

    backend: str
    max_guesses: int = 0

    # the KV cache

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens of the sequence in the KV cache: last position + 1, as the engine itself reports it."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> int:
        """Append tokens to the sequence. The logits of the last one are then available, until the engine decodes again.

        Returns how many were appended. That is fewer than given only if the engine's ``cancel`` was called.

        Raises:
            InvalidInput, ContextOverflow: nothing was appended.
            CacheFull: other sequences hold the cells that it needs; nothing was appended. A memory that cannot rewind may
                keep what still had room: ask :attr:`length`.
            EngineError: decoding failed; :attr:`length` says how many tokens were kept.
        """

    @abstractmethod
    def truncate(self, length: int) -> bool:
        """Keep only the first ``length`` tokens. False, with no change, if the memory cannot rewind or holds fewer.

        ``length == self.length`` always gives True. The logits are gone afterwards.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forget all tokens of the sequence. Never fails on a live engine."""

    # sampling

    @abstractmethod
    def set_sampler(
        self,
        params: SamplingParams,
        seed: int,
        recent: Sequence[int],
        grammar: Grammar | None = None,
    ) -> None:
        """Start a new sampler.

        ``recent`` are the tokens that its penalties already count; the grammar does not. ``params.logit_bias`` has
        token ids only. With a grammar, which needs ``Capability.JSON_SCHEMA``, every token that is drawn fits it, and
        an end of generation is drawn only where it may end. The text of such an answer is valid UTF-8.

        Raises:
            InvalidInput: also for a grammar that cannot be used. The sampler before is then still there.
        """

    @abstractmethod
    def sample(self) -> int:
        """Draw a token from the last logits and accept it.

        Raises:
            EngineError: there is no sampler, there are no logits, or they are NaN: the model or the KV cache is
                damaged. The KV cache is then empty. Also if no token is left that grammar and biases allow; the KV
                cache is then unchanged.
        """

    @abstractmethod
    def step(self, token: int) -> int | None:
        """Append ``token``, then draw and accept the next one: one engine call per generated token.

        None if the engine's ``cancel`` was called before that; ``token`` is then not in the KV cache.

        Raises:
            InvalidInput, ContextOverflow, EngineError: as in :meth:`decode` and :meth:`sample`.
        """

    def decode_ahead(self, tokens: Sequence[int], guesses: Sequence[int]) -> bool:
        """Append tokens, and guesses of what follows them, in one computation. Used where :attr:`max_guesses` is not 0.

        The logits after the tokens are then available, and :meth:`look` gives those after the guesses. Both together
        are at most ``info.n_batch``. The caller draws, and truncates the guesses that did not come.

        False if the engine's ``cancel`` was called before that; nothing was appended then.

        Raises:
            InvalidInput: also for no tokens, or more guesses than :attr:`max_guesses`.
            ContextOverflow, CacheFull, EngineError: as in :meth:`decode`.
        """
        raise UnsupportedCapability(Capability.GENERATE, self.backend, why="it checks no guesses")

    def look(self, n: int) -> None:
        """Make the logits after the first ``n`` guesses of :meth:`decode_ahead` the last logits.

        Raises:
            InvalidInput: there were fewer.
            EngineError: their logits are gone.
        """
        raise UnsupportedCapability(Capability.GENERATE, self.backend, why="it checks no guesses")

    def accept(self, tokens: Sequence[int]) -> int:
        """Let the sampler accept tokens that were not drawn, because the grammar leaves no choice.

        Returns how many fit the grammar; those after them were not accepted. The KV cache is unchanged. Used with
        ``Capability.JSON_SCHEMA``.

        Raises:
            InvalidInput: an unknown token id.
            EngineError: there is no sampler.
        """
        raise UnsupportedCapability(Capability.JSON_SCHEMA, self.backend)

    def logprobs(self, token: int, n: int) -> tuple[float, list[tuple[int, float]]]:
        """The log-probability of ``token`` after the last logits, and the ``n`` best tokens with theirs, best first.

        From the model's own distribution, before any sampler. Used with ``Capability.LOGPROBS``.

        Raises:
            InvalidInput, EngineError: as in :meth:`logits`.
        """
        row = self.logits().tolist()
        check_token(token, len(row))
        best = heapq.nlargest(check_count("n", n), range(len(row)), key=row.__getitem__)
        top = max(row)
        total = top + math.log(math.fsum(math.exp(logit - top) for logit in row))
        return row[token] - total, [(one, row[one] - total) for one in best]

    @abstractmethod
    def logits(self) -> memoryview[float]:
        """The last logits: ``n_vocab`` float32 values (format ``"f"``), valid until the next call.

        Raises:
            EngineError: there are no logits, or they are NaN, as in :meth:`sample`.
        """

    # state; only with Capability.SESSION_PERSISTENCE

    state_prefix: int = 0
    """Bytes at the front of a state buffer that only the engine uses. They are not saved."""

    def state_get(self) -> memoryview:
        """A copy of the KV cache: ``state_prefix`` bytes, then what a sequence file has after its tokens."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def state_length(self, state: memoryview) -> int:
        """How many tokens a copy claims to hold; 0 if unknown. The claim is not checked."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def state_set(self, state: memoryview, tokens: Sequence[int]) -> bool:
        """Replace the KV cache by a copy that holds ``tokens``; False if the engine refuses it.

        The buffer is writable; its first ``state_prefix`` bytes may hold anything. The copy may come from a
        hostile file, so accept only what :meth:`state_get` can give for that many tokens. After a refusal
        the cache is unchanged or empty.
        """
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

"""Log-probabilities of tokens, computed by llama.cpp's own samplers: a Python loop over the logits takes 20 ms."""

from __future__ import annotations

import math
from typing import Any

from llama_bridge.later_signals import LaterSignals

from .candidates import Tap
from .library import lib

__all__ = ["Logprobs"]


class Logprobs:
    """Reads the model's own distribution from a context."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._best: list[tuple[int, float, float]] = []
        self._tap = Tap(self._look)
        self._chains: dict[int, Any] = {}

    def best(self, n: int, row: int) -> tuple[float, list[tuple[int, float]]]:
        """What to subtract from a logit for its log-probability, and the ``n`` best tokens with theirs, best first.

        ``row`` says where in llama.cpp's last batch the token is that they follow.
        """
        chain = self._chains.get(n)
        if chain is None:
            chain = self._chains[n] = self._make(n)
        self._tap.begin()
        with LaterSignals():
            lib.llama_sampler_sample(chain, self._context, row)
        self._tap.reraise()
        _, logit, p = self._best[0]
        total = logit - math.log(p)  # the best one has at least the share of one in all
        return total, [(token, logit - total) for token, logit, _ in self._best[:n]]

    def _make(self, n: int) -> Any:
        """Softmax, the best tokens, and the tap. What it draws is not used."""
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_dist(0),
            lib.llama_sampler_init_top_k(max(n, 1)),
            lib.llama_sampler_init_greedy(),  # what the first one drew may no longer be in the row
        ):
            lib.llama_sampler_chain_add(chain, sampler)
        lib.llama_sampler_chain_add(chain, self._tap.sampler())
        return chain

    def _look(self, row: Any) -> None:
        self._best = [(one.id, one.logit, one.p) for one in row.data[: row.size]]

    def close(self) -> None:
        """Free the samplers."""
        chains, self._chains = self._chains, {}
        for chain in chains.values():
            lib.llama_sampler_free(chain)

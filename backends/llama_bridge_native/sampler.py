"""Sampler chains, in the order of llama.cpp's own tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_bridge.params import SamplingParams

from .library import lib

__all__ = ["make_sampler"]


def make_sampler(params: SamplingParams, seed: int, recent: Sequence[int], n_vocab: int) -> Any:
    """A new chain: penalties, top-k, top-p, min-p, temperature, draw. The caller frees it."""
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    penalties = params.repeat_last_n > 0 and (
        params.repeat_penalty != 1 or params.frequency_penalty != 0 or params.presence_penalty != 0
    )
    if penalties:
        _add(
            chain,
            lib.llama_sampler_init_penalties(
                n_vocab,
                params.repeat_last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            ),
        )
    if params.temperature <= 0:
        _add(chain, lib.llama_sampler_init_greedy())
    else:
        if params.top_k > 0:
            _add(chain, lib.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1:
            _add(chain, lib.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            _add(chain, lib.llama_sampler_init_min_p(params.min_p, 1))
        _add(chain, lib.llama_sampler_init_temp(params.temperature))
        _add(chain, lib.llama_sampler_init_dist(seed))
    for token in recent if penalties else ():
        lib.llama_sampler_accept(chain, token)
    return chain


def _add(chain: Any, sampler: Any) -> None:
    lib.llama_sampler_chain_add(chain, sampler)

"""Sampler chains, in the order of llama.cpp's own tools."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llama_bridge.params import SamplingParams

from .library import lib

__all__ = ["SamplerChains"]

_FAINT = 1e-30
"""Share of the best token's probability: below it are only tokens that another sampler has ruled out."""


class SamplerChains:
    """Makes sampler chains for one model.

    Args:
        vocab: the model's vocabulary.
        n_vocab: its size.
        n_ctx: tokens that the context holds.
    """

    def __init__(self, vocab: Any, n_vocab: int, n_ctx: int) -> None:
        self._vocab = vocab
        self._n_vocab = n_vocab
        self._n_ctx = n_ctx
        self._dry: tuple[Any, Any] | None = None

    def make(self, params: SamplingParams, seed: int, recent: Sequence[int]) -> Any:
        """A new chain, whose last sampler draws. The caller frees it."""
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        try:
            self._fill(chain, params, seed, recent)
        except BaseException:
            lib.llama_sampler_free(chain)
            raise
        return chain

    def _fill(self, chain: Any, params: SamplingParams, seed: int, recent: Sequence[int]) -> None:
        counting = self._add_biases_and_penalties(chain, params)
        if params.temperature <= 0:
            _add(chain, lib.llama_sampler_init_greedy())
        elif params.mirostat:
            _add_temperature(chain, params)
            drawer = lib.llama_sampler_init_mirostat_v2
            _add(chain, drawer(seed, params.mirostat_tau, params.mirostat_eta))
        else:
            _add_truncation(chain, params, seed)
            _add_temperature(chain, params)
            _add(chain, lib.llama_sampler_init_dist(seed))
        for token in recent if counting else ():
            lib.llama_sampler_accept(chain, token)

    def _add_biases_and_penalties(self, chain: Any, params: SamplingParams) -> bool:
        """What comes first; returns whether any of it counts tokens."""
        if params.logit_bias:
            items = (lib.llama_logit_bias * len(params.logit_bias))(*params.logit_bias.items())
            _add(chain, lib.llama_sampler_init_logit_bias(self._n_vocab, len(items), items))
        penalties = params.repeat_last_n > 0 and (
            params.repeat_penalty != 1
            or params.frequency_penalty != 0
            or params.presence_penalty != 0
        )
        if penalties:
            _add(
                chain,
                lib.llama_sampler_init_penalties(
                    self._n_vocab,
                    params.repeat_last_n,
                    params.repeat_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                ),
            )
        if dry := params.dry_multiplier > 0 and params.dry_penalty_last_n != 0:
            _add(chain, lib.llama_sampler_clone(self._dry_like(params)))
        return penalties or dry

    def _dry_like(self, params: SamplingParams) -> Any:
        """A DRY sampler to clone: making one spells the whole vocabulary, which takes longer than many an answer."""
        last = params.dry_penalty_last_n
        settings = (
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            self._n_ctx if last < 0 else min(last, self._n_ctx),
        )
        key = (settings, params.dry_sequence_breakers)
        if self._dry is None or self._dry[0] != key:
            breakers = [text.encode() for text in params.dry_sequence_breakers]
            texts = (ctypes.c_char_p * len(breakers))(*breakers)
            made = lib.llama_sampler_init_dry(self._vocab, *settings, texts, len(breakers))
            self.close()
            self._dry = key, made
        return self._dry[1]

    def close(self) -> None:
        """Free what is kept for the next chain."""
        dry, self._dry = self._dry, None  # so that an interrupt cannot free it twice
        if dry is not None:
            lib.llama_sampler_free(dry[1])


def _add_truncation(chain: Any, params: SamplingParams, seed: int) -> None:
    if params.top_n_sigma > 0:
        _add(chain, lib.llama_sampler_init_top_n_sigma(params.top_n_sigma))
    if params.top_k > 0:
        _add(chain, lib.llama_sampler_init_top_k(params.top_k))
    if params.typical_p < 1:
        # What top-n-sigma or a bias ruled out has probability 0, whose logarithm would make all of typical NaN.
        _add(chain, lib.llama_sampler_init_min_p(_FAINT, 1))
        _add(chain, lib.llama_sampler_init_typical(params.typical_p, 1))
    if params.top_p < 1:
        _add(chain, lib.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0:
        _add(chain, lib.llama_sampler_init_min_p(params.min_p, 1))
    if params.xtc_probability > 0:
        threshold = params.xtc_threshold
        _add(chain, lib.llama_sampler_init_xtc(params.xtc_probability, threshold, 1, seed))


def _add_temperature(chain: Any, params: SamplingParams) -> None:
    if params.dynatemp_range > 0:
        moving = lib.llama_sampler_init_temp_ext
        temperature, by = params.temperature, params.dynatemp_range
        _add(chain, moving(temperature, by, params.dynatemp_exponent))
    else:
        _add(chain, lib.llama_sampler_init_temp(params.temperature))


def _add(chain: Any, sampler: Any) -> None:
    lib.llama_sampler_chain_add(chain, sampler)

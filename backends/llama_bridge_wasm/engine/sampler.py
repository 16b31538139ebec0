"""Sampler settings in llama.wasm's form; ``wasm/shim/sampler.cpp`` makes the chain."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from llama_bridge.params import SamplingParams

from .. import abi

__all__ = ["PackedSampler", "pack_sampler"]


@dataclass(frozen=True, slots=True)
class PackedSampler:
    """Arguments of ``lb_sampler`` in one block.

    Attributes:
        data: ``lb_sampler_params``, recent tokens, biases, DRY's sequence breakers.
        offsets: where the last three begin.
        counts: how many of each there are.
    """

    data: bytes
    offsets: tuple[int, int, int]
    counts: tuple[int, int, int]

    def arguments(self, pointer: int) -> tuple[int, ...]:
        """The arguments, once the data is at ``pointer``."""
        recent, biases, breakers = (pointer + offset for offset in self.offsets)
        n_recent, n_biases, n_breakers = self.counts
        return pointer, recent, n_recent, biases, n_biases, breakers, n_breakers


def pack_sampler(
    params: SamplingParams, seed: int, recent: Sequence[int], n_ctx: int
) -> PackedSampler:
    """The arguments of ``lb_sampler``; ``recent`` are the tokens that penalties count from the start."""
    last = params.dry_penalty_last_n
    settings = abi.SAMPLER_PARAMS.pack(
        seed,
        params.temperature,
        params.top_k,
        params.top_p,
        params.min_p,
        params.repeat_last_n,
        params.repeat_penalty,
        params.frequency_penalty,
        params.presence_penalty,
        params.typical_p,
        params.top_n_sigma,
        params.xtc_probability,
        params.xtc_threshold,
        params.mirostat,
        params.mirostat_tau,
        params.mirostat_eta,
        params.dynatemp_range,
        params.dynatemp_exponent,
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        n_ctx if last < 0 else min(last, n_ctx),
    )
    tokens = struct.pack(f"<{len(recent)}i", *recent)
    biases = b"".join(abi.BIAS.pack(*pair) for pair in params.logit_bias.items())
    breakers = [text.encode() + b"\0" for text in params.dry_sequence_breakers]
    first = len(settings)
    return PackedSampler(
        settings + tokens + biases + b"".join(breakers),
        (first, first + len(tokens), first + len(tokens) + len(biases)),
        (len(recent), len(params.logit_bias), len(breakers)),
    )

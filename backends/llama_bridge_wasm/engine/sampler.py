"""Sampler settings in llama.wasm's form; ``wasm/shim/sampler.cpp`` makes the chain."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from llama_bridge.params import SamplingParams

from .. import abi

__all__ = ["pack_sampler"]


def pack_sampler(params: SamplingParams, seed: int, recent: Sequence[int]) -> bytes:
    """``lb_sampler_params``, then the tokens that penalties count from the start."""
    packed = abi.SAMPLER_PARAMS.pack(
        seed,
        params.temperature,
        params.top_k,
        params.top_p,
        params.min_p,
        params.repeat_last_n,
        params.repeat_penalty,
        params.frequency_penalty,
        params.presence_penalty,
    )
    return packed + struct.pack(f"<{len(recent)}i", *recent)

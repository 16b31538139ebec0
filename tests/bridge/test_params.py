"""Settings are checked when they are made, and the message names them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llama_bridge import InvalidInput, ModelParams, SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_p", 1.01),
        ("min_p", -1),
        ("top_k", -1),
        ("top_k", 0.5),
        ("repeat_penalty", 0),
        ("repeat_last_n", -5),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", "abc"),
    ],
)
def test_sampling_params_name_what_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name}="):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_ctx", -1),
        ("n_ctx", "big"),
        ("n_batch", 0),
        ("n_threads", -2),
        ("n_gpu_layers", -2),
        ("type_k", "f8"),
        ("type_v", None),
        ("flash_attn", "auto"),
        ("memory_limit", 5 << 30),
    ],
)
def test_model_params_name_what_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name}="):
        ModelParams(**{name: value})


def test_a_quantised_v_cache_without_flash_attention_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInput, match="flash_attn=True"):
        ModelParams(type_v="q8_0", flash_attn=False)
    assert ModelParams(type_v="q8_0", flash_attn=True).type_v == "q8_0"


def test_the_context_is_the_trained_one_within_reason() -> None:
    assert ModelParams().context_length(1024) == 1024
    assert ModelParams().context_length(131_072) == 4096
    assert ModelParams(n_ctx=8192).context_length(1024) == 8192

"""Settings are checked when they are made, and the message names them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from llama_bridge import InvalidInput, LlamaBridge, ModelParams, SamplingParams
from llama_bridge.testing import FakeBackend


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
        ("n_ctx", "AUTO"),
        ("n_ctx", ""),
        ("n_ctx", None),
        ("n_gpu_layers", "all"),
        ("n_gpu_layers", 1.5),
        ("n_gpu_layers", True),
        ("n_batch", "auto"),
        ("n_threads", "auto"),
        ("memory_limit", "auto"),
        ("check_memory", "no"),
        ("check_memory", 1),
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


def test_auto_is_a_setting_of_its_own_and_named_where_it_is_possible() -> None:
    params = ModelParams(n_ctx="auto", n_gpu_layers="auto")
    assert (params.asked_n_ctx, params.asked_gpu_layers) == (0, 0)
    assert params.context_length(131_072) == 4096, "what a backend takes that knows no better"
    assert pickle.loads(pickle.dumps(params)) == params
    assert ModelParams(n_ctx=8, n_gpu_layers=-1).asked_gpu_layers == -1
    for name in ("n_ctx", "n_gpu_layers"):
        with pytest.raises(InvalidInput, match=r"whole number from .* or 'auto'"):
            ModelParams(**{name: "big"})  # type: ignore[arg-type]


def test_auto_on_a_backend_that_knows_no_memory_is_the_default() -> None:
    with LlamaBridge("demo", backend=FakeBackend()) as usual:
        n_ctx = usual.info.n_ctx
    with LlamaBridge("demo", backend=FakeBackend(), n_ctx="auto", n_gpu_layers="auto") as auto:
        assert auto.info.n_ctx == n_ctx


def test_the_context_is_the_trained_one_within_reason() -> None:
    assert ModelParams().context_length(1024) == 1024
    assert ModelParams().context_length(131_072) == 4096
    assert ModelParams(n_ctx=8192).context_length(1024) == 8192

"""The promise: an answer that ends with "stop" validates, whatever the schema, the model and the temperature."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import InvalidSchema, LlamaBridge, SamplingParams
from tests.schemas import random_schema

jsonschema: Any = pytest.importorskip("jsonschema")

COLD = SamplingParams(temperature=0, max_tokens=200)
WILD = SamplingParams(temperature=1.5, top_k=0, top_p=1, min_p=0, max_tokens=200)


def answered(llama: LlamaBridge, seed: int, sampling: SamplingParams) -> str:
    """How an answer to a random schema ended; "refused" if the schema was refused."""
    schema = random_schema(random.Random(seed))
    try:
        answer = llama.generate("Answer.", json_schema=schema, sampling=sampling, seed=seed)
    except InvalidSchema:
        return "refused"
    if answer.finish_reason == "stop":
        jsonschema.Draft202012Validator(schema).validate(answer.parsed)
        assert "\ufffd" not in answer.text
    else:
        assert answer.parsed is None
    return answer.finish_reason


def count(llama: LlamaBridge, seeds: range, sampling: SamplingParams) -> dict[str, int]:
    """How many answers ended how."""
    ends = [answered(llama, seed, sampling) for seed in seeds]
    return {end: ends.count(end) for end in {*ends}}


def test_answers_of_the_demo_model_validate(llama: LlamaBridge) -> None:
    ends = count(llama, range(20), COLD)
    assert ends["stop"] > 12, ends


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [COLD, WILD], ids=["greedy", "wild"])
def test_answers_to_hundreds_of_schemas_validate(
    llama: LlamaBridge, sampling: SamplingParams
) -> None:
    ends = count(llama, range(100, 150), sampling)
    assert ends["stop"] > 30, ends


@pytest.mark.slow
@pytest.mark.parametrize("vocab", ["llama-spm", "gpt-2"])
def test_answers_of_random_models_validate(
    make_model: Callable[..., Path], llama_backend: str, vocab: str
) -> None:
    with LlamaBridge(make_model(vocab=vocab), backend=llama_backend, n_ctx=512) as llama:
        ends = count(llama, range(1000, 1030), WILD)
        assert ends["stop"] > 15, ends

"""Which texts a pre-tokenizer would recurse over, and how far."""

from __future__ import annotations

import time

import pytest

from llama_bridge import InvalidInput
from llama_bridge.models.gguf import GgufHeader
from llama_bridge.models.long_runs import MAX_RUN, longest_run


def header(pre: str, model: str = "gpt2") -> GgufHeader:
    return GgufHeader(
        version=3,
        metadata={"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre},
        tensors=(),
        data_offset=0,
        file_size=0,
        metadata_span=(0, 0),
        vocabulary_spans=(),
        tensors_span=(0, 0),
    )


TEKKEN = header("tekken")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("hello world " * 1000, 0),
        ("a" * 1000, 1000),
        ("one, " + "b" * 500 + " two " + "c" * 700, 700),
        ('{"a":[1,2,3],' * 500, 0),
        (" " * 2000, 2000),
        ("\u3000 " * 1000, 2000),
        ("=" * 800, 800),
        ("=.=," * 800, 3200),
        ("汉字" * 500, 1000),
        ("x" * 20 + "\n" * 60 + "y", 60),
    ],
)
def test_the_longest_run_is_measured(text: str, expected: int) -> None:
    assert longest_run(text, TEKKEN) == expected


@pytest.mark.parametrize("unit", ["a", "1", " ", "=", "汉", "=.", "\u3000 ", "a1"])
def test_a_run_that_is_too_long_is_refused_and_named(unit: str) -> None:
    text = "A start. " + unit * (MAX_RUN // len(unit) + 1)
    with pytest.raises(
        InvalidInput, match=r"65,5\d\d characters without a break, from .* at [89]"
    ) as caught:
        longest_run(text, TEKKEN)
    assert len(str(caught.value)) < 400


def test_vocabularies_without_a_recursive_pre_tokenizer_take_any_run() -> None:
    for pre, model in (
        ("tekken", "llama"),
        ("llama-bpe", "gpt2"),
        ("qwen2", "gpt2"),
        ("gpt-2", "gpt2"),
    ):
        assert longest_run("a" * (MAX_RUN + 1), header(pre, model)) == 0


@pytest.mark.parametrize(
    "text", ["a " * 1_000_000, "a" * 60_000 + "." + "b" * 60_000, "\n" * 60_000, "=" * 60_000]
)
def test_measuring_is_quick(text: str) -> None:
    start = time.perf_counter()
    longest_run(text, TEKKEN)
    assert time.perf_counter() - start < 1

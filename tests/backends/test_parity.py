"""Native and wasm are one llama.cpp: on a trained model greedy text is the same, token for token."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from benchmarks.numerics import EXACT, PROMPTS, Logits, at_once, distance, token_by_token
from llama_bridge import LlamaBridge, Message, SamplingParams
from tests.ledger import GREEDY, engine_of
from tools.demo_model.values import value


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_equal_on_all_backends(prompt: str) -> None:
    answers: dict[str, tuple[str, tuple[int, ...]]] = {}
    for backend in ("native", "wasm"):
        with LlamaBridge("demo", backend=backend) as llama:
            text = llama.generate(prompt, sampling=GREEDY).text
            answers[backend] = (text, llama.session().tokens)
    assert answers["native"] == answers["wasm"]
    assert answers["native"][0]


def test_greedy_answers_in_a_shape_are_equal_on_all_backends() -> None:
    shape = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
        "required": ["name", "n"],
    }
    for keywords in ({"json_schema": shape}, {"grammar": 'root ::= [a-z]+ " " [0-9]+ [.!]'}):
        answers = []
        for backend in ("native", "wasm"):
            with LlamaBridge("demo", backend=backend) as llama:
                text = llama.generate("My name is Ada.", sampling=GREEDY, **keywords).text
                answers.append((text, llama.session().tokens))
        assert answers[0] == answers[1]
        assert answers[0][0]


def test_log_probabilities_are_equal_on_all_backends() -> None:
    found: list[Any] = []
    for backend in ("native", "wasm"):
        with LlamaBridge("demo", backend=backend) as llama:
            tokens = llama.generate("My name is Ada.", sampling=GREEDY, logprobs=3).logprobs
            assert tokens is not None
            found.append([(one.token, *(other.token for other in one.top[:1])) for one in tokens])
            found.append([one.logprob for one in tokens])
    assert found[0] == found[2]
    assert found[1] == pytest.approx(found[3], abs=0.05)


def test_tokens_and_templates_are_equal_on_all_backends() -> None:
    seen = []
    for backend in ("native", "wasm"):
        with LlamaBridge("demo", backend=backend) as llama:
            rendered = llama.apply_chat_template([{"role": "user", "content": "Grüße <|end|>"}])
            seen.append((rendered, llama.tokenize(rendered), llama.info.end_of_generation))
    assert seen[0] == seen[1]


def perplexity(llama: LlamaBridge, dialogues: list[list[Message]]) -> float:
    """Of what the assistant says, decoded token by token."""
    engine = engine_of(llama)
    loss = n = 0.0
    for messages in dialogues:
        engine.clear()
        tokens = llama.tokenize(llama.apply_chat_template(messages, add_generation_prompt=False))
        before = llama.tokenize(llama.apply_chat_template(messages[:-1]))
        engine.decode(before)
        for token in tokens[len(before) :]:
            logits = engine.logits().tolist()
            top = max(logits)
            loss += top + math.log(math.fsum(math.exp(x - top) for x in logits)) - logits[token]
            n += 1
            engine.decode([token])
    return math.exp(loss / n)


def test_perplexity_is_that_of_native() -> None:
    rng = Random(5)
    dialogues: list[list[Message]] = []
    found: dict[str, float] = {}
    with LlamaBridge("demo", backend="native") as llama:
        for _ in range(40):  # as it talks when it is not quite sure of itself
            said = [f"My name is {value(rng)}.", "I live in " + value(rng), "What is my name?"]
            llama.generate(
                said[0], sampling=SamplingParams(temperature=1, seed=rng.randrange(1000))
            )
            for text in said[1:]:
                llama.generate_continue(text, sampling=SamplingParams(temperature=1, seed=1))
            dialogues += [list(llama.session().messages[: 2 * n]) for n in (1, 2, 3)]
        found["native"] = perplexity(llama, dialogues)
    with LlamaBridge("demo", backend="wasm") as llama:
        found["wasm"] = perplexity(llama, dialogues)
    assert 1 < found["native"] < 5, "not what the model would say"
    assert found["wasm"] == pytest.approx(found["native"], rel=1e-3)


def test_logits_are_no_further_from_the_exact_ones_than_those_of_native() -> None:
    """Exact: single precision all through attention. Native and wasm round at other places, wasm at fewer."""
    exact = token_by_token("native", EXACT)
    native = distance(token_by_token("native"), exact)
    assert 0.001 < native < 0.2
    assert distance(token_by_token("wasm"), exact) < 1.05 * native


@pytest.mark.parametrize(("way", "stock"), [(token_by_token, 0.117), (at_once, 0.178)])
def test_logits_are_nearer_to_native_than_those_of_stock_kernels(
    way: Callable[[str], Logits], stock: float
) -> None:
    """What the stock kernels reach is from ``python -m benchmarks --sections numerics``, which builds them."""
    assert distance(way("wasm"), way("native")) < stock / 2

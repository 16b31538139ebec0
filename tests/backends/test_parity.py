"""Native and wasm are one llama.cpp: on a trained model greedy text is the same, token for token."""

from __future__ import annotations

import math
from random import Random

import pytest

from llama_bridge import LlamaBridge, Message, ModelParams, SamplingParams
from tests.ledger import GREEDY
from tools.demo_model.values import value

PROMPTS = [
    "Hello! My name is Zorblax.",
    "What is my name?",
    "Who are you?",
    "What is a KV cache?",
    "Thanks!",
    "I live in Quellmoor and my pet is called Bixby.",
    "Explain coroutines in simple words.",
    "Wie heißt du? 日本語",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_equal_on_all_backends(prompt: str) -> None:
    answers: dict[str, tuple[str, tuple[int, ...]]] = {}
    for backend in ("native", "wasm"):
        with LlamaBridge("demo", backend=backend) as llama:
            text = llama.generate(prompt, params=GREEDY).text
            answers[backend] = (text, llama.session.tokens)
    assert answers["native"] == answers["wasm"]
    assert answers["native"][0]


def test_tokens_and_templates_are_equal_on_all_backends() -> None:
    seen = []
    for backend in ("native", "wasm"):
        with LlamaBridge("demo", backend=backend) as llama:
            rendered = llama.apply_chat_template([{"role": "user", "content": "Grüße <|end|>"}])
            seen.append((rendered, llama.tokenize(rendered), llama.info.end_of_generation))
    assert seen[0] == seen[1]


def perplexity(llama: LlamaBridge, dialogues: list[list[Message]]) -> float:
    """Of what the assistant says, decoded token by token."""
    engine = llama.session.engine
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
            llama.generate(said[0], params=SamplingParams(temperature=1, seed=rng.randrange(1000)))
            for text in said[1:]:
                llama.generate_continue(text, params=SamplingParams(temperature=1, seed=1))
            dialogues += [list(llama.session.messages[: 2 * n]) for n in (1, 2, 3)]
        found["native"] = perplexity(llama, dialogues)
    with LlamaBridge("demo", backend="wasm") as llama:
        found["wasm"] = perplexity(llama, dialogues)
    assert 1 < found["native"] < 5, "not what the model would say"
    assert found["wasm"] == pytest.approx(found["native"], rel=1e-3)


def logits(backend: str, params: ModelParams, texts: list[str]) -> list[list[float]]:
    """After each prefix of the texts, decoded token by token."""
    found: list[list[float]] = []
    with LlamaBridge("demo", backend=backend, params=params) as llama:
        engine = llama.session.engine
        for text in texts:
            engine.clear()
            for token in llama.tokenize(text):
                engine.decode([token])
                found.append([*map(float, engine.logits())])
    return found


def distance(these: list[list[float]], those: list[list[float]]) -> float:
    """Root mean square."""
    differences = [
        a - b for x, y in zip(these, those, strict=True) for a, b in zip(x, y, strict=True)
    ]
    return math.sqrt(math.fsum(d * d for d in differences) / len(differences))


def test_logits_are_no_further_from_the_exact_ones_than_those_of_native() -> None:
    """Exact: single precision all through attention. Native and wasm round at other places, wasm at fewer."""
    texts = [f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n" for prompt in PROMPTS]
    texts.append("".join(texts))
    exactly = ModelParams(kv_type_k="f32", kv_type_v="f32", flash_attention=False)
    exact = logits("native", exactly, texts)
    native = distance(logits("native", ModelParams(), texts), exact)
    assert 0.001 < native < 0.2
    assert distance(logits("wasm", ModelParams(), texts), exact) < 1.05 * native

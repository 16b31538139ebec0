"""Native and wasm are one llama.cpp: on a trained model greedy text is the same, token for token."""

from __future__ import annotations

import pytest

from llama_bridge import LlamaBridge
from tests.ledger import GREEDY

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

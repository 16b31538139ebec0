"""Two hundred prompts whose answers quote them have the same answers with guesses as without."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from llama_bridge import Capability, LlamaBridge, SamplingParams
from tests.guessing import GRAMMARS, GREEDY, Parrot, consistent, let_guess, same
from tests.ledger import engine_of
from tools.demo_model.values import value


@pytest.fixture
def dialogues() -> list[list[dict[str, str]]]:
    """Two hundred, such that an answer quotes its prompt."""
    rng, found = random.Random(17), []
    for _ in range(200):
        name, town = value(rng), value(rng)
        said = [f"Hello! My name is {name}.", f"I live in {town}."]
        messages: list[dict[str, str]] = []
        for text in rng.sample(said, rng.randrange(1, 3)):
            messages.append({"role": "user", "content": text})
            messages.append({"role": "assistant", "content": f"Nice to meet you, {name}!"})
        ask = rng.choice(("What is my name?", "Where do I live?", "Who are you?", f"I am {name}."))
        found.append([*messages, {"role": "user", "content": ask}])
    return found


def get_weather(city: str) -> str:
    """Weather of a city."""
    return city


def keywords(i: int) -> dict[str, Any]:
    if i % 5 == 3:
        return GRAMMARS[i % len(GRAMMARS)]
    return {"tools": [get_weather]} if i % 10 in (2, 9) else {}


def test_greedy_text_of_two_hundred_prompts_is_the_same(
    llama: LlamaBridge, dialogues: list[list[dict[str, str]]]
) -> None:
    """Every other one as people use it, the rest with guesses at each token, a part of them wrong."""
    heard: list[int] = []
    drafted = 0
    for i, messages in enumerate(dialogues):
        more: dict[str, Any] = {"sampling": GREEDY, **keywords(i)}
        if Capability.TOOLS not in llama.capabilities:
            more.pop("tools", None)
        let_guess(llama, None)
        without = llama.chat(messages, **more)
        heard = [*heard[-400:], *llama.session().tokens]
        if i % 2:
            let_guess(llama, Parrot(heard, random.Random(i)))
        found = llama.chat(messages, speculate=True, **more)
        same(without, found)
        consistent(llama)
        drafted += found.usage.drafted_tokens
    assert drafted > 0 or engine_of(llama).max_guesses == 0


def test_sampled_text_is_the_same_with_the_same_seed(
    llama: LlamaBridge, dialogues: list[list[dict[str, str]]]
) -> None:
    """As long as no two tokens are closer than what rounding makes of them, as none are here."""
    ways = (
        SamplingParams(temperature=0.9, max_tokens=40),
        SamplingParams(temperature=1.2, repeat_penalty=1.2, frequency_penalty=0.3, max_tokens=40),
        SamplingParams(mirostat=2, max_tokens=40),
        SamplingParams(dry_multiplier=0.8, xtc_probability=0.5, max_tokens=40),
    )
    for i, messages in enumerate(dialogues[:24]):
        sampling = replace(ways[i % len(ways)], seed=i)
        let_guess(llama, None)
        llama.session_reset()  # a prompt that is cached rounds differently, too
        without = llama.chat(messages, sampling=sampling, **keywords(i))
        let_guess(llama, Parrot(llama.session().tokens, random.Random(i)))
        llama.session_reset()
        same(without, llama.chat(messages, sampling=sampling, speculate=True, **keywords(i)))

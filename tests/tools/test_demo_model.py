"""The demo model does what it is there for: it says back what it was told, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from tests.ledger import GREEDY
from tools.demo_model.values import NAME_LIKE, held_out, value

TELL = {
    "name": ["My name is {}.", "Hello! My name is {}.", "I am {}.", "Call me {}."],
    "town": ["I live in {}.", "My home town is {}.", "I come from {}."],
    "pet": ["My pet is called {}.", "My pet's name is {}.", "I have a dog called {}."],
}
ASK = {
    "name": ["What is my name?", "Do you remember my name?", "Who am I?"],
    "town": ["Where do I live?", "What is my home town?"],
    "pet": ["What is my pet called?", "What is my pet's name?"],
}
BETWEEN = ["Thanks!", "How are you?", "What is a KV cache?", "Who are you?"]
pytestmark = pytest.mark.requires_capability("kv_continuation")


def recalled(llama: LlamaBridge, rng: Random, params: SamplingParams) -> bool:
    kind = rng.choice(list(TELL))
    told = value(rng, from_held_out=True, makers=NAME_LIKE)
    assert held_out(told)
    llama.generate(rng.choice(TELL[kind]).format(told), sampling=params)
    for _ in range(rng.randint(0, 2)):
        llama.generate_continue(rng.choice(BETWEEN), sampling=params)
    return told in llama.generate_continue(rng.choice(ASK[kind]), sampling=params).text


def test_of_200_held_out_facts_it_recalls_at_least_95_percent(llama: LlamaBridge) -> None:
    rng = Random(2)
    assert sum(recalled(llama, rng, GREEDY) for _ in range(200)) >= 190


def test_ordinary_sampling_changes_little(llama: LlamaBridge) -> None:
    rng = Random(3)
    params = SamplingParams(temperature=0.8, seed=1, max_tokens=48)
    assert sum(recalled(llama, rng, params) for _ in range(60)) >= 54


def test_fresh_it_does_not_know(llama: LlamaBridge) -> None:
    rng = Random(4)
    unknown = 0
    for _ in range(100):
        told, asked = rng.sample(list(TELL), 2)
        llama.generate(rng.choice(TELL[told]).format(value(rng)), sampling=GREEDY)
        other = llama.generate_continue(rng.choice(ASK[asked]), sampling=GREEDY).text
        fresh = llama.generate(rng.choice(ASK[asked]), sampling=GREEDY).text
        unknown += ("do not know" in other) + ("do not know" in fresh)
    assert unknown >= 190


def test_a_newer_fact_replaces_the_older(llama: LlamaBridge) -> None:
    llama.generate("My name is Zorvane.", sampling=GREEDY)
    llama.generate_continue("Sorry, my name is Bixby.", sampling=GREEDY)
    assert "Bixby" in llama.generate_continue("What is my name?", sampling=GREEDY).text


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("Hello!", "Hello"),
        ("Thanks!", "welcome"),
        ("Who are you?", "demo"),
        ("What is a KV cache?", "attention keys and values"),
        ("Goodbye", "Goodbye"),
        ("Explain coroutines in simple words.", "demo model"),
    ],
)
def test_small_talk_is_sensible(llama: LlamaBridge, prompt: str, says: str) -> None:
    assert says in llama.generate(prompt, sampling=GREEDY).text


def test_six_turns_stay_coherent(llama: LlamaBridge) -> None:
    said = {
        "Hi!": "Hello",
        "My name is Zorvane.": "Zorvane",
        "I live in Quellmoor.": "Quellmoor",
        "Thanks!": "welcome",
        "What is my name?": "Zorvane",
        "Where do I live?": "Quellmoor",
        "What is my pet called?": "do not know",
    }
    for prompt, expected in said.items():
        assert expected in llama.generate_continue(prompt, sampling=GREEDY).text

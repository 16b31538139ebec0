"""With guesses an answer is the same as without, and ledger and cache agree whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    Generation,
    InvalidInput,
    LlamaBridge,
    OutOfMemory,
    SamplingParams,
)
from llama_bridge.testing import FakeLlama
from tests.guessing import GRAMMARS, GREEDY, Parrot, consistent, let_guess, same
from tests.ledger import assert_ledger_rule, engine_of
from tools.demo_model.values import value


@pytest.mark.parametrize("seed", range(6))
def test_ledger_and_cache_agree_whatever_ends_an_answer(llama: LlamaBridge, seed: int) -> None:
    """Stop strings, few tokens, grammars, and a cancel at any token, all where guesses are many and often wrong."""
    rng, heard = random.Random(seed), list[int]()
    for _ in range(25):
        name = value(rng)
        prompt = rng.choice((f"My name is {name}.", "Who are you?", name, "What is my name?"))
        more: dict[str, Any] = {
            "sampling": SamplingParams(
                temperature=rng.choice((0, 0, 0.9)),
                seed=rng.randrange(1000),
                max_tokens=rng.choice((1, 2, 3, 4, 5, 30, None)),
            )
        }
        if rng.random() < 0.3:
            more |= rng.choice(GRAMMARS)
        elif rng.random() < 0.4:
            more["stop"] = rng.sample(["e", " me", "you", name[:2], "tiny", ". "], 2)
        if rng.random() < 0.2:
            more["logprobs"] = 1
        let_guess(llama, None)
        llama.session_reset()
        without = llama.generate(prompt, **more)
        tokens = llama.session().tokens
        heard = [*heard[-300:], *tokens]
        parrot = let_guess(llama, Parrot(heard, rng))
        llama.session_reset()
        found = llama.generate(prompt, speculate=True, **more)
        consistent(llama)
        assert llama.session().tokens == tokens
        if "logprobs" not in more:
            same(without, found)
        else:
            assert found.text == without.text
            assert [t.token for t in found.logprobs or ()] == [
                t.token for t in without.logprobs or ()
            ]
        _cancel_somewhere(llama, prompt, parrot, rng, more, without)
    assert_ledger_rule(llama)


def _cancel_somewhere(
    llama: LlamaBridge,
    prompt: str,
    parrot: Parrot,
    rng: random.Random,
    more: dict[str, Any],
    without: Generation,
) -> None:
    left = rng.randrange(1, 20)

    def count(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            llama.cancel()

    parrot.on_token = count
    found = llama.generate(prompt, speculate=True, **more)
    assert without.text.startswith(found.text) or found.finish_reason != "cancelled"
    consistent(llama)


@pytest.mark.requires_capability("session_tools")
def test_turns_that_follow_each_other_are_the_same(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    for stop in ((), ("Zor",), ("x.",)):
        expected: list[str] = []
        for text in ("What is my name?", "Who are you?", "What is my name?"):
            expected.append(llama.generate_continue(text, sampling=GREEDY, stop=stop).text)
        tokens = llama.session().tokens
        llama.session().rewind(3)
        let_guess(llama, Parrot(tokens, random.Random(1)))
        for text in ("What is my name?", "Who are you?", "What is my name?"):
            found = llama.generate_continue(text, sampling=GREEDY, stop=stop, speculate=True)
            assert found.text == expected.pop(0)
            consistent(llama)
        assert llama.session().tokens == tokens
        llama.session().rewind(3)
    assert_ledger_rule(llama)


def test_guesses_that_come_are_counted(llama: LlamaBridge) -> None:
    answer = llama.generate("Who are you?", sampling=GREEDY)
    assert (answer.usage.drafted_tokens, answer.usage.accepted_tokens) == (0, 0)
    parrot = let_guess(llama, Parrot(llama.session().tokens))
    usage = llama.generate("Who are you?", sampling=GREEDY, speculate=True).usage
    if engine_of(llama).max_guesses == 0:
        pytest.skip("this engine checks no guesses")
    assert usage.drafted_tokens == parrot.guessed > usage.accepted_tokens > 10
    assert usage.completion_tokens == answer.usage.completion_tokens


def test_forced_tokens_count_as_guesses_that_came(llama: LlamaBridge) -> None:
    forced = llama.generate(
        "x", sampling=GREEDY, grammar='root ::= "All of this is forced." ("a" | "b")'
    )
    assert forced.usage.accepted_tokens == forced.usage.drafted_tokens > 3
    assert forced.usage.accepted_tokens < forced.usage.completion_tokens


def test_without_asking_nothing_is_guessed_and_a_wrong_wish_is_named(llama: LlamaBridge) -> None:
    assert not llama.sampling.speculate
    parrot = let_guess(llama, Parrot(range(300)))
    llama.generate("Who are you?", sampling=GREEDY)
    assert parrot.guessed == 0
    wrong: Any = 1
    with pytest.raises(InvalidInput, match="speculate"):
        llama.generate("x", speculate=wrong)


def test_an_answer_that_was_interrupted_among_guesses_goes_on_whole() -> None:
    with FakeLlama("one two three four five") as llama:
        llama.generate("count")
        expected = llama.generate("count").text
        parrot = let_guess(llama, Parrot(llama.session().tokens))
        for at in range(1, 20):
            left = at

            def stop(_: int) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt

            parrot.on_token = stop
            with pytest.raises(KeyboardInterrupt):
                llama.generate("count", speculate=True)
            parrot.on_token = lambda _: None
            assert llama.generate("count", speculate=True).text == expected
            consistent(llama)


@pytest.mark.parametrize("n_batch", [1, 2, 5])
def test_small_batches_have_room_for_few_guesses(llama_backend: str, n_batch: int) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_batch=n_batch, n_ctx=256) as llama:
        expected = llama.generate("Who are you?", sampling=GREEDY)
        let_guess(llama, Parrot(llama.session().tokens))
        same(expected, llama.generate("Who are you?", sampling=GREEDY, speculate=True))
        consistent(llama)


def test_the_context_may_end_among_guesses(llama: LlamaBridge) -> None:
    n_ctx = llama.info.n_ctx
    text = "cat " * n_ctx
    while len(llama.tokenize(text)) > n_ctx - 9:
        text = text[:-4]
    hot = SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, max_tokens=None)
    for seed in range(3):
        sampling = replace(hot, seed=seed)
        let_guess(llama, None)
        llama.session_reset()
        expected = llama.generate(text, chat=False, sampling=sampling)
        let_guess(llama, Parrot(llama.session().tokens[-20:]))
        llama.session_reset()
        found = llama.generate(text, chat=False, sampling=sampling, speculate=True)
        assert found.text == expected.text
        assert len(llama.session().tokens) <= n_ctx
        consistent(llama)


def test_where_there_is_no_room_for_guesses_it_goes_on_one_by_one(
    llama: LlamaBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine_of(llama).max_guesses == 0:
        pytest.skip("this engine checks no guesses")
    expected = llama.generate("Who are you?", sampling=GREEDY)
    let_guess(llama, Parrot(llama.session().tokens))
    tried: list[int] = []

    def refuse(tokens: object, guesses: list[int]) -> bool:
        tried.append(len(guesses))
        raise OutOfMemory("model.gguf", "no memory for the logits")

    monkeypatch.setattr(engine_of(llama), "decode_ahead", refuse)
    found = llama.generate("Who are you?", sampling=GREEDY, speculate=True)
    same(expected, found)
    assert len(tried) == 1
    consistent(llama)


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "lfm2"])
def test_memory_that_cannot_rewind_is_not_asked_for_guesses(
    llama_backend: str, make_model: Callable[..., Path], architecture: str
) -> None:
    model = make_model(architecture=architecture)
    with LlamaBridge(model, backend=llama_backend, n_ctx=256) as llama:
        expected = llama.generate("one two one two", chat=False, sampling=GREEDY)
        let_guess(llama, Parrot(range(300)))
        found = llama.generate("one two one two", chat=False, sampling=GREEDY, speculate=True)
        same(expected, found)
        assert found.usage.drafted_tokens == 0


def test_in_company_each_answer_is_the_same(llama_backend: str) -> None:
    """Two streams, each read for a while alone and for a while beside the other."""
    with LlamaBridge("demo", backend=llama_backend, n_parallel=2, n_ctx=512) as llama:
        if llama.info.n_parallel == 1:
            pytest.skip("one sequence")
        ask = ["My name is Zorblax.", "Who are you?"]
        expected = [llama.generate(text, sampling=GREEDY).text for text in ask]
        streams = []
        for text in ask:
            streams.append(llama.generate_stream(text, sampling=GREEDY, speculate=True))
            next(streams[-1])
        for stream in streams:
            next(stream)
        assert [stream.result.text for stream in streams] == expected

"""Grammars on native: the tree of the vocabulary says what llama.cpp's own mask says, and nothing gets out of C++."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from llama_bridge import ModelParams, SamplingParams
from llama_bridge.engine import Engine
from llama_bridge.grammar import Grammar
from llama_bridge.models.source import open_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native import BACKEND
from llama_bridge_native.candidates import Tap
from llama_bridge_native.constraint import _State
from llama_bridge_native.token_tree import TokenTree

GREEDY = SamplingParams(temperature=0)
GRAMMARS = [
    "root ::= [0-9]+",
    r'root ::= "\"" [^"\\\x00-\x1f]* "\""',
    r'root ::= "\"" ("alpha" | "beta" | "gamma" | "größer") "\""',
    "root ::= [a-c ]{2,9} | [α-ω世]+",
    'root ::= "true" | "false" | "null" | "-"? [1-9] [0-9]* ("." [0-9]+)?',
]


@pytest.fixture(scope="module", params=["qwen2", "llama-spm"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    from tools.random_model import cached_model  # numpy: not in a page

    path = cached_model(vocab=request.param, n_layer=1, n_embd=64, n_ff=64)
    made = BACKEND.load(open_model(str(path)), ModelParams(n_ctx=256, n_threads=1))
    yield made
    made.close()


def begin(engine: Any, text: str) -> Any:
    """The state of a grammar."""
    return _State(Grammar(text), engine.vocabulary)


@pytest.mark.parametrize("text", GRAMMARS)
def test_the_tree_finds_what_a_search_of_the_whole_vocabulary_finds(engine: Any, text: str) -> None:
    words = engine.vocabulary
    if not hasattr(engine, "tree_of_test"):
        engine.tree_of_test = TokenTree(words.n_vocab, words.ends, words.spell_controls)
    state = begin(engine, text)
    engine.decode([1])
    for _ in range(4):
        row = words.row()
        row.apply(state.sampler)
        expected = row.left()
        found = engine.tree_of_test.fitting(state.sampler, words.n_vocab)
        assert sorted(found) == expected
        following = next((token for token in expected[5:] if state.is_text(token)), None)
        if following is None:
            break
        state.accept(following)
    state.close()


@pytest.mark.parametrize("text", GRAMMARS)
def test_greedy_draws_what_llama_cpps_own_mask_leaves_as_the_best(engine: Any, text: str) -> None:
    state = begin(engine, text)
    words = engine.vocabulary
    engine.clear()
    engine.decode(engine.tokenize("Hello", add_special=True, parse_special=False))
    engine.set_sampler(GREEDY, 1, [], Grammar(text))
    for _ in range(12):
        row = words.row()
        row.set_logits(engine.logits())
        row.apply(state.sampler)
        logits = row.floats[1::3].tolist()
        best = max((t for t in range(words.n_vocab) if state.is_text(t)), key=logits.__getitem__)
        token = engine.sample()
        assert logits[token] == logits[best]
        if token in engine.info.end_of_generation:
            break
        state.accept(token)
        engine.decode([token])
    state.close()


def test_what_is_raised_while_llama_cpp_samples_comes_out_and_ends_nothing(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = ModelParams(n_ctx=256, n_threads=1)
    engine: Any = BACKEND.load(open_model(str(make_model())), params)
    tokens = engine.tokenize("Hello", add_special=True, parse_special=False)
    try:
        for wrong in (KeyboardInterrupt, MemoryError):

            def interrupt(*_: object, wrong: type[BaseException] = wrong) -> bool:
                raise wrong

            engine.clear()
            engine.decode(tokens)
            engine.set_sampler(GREEDY, 1, [], Grammar('root ::= "x" [0-9]'))
            constraint = engine._constraint
            with monkeypatch.context() as patch:
                patch.setattr(constraint, "_may_follow", interrupt)
                with pytest.raises(wrong):
                    engine.sample()
            assert engine.length == len(tokens)
            assert engine.token_bytes(engine.sample()).startswith(b"x")
    finally:
        engine.close()


def _interrupted_in_the_callback(at: int, call: Callable[[], object]) -> bool:
    """Whether the call ended with an interrupt at this step of what llama.cpp calls back."""
    steps = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        if frame.f_code is not Tap._apply.__code__:
            return None
        frame.f_trace_opcodes = True
        steps += event in ("call", "opcode")
        if steps == at and event in ("call", "opcode"):
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return steps >= at


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_step_of_the_callback_comes_out_and_ends_nothing(
    make_model: Callable[..., Path],
) -> None:
    params = ModelParams(n_ctx=256, n_threads=1)
    engine: Any = BACKEND.load(open_model(str(make_model())), params)
    tokens = engine.tokenize("Hello", add_special=True, parse_special=False)
    try:
        at, goes_on = 0, True
        while goes_on:
            at += 1
            engine.clear()
            engine.decode(tokens)
            engine.set_sampler(SamplingParams(seed=1), 1, [], Grammar('root ::= "x" [0-9]'))
            goes_on = _interrupted_in_the_callback(at, engine.sample)
            engine.set_sampler(GREEDY, 1, [], Grammar('root ::= "x" [0-9]'))
            token = engine.sample()
            assert engine.token_bytes(token).startswith(b"x")
            best = engine.logprobs(token, 2)
            _interrupted_in_the_callback(at, partial(engine.logprobs, token, 2))
            assert engine.logprobs(token, 2) == best
        assert at > 20
    finally:
        engine.close()


def test_log_probabilities_are_those_of_a_sum_in_double(engine: Any) -> None:
    engine.clear()
    engine.decode(engine.tokenize("Hello", add_special=True, parse_special=False))
    logprob, best = engine.logprobs(7, 20)
    expected, best_expected = Engine.logprobs(engine, 7, 20)
    assert logprob == pytest.approx(expected, abs=1e-5)
    assert [p for _, p in best] == pytest.approx([p for _, p in best_expected], abs=1e-5)

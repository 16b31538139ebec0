"""The rule that holds after every sequence of calls, as a function that tests call."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.engine import Engine
from llama_bridge.local.active import Active
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.request import Request

GREEDY = SamplingParams(temperature=0, max_tokens=48)
NEAR = 2e-3
"""Logits closer than this may change places: batches of other sizes sum in another order."""


def machine(llama: LlamaBridge) -> Active:
    """What runs the bridge's conversations: its ledger and cache, which callers do not see."""
    runtime = llama._shared.alive()
    if runtime.backend == "remote":
        pytest.skip("looks into an engine, which a server does not show")
    assert isinstance(runtime, LocalRuntime)
    return runtime._pool.active


def engine_of(llama: LlamaBridge) -> Engine:
    """What runs them, token by token."""
    return machine(llama).engine


def assert_ledger_rule(llama: LlamaBridge, n: int = 12) -> None:
    """The ledger is what the KV cache holds, and continuing it equals evaluating it afresh.

    Ends the session: the engine is used directly, to compare.
    """
    engine, tokens = engine_of(llama), list(machine(llama).kv.tokens)
    assert engine.length == len(tokens)
    if not tokens:
        return
    # A restored cache has no logits, so both sides evaluate a little more first: in a chat a question that the
    # model knows, since where two tokens are as good as equal, the last bits of a sum decide.
    session = machine(llama)
    probe = tokens[-1:]
    if session.messages and len(tokens) + 64 < llama.info.n_ctx:
        question = Request("Who are you?", chat=True, continues=True)
        probe = session.plan(question).tokens
    live = _greedy(llama, probe, n)
    engine.clear()
    assert engine.length == 0
    assert _greedy(llama, [*tokens, *probe], n) == live


def _greedy(llama: LlamaBridge, tokens: list[int], n: int) -> list[int]:
    engine = engine_of(llama)
    engine.clear_cancel()
    assert engine.decode(tokens) == len(tokens)
    engine.set_sampler(GREEDY, 0, [])
    drawn = [engine.sample()]
    while len(drawn) < n:
        following = engine.step(drawn[-1])
        assert following is not None
        drawn.append(following)
    return drawn


def assert_likeliest(engine: Engine, before: Sequence[int], answer: Sequence[int]) -> None:
    """Each token of a greedy answer is the likeliest one after a fresh evaluation of all before it.

    For random weights, where equal texts cannot be asked for: of tens of thousands of logits two are often as
    good as equal. Leaves the engine with what it evaluated.
    """
    engine.clear()
    engine.clear_cancel()
    engine.decode(before)
    for token in answer:
        logits = engine.logits().tolist()
        assert logits[token] >= max(logits) - NEAR
        engine.decode([token])

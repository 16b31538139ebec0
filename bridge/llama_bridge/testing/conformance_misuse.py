"""What an engine does with invalid calls: it raises and goes on. It never ends the process."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from ..capabilities import Capability
from ..engine import Engine
from ..errors import (
    BridgeError,
    ClosedError,
    ContextOverflow,
    EngineError,
    InvalidInput,
    UnsupportedCapability,
)
from ..grammar import Grammar, Trigger
from ..local.engine_backend import EngineBackend
from ..params import SamplingParams
from .conformance_base import GREEDY, EngineTests

__all__ = ["MisuseTests"]

_WILD = SamplingParams(temperature=1.5, dry_multiplier=0.5, logit_bias={1: -100.0})
_GRAMMARS = (
    None,
    Grammar('root ::= "{" [a-z]* "}"'),
    Grammar("root ::= [^x]+", True, (Trigger("word", "e"), Trigger("pattern", "i(.)"))),
)
_PERSISTS = Capability.SESSION_PERSISTENCE
Calls = dict[str, Callable[[], object]]


class MisuseTests(EngineTests):
    """Part of :class:`~llama_bridge.testing.BackendConformance`."""

    # the order of calls

    def test_after_close_every_call_says_so(self, backend: EngineBackend) -> None:
        engine = self.load(backend)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        self.generate(engine, 2)
        engine.token_bytes(tokens[1])
        state = engine.state_get() if _PERSISTS in engine.capabilities else memoryview(bytearray(8))
        engine.close()
        calls: Calls = {
            "tokenize": lambda: engine.tokenize("x", add_special=True, parse_special=True),
            "token_bytes": lambda: engine.token_bytes(tokens[1]),
            "length": lambda: engine.length,
            "decode": lambda: engine.decode(tokens),
            "truncate": lambda: engine.truncate(1),
            "clear": engine.clear,
            "set_sampler": lambda: engine.set_sampler(GREEDY, 1, tokens),
            "sample": engine.sample,
            "step": lambda: engine.step(tokens[0]),
            "accept": lambda: engine.accept(tokens),
            "logprobs": lambda: engine.logprobs(tokens[0], 1),
            "logits": engine.logits,
        }
        if engine.max_guesses:
            calls |= {
                "decode_ahead": lambda: engine.decode_ahead([1], [2]),
                "look": lambda: engine.look(0),
            }
        states: Calls = {
            "state_get": engine.state_get,
            "state_length": lambda: engine.state_length(state),
            "state_set": lambda: engine.state_set(state, tokens),
        }
        for name, call in (calls | states).items():
            lacks = name in states and _PERSISTS not in engine.capabilities
            with pytest.raises(UnsupportedCapability if lacks else ClosedError):
                pytest.fail(f"{name} did not raise: {call()!r}")
        engine.cancel()
        engine.clear_cancel()
        engine.close()

    def test_nothing_is_drawn_without_a_sampler_and_logits(self, backend: EngineBackend) -> None:
        engine = self.load(backend)
        try:
            tokens = self.prompt(engine)
            calls: list[Callable[[], object]] = [
                engine.sample,
                lambda: engine.step(tokens[0]),
                lambda: engine.accept([]),
                engine.logits,
                lambda: engine.logprobs(tokens[0], 1),
            ]
            for call in calls:
                with pytest.raises(EngineError):
                    call()
            assert engine.length == 0
            engine.decode(tokens)
            for call in (engine.sample, lambda: engine.step(tokens[0])):
                with pytest.raises(EngineError):
                    call()
            assert engine.length == len(tokens)
            assert len(engine.logits()) == engine.info.n_vocab
            engine.clear()
            engine.set_sampler(GREEDY, 1, [])
            for call in (engine.sample, engine.logits):
                with pytest.raises(EngineError):
                    call()
            assert engine.step(tokens[0]) is not None
            assert engine.length == 1
        finally:
            engine.close()

    def test_logits_go_with_the_token_they_were_of(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        engine.set_sampler(GREEDY, 1, [])
        self.read(engine, tokens)
        state = engine.state_get() if _PERSISTS in engine.capabilities else None
        removals: list[Callable[[], object]] = [
            engine.clear,
            lambda: engine.truncate(0),
            lambda: engine.truncate(len(tokens) - 1) or engine.truncate(0),
        ]
        if state is not None:
            removals.append(lambda: engine.state_set(state, tokens))
        for remove in removals:
            self.read(engine, tokens)
            remove()
            for call in (engine.sample, engine.logits):
                with pytest.raises(EngineError):
                    call()

    # arguments

    def test_what_is_no_argument_is_named_and_changes_nothing(self, engine: Engine) -> None:
        wrong: Any = engine
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        engine.set_sampler(GREEDY, 1, [])
        best = engine.sample()
        n = engine.info.n_vocab
        no_token = (-1, n, n + 10**6, 2**31, 2**32, 2**40, -(2**40), None, "1", 1.5, [1])
        no_list = (
            None,
            5,
            "ab",
            b"ab",
            [None],
            ["1"],
            [1.5],
            [[1]],
            [-1],
            [n],
            [2**40],
            [tokens[0], n],
        )
        wrong_seeds = (-1, 2**32, None, "1", 1.5)
        calls: list[tuple[str, Callable[[], object]]] = [
            *(("token_bytes", lambda x=x: wrong.token_bytes(x)) for x in no_token),
            *(("step", lambda x=x: wrong.step(x)) for x in no_token),
            *(("logprobs", lambda x=x: wrong.logprobs(x, 1)) for x in no_token),
            *(("logprobs", lambda x=x: wrong.logprobs(0, x)) for x in (-1, None, "1", 1.5)),
            *(("accept", lambda x=x: wrong.accept(x)) for x in no_list),
            *(
                ("set_sampler", lambda x=x: wrong.set_sampler(GREEDY, 1, [], x))
                for x in (5, "x", ["x"], GREEDY)
            ),
            *(("decode", lambda x=x: wrong.decode(x)) for x in no_list),
            *(("set_sampler", lambda x=x: wrong.set_sampler(GREEDY, 1, x)) for x in no_list),
            *(
                ("tokenize", lambda x=x: wrong.tokenize(x, add_special=False, parse_special=False))
                for x in (None, 5, b"x", ["x"], "\ud800")
            ),
            *(("truncate", lambda x=x: wrong.truncate(x)) for x in (-1, -(2**40), None, "1", 1.5)),
            *(("set_sampler", lambda x=x: wrong.set_sampler(GREEDY, x, [])) for x in wrong_seeds),
            *(("set_sampler", lambda x=x: wrong.set_sampler(x, 1, [])) for x in (None, 5, "x")),
        ]
        if _PERSISTS in engine.capabilities:
            state = engine.state_get()
            calls += [
                *(("state_set", lambda x=x: wrong.state_set(state, x)) for x in no_list),
                *(
                    ("state_set", lambda x=x: wrong.state_set(x, tokens))
                    for x in (None, 5, "x", memoryview(bytes(state)))
                ),
                *(("state_length", lambda x=x: wrong.state_length(x)) for x in (None, 5, "x")),
            ]
        for name, call in calls:
            with pytest.raises(InvalidInput):
                pytest.fail(f"{name} did not raise: {call()!r}")
            assert engine.length == len(tokens), name
        assert engine.truncate(len(tokens) + 1) is False
        assert engine.sample() == best

    def test_more_than_the_context_is_refused_whole(self, engine: Engine) -> None:
        tokens, n_ctx = self.prompt(engine), engine.info.n_ctx
        self.read(engine, tokens)
        with pytest.raises(ContextOverflow) as caught:
            engine.decode((tokens * n_ctx)[: n_ctx - len(tokens) + 1])
        assert (caught.value.needed, caught.value.n_ctx) == (n_ctx + 1, n_ctx)
        assert engine.length == len(tokens)
        self.read(engine, (tokens * n_ctx)[:n_ctx])
        engine.set_sampler(GREEDY, 1, [])
        token = engine.sample()
        with pytest.raises(ContextOverflow):
            engine.step(token)
        assert engine.length == n_ctx

    def test_any_calls_in_any_order_only_raise(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 6)
        for seed in range(6):
            self._call_anything(engine, random.Random(seed))
        engine.clear_cancel()
        self.read(engine, tokens)
        assert self.generate(engine, 6) == expected

    def _call_anything(self, engine: Any, draw: random.Random) -> None:
        n, n_ctx = engine.info.n_vocab, engine.info.n_ctx
        states = [memoryview(bytearray(content)) for content in (b"", b"x", bytes(16), bytes(4096))]

        def some() -> int:
            return draw.choice((0, 1, draw.randrange(n), draw.randrange(n_ctx), -1, n, 2**40))

        def row() -> list[int]:
            return [draw.randrange(n) for _ in range(draw.choice((0, 1, 5, 40, n_ctx)))]

        calls: list[Callable[[], object]] = [
            lambda: engine.tokenize(self.text, add_special=True, parse_special=True),
            lambda: engine.token_bytes(some(), special=True),
            lambda: engine.least_tokens(self.text),
            lambda: engine.length,
            lambda: engine.decode(row()),
            lambda: engine.decode([some()]),
            lambda: engine.truncate(some()),
            lambda: engine.clear(),
            lambda: engine.set_sampler(GREEDY, some(), row()),
            lambda: engine.sample(),
            lambda: engine.step(some()),
            lambda: engine.step(some()),
            lambda: engine.set_sampler(_WILD, some(), row(), draw.choice(_GRAMMARS)),
            lambda: engine.accept(row()),
            lambda: engine.decode_ahead(row()[:40], row()[:5]),
            lambda: engine.look(draw.choice((0, 1, 4, some()))),
            lambda: engine.look(draw.choice((0, 1, 4, some()))),
            lambda: engine.logprobs(some(), draw.choice((0, 1, 20))),
            lambda: engine.logits(),
            lambda: engine.cancel(),
            lambda: engine.clear_cancel(),
            lambda: states.append(engine.state_get()),
            lambda: engine.state_length(draw.choice(states)),
            lambda: engine.state_set(draw.choice(states), row()),
            lambda: engine.state_set(draw.choice(states), self.prompt(engine)),
        ]
        for _ in range(100):
            with suppress(BridgeError):
                draw.choice(calls)()
            assert 0 <= engine.length <= n_ctx

    # a broken model

    def test_nan_is_an_error_and_not_a_text(self, nan_engine: Engine) -> None:
        tokens = self.prompt(nan_engine)
        self.read(nan_engine, tokens)
        with pytest.raises(EngineError):
            nan_engine.logits()
        nan_engine.set_sampler(GREEDY, 1, [])
        self.read(nan_engine, tokens)
        with pytest.raises(EngineError):
            nan_engine.sample()
        self.read(nan_engine, tokens[:-1])
        with pytest.raises(EngineError):
            nan_engine.step(tokens[-1])
        assert 0 <= nan_engine.length <= len(tokens)

    # in another process

    @pytest.mark.skipif(
        not hasattr(os, "fork") or sys.platform == "emscripten", reason="no fork here"
    )
    def test_in_a_fork_it_works_or_says_that_it_does_not(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 3)
        self.read(engine, tokens)
        engine.set_sampler(GREEDY, 1, [])
        calls: list[Callable[[], object]] = [
            lambda: engine.step(tokens[0]),
            engine.sample,
            engine.logits,
            lambda: engine.tokenize("other", add_special=True, parse_special=True),
            lambda: engine.length,
            lambda: engine.decode(tokens),
            lambda: engine.truncate(1),
            lambda: engine.set_sampler(GREEDY, 1, []),
            engine.clear,
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about threads in the process
            child = os.fork()
        if child == 0:
            status = 1
            try:
                for call in calls:
                    with suppress(EngineError, UnsupportedCapability):
                        call()
                engine.cancel()
                engine.clear_cancel()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        self.read(engine, tokens)
        assert self.generate(engine, 3) == expected

"""How an engine checks guesses: several tokens at once, each drawn as if it came alone."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ..capabilities import Capability
from ..engine import Engine, MemoryKind
from ..errors import ContextOverflow, EngineError, InvalidInput, UnsupportedCapability
from ..grammar import Grammar
from ..params import SamplingParams
from .conformance_base import GREEDY, EngineTests

__all__ = ["AheadTests"]

_N = 8
_WAYS = {
    "greedy": (GREEDY, None),
    "penalties": (SamplingParams(temperature=0, repeat_penalty=1.3, presence_penalty=0.5), None),
    "dry": (SamplingParams(temperature=0, dry_multiplier=2.0, dry_allowed_length=1), None),
    "bias": (SamplingParams(temperature=0, logit_bias={1: 2.0, 2: -5.0}), None),
    "grammar": (GREEDY, Grammar('root ::= ("a" | "b" | [e-z ] | "Z"){40}')),
}


class AheadTests(EngineTests):
    """Part of :class:`~llama_bridge.testing.BackendConformance`."""

    def test_an_engine_that_checks_guesses_can_take_them_back(self, engine: Engine) -> None:
        assert engine.max_guesses >= 0
        if engine.max_guesses:
            assert engine.info.memory is MemoryKind.DENSE
            assert engine.max_guesses < engine.info.n_batch
            return
        self.read(engine, self.prompt(engine))
        with pytest.raises(UnsupportedCapability):
            engine.decode_ahead([0], [0])
        with pytest.raises(UnsupportedCapability):
            engine.look(0)

    @pytest.mark.parametrize("way", _WAYS)
    def test_guesses_that_come_are_drawn_as_one_by_one(self, engine: Engine, way: str) -> None:
        self._needs_guesses(engine)
        alone = self._one_by_one(engine, way)
        before = engine.length - _N + 1
        for n in range(_N - 1):
            first = self._first(engine, way)
            assert engine.decode_ahead([first], alone[1 : n + 1])
            assert engine.length == before + n + 1
            assert [first, *self._draw_at(engine, range(n + 1))] == alone[: n + 2]

    @pytest.mark.parametrize("way", _WAYS)
    def test_after_a_guess_that_does_not_come_it_goes_on_as_without(
        self, engine: Engine, way: str
    ) -> None:
        self._needs_guesses(engine)
        alone = self._one_by_one(engine, way)
        before = engine.length - _N + 1
        for right in range(4):
            first = self._first(engine, way)
            wrong = [(token + 1) % engine.info.n_vocab for token in alone[right + 1 : right + 4]]
            assert engine.decode_ahead([first], [*alone[1 : right + 1], *wrong])
            drawn = [first, *self._draw_at(engine, range(right + 1))]
            assert engine.truncate(before + right + 1)
            while len(drawn) < _N:
                following = engine.step(drawn[-1])
                assert following is not None
                drawn.append(following)
            assert drawn == alone

    def test_several_tokens_may_come_before_the_guesses(self, engine: Engine) -> None:
        self._needs_guesses(engine)
        alone, tokens = self._one_by_one(engine, "greedy"), self.prompt(engine)
        self.read(engine, tokens[:-3])
        engine.set_sampler(GREEDY, 1, [])
        assert engine.decode_ahead(tokens[-3:], alone[:2])
        assert engine.length == len(tokens) + 2
        assert self._draw_at(engine, range(3)) == alone[:3]

    def test_each_place_has_its_own_log_probabilities(self, engine: Engine) -> None:
        self._needs_guesses(engine)
        self.needs(engine, Capability.LOGPROBS)
        alone, tokens = self._one_by_one(engine, "greedy"), self.prompt(engine)
        self.read(engine, tokens)
        expected: list[float] = []
        for token in alone[:4]:
            expected.append(engine.logprobs(token, 0)[0])
            engine.decode([token])
        self.read(engine, tokens[:-1])
        assert engine.decode_ahead(tokens[-1:], alone[:3])
        found: list[float] = []
        for i in (0, 1, 2, 3, 0):  # also back again
            engine.look(i)
            found.append(engine.logprobs(alone[i], 0)[0])
            assert len(engine.logits()) == engine.info.n_vocab
        assert found == pytest.approx([*expected, expected[0]], abs=0.02)

    def test_a_cancel_before_it_leaves_all_of_them_out(self, engine: Engine) -> None:
        self._needs_guesses(engine)
        alone, tokens = self._one_by_one(engine, "greedy"), self.prompt(engine)
        self.read(engine, tokens)
        engine.cancel()
        assert not engine.decode_ahead(alone[:1], alone[1:3])
        assert engine.length == len(tokens)
        engine.clear_cancel()
        engine.set_sampler(GREEDY, 1, [])
        assert engine.decode_ahead(alone[:1], alone[1:3])
        assert self._draw_at(engine, range(3)) == alone[1:4]

    def test_what_cannot_be_checked_is_refused_whole(self, engine: Engine) -> None:
        self._needs_guesses(engine)
        tokens, most, n_ctx = self.prompt(engine), engine.max_guesses, engine.info.n_ctx
        self.read(engine, tokens)
        engine.set_sampler(GREEDY, 1, [])
        n_vocab, n_batch = engine.info.n_vocab, engine.info.n_batch
        wrong: list[tuple[Sequence[int], Sequence[int]]] = [
            ([], [1]),
            ([1], [1] * (most + 1)),
            ([1] * n_batch, [1]),
            ([1], [n_vocab]),
            ([-1], [1]),
        ]
        for given in wrong:
            with pytest.raises(InvalidInput):
                engine.decode_ahead(*given)
            assert engine.length == len(tokens)
        self.read(engine, (tokens * n_ctx)[: n_ctx - 2])
        with pytest.raises(ContextOverflow):
            engine.decode_ahead([1], [1, 1])
        assert engine.length == n_ctx - 2
        assert engine.decode_ahead([1], [1])
        assert engine.length == n_ctx

    def test_there_is_nothing_to_look_at_but_guesses(self, engine: Engine) -> None:
        self._needs_guesses(engine)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        engine.set_sampler(GREEDY, 1, [])
        assert engine.decode_ahead([1], [2, 3])
        for n in (3, -1, 10**9):
            with pytest.raises(InvalidInput):
                engine.look(n)
        engine.look(2)
        removals: list[Callable[[], object]] = [
            lambda: engine.truncate(len(tokens)),
            lambda: engine.decode([1]),
            lambda: engine.step(1),
            engine.clear,
        ]
        for remove in removals:
            self.read(engine, tokens)
            assert engine.decode_ahead([1], [2, 3])
            remove()
            with pytest.raises((InvalidInput, EngineError)):
                engine.look(1)

    def test_nan_among_guesses_is_an_error(self, nan_engine: Engine) -> None:
        self._needs_guesses(nan_engine)
        tokens = self.prompt(nan_engine)
        self.read(nan_engine, tokens)
        nan_engine.set_sampler(GREEDY, 1, [])
        assert nan_engine.decode_ahead([1], [2])
        with pytest.raises(EngineError):
            nan_engine.sample()

    # helpers

    def _needs_guesses(self, engine: Engine) -> None:
        if not engine.max_guesses:
            pytest.skip(f"the {engine.backend} backend checks no guesses of this model")

    def _one_by_one(self, engine: Engine, way: str) -> list[int]:
        """Some tokens, drawn one by one; the last one stays out of the KV cache."""
        tokens = [self._first(engine, way)]
        while len(tokens) < _N:
            following = engine.step(tokens[-1])
            assert following is not None
            tokens.append(following)
        return tokens

    def _first(self, engine: Engine, way: str) -> int:
        params, grammar = _WAYS[way]
        if grammar is not None:
            self.needs(engine, Capability.JSON_SCHEMA)
        self.read(engine, self.prompt(engine))
        engine.set_sampler(params, 1, [], grammar)
        return engine.sample()

    def _draw_at(self, engine: Engine, places: Sequence[int]) -> list[int]:
        drawn: list[int] = []
        for place in places:
            engine.look(place)
            drawn.append(engine.sample())
        return drawn

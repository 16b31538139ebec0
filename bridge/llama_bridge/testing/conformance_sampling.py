"""How an engine draws: samplers, biases, grammars, log-probabilities."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ..capabilities import Capability
from ..engine import Engine
from ..errors import EngineError, InvalidInput
from ..grammar import Grammar, Trigger
from ..params import SamplingParams
from ..structured.matcher import Matcher
from .conformance_base import GREEDY, EngineTests

__all__ = ["SamplingTests"]

_WILD = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0)
_JSON = Grammar(
    r"""
    root ::= "{\"name\": " string ", \"numbers\": [" number (", " number){0,2} "]}"
    string ::= "\"" [^"\\\x00-\x1f]{0,8} "\""
    number ::= "-"? ("0" | [1-9] [0-9]{0,3})
    """
)
_IS_JSON = r'\{"name": "[^"\\\x00-\x1f]{0,8}", "numbers": \[N(, N){0,2}\]\}'.replace(
    "N", r"-?(?:0|[1-9][0-9]{0,3})"
)
_SAMPLERS = {
    "penalties": SamplingParams(repeat_penalty=1.3, frequency_penalty=0.5, presence_penalty=0.5),
    "dry": SamplingParams(dry_multiplier=2.0, dry_allowed_length=1, dry_sequence_breakers=("\n",)),
    "dry without breakers": SamplingParams(dry_multiplier=2.0, dry_sequence_breakers=()),
    "xtc": SamplingParams(xtc_probability=0.9, xtc_threshold=0.05, min_p=0.0),
    "typical": SamplingParams(typical_p=0.4, top_k=0, top_p=1.0, min_p=0.0),
    "top-n-sigma": SamplingParams(top_n_sigma=1.0, top_k=0, typical_p=0.9),
    "mirostat": SamplingParams(mirostat=2, mirostat_tau=3.0),
    "dynamic temperature": SamplingParams(dynatemp_range=0.7, dynatemp_exponent=1.5),
    "all": SamplingParams(
        temperature=1.2,
        repeat_penalty=1.1,
        dry_multiplier=0.8,
        xtc_probability=0.5,
        typical_p=0.9,
        top_n_sigma=3.0,
        dynatemp_range=0.5,
        logit_bias={1: 1.0, 2: -math.inf},
    ),
}


class SamplingTests(EngineTests):
    """Part of :class:`~llama_bridge.testing.BackendConformance`."""

    # samplers and biases

    @pytest.mark.parametrize("name", _SAMPLERS)
    def test_each_sampler_draws_the_same_with_the_same_seed(
        self, engine: Engine, name: str
    ) -> None:
        answers: list[list[int]] = []
        for _ in range(2):
            self.read(engine, self.prompt(engine))
            answers.append(self.generate(engine, 12, _SAMPLERS[name]))
        assert answers[0] == answers[1]
        assert all(0 <= token < engine.info.n_vocab for token in answers[0])

    def test_a_biased_token_is_drawn_and_a_banned_one_is_not(self, engine: Engine) -> None:
        best = self.first(engine, GREEDY)
        other = (best + 1) % engine.info.n_vocab
        assert self.first(engine, replace(GREEDY, logit_bias={other: 1000.0})) == other
        for params in (GREEDY, _WILD):
            for seed in range(4):
                banned = replace(params, logit_bias={best: -math.inf}, seed=seed)
                assert self.first(engine, banned, seed=seed) != best

    def test_a_bias_of_what_is_no_token_is_refused(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        for token in (engine.info.n_vocab, 10**9, "text"):
            with pytest.raises(InvalidInput, match="logit_bias"):
                engine.set_sampler(replace(GREEDY, logit_bias={token: 1.0}), 1, [])

    def test_where_no_token_is_left_it_says_so_and_goes_on(self, engine: Engine) -> None:
        best = self.first(engine, GREEDY)
        none = dict.fromkeys(range(engine.info.n_vocab), -math.inf)
        for params in (GREEDY, SamplingParams()):
            self.read(engine, self.prompt(engine))
            engine.set_sampler(replace(params, logit_bias=none), 1, [])
            with pytest.raises(EngineError):
                engine.sample()
            assert engine.length == len(self.prompt(engine))
        assert self.first(engine, GREEDY) == best

    # log-probabilities

    def test_probabilities_add_up_to_one(self, engine: Engine) -> None:
        self.needs(engine, Capability.LOGPROBS)
        self.read(engine, self.prompt(engine))
        n = engine.info.n_vocab
        logprob, best = engine.logprobs(5, n)
        assert sorted(token for token, _ in best) == list(range(n))
        assert math.fsum(math.exp(value) for _, value in best) == pytest.approx(1, abs=1e-4)
        assert [value for _, value in best] == sorted((v for _, v in best), reverse=True)
        assert logprob == pytest.approx(dict(best)[5], abs=1e-4)
        expected, few = Engine.logprobs(engine, 5, 3)
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert [value for _, value in best[:3]] == pytest.approx([v for _, v in few], abs=1e-4)

    def test_log_probabilities_are_the_models_own(self, engine: Engine) -> None:
        self.needs(engine, Capability.LOGPROBS)
        self.read(engine, self.prompt(engine))
        own = engine.logprobs(0, 4)
        ((best, _), *_) = own[1]
        engine.set_sampler(replace(GREEDY, logit_bias={best: -math.inf}), 1, [])
        drawn = engine.sample()
        assert drawn != best
        assert engine.logprobs(0, 4) == own
        assert engine.logprobs(drawn, 0)[1] == []

    # grammars

    @pytest.mark.parametrize(
        "params", [GREEDY, SamplingParams(), _WILD, SamplingParams(mirostat=2)]
    )
    def test_an_answer_fits_its_grammar(self, engine: Engine, params: SamplingParams) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        for seed in range(4):
            text = self.text_of(engine, self.answer(engine, params, _JSON, seed=seed))
            assert re.fullmatch(_IS_JSON, text), text

    def test_greedy_takes_the_best_token_that_fits(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [], _JSON)
        matcher, ends = Matcher(_JSON.text), engine.info.end_of_generation
        token = 0
        for _ in range(30):
            logits = engine.logits().tolist()
            token = engine.sample()
            fits = [t for t in range(len(logits)) if self.fits(engine, matcher, t)]
            assert logits[token] == max(logits[t] for t in fits)
            if token in ends:
                break
            assert matcher.accept(engine.token_bytes(token).decode())
            engine.decode([token])

    def test_what_is_not_text_never_stands_for_text(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        anything = Grammar("root ::= [^x]{40,60}")
        controls = [
            token
            for token in range(engine.info.n_vocab)
            if not engine.token_bytes(token) and token not in engine.info.end_of_generation
        ]
        likely: dict[int | str, float] = dict.fromkeys(controls, 100.0)
        for params in (
            replace(_WILD, logit_bias=likely),
            replace(GREEDY, logit_bias=likely),
            _WILD,
        ):
            tokens = self.answer(engine, params, anything, most=80)
            assert not set(tokens) & set(controls)
            assert 40 <= len(self.text_of(engine, tokens)) <= 60

    def test_a_grammar_that_cannot_be_used_changes_nothing(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [], Grammar('root ::= "7"'))
        wrong: list[Any] = [
            'root ::= "7"',
            5,
            Grammar("root ::= missing"),
            Grammar('root ::= "7'),
            Grammar('other ::= "7"'),
            Grammar('root ::= root "7"'),
            Grammar("root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000),
            Grammar('root ::= "a"{100000}'),
            Grammar('root ::= "7"', True, (Trigger("token", token=engine.info.n_vocab),)),
        ]
        for grammar in wrong:
            with pytest.raises(InvalidInput):
                engine.set_sampler(GREEDY, 1, [], grammar)
        assert engine.token_bytes(engine.sample()) == b"7"

    def test_where_the_grammar_allows_nothing_it_says_so_and_goes_on(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        ends: dict[int | str, float] = dict.fromkeys(engine.info.end_of_generation, -math.inf)
        for params in (GREEDY, SamplingParams()):
            self.read(engine, self.prompt(engine))
            engine.set_sampler(replace(params, logit_bias=ends), 1, [], Grammar('root ::= "7"'))
            seven = engine.sample()
            with pytest.raises(EngineError):
                engine.step(seven)
            assert engine.length == len(self.prompt(engine)) + 1
        assert self.first(engine, GREEDY) not in (None, -1)

    def test_the_sampler_accepts_what_was_not_drawn(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [], _JSON)
        forced = self.spell(engine, '{"name": ""')
        assert engine.accept(forced[:5]) == 5
        assert engine.accept([*forced[5:], forced[0], forced[0]]) == len(forced) - 5
        assert engine.length == len(self.prompt(engine))
        engine.decode(forced)
        assert engine.accept([]) == 0
        assert engine.token_bytes(engine.sample())[:1] == b","

    def test_a_lazy_grammar_waits_for_its_trigger(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        params = self.reluctant(engine)
        self.read(engine, self.prompt(engine))
        free = self.generate(engine, 5, params)
        texts = [engine.token_bytes(token).decode("ascii") for token in free]
        assert all(texts), "the model's answer begins with ASCII text"
        word, before = texts[2], "".join(texts[:2])
        literal = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        text = f'root ::= "{literal}" "!!!"'
        any_, escaped = r"[\s\S]*", re.escape(word)
        for trigger, said in (
            (Trigger("word", word), before),
            (Trigger("token", token=free[2]), before),
            (Trigger("pattern", f"{any_}?({escaped}){any_}"), before),
            (Trigger("pattern_full", f"{re.escape(before)}({escaped})"), before),
        ):
            if trigger.kind != "pattern_full" and word in before:
                continue  # it begins earlier
            answer = self.answer(engine, params, Grammar(text, True, (trigger,)))
            assert self.text_of(engine, answer) == said + word + "!!!", trigger

    def test_a_trigger_that_never_comes_leaves_the_answer_free(self, engine: Engine) -> None:
        self.needs(engine, Capability.JSON_SCHEMA)
        params = self.reluctant(engine)
        self.read(engine, self.prompt(engine))
        free = self.generate(engine, 8, params)
        lazy = Grammar('root ::= "7"', True, (Trigger("word", "\x01never"),))
        assert self.answer(engine, params, lazy, most=8) == free

    # helpers

    def reluctant(self, engine: Engine) -> SamplingParams:
        """Greedy, but the answer ends only where nothing else is left."""
        return replace(GREEDY, logit_bias=dict.fromkeys(engine.info.end_of_generation, -1000.0))

    def spell(self, engine: Engine, text: str) -> list[int]:
        """Tokens of a text of ASCII letters, one for each."""
        tokens: list[int] = []
        for letter in text:
            found = (
                t for t in range(engine.info.n_vocab) if engine.token_bytes(t) == letter.encode()
            )
            tokens.append(next(found))
        return tokens

    def first(self, engine: Engine, params: SamplingParams, *, seed: int = 1) -> int:
        """The first token of an answer."""
        self.read(engine, self.prompt(engine))
        engine.set_sampler(params, seed, [])
        return engine.sample()

    def answer(
        self,
        engine: Engine,
        params: SamplingParams,
        grammar: Grammar,
        *,
        seed: int = 1,
        most: int = 200,
    ) -> list[int]:
        """The tokens of an answer that follows a grammar, with the one that ends it."""
        self.read(engine, self.prompt(engine))
        engine.set_sampler(params, seed, [], grammar)
        tokens = [engine.sample()]
        while tokens[-1] not in engine.info.end_of_generation and len(tokens) < most:
            following = engine.step(tokens[-1])
            assert following is not None, "step() gave None, but nothing was cancelled"
            tokens.append(following)
        return tokens

    def text_of(self, engine: Engine, tokens: Sequence[int]) -> str:
        """The text of an answer that has ended."""
        assert tokens[-1] in engine.info.end_of_generation, "the answer has not ended"
        return b"".join(map(engine.token_bytes, tokens)).decode()

    def fits(self, engine: Engine, matcher: Matcher, token: int) -> bool:
        """Whether a token of whole characters may come next."""
        if token in engine.info.end_of_generation:
            return matcher.may_end
        try:
            piece = engine.token_bytes(token).decode()
        except UnicodeDecodeError:
            return False
        return bool(piece) and matcher.copy().accept(piece)

"""What an engine with several sequences does: each is as if it were alone."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from ..capabilities import Capability
from ..engine import CacheFull, Engine, MemoryKind
from ..errors import (
    BridgeError,
    ClosedError,
    ContextOverflow,
    EngineError,
    InvalidInput,
    UnsupportedCapability,
)
from ..grammar import Grammar, Trigger
from ..kv_sequence import KvSequence
from ..local.engine_backend import EngineBackend
from ..models.source import open_model
from ..params import ModelParams, SamplingParams
from .conformance_base import GREEDY, EngineTests

__all__ = ["ParallelTests"]

_N = 4
_DIGITS = Grammar("root ::= [0-9]+")
_LAZY = Grammar("root ::= [a-z ]+", True, (Trigger("word", "e"),))


class ParallelTests(EngineTests):
    """Part of :class:`~llama_bridge.testing.BackendConformance`. Without ``Capability.PARALLEL`` only its first test runs."""

    @pytest.fixture
    def several(self, backend: EngineBackend, _engines_of_class: dict[str, Engine]) -> Engine:
        """A loaded engine of four sequences, all empty and without a sampler of before; the tests of a class share it."""
        name = f"{backend.name}, {_N} sequences"
        engine = _engines_of_class.get(name)
        if engine is None:
            engine = _engines_of_class[name] = self.load_several(backend)
        self.needs(engine, Capability.PARALLEL)
        engine.clear_cancel()
        for sequence in engine.sequences:
            sequence.clear()
        if engine.info.adapters:
            engine.set_adapters(())
        return engine

    def load_several(self, backend: EngineBackend) -> Engine:
        """A new engine of four sequences in a context of 256 tokens."""
        params = ModelParams(n_ctx=256, n_batch=32, n_threads=1, n_parallel=_N)
        return backend.load(open_model(self.model), params)

    def prompts(self, engine: Engine) -> list[list[int]]:
        """A prompt for each sequence: other words, and another length."""
        tokens = self.prompt(engine)
        return [tokens[: len(tokens) - 3 * i] for i in range(_N)]

    def assert_agree(
        self, engine: Engine, prompt: Sequence[int], alone: Sequence[int], answer: Sequence[int]
    ) -> None:
        """An answer that was computed in company is the one of the sequence alone.

        Token for token; override it for a model that is so random that rounding decides. The engine may be used.
        """
        assert list(answer) == list(alone), (engine, prompt)

    # one sequence

    def test_an_engine_without_parallel_has_one_sequence_and_says_so(
        self, backend: EngineBackend
    ) -> None:
        engine = self.load_several(backend)
        try:
            assert engine.sequences[0] is engine
            if Capability.PARALLEL in engine.capabilities:
                assert len(engine.sequences) == engine.info.n_parallel == _N
                assert len({id(sequence) for sequence in engine.sequences}) == _N
                assert [sequence.length for sequence in engine.sequences] == [0] * _N
                return
            assert len(engine.sequences) == engine.info.n_parallel == 1
            with pytest.raises(UnsupportedCapability):
                engine.decode_together([(engine, self.prompt(engine))])
            assert not engine.share(engine, engine, 0)
        finally:
            engine.close()

    def test_an_engine_of_one_sequence_decodes_it_together_with_none(self, engine: Engine) -> None:
        self.needs(engine, Capability.PARALLEL)
        assert list(engine.sequences) == [engine]
        self.read(engine, self.prompt(engine))
        expected = self.generate(engine, 4)
        engine.clear()
        self._read_together(engine, [(engine, self.prompt(engine))])
        assert self._draw(engine) == expected[0]
        assert engine.length == len(self.prompt(engine))

    # together

    def test_answers_computed_together_are_those_computed_alone(self, several: Engine) -> None:
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        pieces = list(zip(several.sequences, prompts, strict=True))
        self._read_together(several, pieces)
        answers = self._go_on(several, [[self._draw(sequence)] for sequence, _ in pieces], 8)
        for prompt, expected, answer in zip(prompts, alone, answers, strict=True):
            self.assert_agree(several, prompt, expected, answer)

    def test_one_may_read_while_others_write(self, several: Engine) -> None:
        first, second, third, fourth = several.sequences
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        self.read(first, prompts[0])
        answer = [self._draw(first)]
        rest: list[tuple[KvSequence, Sequence[int]]] = [
            (second, prompts[1]),
            (third, prompts[2]),
            (fourth, prompts[3]),
        ]
        while len(answer) < 8 or rest:
            piece = rest.pop(0) if rest else None
            more = [] if piece is None else [(piece[0], piece[1][:7])]
            if piece is not None and piece[1][7:]:
                rest.append((piece[0], piece[1][7:]))
            assert several.decode_together([*more, (first, answer[-1:])])
            answer.append(first.sample())
        others = [
            self._last_again(sequence, prompts[i + 1])
            for i, sequence in enumerate((second, third, fourth))
        ]
        lengths = [sequence.length for sequence in several.sequences]
        assert lengths == [len(prompts[0]) + len(answer) - 1, *map(len, prompts[1:])]
        self.assert_agree(several, prompts[0], alone[0], answer[:8])
        for i, best in enumerate(others):
            if best is not None:
                self.assert_agree(several, prompts[i + 1], alone[i + 1][:1], [best])

    def test_steps_of_one_after_the_other_do_not_meet(self, several: Engine) -> None:
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        answers: list[list[int]] = []
        for sequence, prompt in zip(several.sequences, prompts, strict=True):
            assert sequence.decode(prompt) == len(prompt)
            answers.append([self._draw(sequence)])
        for _ in range(7):
            for sequence, answer in zip(several.sequences, answers, strict=True):
                token = sequence.step(answer[-1])
                assert token is not None
                answer.append(token)
        for prompt, expected, answer in zip(prompts, alone, answers, strict=True):
            self.assert_agree(several, prompt, expected, answer)

    def test_what_happens_to_one_does_not_touch_the_others(self, several: Engine) -> None:
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        victim, *others = several.sequences
        held = len(prompts[0])

        def refused_grammar() -> None:
            with pytest.raises(InvalidInput):
                victim.set_sampler(GREEDY, 1, [], Grammar("root ::= nothing"))

        def nothing_left() -> None:
            victim.set_sampler(GREEDY, 1, [], Grammar('root ::= "x"'))
            victim.accept(several.tokenize("x", add_special=False, parse_special=False)[-1:])
            victim.step(prompts[0][-1])

        def too_much() -> None:
            with pytest.raises(ContextOverflow):
                victim.decode(prompts[0] * 20)

        troubles: list[Callable[[], object]] = [
            lambda: victim.truncate(held - 2),
            victim.clear,
            lambda: self.read(victim, prompts[1]),
            lambda: victim.set_sampler(SamplingParams(temperature=2.0), 7, prompts[0]),
            lambda: self.generate(victim, 3, SamplingParams(temperature=1.5)),
            too_much,
            lambda: victim.step(-1),
            lambda: victim.logprobs(0, 3),
        ]
        if Capability.JSON_SCHEMA in several.capabilities:
            troubles += [
                refused_grammar,
                nothing_left,
                lambda: victim.set_sampler(GREEDY, 1, [], _DIGITS),
                lambda: victim.set_sampler(GREEDY, 1, [], _LAZY),
                lambda: self.generate(victim, 2),
            ]
        for sequence, prompt in zip(several.sequences, prompts, strict=True):
            self.read(sequence, prompt)
        answers: list[list[int]] = []
        for sequence, prompt in zip(others, prompts[1:], strict=True):
            self.read(sequence, prompt)
            answers.append([self._draw(sequence)])
        for trouble in troubles:
            with suppress(BridgeError):
                trouble()
            for sequence, answer in zip(others, answers, strict=True):
                token = sequence.step(answer[-1])
                assert token is not None
                answer.append(token)
        for prompt, expected, answer in zip(prompts[1:], alone[1:], answers, strict=True):
            assert len(answer) > 8
            self.assert_agree(several, prompt, expected, answer[:8])

    def test_each_draws_by_its_own_grammar(self, several: Engine) -> None:
        self.needs(several, Capability.JSON_SCHEMA)
        grammars = [None, _DIGITS, Grammar('root ::= "{" [a-z]* "}"'), _LAZY]
        prompt = self.prompt(several)
        alone: list[list[int]] = []
        for grammar in grammars:
            self.read(several, prompt)
            several.set_sampler(GREEDY, 1, [], grammar)
            alone.append([several.sample()])
            self._steps(several, alone[-1], 6)
        several.clear()
        answers: list[list[int]] = []
        for sequence, grammar in zip(several.sequences, grammars, strict=True):
            self.read(sequence, prompt)
            sequence.set_sampler(GREEDY, 1, [], grammar)
            answers.append([sequence.sample()])
        answers = self._go_on(several, answers, 6)
        assert answers[1] == alone[1]
        text = b"".join(map(several.token_bytes, answers[1])).decode()
        assert text.isdigit()
        assert answers[2] == alone[2]
        for i in (0, 3):
            self.assert_agree(several, prompt, alone[i], answers[i])

    def test_each_draws_by_its_own_seed(self, several: Engine) -> None:
        prompt = self.prompt(several)[:7]
        wild = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0)
        for sequence in several.sequences:
            self.read(sequence, prompt)
        answers: list[list[int]] = []
        assert several.decode_together([(s, prompt[-1:]) for s in several.sequences])
        for seed, sequence in zip((5, 6, 5, 7), several.sequences, strict=True):
            sequence.set_sampler(wild, seed, [])
            answers.append([sequence.sample()])
        first, second, third, fourth = self._go_on(several, answers, 8)
        assert first == third
        assert first not in (second, fourth)

    # the same cells for two

    def test_a_shared_beginning_is_a_beginning(self, several: Engine) -> None:
        first, second, third, fourth = several.sequences
        tokens = self.prompt(several)
        alone = self._alone(several, [tokens, [*tokens, tokens[0]]])
        self.read(first, tokens)
        self.read(second, tokens[:3])
        if not several.share(first, second, len(tokens)):
            assert several.info.memory is not MemoryKind.DENSE, "dense cells can be shared"
            assert [s.length for s in (first, second)] == [len(tokens), 3]
            return
        assert [s.length for s in (first, second)] == [len(tokens)] * 2
        assert second.decode(tokens[:1]) == 1
        answer = [self._draw(second)]
        first.clear()  # what they share stays with the other
        self._steps(second, answer, 8)
        self.assert_agree(several, [*tokens, tokens[0]], alone[1], answer)
        second.clear()
        self.read(third, tokens[:-1])
        assert several.share(third, fourth, len(tokens) - 1)
        for sequence in (third, fourth):
            sequence.decode(tokens[-1:])
            answer = [self._draw(sequence)]
            self._steps(sequence, answer, 8)
            self.assert_agree(several, tokens, alone[0], answer)

    def test_what_cannot_be_shared_changes_nothing(self, several: Engine) -> None:
        first, second, *_ = several.sequences
        tokens = self.prompt(several)
        self.read(first, tokens)
        self.read(second, tokens[:3])
        assert not several.share(first, second, len(tokens) + 1)
        assert not several.share(first, second, 2**40)
        assert not several.share(first, first, 2)
        assert [s.length for s in (first, second)] == [len(tokens), 3]
        if several.share(first, second, 2):
            assert [s.length for s in (first, second)] == [len(tokens), 2]
        else:
            assert several.info.memory is not MemoryKind.DENSE
            assert [s.length for s in (first, second)] == [len(tokens), 3]

    # room

    def test_a_full_cache_changes_nothing(self, several: Engine) -> None:
        if several.info.memory is MemoryKind.RECURRENT:
            pytest.skip("a running state takes no cells")
        first, second, third, _ = several.sequences
        tokens = self.prompt(several)
        alone = self._alone(several, [tokens])
        self.read(second, tokens)
        answer = [self._draw(second)]
        n_ctx = several.info.n_ctx
        self.read(first, (tokens * n_ctx)[: n_ctx - len(tokens) - 2])
        third.set_sampler(GREEDY, 1, [])
        held = [sequence.length for sequence in several.sequences]
        attempts: list[Callable[[], object]] = [
            lambda: third.decode(tokens[:3]),
            lambda: several.decode_together([(third, tokens[:2]), (second, answer)]),
        ]
        for attempt in attempts:
            with pytest.raises(CacheFull):
                pytest.fail(f"there was room: {attempt()!r}")
            assert [sequence.length for sequence in several.sequences] == held
        with suppress(CacheFull):
            third.decode(tokens * 4)  # in pieces, of which the first may have fitted
            pytest.fail("there was room")
        if several.info.memory is MemoryKind.DENSE:
            assert [sequence.length for sequence in several.sequences] == held
        third.clear()
        token = second.step(answer[-1])
        assert token is not None
        answer.append(token)
        assert third.step(tokens[0]) is not None  # the last cell
        with pytest.raises(CacheFull):
            second.step(answer[-1])
        third.clear()
        self._steps(second, answer, 3)
        first.clear()
        self._steps(second, answer, 8)
        # A step that found no room drew nothing, and the sampler did not notice it.
        self.assert_agree(several, tokens, alone[0], answer)

    def test_one_sequence_may_fill_the_whole_cache(self, several: Engine) -> None:
        *_, last = several.sequences
        tokens, n_ctx = self.prompt(several), several.info.n_ctx
        self.read(last, (tokens * n_ctx)[:n_ctx])
        assert last.length == n_ctx
        last.set_sampler(GREEDY, 1, [])
        token = last.sample()
        with pytest.raises(ContextOverflow) as caught:
            last.step(token)
        assert (caught.value.needed, caught.value.n_ctx) == (n_ctx + 1, n_ctx)
        with pytest.raises(ContextOverflow):
            several.decode_together([(several, tokens[:1]), (last, [token])])
        assert [sequence.length for sequence in several.sequences] == [0, 0, 0, n_ctx]

    # what is refused

    def test_what_cannot_be_decoded_together_is_named_and_changes_nothing(
        self, several: Engine, engine: Engine
    ) -> None:
        wrong: Any = several
        first, second, *_ = several.sequences
        tokens = self.prompt(several)
        self.read(first, tokens)
        best = self._draw(first)
        many = several.info.n_batch + 1
        pieces: list[object] = [
            None,
            5,
            "ab",
            [None],
            [first],
            [(first,)],
            [(first, tokens[:1], 3)],
            [(engine, tokens[:1])],
            [(None, tokens[:1])],
            [(1, tokens[:1])],
            [(first, None)],
            [(first, 5)],
            [(first, "ab")],
            [(first, [1.5])],
            [(second, tokens[:1]), (first, [-1])],
            [(second, tokens[:1]), (first, [several.info.n_vocab])],
            [(second, tokens[:1]), (first, [2**40])],
            [(second, tokens[:1]), (second, tokens[:1])],
            [(second, []), (second, tokens[:1])],
            [(second, (tokens * many)[:many])],
            [(second, tokens[:1]), (first, (tokens * many)[: many - 1])],
        ]
        for each in pieces:
            with pytest.raises(InvalidInput):
                pytest.fail(f"this did not raise: {wrong.decode_together(each)!r} for {each!r}")
        for source, target, length in (
            (engine, first, 1),
            (first, engine, 1),
            (None, first, 1),
            (first, 1, 1),
            (first, second, -1),
            (first, second, None),
            (first, second, "1"),
            (first, second, 1.5),
        ):
            with pytest.raises(InvalidInput):
                pytest.fail(f"this did not raise: {wrong.share(source, target, length)!r}")
        assert [sequence.length for sequence in several.sequences] == [len(tokens), 0, 0, 0]
        assert several.decode_together([])
        assert several.decode_together([(first, []), (second, [])])
        assert first.sample() == best

    def test_there_are_no_logits_but_of_the_last_tokens(self, several: Engine) -> None:
        first, second, third, _ = several.sequences
        tokens = self.prompt(several)[:5]
        for sequence in (first, second, third):
            sequence.set_sampler(GREEDY, 1, [])
        self.read(third, tokens)
        assert several.decode_together([(first, tokens), (second, tokens[:3])])
        for call in (third.sample, third.logits):
            with pytest.raises(EngineError):
                call()
        assert first.sample() == int(
            max(range(several.info.n_vocab), key=first.logits().__getitem__)
        )
        assert second.sample() == int(
            max(range(several.info.n_vocab), key=second.logits().__getitem__)
        )
        assert second.truncate(2) or several.info.memory is not MemoryKind.DENSE
        second.clear()
        with pytest.raises(EngineError):
            second.logits()
        assert len(first.logits()) == several.info.n_vocab
        third.step(tokens[0])
        with pytest.raises(EngineError):
            first.sample()

    def test_a_cancel_ends_all_and_loses_nothing(self, several: Engine) -> None:
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        pieces = list(zip(several.sequences, prompts, strict=True))
        self._read_together(several, pieces)
        answers = [[self._draw(sequence)] for sequence, _ in pieces]
        held = [sequence.length for sequence in several.sequences]
        several.cancel()
        assert not several.decode_together(
            [(s, a) for (s, _), a in zip(pieces, answers, strict=True)]
        )
        assert [s.step(a[-1]) for (s, _), a in zip(pieces, answers, strict=True)] == [None] * _N
        assert [sequence.length for sequence in several.sequences] == held
        several.clear_cancel()
        answers = self._go_on(several, answers, 8)
        for prompt, expected, answer in zip(prompts, alone, answers, strict=True):
            self.assert_agree(several, prompt, expected, answer)

    def test_after_close_every_sequence_says_so(self, backend: EngineBackend) -> None:
        engine = self.load_several(backend)
        tokens = self.prompt(engine)
        engine.close()
        self.needs(engine, Capability.PARALLEL)
        one = engine.sequences[1]
        for call in (
            lambda: one.length,
            lambda: one.decode(tokens),
            lambda: one.truncate(0),
            one.clear,
            lambda: one.set_sampler(GREEDY, 1, []),
            one.sample,
            lambda: one.step(tokens[0]),
            lambda: one.accept(tokens),
            one.logits,
            lambda: one.logprobs(tokens[0], 1),
            lambda: engine.decode_together([(one, tokens)]),
            lambda: engine.decode_together([]),
            lambda: engine.share(engine, one, 0),
        ):
            with pytest.raises(ClosedError):
                pytest.fail(f"this did not raise: {call()!r}")

    def test_any_calls_of_any_sequence_in_any_order_only_raise(self, several: Engine) -> None:
        prompts = self.prompts(several)
        alone = self._alone(several, prompts)
        for seed in range(4):
            self._call_anything_of_any(several, random.Random(seed))
        several.clear_cancel()
        for sequence in several.sequences:
            sequence.clear()
        pieces = list(zip(several.sequences, prompts, strict=True))
        self._read_together(several, pieces)
        answers = self._go_on(several, [[self._draw(s)] for s, _ in pieces], 8)
        for prompt, expected, answer in zip(prompts, alone, answers, strict=True):
            self.assert_agree(several, prompt, expected, answer)

    def _call_anything_of_any(self, engine: Any, draw: random.Random) -> None:
        n, n_ctx, n_batch = engine.info.n_vocab, engine.info.n_ctx, engine.info.n_batch
        wild = SamplingParams(temperature=1.5, dry_multiplier=0.5)
        has_grammars = Capability.JSON_SCHEMA in engine.capabilities
        grammars = (None, _DIGITS, _LAZY) if has_grammars else (None,)

        def row() -> list[int]:
            return [draw.randrange(n) for _ in range(draw.choice((0, 1, 5, n_batch, n_ctx // 2)))]

        def one() -> Any:
            return draw.choice(engine.sequences)

        def pieces() -> list[tuple[Any, list[int]]]:
            return [(one(), row()[: draw.choice((1, 4))]) for _ in range(draw.randrange(5))]

        calls: list[Callable[[], object]] = [
            lambda: one().decode(row()),
            lambda: one().truncate(draw.randrange(n_ctx)),
            lambda: one().clear(),
            lambda: one().set_sampler(wild, 1, row(), draw.choice(grammars)),
            lambda: one().sample(),
            lambda: one().step(draw.randrange(n)),
            lambda: one().accept(row()),
            lambda: one().logprobs(draw.randrange(n), 2),
            lambda: one().logits(),
            lambda: engine.share(one(), one(), draw.choice((0, 1, one().length))),
            lambda: engine.decode_together(pieces()),
            lambda: engine.decode_together(pieces()),
            lambda: engine.cancel(),
            lambda: engine.clear_cancel(),
            lambda: engine.clear_cancel(),
        ]
        for _ in range(150):
            before = [sequence.length for sequence in engine.sequences]
            with suppress(InvalidInput, UnsupportedCapability, EngineError, ContextOverflow):
                draw.choice(calls)()
            after = [sequence.length for sequence in engine.sequences]
            assert all(0 <= length <= n_ctx for length in after)
            assert len(before) == len(after)

    # helpers

    def _alone(self, engine: Engine, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The answers of eight tokens of the first sequence, while the others are empty. It is empty afterwards."""
        answers: list[list[int]] = []
        for prompt in prompts:
            self.read(engine, prompt)
            answers.append(self.generate(engine, 8))
        engine.clear()
        return answers

    def _read_together(
        self, engine: Engine, pieces: Sequence[tuple[KvSequence, Sequence[int]]]
    ) -> None:
        """All but the last tokens of each in batches that are as full as may be; then the last ones at once."""
        waiting = [(sequence, list(tokens[:-1])) for sequence, tokens in pieces]
        while waiting:
            room = engine.info.n_batch
            batch: list[tuple[KvSequence, list[int]]] = []
            for sequence, tokens in waiting:
                batch.append((sequence, tokens[:room]))
                room -= len(batch[-1][1])
                del tokens[: len(batch[-1][1])]
            assert engine.decode_together(batch)
            waiting = [(sequence, tokens) for sequence, tokens in waiting if tokens]
        assert engine.decode_together([(sequence, tokens[-1:]) for sequence, tokens in pieces])
        assert [s.length for s, _ in pieces] == [len(tokens) for _, tokens in pieces]

    def _draw(self, sequence: KvSequence) -> int:
        sequence.set_sampler(GREEDY, 1, [])
        return sequence.sample()

    def _last_again(self, sequence: KvSequence, prompt: Sequence[int]) -> int | None:
        """What a greedy sampler draws after all that was read; None where the memory does not rewind."""
        if not sequence.truncate(len(prompt) - 1):
            return None
        sequence.decode(prompt[-1:])
        return self._draw(sequence)

    def _steps(self, sequence: KvSequence, answer: list[int], n: int) -> None:
        """Step until the answer has ``n`` tokens."""
        while len(answer) < n:
            token = sequence.step(answer[-1])
            assert token is not None
            answer.append(token)

    def _go_on(self, engine: Engine, answers: list[list[int]], n: int) -> list[list[int]]:
        """The answers of all sequences, computed together until each has ``n`` tokens."""
        pairs = list(zip(engine.sequences, answers, strict=True))
        while len(answers[0]) < n:
            assert engine.decode_together([(sequence, answer[-1:]) for sequence, answer in pairs])
            for sequence, answer in pairs:
                answer.append(sequence.sample())
        return answers

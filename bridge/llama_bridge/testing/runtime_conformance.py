"""The runtime contract as tests, for those who write a backend that answers in text.

.. code-block:: python

    from llama_bridge.testing import RuntimeConformance

    class TestMyRuntime(RuntimeConformance):
        @pytest.fixture
        def backend(self):
            return MyBackend()
"""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from ..capabilities import Capability
from ..errors import ClosedError, InvalidInput, UnsupportedCapability
from ..generation import Fallback, Generation, Mode
from ..grammar import Grammar
from ..models.source import DEMO
from ..params import ModelParams, SamplingParams
from ..progress import Progress
from ..request import Request
from ..runtime import Backend, Model, Runtime, SessionStorage
from ..stream import PendingAnswer

__all__ = ["RuntimeConformance"]

T = TypeVar("T")
_GREEDY = SamplingParams(temperature=0, max_tokens=32)
_PATIENCE = 30


class RuntimeConformance:
    """Subclass it as ``Test...`` and add a fixture ``backend``.

    Attributes:
        model: the model to load.
        prompt, question: two user turns or texts. Each answer has more than one piece of text, and is always the
            same with temperature 0.
    """

    model: Model = DEMO
    prompt: str = "Hello! My name is Ada."
    question: str = "What is a KV cache?"

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test."""
        pytest.fail("give the class a fixture `backend` that returns your Backend")

    @pytest.fixture
    def runtime(self, backend: Backend) -> Iterator[Runtime]:
        """A loaded model."""
        runtime = backend.open(self.model, ModelParams(n_ctx=512), SessionStorage(), None)
        yield runtime
        runtime.close()

    def request(self, runtime: Runtime, prompt: str = "") -> Request:
        """A prompt as the bridge passes it."""
        chat = Capability.CHAT_TEMPLATE in runtime.capabilities
        return Request(prompt or self.prompt, sampling=_GREEDY, chat=chat)

    def ask(self, runtime: Runtime, prompt: str = "") -> Generation:
        """A whole answer."""
        return read(runtime.answer(self.request(runtime, prompt)))[1]

    # what it reports

    def test_it_can_do_nothing_that_its_backend_cannot(
        self, backend: Backend, runtime: Runtime
    ) -> None:
        assert backend.probe().name == runtime.backend == backend.name
        assert runtime.capabilities in backend.capabilities
        assert Capability.GENERATE | Capability.STREAM in runtime.capabilities

    def test_what_it_lacks_it_refuses(self, runtime: Runtime, tmp_path: Path) -> None:
        path = tmp_path / "file"
        calls: list[tuple[Capability, Callable[[], object]]] = [
            (Capability.TOKENS, lambda: runtime.info),
            (
                Capability.TOKENS,
                lambda: runtime.tokenize("x", add_special=False, parse_special=False),
            ),
            (Capability.TOKENS, lambda: runtime.token_bytes(0)),
            (Capability.SESSION_TOOLS, lambda: runtime.rewind("", 1)),
            (Capability.SESSION_TOOLS, lambda: runtime.fork("", "a")),
            (Capability.SESSION_PERSISTENCE, lambda: runtime.save("", path, _GREEDY)),
            (
                Capability.SESSION_PERSISTENCE,
                lambda: runtime.verify(path, deep=False, on_progress=None),
            ),
        ]
        for flag, call in calls:
            if flag not in runtime.capabilities:
                with pytest.raises(UnsupportedCapability) as caught:
                    call()
                assert caught.value.capability is flag
        assert not path.exists()

    # answers

    def test_the_texts_are_the_answer(self, runtime: Runtime) -> None:
        texts, generation = read(runtime.answer(self.request(runtime)))
        assert len(texts) > 1, "give the class a prompt that has a longer answer"
        assert all(texts)
        assert "".join(texts) == generation.text == str(generation)
        assert generation.finish_reason in ("stop", "length")
        assert (generation.mode, generation.fallback) == (Mode.FRESH, None)
        usage = generation.usage
        assert usage.cached_tokens + usage.evaluated_tokens == usage.prompt_tokens
        assert self.ask(runtime).text == generation.text

    def test_after_the_end_there_is_nothing_more(self, runtime: Runtime) -> None:
        answer = runtime.answer(self.request(runtime))
        read(answer)
        assert answer.read() is None
        answer.end()
        assert answer.read() is None
        assert answer.generation.finish_reason != "cancelled"

    def test_it_ends_at_a_stop_string_and_leaves_it_out(self, runtime: Runtime) -> None:
        whole = self.ask(runtime).text
        stop = whole[len(whole) // 2 :][:3]
        request = replace(self.request(runtime), stop=(stop,))
        texts, generation = read(runtime.answer(request))
        assert "".join(texts) == generation.text == whole[: whole.index(stop)]
        assert generation.finish_reason == "stop"

    def test_an_answer_fits_its_grammar_and_ends_with_it(self, runtime: Runtime) -> None:
        if Capability.JSON_SCHEMA not in runtime.capabilities:
            pytest.skip(f"the {runtime.backend} backend lacks json_schema")
        grammar = Grammar('root ::= "{\\"sure\\": " ("true" | "false") "}"')
        request = replace(self.request(runtime), grammar=grammar)
        texts, generation = read(runtime.answer(request))
        assert "".join(texts) == generation.text
        assert generation.text in ('{"sure": true}', '{"sure": false}')
        assert generation.finish_reason == "stop"

    def test_each_token_has_its_log_probability_where_asked_for(self, runtime: Runtime) -> None:
        if Capability.LOGPROBS not in runtime.capabilities:
            pytest.skip(f"the {runtime.backend} backend lacks logprobs")
        assert self.ask(runtime).logprobs is None
        _, generation = read(runtime.answer(replace(self.request(runtime), logprobs=2)))
        assert generation.logprobs
        assert all(one.logprob <= 0 and len(one.top) == 2 for one in generation.logprobs)
        assert generation.text.startswith(generation.logprobs[0].text)

    def test_it_says_no_more_than_it_may(self, runtime: Runtime) -> None:
        request = replace(self.request(runtime), sampling=replace(_GREEDY, max_tokens=1))
        generation = read(runtime.answer(request))[1]
        assert generation.finish_reason == "length"
        assert generation.usage.completion_tokens <= 1
        assert len(generation.text) < len(self.ask(runtime).text)

    def test_a_fallback_goes_into_the_answer(self, runtime: Runtime) -> None:
        request = replace(self.request(runtime), fallback=Fallback.UNSUPPORTED)
        generation = read(runtime.answer(request))[1]
        assert (generation.mode, generation.fallback) == (Mode.FRESH, Fallback.UNSUPPORTED)

    def test_progress_of_a_prefill_ends_with_all_of_it(self, runtime: Runtime) -> None:
        told: list[Progress] = []
        read(runtime.answer(replace(self.request(runtime), on_progress=told.append)))
        if told:
            assert {step.stage for step in told} == {"prefill"}
            assert [step.done for step in told] == sorted(step.done for step in told)
            assert told[-1].done == told[-1].total

    # ended early

    def test_ended_half_way_it_keeps_what_was_said(self, runtime: Runtime) -> None:
        whole = self.ask(runtime).text
        answer = runtime.answer(self.request(runtime))
        said = answer.read()
        assert said
        answer.end()
        answer.end()
        texts, generation = read(answer)
        assert generation.finish_reason == "cancelled"
        assert "".join([said, *texts]) == generation.text
        assert whole.startswith(generation.text)
        assert self.ask(runtime).text == whole

    def test_ended_before_it_was_read_it_says_nothing(self, runtime: Runtime) -> None:
        answer = runtime.answer(self.request(runtime))
        answer.end()
        assert read(answer) == ([], answer.generation)
        assert (answer.generation.finish_reason, answer.generation.text) == ("cancelled", "")

    def test_cancel_ends_what_runs_and_nothing_else(self, runtime: Runtime) -> None:
        if Capability.CANCEL not in runtime.capabilities:
            pytest.skip(f"the {runtime.backend} backend lacks cancel")
        runtime.cancel()
        whole = self.ask(runtime)
        assert whole.finish_reason != "cancelled"
        answer = runtime.answer(self.request(runtime))
        assert answer.read()
        in_thread(runtime.cancel)
        assert read(answer)[1].finish_reason == "cancelled"
        assert self.ask(runtime).text == whole.text

    # nobody waits for a reader

    def test_a_half_read_answer_is_in_nobodys_way(self, runtime: Runtime) -> None:
        whole = self.ask(runtime).text
        left = runtime.answer(self.request(runtime))
        said = left.read()
        assert said
        other = in_thread(lambda: self.ask(runtime, self.question))
        assert other.finish_reason != "cancelled"
        assert other.text != whole
        in_thread(lambda: runtime.past(""))
        texts, generation = read(left)
        assert "".join([said, *texts]) == generation.text == whole

    def test_many_callers_get_the_answers_that_they_asked_for(self, runtime: Runtime) -> None:
        expected = {p: self.ask(runtime, p).text for p in (self.prompt, self.question)}
        found: list[bool] = []

        def ask(prompt: str) -> None:
            found.append(self.ask(runtime, prompt).text == expected[prompt])

        threads = [threading.Thread(target=ask, args=(p,)) for p in expected for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_PATIENCE)
        assert found == [True] * 6

    # with flags

    def test_a_conversation_goes_on(self, runtime: Runtime) -> None:
        self._needs(runtime, Capability.KV_CONTINUATION)
        request = replace(self.request(runtime), continues=True)
        first = read(runtime.answer(request))[1]
        assert (first.mode, first.fallback) == (Mode.FRESH, Fallback.NO_SESSION)
        second = read(runtime.answer(replace(request, prompt=self.question)))[1]
        assert (second.mode, second.fallback) == (Mode.CONTINUED, None)
        assert second.usage.cached_tokens > 0
        runtime.reset("")
        assert read(runtime.answer(request))[1].fallback is Fallback.NO_SESSION

    def test_without_continuation_each_answer_stands_alone(self, runtime: Runtime) -> None:
        if Capability.KV_CONTINUATION in runtime.capabilities:
            pytest.skip(f"the {runtime.backend} backend has kv_continuation")
        question = self.ask(runtime, self.question).text
        self.ask(runtime, self.prompt)
        assert self.ask(runtime, self.question).text == question

    def test_tokens_spell_the_text_while_an_answer_waits(self, runtime: Runtime) -> None:
        self._needs(runtime, Capability.TOKENS)
        left = runtime.answer(self.request(runtime))
        left.read()
        tokens = in_thread(
            lambda: runtime.tokenize(self.prompt, add_special=False, parse_special=False)
        )
        assert all(0 <= token < runtime.info.n_vocab for token in tokens)
        assert b"".join(map(runtime.token_bytes, tokens)).decode().strip() == self.prompt

    def test_conversations_by_name_are_apart(self, runtime: Runtime) -> None:
        self._needs(runtime, Capability.SESSION_TOOLS)
        request = replace(self.request(runtime), continues=True, session="a")
        read(runtime.answer(request))
        assert runtime.names() == ["a"]
        assert runtime.past("") != runtime.past("a")
        assert runtime.fork("a", "b") == "b"
        assert runtime.past("b") == runtime.past("a")
        assert runtime.fork("a", None) not in ("a", "b", "")
        with pytest.raises(InvalidInput):
            runtime.fork("a", "b")
        runtime.rewind("b", 1)
        assert len(runtime.past("b").turns) == 0
        assert len(runtime.past("a").turns) == 1
        runtime.delete("a")
        assert "a" not in runtime.names()

    def test_a_saved_conversation_comes_back(self, runtime: Runtime, tmp_path: Path) -> None:
        self._needs(runtime, Capability.SESSION_PERSISTENCE)
        self.ask(runtime)
        before = runtime.past("")
        runtime.save("", tmp_path / "a", _GREEDY)
        assert runtime.verify(tmp_path / "a", deep=False, on_progress=None).ok
        runtime.reset("")
        assert runtime.past("") != before
        info = runtime.load(
            "", tmp_path / "a", replay=False, trust_unverified=False, on_progress=None
        )
        assert info.n_tokens > 0
        assert runtime.past("") == before

    def _needs(self, runtime: Runtime, capability: Capability) -> None:
        if capability not in runtime.capabilities:
            name = (capability.name or "").lower()
            pytest.skip(f"the {runtime.backend} backend lacks {name}")

    # life

    def test_closed_it_says_so(self, runtime: Runtime) -> None:
        left = runtime.answer(self.request(runtime))
        said = left.read()
        runtime.close()
        runtime.close()
        runtime.cancel()
        with pytest.raises(ClosedError):
            runtime.answer(self.request(runtime))
        texts, generation = read(left)
        assert "".join([said or "", *texts]) == generation.text
        assert generation.finish_reason == "cancelled"

    def test_closed_while_it_works_it_ends_soon(self, runtime: Runtime) -> None:
        begun = threading.Event()

        def work() -> None:
            with contextlib.suppress(ClosedError):
                while True:
                    self.ask(runtime)
                    begun.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(_PATIENCE)
        runtime.close()
        thread.join(_PATIENCE)
        assert not thread.is_alive()


def read(answer: PendingAnswer) -> tuple[list[str], Generation]:
    """The rest of an answer."""
    texts: list[str] = []
    while (text := answer.read()) is not None:
        texts.append(text)
    return texts, answer.generation


def in_thread(work: Callable[[], T]) -> T:
    """Run work in another thread, which must not take for ever."""
    done: list[T] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    assert not thread.is_alive(), "it waits for a reader"
    assert done, "it failed: see above"
    return done[0]

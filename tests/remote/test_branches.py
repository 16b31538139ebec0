"""Over ``llama-bridge serve`` conversations have names, branch, and undo their turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llama_bridge import (
    Capability,
    Generation,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    UnsupportedCapability,
)
from llama_bridge.serve import app
from tests.serve.serving import serving

GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=48)
NAME, ASK = "Hello! My name is Zorblax.", "What is my name?"


@pytest.fixture(scope="module")
def served() -> Iterator[LlamaBridge]:
    with LlamaBridge("demo", n_parallel=4, sampling=GREEDY) as llama:
        if Capability.SESSION_TOOLS not in llama.capabilities:
            pytest.skip("the server keeps no sessions")
        yield llama


@pytest.fixture
def llama(served: LlamaBridge) -> Iterator[LlamaBridge]:
    with (
        serving(app(served)) as address,
        LlamaBridge(f"http://127.0.0.1:{address.port}", backend="remote", sampling=GREEDY) as llama,
    ):
        yield llama


def test_branches_go_on_apart_without_evaluating_their_past_again(llama: LlamaBridge) -> None:
    here = llama.session("work")
    first = here.generate_continue(NAME)
    there = here.fork("trial")
    assert there.messages == here.messages
    found = [
        there.generate_continue(ASK),
        here.generate_continue("Who are you?"),
        here.fork().generate_continue(ASK),
        there.generate_continue(ASK),
    ]
    past = first.usage.prompt_tokens + first.usage.completion_tokens
    assert all(answer.usage.cached_tokens >= past - 1 for answer in found)
    assert all(answer.mode is Mode.CONTINUED for answer in found)
    assert "Zorblax" in found[0].text
    assert "demo" in found[1].text
    assert llama.sessions() == ["work", "work-2", "trial"]  # least recently used first
    assert [llama.session(name).n_turns for name in llama.sessions()] == [2, 3, 3]
    here.delete()
    assert llama.sessions() == ["work-2", "trial"]
    assert "Zorblax" in there.generate_continue(ASK).text


def test_undone_turns_are_gone(llama: LlamaBridge) -> None:
    for name in ("Zorblax", "Quexlor"):
        llama.generate_continue(f"Hello! My name is {name}.")
    llama.session_rewind()
    assert llama.session().n_turns == 1
    assert "Zorblax" in llama.generate_continue(ASK).text
    with pytest.raises(InvalidInput, match="turns=3: the session has only 2 to undo"):
        llama.session_rewind(3)
    llama.session_rewind(2)
    assert (llama.session().n_turns, llama.session().active, llama.session().messages) == (
        0,
        False,
        [],
    )
    assert llama.generate_continue(ASK).mode is Mode.FRESH


@pytest.mark.parametrize("kind", ["first", "next", "chat", "raw", "raw next"])
def test_answers_again_what_was_asked_last(
    llama: LlamaBridge, served: LlamaBridge, kind: str
) -> None:
    def ask(one: LlamaBridge) -> list[Generation]:
        one.session_reset()
        if kind == "chat":
            one.chat([{"role": "user", "content": NAME}])
        elif kind == "first":
            one.generate(NAME)
        elif kind == "next":
            one.generate(NAME)
            one.generate_continue(ASK)
        else:
            one.generate("Once upon a time", chat=False, max_tokens=6)
            if kind == "raw next":
                one.generate_continue(" and then", chat=False, max_tokens=6)
        turns = one.session().n_turns
        again = [one.regenerate(max_tokens=3), one.regenerate(stop=["a"]), one.regenerate()]
        assert one.session().n_turns == turns
        return again

    there, here = ask(llama), ask(served)
    assert [one.text for one in there] == [one.text for one in here]
    assert [one.mode for one in there] == [one.mode for one in here]
    assert [one.fallback for one in there] == [one.fallback for one in here]
    assert llama.session().messages == served.session().messages


def test_what_cannot_be_answered_again_changes_nothing(llama: LlamaBridge) -> None:
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return city

    with pytest.raises(InvalidInput, match="no answer to regenerate"):
        llama.regenerate()
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    llama.chat(messages, tools=[get_weather])
    said = llama.session().messages
    with pytest.raises(InvalidInput, match=r"call chat\(\) with its messages again"):
        llama.regenerate()
    assert llama.session().messages == said
    stream = llama.generate_stream(NAME)
    next(stream)
    llama.cancel()
    stream.result  # noqa: B018 # it is over
    said = llama.session().messages
    again = llama.regenerate_stream()
    llama.cancel()
    assert again.result.finish_reason in ("cancelled", "stop")
    assert llama.session().messages[:1] == said[:1]


def test_a_name_is_given_once_whoever_asks(llama: LlamaBridge) -> None:
    llama.session("a").generate_continue(NAME)
    with pytest.raises(InvalidInput, match="already a session named 'a'"):
        llama.session_fork("a")
    names: list[str] = []
    crowd = [
        threading.Thread(target=lambda: names.append(llama.session("a").fork().name))
        for _ in range(8)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert len({*names}) == 8
    assert {*llama.sessions()} == {"a", *names}


def test_a_look_at_a_conversation_finds_it_whatever_is_asked_meanwhile(llama: LlamaBridge) -> None:
    here = llama.session("a")
    here.generate_continue(NAME)
    over = threading.Event()
    missed: list[int] = []

    def look() -> None:
        while not over.is_set():
            if here.n_turns == 0 or llama.sessions() != ["a"]:
                missed.append(1)

    looker = threading.Thread(target=look)
    looker.start()
    for _ in range(10):
        here.generate_continue(ASK, max_tokens=2)
    over.set()
    looker.join()
    assert missed == []


def test_a_response_that_the_server_forgot_is_told_again(llama: LlamaBridge) -> None:
    here = llama.session("work")
    here.generate_continue(NAME)
    branch = here.fork()
    runtime: Any = llama._shared.runtime
    for place in runtime.places.values():
        if place.kept.response:
            runtime.client.change(f"/v1/responses/{place.kept.response}", {}, "DELETE")
            break
    assert "Zorblax" in branch.generate_continue(ASK).text
    assert "Zorblax" in here.generate_continue(ASK).text
    here.rewind()
    assert "Zorblax" in here.generate_continue(ASK).text


def test_files_stay_where_the_model_is(llama: LlamaBridge) -> None:
    llama.session("a").generate_continue(NAME)
    with pytest.raises(UnsupportedCapability, match="session_persistence"):
        llama.session("a").save("a.session")


def test_a_stream_that_nobody_began_to_read_changes_nothing(llama: LlamaBridge) -> None:
    llama.generate(NAME)
    before = llama.session().messages
    llama.generate_stream("Who are you?").close()
    assert llama.session().messages == before
    assert "Zorblax" in llama.generate_continue(ASK).text

"""Both classes have the same calls, signatures, documentation and answers. A call that lacks its twin is found here.

Its twin is one line in ``aio/``: ``awaited(Class.call)``, or ``answered`` and ``streamed`` for calls that generate; here
it gets one line in EXAMPLES.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    AsyncSession,
    AsyncStream,
    Capability,
    Generation,
    InvalidInput,
    LlamaBridge,
    Message,
    SamplingParams,
    Session,
    SessionInfo,
    TextStream,
    Verification,
)
from llama_bridge.chat.stream import ChatStream, TextDelta
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.testing import FakeLlama
from llama_bridge.testing.adapters import write_adapter

from .conftest import Loop

TWINS = [(LlamaBridge, AsyncLlamaBridge), (Session, AsyncSession)]
WAITS_FOR_NOTHING = {"cancel", "requires", "session"}
"""Calls that are the same in both classes: nothing is awaited."""

RENAMED = {
    "Session": "AsyncSession",
    "TextStream": "AsyncStream[str, Generation]",
    "ChatStream": "AsyncStream[ChatEvent, Generation]",
}
"""What a type is called on the other side."""

ONLY_THERE = {"of"}
"""Makes the asynchronous one of the other."""


def public(cls: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if name[0] != "_"}


def pairs() -> list[Any]:
    return [
        pytest.param(sync, twin, name, id=f"{sync.__name__}.{name}")
        for sync, twin in TWINS
        for name in public(sync)
    ]


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_the_names_are_the_same(sync: type, twin: type) -> None:
    assert set(public(twin)) - ONLY_THERE == set(public(sync))


@pytest.mark.parametrize(("sync", "twin", "name"), pairs())
def test_what_a_name_means_is_the_same(sync: type, twin: type, name: str) -> None:
    ours, theirs = public(sync)[name], public(twin)[name]
    assert inspect.getdoc(ours) == inspect.getdoc(theirs)
    if isinstance(ours, property):
        assert isinstance(theirs, property)
        assert signature(ours.fget) == signature(theirs.fget)
        assert (ours.fset is None) == (theirs.fset is None)
        return
    assert signature(ours) == signature(theirs)
    waits = name not in WAITS_FOR_NOTHING and not name.endswith("_stream")
    assert inspect.iscoroutinefunction(theirs) is waits


def signature(function: Any) -> tuple[list[inspect.Parameter], str]:
    found = inspect.signature(function)
    kind = str(found.return_annotation)
    for ours, theirs in RENAMED.items():
        kind = re.sub(rf"^{ours}$", theirs, kind)
    return list(found.parameters.values()), kind


def test_both_are_made_alike() -> None:
    ours, theirs = (inspect.signature(cls.__init__) for cls in (LlamaBridge, AsyncLlamaBridge))
    assert ours == theirs
    for cls in (AsyncLlamaBridge, AsyncSession, AsyncStream):
        assert inspect.getdoc(cls)


# the same answers

Given = tuple[tuple[Any, ...], Mapping[str, Any]]


def given(*args: Any, **settings: Any) -> Given:
    return args, settings


def saved(folder: Path) -> str:
    return str(folder / "saved.session")


def fake_model(folder: Path) -> ModelFile:
    return open_model(folder / "other.gguf")


def weather(city: str) -> str:
    """The weather in a city."""
    return city


EXAMPLES: dict[str, Callable[[Path], Given]] = {
    "apply_chat_template": lambda _: given([{"role": "user", "content": "hi"}]),
    "cancel": lambda _: given(),
    "delete": lambda _: given(),
    "detokenize": lambda _: given([104, 105]),
    "fork": lambda _: given("branch"),
    "generate": lambda _: given("one", max_tokens=5),
    "generate_continue": lambda _: given("two", stop="said"),
    "generate_continue_stream": lambda _: given("two", max_tokens=5),
    "generate_stream": lambda _: given("three", sampling=SamplingParams(max_tokens=7)),
    "init_generate_model": lambda folder: given(folder / "other.gguf", n_ctx=99),
    "load": lambda folder: given(saved(folder), replay=True),
    "load_model": lambda folder: given(folder / "other.gguf", n_ctx=99),
    "regenerate": lambda _: given(max_tokens=3),
    "regenerate_stream": lambda _: given(),
    "requires": lambda _: given("session-tools"),
    "reset": lambda _: given(),
    "rewind": lambda _: given(1),
    "save": lambda folder: given(folder / "new.session"),
    "session": lambda _: given("work"),
    "session_fork": lambda _: given(),
    "session_load": lambda folder: given(saved(folder)),
    "session_reset": lambda _: given(),
    "session_rewind": lambda _: given(),
    "session_save": lambda folder: given(folder / "new.session"),
    "session_verify": lambda folder: given(saved(folder), deep=True),
    "set_adapters": lambda folder: given([write_adapter(folder / "a.gguf", fake_model(folder))]),
    "sessions": lambda _: given(),
    "sessions_flush": lambda _: given(),
    "tokenize": lambda _: given("hi", add_special=False),
    "verify": lambda folder: given(saved(folder)),
    "chat": lambda _: given([{"role": "user", "content": "four"}], max_tokens=9),
    "chat_stream": lambda _: given([{"role": "user", "content": "five"}], tools=[weather]),
    "close": lambda _: given(),
    "embed": lambda _: given(["one", "two"], normalize=False),
    "rerank": lambda _: given("one", ["two", "one"]),
}
"""How each call is made. All are made on both classes, after the same beginning."""


def calls() -> list[Any]:
    return [
        pytest.param(sync, name, id=f"{sync.__name__}.{name}")
        for sync, _ in TWINS
        for name, member in public(sync).items()
        if not isinstance(member, property)
    ]


def test_each_call_has_an_example() -> None:
    assert {parameter.values[1] for parameter in calls()} == set(EXAMPLES)


@pytest.mark.parametrize(("sync", "name"), calls())
def test_the_answers_are_the_same(sync: type, name: str, tmp_path: Path, way: Loop) -> None:
    from llama_bridge.testing.fake.model import write_fake_model

    write_fake_model(tmp_path / "other.gguf")

    def beginning() -> LlamaBridge:
        if name == "rerank":
            return FakeLlama(pooling="rank")
        llama = FakeLlama()
        llama.session("other").generate("something else")
        llama.session_save(saved(tmp_path)) if llama.generate("begin") else None
        llama.generate_continue("go on")
        (tmp_path / "new.session").unlink(missing_ok=True)
        return llama

    def by_itself() -> list[object]:
        with beginning() as llama:
            object_ = llama if sync is LlamaBridge else llama.session()
            args, settings = EXAMPLES[name](tmp_path)
            found = plain(getattr(object_, name)(*args, **settings))
            return [found, state(llama)]

    async def in_a_task() -> list[object]:
        with beginning() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            object_ = bridge if sync is LlamaBridge else bridge.session()
            args, settings = EXAMPLES[name](tmp_path)
            found = getattr(object_, name)(*args, **settings)
            if inspect.isawaitable(found) and not isinstance(found, AsyncStream):
                found = await found
            if isinstance(found, AsyncStream):
                items = [item async for item in found]
                found = ["stream", together(items), plain(await found.result())]
            return [plain(found), state(llama)]

    assert way(in_a_task) == by_itself()


def plain(found: object) -> object:
    """What can be compared."""
    if isinstance(found, Generation):
        usage = found.usage
        counts = (usage.cached_tokens, usage.evaluated_tokens, usage.completion_tokens)
        return found.text, found.finish_reason, found.mode, found.fallback, counts
    if isinstance(found, TextStream | ChatStream):
        return ["stream", together(list(found)), plain(found.result)]
    if isinstance(found, Session | AsyncSession):
        return "session", found.name, found.tokens, found.messages, found.n_turns, found.active
    if isinstance(found, SessionInfo):
        return found.n_tokens, found.cached_tokens, found.evaluated_tokens, found.replayed
    if isinstance(found, Verification):
        return found.n_tokens, found.fields, found.ok, found.logits is None
    return found


def together(items: list[Any]) -> list[Any]:
    """The items; of a chat's events, which may be read together, the words."""
    if all(isinstance(item, TextDelta) for item in items):
        return ["".join(item.text for item in items)]
    return items


def state(llama: LlamaBridge) -> object:
    try:
        names = [None, *sorted(llama.sessions())]
        return [plain(llama.session(name)) for name in names], llama.info.n_ctx
    except Exception as error:
        return repr(error)


PROPERTIES = ("model", "info", "backend", "capabilities", "sampling", "system")


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_is_that_of_the_other(name: str, threads: Loop) -> None:
    async def work() -> None:
        with FakeLlama(system="Be brief.") as llama:
            assert getattr(AsyncLlamaBridge.of(llama), name) is getattr(llama, name)

    threads(work)


def test_settings_are_set_on_both() -> None:
    with FakeLlama() as llama:
        bridge = AsyncLlamaBridge.of(llama)
        bridge.system = "Be brief."
        bridge.sampling = SamplingParams(max_tokens=3)
        assert (llama.system, llama.sampling.max_tokens) == ("Be brief.", 3)


@pytest.mark.parametrize("wrong", [None, "demo", LlamaBridge, 5])
def test_of_takes_a_bridge_only(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="llama="):
        AsyncLlamaBridge.of(wrong)


def test_every_wrong_argument_is_refused_as_before(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            wrong: tuple[Any, ...] = (
                (bridge.generate, ("hi",), {"temprature": 1}, "temprature"),
                (bridge.generate, (5,), {}, "prompt"),
                (bridge.generate, ("hi",), {"on_progress": 5}, "on_progress=5"),
                (bridge.load_model, ("demo",), {"on_progress": 5}, "on_progress=5"),
                (bridge.session_load, (5,), {}, "path=5"),
                (bridge.tokenize, (5,), {}, "text"),
                (bridge.session().rewind, ("x",), {}, "turns='x'"),
            )
            for call, args, settings, named in wrong:
                with pytest.raises(InvalidInput, match=re.escape(named)):
                    await call(*args, **settings)
            with pytest.raises(InvalidInput, match="stop"):
                async with bridge.generate_stream("hi", stop=5):  # type: ignore[arg-type]
                    pass
            with pytest.raises(InvalidInput, match="no capability"):
                bridge.requires("wings")
            assert llama.asked == []

    loop(work)


def test_the_demo_model_says_the_same(loop: Loop, llama_backend: str) -> None:
    questions = ["Hello! My name is Zorvane.", "What is my name?", "What is a token?"]
    with LlamaBridge("demo", backend=llama_backend) as llama:
        expected = [list(llama.generate_stream(question)) for question in questions]
        again = llama.generate(questions[0]).text
        able = Capability.KV_CONTINUATION in llama.capabilities
        name = llama.generate_continue(questions[1]).text if able else ""

    async def work() -> None:
        async with AsyncLlamaBridge("demo", backend=llama_backend) as llama:
            for question, texts in zip(questions, expected, strict=True):
                assert [text async for text in llama.generate_stream(question)] == texts
            assert (await llama.generate(questions[0])).text == again
            if able:
                assert (await llama.generate_continue(questions[1])).text == name
                assert llama.session().messages[-1] == Message(role="assistant", content=name)

    loop(work)

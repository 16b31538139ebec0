"""What users see: whatever a public signature names can be imported, and settings are keywords everywhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import llama_bridge
from llama_bridge import (
    InvalidInput,
    LlamaBridge,
    ModelParams,
    ModelSettings,
    SamplingParams,
    SamplingSettings,
    Session,
)
from llama_bridge.testing import FakeLlama
from tests.ledger import engine_of

PUBLIC = {name: getattr(llama_bridge, name) for name in llama_bridge.__all__}
CLASSES = [value for value in PUBLIC.values() if isinstance(value, type)]
ASKING = (
    "generate",
    "generate_stream",
    "generate_continue",
    "generate_continue_stream",
    "regenerate",
    "regenerate_stream",
)


def seen_in(cls: type) -> Iterator[tuple[str, str, str]]:
    """Where, in which module, and what: every annotation of a class that users can see."""
    for base in cls.__mro__:
        if not base.__module__.startswith("llama_bridge"):
            continue
        for name, text in inspect.get_annotations(base).items():
            if not name.startswith("_"):
                yield f"{base.__name__}.{name}", base.__module__, str(text)
        for name, member in vars(base).items():
            if name.startswith("_") and (name != "__init__" or base is not cls):
                continue
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function):
                for text in function.__annotations__.values():
                    yield f"{base.__name__}.{name}", base.__module__, str(text)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_whatever_a_public_signature_names_can_be_imported(cls: type) -> None:
    for where, module, text in seen_in(cls):
        for word in set(re.findall(r"\b[A-Z]\w+", re.sub(r"'[^']*'|\"[^\"]*\"", "", text))):
            value: Any = getattr(sys.modules[module], word, None)
            origin = getattr(value, "__module__", "")
            if origin.startswith("llama_bridge") or word in ALIASES:
                assert word in PUBLIC, f"{where} names {word}"


ALIASES = {
    "FinishReason",
    "JsonSchema",
    "KvType",
    "LogitBias",
    "Model",
    "OnProgress",
    "PathLike",
    "ProgressStage",
    "ProgressUnit",
    "TriggerKind",
    "Value",
}


def test_all_that_is_promised_is_there() -> None:
    assert sorted(set(llama_bridge.__all__)) == sorted(llama_bridge.__all__)
    for name in llama_bridge.__all__:
        assert getattr(llama_bridge, name) is not None


@pytest.mark.parametrize(
    ("settings", "params"), [(ModelSettings, ModelParams), (SamplingSettings, SamplingParams)]
)
def test_every_setting_is_a_keyword_with_the_same_type(settings: Any, params: Any) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(params)}
    assert {name: text.__forward_arg__ for name, text in settings.__annotations__.items()} == fields


@pytest.mark.parametrize("call", ASKING)
def test_a_keyword_changes_one_setting_and_keeps_the_rest(call: str) -> None:
    seen: list[SamplingParams] = []
    with FakeLlama("0123456789", sampling=SamplingParams(max_tokens=5, temperature=0)) as llama:
        llama.generate("begin")
        engine = engine_of(llama)
        set_sampler = engine.set_sampler

        def listen(params: SamplingParams, seed: int, recent: Sequence[int]) -> None:
            seen.append(params)
            set_sampler(params, seed, recent)

        engine.set_sampler = listen  # type: ignore[method-assign,assignment]
        for conversation in (llama, llama.session()):
            ask = getattr(conversation, call)
            given = () if call.startswith("regenerate") else ("go",)
            for keywords, expected in (
                ({}, SamplingParams(max_tokens=5, temperature=0)),
                ({"top_k": 3}, SamplingParams(max_tokens=5, temperature=0, top_k=3)),
                ({"max_tokens": 3}, SamplingParams(max_tokens=3, temperature=0)),
                (
                    {"sampling": SamplingParams(seed=1, max_tokens=4), "seed": 2},
                    SamplingParams(seed=2, max_tokens=4),
                ),
            ):
                answer = ask(*given, **keywords)
                result = getattr(answer, "result", answer)
                assert seen[-1] == expected
                assert result.usage.completion_tokens == expected.max_tokens
        assert llama.sampling == SamplingParams(max_tokens=5, temperature=0)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"temprature": 1}, "temprature"),
        ({"params": SamplingParams()}, "params"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"temperature": None}, "temperature=None"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"seed": -1}, "seed=-1"),
        ({"sampling": ModelParams()}, "sampling=ModelParams"),
        ({"n_ctx": 5}, "n_ctx"),
    ],
)
def test_a_wrong_setting_is_named_before_work_starts(keywords: Any, named: str) -> None:
    with FakeLlama() as llama:
        for conversation in (llama, llama.session(), llama.session("work")):
            for call in ASKING:
                given = () if call.startswith("regenerate") else ("go",)
                with pytest.raises(InvalidInput, match=re.escape(named)):
                    getattr(conversation, call)(*given, **keywords)
        assert llama.asked == []


def test_load_time_settings_are_keywords_that_hold_for_later_loads() -> None:
    with LlamaBridge(n_ctx=512, params=ModelParams(n_ctx=256, n_batch=64)) as llama:
        llama.load_model("demo")
        assert llama.info.n_ctx == 512
        llama.load_model("demo", n_ctx=768)
        assert llama.info.n_ctx == 768
        llama.init_generate_model("demo")
        assert llama.info.n_ctx == 512
        llama.load_model("demo", ModelParams(n_ctx=1024))
        assert llama.info.n_ctx == 1024


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"n_ctxx": 1}, "n_ctxx"),
        ({"n_ctx": -1}, "n_ctx=-1"),
        ({"kv_type_k": "q8_0"}, "kv_type_k"),
        ({"type_k": "q9"}, "type_k='q9'"),
        ({"params": SamplingParams()}, "sampling="),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_wrong_load_time_setting_leaves_the_model_in_use(keywords: Any, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        LlamaBridge("demo", **keywords)
    with LlamaBridge("demo") as llama:
        with pytest.raises(InvalidInput, match=named):
            llama.load_model("demo", unload_first=True, **keywords)
        assert llama.generate("Hello!", max_tokens=2).text


def test_a_session_has_the_short_names_and_no_engine() -> None:
    names = {name for name in dir(Session) if not name.startswith("_")}
    assert names == {
        *ASKING, "chat", "chat_stream", "name", "tokens", "messages", "n_turns", "active",
        "save", "load", "reset", "fork", "rewind", "verify", "delete",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", 5, b"work", "\udc80", ["a"], True])
def test_a_wrong_name_of_a_session_is_named(name: Any) -> None:
    with FakeLlama() as llama, pytest.raises(InvalidInput, match="name"):
        llama.session(name)

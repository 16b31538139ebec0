"""A chat: messages in, the next message out. Nothing is kept but what the list says."""

from __future__ import annotations

import enum
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import pytest

from llama_bridge import (
    Capability,
    ContextOverflow,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    TemplateError,
    TextDelta,
    UnsupportedCapability,
)
from llama_bridge.chat.stream import refused
from llama_bridge.chat.tools import check_tools
from llama_bridge.testing import FakeAnswer, FakeLlama

GREEDY = SamplingParams(temperature=0, max_tokens=24)
HELLO = [{"role": "user", "content": "My name is Omar."}]


def weather(city: str, days: int = 1) -> str:
    """Weather of a place.

    Args:
        city: where
            it is
        days: how many
    """
    return f"{city} {days}"


def test_a_chat_is_what_its_messages_say(llama: LlamaBridge) -> None:
    first = llama.chat(HELLO, sampling=GREEDY)
    assert first.mode is Mode.FRESH
    assert first.fallback is None
    messages = [*HELLO, first.message, {"role": "user", "content": "What is my name?"}]
    second = llama.chat(messages, sampling=GREEDY)
    assert llama.chat(messages, sampling=GREEDY).text == second.text
    llama.session_reset()
    assert llama.chat(messages, sampling=GREEDY).text == second.text


def test_only_what_is_new_is_evaluated(llama: LlamaBridge) -> None:
    if Capability.PREFIX_CACHE not in llama.capabilities:
        pytest.skip("needs prefix_cache")
    llama.session_reset()
    first = llama.chat(HELLO, sampling=GREEDY)
    messages = [*HELLO, first.message, {"role": "user", "content": "What is my name?"}]
    usage = llama.chat(messages, sampling=GREEDY).usage
    assert usage.cached_tokens >= first.usage.prompt_tokens
    assert usage.evaluated_tokens < usage.prompt_tokens / 2


def test_a_stream_adds_up_to_its_result(llama: LlamaBridge) -> None:
    stream = llama.chat_stream(HELLO, sampling=GREEDY)
    texts = [event.text for event in stream if isinstance(event, TextDelta)]
    assert "".join(texts) == stream.result.text == llama.chat(HELLO, sampling=GREEDY).text
    assert len(texts) > 1


def test_a_session_holds_what_was_said(llama: LlamaBridge) -> None:
    session = llama.session()
    reply = session.chat(HELLO, sampling=GREEDY)
    assert session.messages == [*HELLO, reply.message]
    if Capability.KV_CONTINUATION in llama.capabilities:
        session.generate_continue("And now?", sampling=GREEDY)
        assert [m["role"] for m in session.messages] == ["user", "assistant"] * 2
    session.reset()


def test_an_answer_can_have_a_shape(llama: LlamaBridge) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["n"],
    }
    reply = llama.chat(HELLO, json_schema=schema, max_tokens=40)
    assert reply.finish_reason == "stop"
    assert 1 <= reply.parsed["n"] <= 9
    with pytest.raises(InvalidInput, match="exclude"):
        llama.chat(HELLO, json_schema=schema, tools=[weather])


def test_a_stream_that_is_dropped_ends_the_answer(llama: LlamaBridge) -> None:
    with llama.chat_stream(HELLO, temperature=0) as stream:
        next(stream)
    assert stream.result.finish_reason in ("cancelled", "stop")
    assert llama.chat(HELLO, sampling=GREEDY).text


def test_an_engine_that_fails_says_so_each_time() -> None:
    with FakeLlama([FakeAnswer("abc", fails_after=1), "fine"]) as llama:
        stream = llama.chat_stream(HELLO)
        with pytest.raises(Exception, match="the fake failed"):
            list(stream)
        assert llama.chat(HELLO).text == "fine"


def test_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    with FakeLlama(["fine"]) as llama:
        llama.chat([{"role": "user", "content": parts}])
        assert "one\ntwo" in llama.asked[0].context


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages is empty"),
    ({"messages": "hi"}, "messages="),
    ({"messages": [{"content": "x"}]}, r"messages\[0\] needs"),
    ({"messages": [{"role": "user"}]}, r"messages\[0\] needs"),
    ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\] needs"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"\['content'\]\[0\]"),
    ({"messages": [{"role": "a b", "content": "x"}]}, "the role 'a b' cannot be used"),
    ({"messages": [{"role": "user", "content": "x", "colour": "red"}]}, "'colour', which has no"),
    ({"messages": [{"role": "user", "content": "x", "name": 5}]}, r"\['name'\] is 5"),
    ({"messages": [{"role": "assistant", "tool_calls": [5]}]}, r"\['tool_calls'\]\[0\] is 5"),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "{"}}],
                }
            ]
        },
        "no JSON object",
    ),
    ({"tools": weather}, "give a list of tools"),
    ({"tools": [5]}, r"tools\[0\] is 5"),
    ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\] has no name"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "named 'a b'"),
    ({"tools": [weather, weather]}, r"tools\[1\] has the name 'weather'"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
        "its parameters are 5",
    ),
    (
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}
            ]
        },
        "schema of an object",
    ),
    (
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"x": float("nan")}},
                }
            ]
        },
        "no JSON",
    ),
    ({"tool_choice": "required"}, "needs tools"),
    ({"tools": [weather], "tool_choice": "rain"}, "tool_choice='rain': give one of"),
    ({"tools": [weather], "tool_choice": 5}, "tool_choice=5"),
    ({"tools": [weather], "tool_choice": "required", "stop": "x"}, "stop cannot be used"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls=1"),
    ({"reasoning": "yes"}, "reasoning='yes'"),
    ({"stop": ""}, "stop"),
    ({"sampling": 5}, "sampling=5"),
    ({"temperature": "hot"}, "temperature"),
    ({"warmth": 1}, "warmth"),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says for _, says in BAD])
def test_what_cannot_be_used_is_named_before_anything_is_evaluated(
    given: dict[str, Any], says: str
) -> None:
    with FakeLlama(["one", "two"]) as llama:
        llama.generate("hello")
        before = llama.session().tokens
        for call in (llama.chat, llama.chat_stream):
            with pytest.raises(InvalidInput, match=says):
                call(**{"messages": HELLO, **given})
        assert llama.session().tokens == before
        assert len(llama.asked) == 1


def test_without_a_template_there_is_no_chat() -> None:
    with (
        FakeLlama(lacks="chat_template") as llama,
        pytest.raises(UnsupportedCapability, match="chat_template"),
    ):
        llama.chat(HELLO)
    with FakeLlama(lacks="tools") as llama, pytest.raises(UnsupportedCapability, match="tools"):
        llama.chat(HELLO, tools=[weather])


def test_what_the_template_refuses_is_told_and_nothing_is_lost(make_model: Any) -> None:
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('users first') }}{% endif %}x"
    model = make_model(vocab="qwen2", chat_template=source)
    with (
        LlamaBridge(model, backend="wasm") as llama,
        pytest.raises(TemplateError, match="users first"),
    ):
        llama.chat([{"role": "assistant", "content": "x"}])


def test_what_does_not_fit_is_refused() -> None:
    with FakeLlama(["x"], n_ctx=64) as llama, pytest.raises(ContextOverflow):
        llama.chat([{"role": "user", "content": "x" * 100}])


# functions as tools


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


class Place(TypedDict):
    city: str
    country: str | None


def test_a_function_becomes_a_schema() -> None:
    (tool,) = check_tools([weather])
    assert tool.name == "weather"
    assert tool.description == "Weather of a place."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "where it is"},
            "days": {"type": "integer", "description": "how many"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_annotations_become_schemas() -> None:
    def find(
        a: Literal["x", "y"],
        b: list[float],
        c: dict[str, bool],
        d: Unit,
        e: Place,
        f: Annotated[str, "in words"],
        g: int | None = None,
        h: tuple[int, str] = (1, "a"),
    ) -> None:
        """Find.

        :param a: which
        :returns: nothing
        """

    (tool,) = check_tools([find])
    assert tool.description == "Find."
    assert tool.parameters["properties"] == {
        "a": {"enum": ["x", "y"], "description": "which"},
        "b": {"type": "array", "items": {"type": "number"}},
        "c": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "d": {"enum": ["C", "F"]},
        "e": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "country": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["city", "country"],
            "additionalProperties": False,
        },
        "f": {"type": "string", "description": "in words"},
        "g": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "h": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
    }
    assert tool.parameters["required"] == ["a", "b", "c", "d", "e", "f"]


def no_type(city) -> None: ...  # type: ignore[no-untyped-def]


def any_number(*cities: str) -> None: ...


def any_names(**cities: str) -> None: ...


def by_place(city: str, /) -> None: ...


def strange(city: Callable[[], str]) -> None: ...


def of_bytes(city: bytes) -> None: ...


@pytest.mark.parametrize(
    "function", [no_type, any_number, any_names, by_place, strange, of_bytes, lambda x: x, print]
)
def test_a_function_that_is_no_tool_is_refused_and_named(function: Any) -> None:
    with pytest.raises(InvalidInput, match=r"tools\[0\]") as caught:
        check_tools([function])
    name = getattr(function, "__name__", "")
    assert name in str(caught.value)


def test_an_interrupt_that_loses_a_piece_of_the_answer_does_not_change_the_result() -> None:
    with FakeLlama("Hello there!") as llama:
        stream = llama.chat_stream(HELLO)
        next(stream)
        read = stream._answer.read

        def interrupted() -> None:
            read()
            del stream._answer.read
            raise KeyboardInterrupt

        stream._answer.read = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert stream.result.text == "Hello there!"


@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no threads")
def test_several_threads_may_read_one_answer() -> None:
    text = "".join(map(str, range(200)))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with FakeLlama(text) as llama:
            for _ in range(5):
                stream = llama.chat_stream(HELLO)
                threads = [threading.Thread(target=list, args=(stream,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(20)
                assert stream.result.text == text
    finally:
        sys.setswitchinterval(before)


class Part(TypedDict, total=False):
    name: Required[str]
    count: NotRequired[int]
    note: str


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def test_a_parameter_may_be_a_typed_dict_with_keys_that_may_be_left_out() -> None:
    def order(part: Part, size: Literal[Size.SMALL, "other"]) -> None:
        """Order."""

    properties = check_tools([order])[0].parameters["properties"]
    assert properties["part"] == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer"},
            "note": {"type": "string"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    assert properties["size"] == {"enum": ["small", "other"]}


def test_a_class_is_called_as_its_init_says() -> None:
    class Order:
        """An order."""

        count: str

        def __init__(self, count: int) -> None:
            pass

    class Again(Order):
        pass

    assert check_tools([Again])[0].parameters["properties"] == {"count": {"type": "integer"}}
    tool = check_tools([Order])[0]
    assert (tool.name, tool.description) == ("Order", "An order.")
    assert tool.parameters["properties"] == {"count": {"type": "integer"}}


class Odd:
    """As a numpy array, it is neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f", key: Odd()}}]}
        for key in ("description", "parameters")
    ],
)
def test_a_tool_with_what_is_neither_true_nor_false_is_named(more: dict[str, Any]) -> None:
    with FakeLlama() as llama, pytest.raises(InvalidInput, match=r"tools\[0\]"):
        llama.chat(HELLO, **more)


@pytest.mark.parametrize("key", ["tool_calls", "unknown"])
def test_a_message_with_what_is_neither_true_nor_false_is_named(key: str) -> None:
    with FakeLlama() as llama, pytest.raises(InvalidInput, match=r"messages\[0\]"):
        llama.chat([{"role": "user", "content": "x", key: Odd()}])


def test_what_has_a_name_that_is_no_text_is_no_tool() -> None:
    class Nameless:
        __name__ = 5

        def __call__(self) -> None:
            pass

    with pytest.raises(InvalidInput, match="has no name to call it by"):
        check_tools([Nameless()])


def test_constraints_of_pydantic_are_those_of_the_tool() -> None:
    pydantic = pytest.importorskip("pydantic", reason="it has no wheel here")

    class City(pydantic.BaseModel):  # type: ignore[misc,name-defined,unused-ignore]
        """A city."""

        name: str = pydantic.Field(min_length=2, description="its name")

    def find(days: int, cities: Any, city: Any = None) -> None:
        """Find the weather.

        Args:
            days: how many.
        """

    field = pydantic.Field(ge=1, le=7)
    find.__annotations__ |= {
        "days": Annotated[int, field],
        "cities": list[City],
        "city": City | None,
    }
    found, city = check_tools([find, City])
    assert found.parameters["properties"]["days"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 7,
        "description": "how many.",
    }
    assert found.parameters["required"] == ["days", "cities"]
    name = {"minLength": 2, "description": "its name", "title": "Name", "type": "string"}
    assert found.parameters["$defs"]["City"]["properties"]["name"] == name
    assert (city.name, city.description) == ("City", "A city.")
    assert city.parameters["properties"]["name"] == name
    for days, ok in ((0, False), (7, True), (8, False)):
        why = refused(found, {"days": days, "cities": [{"name": "Oslo"}]})
        assert (why == "") is ok
    assert refused(found, {"days": 1, "cities": [{"name": "O"}]})


def test_what_pydantic_cannot_tell_names_the_parameter() -> None:
    pydantic = pytest.importorskip("pydantic", reason="it has no wheel here")

    def find(test: Any) -> None: ...

    find.__annotations__["test"] = list[Annotated[Callable[[], int], pydantic.Field()]]
    with pytest.raises(InvalidInput, match=r"\(find\): its parameter 'test': pydantic makes no"):
        check_tools([find])


def test_two_models_of_one_name_are_refused() -> None:
    pydantic = pytest.importorskip("pydantic", reason="it has no wheel here")
    one, two = (pydantic.create_model("City", **{key: (int, ...)}) for key in ("a", "b"))

    def find(x: Any, y: Any) -> None: ...

    find.__annotations__ |= {"x": list[one], "y": list[two]}  # type: ignore[valid-type]
    with pytest.raises(InvalidInput, match=r"'y'.* has another 'City'"):
        check_tools([find])

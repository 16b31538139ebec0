"""Each family of models calls tools in its own words, through its own template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    InvalidToolCall,
    LlamaBridge,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from llama_bridge.chat.form import ChatWish
from llama_bridge.chat.message import check_messages
from llama_bridge.chat.stream import ChatEvent
from llama_bridge.chat.template import ChatTemplate
from llama_bridge.chat.tools import check_tools
from llama_bridge.testing import FakeLlama
from llama_bridge.testing.fake.model import write_fake_model

from .families import FAMILIES, TOOLS, Family

HELLO = [{"role": "user", "content": "Hi!"}]
Make = Callable[[Family, Any], FakeLlama]


def source(family: Family) -> str:
    from tools.random_model.templates import templates  # numpy: not in a page

    return templates()[family.template]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A fake model of a family that says what it is told to."""
    made: list[FakeLlama] = []

    def one(family: Family, answers: Any) -> FakeLlama:
        path = write_fake_model(
            tmp_path / f"{len(made)}.gguf",
            template=source(family),
            controls=("<s>", family.end, "<|secret|>"),
        )
        made.append(FakeLlama(answers, model=path))
        return made[-1]

    yield one
    for llama in made:
        llama.close()


every = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


@every
def test_a_call_is_understood(family: Family, make: Make) -> None:
    llama = make(family, [family.says])
    reply = llama.chat(HELLO, tools=TOOLS)
    assert reply.finish_reason == "tool_calls"
    (call,) = reply.tool_calls
    assert (call.name, call.arguments) == ("special_function", {"arg1": 1})
    assert call.id
    assert reply.text == ""
    assert reply.reasoning.strip() == family.reasoning.strip()
    assert llama.tool_form == family.form
    assert "special_function" in llama.asked[0].context, "the model was told of the tool"
    assert "I'm special" in llama.asked[0].context.replace("\\u0027", "'").replace("&#39;", "'")


def wish(choice: str = "auto") -> ChatWish:
    return ChatWish(check_tools(TOOLS), choice)


@every
def test_a_call_comes_in_pieces_that_add_up(family: Family, make: Make) -> None:
    llama = make(family, [family.says])
    stream = llama.chat_stream(HELLO, tools=TOOLS)
    events = list(stream)
    assert joined(events) == (
        stream.result.text,
        stream.result.reasoning,
        [("special_function", '{"arg1": 1}'.replace(" ", ""))],
    )
    ids = {event.id for event in events if isinstance(event, ToolCallDelta)}
    assert ids == {stream.result.tool_calls[0].id}


def joined(events: list[ChatEvent]) -> tuple[str, str, list[tuple[str, str]]]:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    calls: dict[int, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            before = calls.get(event.index, (event.name, ""))[1]
            calls[event.index] = event.name, before + event.arguments
    return text, reasoning, [(n, a.replace(" ", "").replace("\n", "")) for n, a in calls.values()]


@every
def test_cut_at_every_byte_it_is_never_something_else(family: Family) -> None:
    template = ChatTemplate(source(family), bos="<s>", eos=family.end)
    asked = template.chat(check_messages(HELLO), wish())
    data = family.says.encode()
    for cut in range(len(data) + 1):
        reader = asked.reader.anew()
        text = data[:cut].decode("utf-8", "ignore")
        parsed = reader.read(text, partial=True) if text else None
        reader.close()
        if parsed is None:
            continue
        assert family.reasoning.startswith(parsed.reasoning.strip())
        assert parsed.content.strip() in ("", family.says[: len(parsed.content)].strip())
        for call in parsed.calls:
            assert "special_function".startswith(call.name)
            assert '{"arg1":1}'.startswith(call.arguments.replace(" ", ""))
    whole = asked.reader.anew().read(family.says, partial=False)
    assert [(c.name, c.arguments.replace(" ", "")) for c in whole.calls] == [
        ("special_function", '{"arg1":1}')
    ]


@every
def test_read_piece_by_piece_it_is_what_it_is_at_once(family: Family) -> None:
    template = ChatTemplate(source(family), bos="<s>", eos=family.end)
    asked = template.chat(check_messages(HELLO), wish())
    once = asked.reader.anew().read(family.says, partial=False)
    slow = asked.reader.anew()
    for letter in family.says[:-1]:
        with suppressed():
            slow.read(letter, partial=True)
    assert slow.read(family.says[-1], partial=False) == once


@contextmanager
def suppressed() -> Iterator[None]:
    from contextlib import suppress

    from llama_bridge import TemplateError

    with suppress(TemplateError):
        yield


@every
def test_words_are_words(family: Family, make: Make) -> None:
    llama = make(family, [family.plain, family.plain, family.plain])
    choices: list[dict[str, Any]] = [{}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}]
    for settings in choices:
        reply = llama.chat(HELLO, **settings)
        assert (reply.text.strip(), reply.tool_calls) == ("Hello, world!", ()), settings
        assert reply.finish_reason == "stop"


@every
def test_a_call_can_be_required_and_its_result_is_told(family: Family, make: Make) -> None:
    llama = make(family, [family.says, family.plain])
    first = llama.chat(HELLO, tools=TOOLS, tool_choice="required")
    assert [call.arguments for call in first.tool_calls] == [{"arg1": 1}]
    result = first.tool_calls[0].result("The answer is forty-two.")
    second = llama.chat([*HELLO, first.message, result], tools=TOOLS)
    assert second.text.strip() == "Hello, world!"
    assert "forty-two" in llama.asked[-1].context


@every
def test_nothing_that_is_said_to_it_becomes_a_control_token(family: Family, make: Make) -> None:
    spelled = f"<|secret|>{family.end}"
    tool = {
        "type": "function",
        "function": {
            "name": "special_function",
            "description": f"I'm special {spelled}",
            "parameters": {
                "type": "object",
                "properties": {"arg1": {"type": "integer", "description": spelled}},
            },
        },
    }
    llama = make(family, [family.plain])
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"Hi {spelled}"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": spelled,
            "tool_calls": [
                {
                    "id": "call00001",
                    "type": "function",
                    "function": {
                        "name": "special_function",
                        "arguments": '{"arg1": "\\u003c|secret|>' + family.end + '"}',
                    },
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "call00001",
            "name": "special_function",
            "content": spelled,
        },
    ]
    prompt = llama._shared.runtime.ask(  # type: ignore[union-attr]
        check_messages(messages), ChatWish(check_tools([tool]))
    ).prompt
    assert "<|secret|>" in str(prompt)
    for piece in prompt.pieces:
        if piece.control:
            assert "<|secret|>" not in piece.text
    tokens = llama.tokenize(prompt)
    (secret,) = llama.tokenize("<|secret|>", add_special=False, parse_special=True)
    assert secret not in tokens


@pytest.mark.parametrize("name", ["gpt-oss", "Gemma 4", "Qwen 3"])
def test_an_answer_in_no_form_is_not_lost(name: str, make: Make) -> None:
    llama = make(FAMILIES[name], ["Just words, in no channel."])
    reply = llama.chat(HELLO, tools=TOOLS)
    assert reply.text == "Just words, in no channel."
    assert reply.finish_reason == "stop"


def test_arguments_that_the_schema_refuses_are_not_passed_on(make: Make) -> None:
    family = FAMILIES["Qwen 3 Coder"]
    tool = {
        "type": "function",
        "function": {
            "name": "special_function",
            "parameters": {
                "type": "object",
                "properties": {"arg1": {"type": "number", "maximum": 5}},
                "required": ["arg1"],
            },
        },
    }
    llama = make(family, [family.says.replace("\n1\n", "\n7\n"), family.says])
    with pytest.raises(InvalidToolCall, match="special_function") as caught:
        llama.chat(HELLO, tools=[tool])
    assert caught.value.name == "special_function"
    assert "7" in caught.value.arguments
    assert llama.chat(HELLO, tools=[tool]).tool_calls[0].arguments == {"arg1": 1}


@pytest.mark.parametrize("levels", [5, 300, 5_000])
def test_a_call_that_is_too_deep_to_be_read_is_text(levels: int, make: Make) -> None:
    """Reading it ends chat.wasm's instance: nothing is lost, neither the answer nor the next chat."""
    tree: dict[str, Any] = {"type": "array", "items": {"$ref": "#/$defs/tree"}}
    schema = {"type": "object", "properties": {"a": tree}, "$defs": {"tree": tree}}
    tool = {"type": "function", "function": {"name": "special_function", "parameters": schema}}
    says = f"<parameter=a>\n{'[' * levels}{']' * levels}\n</parameter>"
    call = f"<tool_call>\n<function=special_function>\n{says}\n</function>\n</tool_call>"
    llama = make(FAMILIES["Qwen 3 Coder"], [call, "Words."])
    reply = llama.chat(HELLO, tools=[tool])
    if levels == 5:
        assert reply.tool_calls[0].arguments == {"a": [[[[[]]]]]}
    else:
        assert (reply.text, reply.tool_calls, reply.finish_reason) == (call, (), "stop")
    assert llama.chat(HELLO, tools=[tool]).text == "Words."


def test_a_real_model_calls_what_it_must(llama: LlamaBridge) -> None:
    reply = llama.chat(HELLO, tools=TOOLS, tool_choice="special_function", max_tokens=200)
    if reply.finish_reason == "tool_calls":
        (call,) = reply.tool_calls
        assert call.name == "special_function"
        assert isinstance(call.arguments["arg1"], int)
    else:
        assert reply.finish_reason == "length"

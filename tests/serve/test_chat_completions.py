"""``/v1/chat/completions``, judged by the official client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llama_bridge import Capability, LlamaBridge

from .serving import Address

HELLO: Any = [{"role": "user", "content": "Hello! My name is Zorblax."}]


def test_the_models_are_listed(server: Address) -> None:
    client = server.openai()
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").object == "model"
    with pytest.raises(openai.NotFoundError, match=r"no model 'gpt'.*give one of demo"):
        client.models.retrieve("gpt")


def test_an_answer_is_that_of_the_library(server: Address, demo: LlamaBridge) -> None:
    expected = demo.chat(HELLO, max_tokens=None, temperature=0)
    answer = server.openai().chat.completions.create(model="demo", messages=HELLO)
    (choice,) = answer.choices
    assert choice.message.content == expected.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens == expected.usage.prompt_tokens
    assert usage.completion_tokens == expected.usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    if Capability.PREFIX_CACHE in demo.capabilities:
        assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1
    assert answer.model_extra == {"mode": "fresh", "fallback": None}


def test_a_stream_adds_up_to_the_answer(server: Address) -> None:
    client = server.openai()
    whole = client.chat.completions.create(model="demo", messages=HELLO)
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(texts) == whole.choices[0].message.content
    assert sum(map(bool, texts)) > 3
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + [
        "stop"
    ]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    with_none = client.chat.completions.create(model="demo", messages=HELLO, stream=True)
    assert all(chunk.usage is None for chunk in with_none)


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_have_seeds_of_their_own(server: Address, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "n": 3,
        "temperature": 3.0,
        "top_p": 1,
        "extra_body": {"top_k": 0, "min_p": 0},
        "seed": 2**63 - 5,
        "max_tokens": 12,
        "stream": stream,
    }

    def texts() -> list[str]:
        answer: Any = server.openai().chat.completions.create(**asked)
        if not stream:
            return [choice.message.content for choice in answer.choices]
        said = ["", "", ""]
        for chunk in answer:
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
        return said

    first = texts()
    assert len(first) == 3
    assert len(set(first)) > 1
    assert texts() == first


def test_an_answer_that_is_too_long_is_cut(server: Address) -> None:
    client = server.openai()
    for name in ("max_tokens", "max_completion_tokens"):
        limit: Any = {name: 3}
        answer = client.chat.completions.create(model="demo", messages=HELLO, **limit)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3


def test_a_stop_string_ends_it(server: Address) -> None:
    client = server.openai()
    whole = client.chat.completions.create(model="demo", messages=HELLO)
    word = str(whole.choices[0].message.content).split()[2]
    for stop in (word, ["nowhere", word]):
        answer = client.chat.completions.create(model="demo", messages=HELLO, stop=stop)
        assert answer.choices[0].finish_reason == "stop"
        assert (
            answer.choices[0].message.content
            == (whole.choices[0].message.content or "").partition(word)[0]
        )


def test_logit_bias_bans_a_token(server: Address, demo: LlamaBridge) -> None:
    client = server.openai()
    asked: Any = {"model": "demo", "messages": HELLO, "logprobs": True}
    first = client.chat.completions.create(**asked, top_logprobs=2).choices[0]
    assert first.logprobs is not None
    assert first.logprobs.content is not None
    (best, second) = first.logprobs.content[0].top_logprobs
    assert best.logprob == first.logprobs.content[0].logprob >= second.logprob
    said = b"".join(bytes(token.bytes or ()) for token in first.logprobs.content)
    assert str(first.message.content).encode() in said
    (token,) = demo.tokenize(best.token, add_special=False)
    other = client.chat.completions.create(**asked, logit_bias={str(token): -100}).choices[0]
    assert other.logprobs is not None
    assert other.logprobs.content is not None
    assert other.logprobs.content[0].token == second.token
    assert other.logprobs.content[0].top_logprobs == []


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_an_answer_fits_its_schema(server: Address) -> None:
    client = server.openai()
    asked: Any = {"model": "demo", "messages": HELLO, "max_tokens": 80}
    shape: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    answer = client.chat.completions.create(**asked, response_format=shape).choices[0]
    assert answer.finish_reason == "stop"
    assert set(json.loads(answer.message.content or "")) == {"name", "age"}
    bad = {"name": "x", "schema": {"type": "array", "unevaluatedItems": {"type": "string"}}}
    refused: Any = {"type": "json_schema", "json_schema": bad}
    with pytest.raises(openai.BadRequestError, match="unevaluatedItems") as caught:
        client.chat.completions.create(**asked, response_format=refused)
    assert caught.value.param == "response_format"


TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Oslo", "Rome"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def test_a_tool_is_called_and_told_its_result(server: Address) -> None:
    client = server.openai()
    said: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked: Any = {"model": "demo", "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
    answer = client.chat.completions.create(messages=said, **asked).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    said += [
        answer.message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    last = client.chat.completions.create(
        messages=said, model="demo", tools=TOOLS, tool_choice="none", max_tokens=20
    )
    assert last.choices[0].message.tool_calls is None


def test_a_call_is_streamed_in_pieces(server: Address) -> None:
    client = server.openai()
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    stream: Any = client.chat.completions.create(
        model="demo", messages=HELLO, tools=TOOLS, tool_choice=named, stream=True, max_tokens=200
    )
    names, arguments, reasons = [], "", []
    for chunk in stream:
        (choice,) = chunk.choices
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or ():
            assert call.index == 0
            names.append(call.function.name)
            arguments += call.function.arguments
    assert [name for name in names if name] == ["get_weather"]
    assert json.loads(arguments)["city"] in ("Oslo", "Rome")
    assert reasons[-1] == "tool_calls"

"""Each field of each request, with each wrong type: refused before any work, with the name of the field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llama_bridge import SamplingParams
from llama_bridge.serve.chat_request import read_chat
from llama_bridge.serve.completions import read_completion
from llama_bridge.serve.embeddings import read_embedding, read_rerank
from llama_bridge.serve.fields import Fields, read_body
from llama_bridge.serve.refusals import Refused
from llama_bridge.serve.response_request import read_response
from llama_bridge.serve.sampling_fields import read_sampling

from .serving import Address

SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "min_p": 0.5,
    "top_k": 5,
    "repeat_penalty": 1.5,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "repeat_last_n": 5,
    "dry_multiplier": 0.5,
    "dry_base": 1.5,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": 5,
    "dry_sequence_breakers": ["x"],
    "xtc_probability": 0.5,
    "xtc_threshold": 0.5,
    "typical_p": 0.5,
    "top_n_sigma": 0.5,
    "mirostat": 0,
    "mirostat_tau": 0.5,
    "mirostat_eta": 0.5,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 0.5,
    "seed": 5,
    "speculate": True,
    "logit_bias": {"5": 1.0},
}
FUNCTION = {
    "name": "f",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
STREAM = {"include_usage": True, "include_obfuscation": True}

CHAT: dict[str, Any] = SAMPLING | {
    "model": "demo",
    "messages": [
        {"role": "developer", "content": "x", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {
            "role": "assistant",
            "content": "x",
            "tool_calls": [CALL],
            "reasoning_content": "x",
            "refusal": "x",
            "annotations": [],
        },
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "reasoning_effort": "low",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "strict": True, "schema": {}},
    },
    "stop": ["x"],
    "grammar": "root ::= x",
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "stream": True,
    "stream_options": STREAM,
    "user": "x",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "prompt_cache_retention": "x",
    "metadata": {},
    "store": True,
    "service_tier": "auto",
    "verbosity": "low",
    "modalities": ["text"],
}
COMPLETION: dict[str, Any] = SAMPLING | {
    "model": "demo",
    "prompt": "x",
    "n": 2,
    "best_of": 2,
    "echo": False,
    "stop": ["x"],
    "grammar": "x",
    "logprobs": 2,
    "max_tokens": 5,
    "stream": True,
    "stream_options": STREAM,
    "suffix": "",
    "user": "x",
}
RESPONSE: dict[str, Any] = SAMPLING | {
    "model": "demo",
    "input": [
        {"role": "user", "content": "x"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {
            "type": "reasoning",
            "id": "r",
            "summary": [{"type": "summary_text", "text": "x"}],
            "content": [{"type": "reasoning_text", "text": "x"}],
            "encrypted_content": "x",
            "status": "completed",
        },
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "x", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "x"},
            ],
        },
        {
            "type": "function_call",
            "id": "i",
            "call_id": "c",
            "name": "f",
            "namespace": "n",
            "arguments": "{}",
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "instructions": "x",
    "previous_response_id": "x",
    "tools": [{"type": "function", **FUNCTION}],
    "tool_choice": {"type": "function", "name": "f"},
    "parallel_tool_calls": True,
    "text": {
        "verbosity": "low",
        "format": {
            "type": "json_schema",
            "name": "n",
            "description": "d",
            "strict": True,
            "schema": {},
        },
    },
    "reasoning": {"effort": "low", "summary": "auto", "generate_summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "max_output_tokens": 5,
    "max_tool_calls": 5,
    "metadata": {"a": "b"},
    "store": True,
    "stream": True,
    "stream_options": {"include_obfuscation": True},
    "background": False,
    "truncation": "disabled",
    "service_tier": "auto",
    "user": "x",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "prompt_cache_retention": "x",
}
EMBEDDING: dict[str, Any] = {
    "model": "demo",
    "input": ["x", "y"],
    "encoding_format": "base64",
    "dimensions": 5,
    "user": "x",
}
RERANK: dict[str, Any] = {
    "model": "demo",
    "query": "x",
    "documents": ["x", {"text": "y"}][:1],
    "top_n": 1,
    "return_documents": True,
}
REQUESTS: dict[str, tuple[Callable[[Fields], object], dict[str, Any]]] = {
    "chat": (read_chat, CHAT),
    "completion": (read_completion, COMPLETION),
    "response": (read_response, RESPONSE),
    "embedding": (read_embedding, EMBEDDING),
    "rerank": (read_rerank, RERANK),
}

WRONG: tuple[Any, ...] = (
    True,
    7,
    -1,
    1.5,
    1e400,
    "\ud800",
    "?",
    "",
    [],
    [7],
    [[]],
    [None],
    {},
    {"?": 7},
)
Path = tuple[str | int, ...]

ALSO = {
    "messages.content": "array string",
    "input.content": "array string",
    "output": "array string",
    "input": "array string",
    "prompt": "array string",
    "stop": "array string",
    "dry_sequence_breakers": "array string",
    "include": "array string",
    "tool_choice": "object string",
}
"""Fields that take more than one type."""


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """All places in a request, but those in what people define themselves."""
    if at:
        yield at
    if at[-1:] in (("schema",), ("parameters",), ("metadata",), ("logit_bias",)):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from paths(inner, (*at, i))


def place(path: Path) -> str:
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)[1:]


def changed(body: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(body)
    inner: Any = made
    for one in path[:-1]:
        inner = inner[one]
    inner[path[-1]] = value
    return made


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = {int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def kinds_of(path: Path, value: Any) -> set[str]:
    names = [one for one in path if isinstance(one, str)]
    for known in (".".join((names[0], names[-1])), names[-1]):
        if known in ALSO and not isinstance(path[-1], int):
            return set(ALSO[known].split())
    return {kind(value)}


OTHERS = {"tool_choice", "top_logprobs", "best_of", "stream_options", "n"}
"""Fields that make no sense without another."""


def check(refused: Refused, at: str, what: str) -> None:
    assert refused.status == 400, what
    param = str(refused.param)
    named = param.startswith(at) or at.startswith(param) or param in OTHERS
    assert named, f"{what}: {param} is named"
    assert len(refused.message) < 600


@pytest.mark.parametrize("name", REQUESTS)
def test_a_field_of_the_wrong_type_is_named(name: str) -> None:
    read, body = REQUESTS[name]
    read(Fields(body))  # all of it can be given
    attacks = 0
    for path in paths(body):
        value: Any = body
        for one in path:
            value = value[one]
        for wrong in WRONG:
            attacks += 1
            what = f"{place(path)} = {wrong!r}"
            try:
                read(Fields(changed(body, path, wrong)))
            except Refused as refused:
                check(refused, place(path), what)
            else:
                assert kind(wrong) in kinds_of(path, value), what
    assert attacks > 50


@pytest.mark.parametrize("name", REQUESTS)
def test_what_nobody_knows_is_refused(name: str) -> None:
    read, body = REQUESTS[name]
    for path in [(), *paths(body)]:
        inner: Any = body
        for one in path:
            inner = inner[one]
        free = path[-1:] in (("schema",), ("parameters",), ("metadata",), ("logit_bias",))
        if not isinstance(inner, dict) or free:
            continue
        with pytest.raises(Refused) as caught:
            read(Fields(changed(body, (*path, "surprise"), 5)))
        assert str(caught.value.param).endswith("surprise")
        read(Fields(changed(body, (*path, "surprise"), None)))


def test_each_setting_of_the_library_can_be_given() -> None:
    assert {*SAMPLING, "max_tokens"} == {*SamplingParams.__dataclass_fields__}
    settings = read_sampling(Fields(SAMPLING), ("max_tokens",))
    assert {*settings} == {*SAMPLING}


@pytest.mark.parametrize("name", REQUESTS)
def test_null_is_as_good_as_nothing(name: str) -> None:
    read, body = REQUESTS[name]
    needed = {"messages", "prompt", "input", "query", "documents"}
    for field in body:
        less = changed(body, (field,), None)
        if field in needed:
            with pytest.raises(Refused, match=f"{field} is missing"):
                read(Fields(less))
            continue
        if field in ("tools", "stream", "logprobs", "n"):  # others need them
            for other in ("tool_choice", "stream_options", "top_logprobs", "best_of"):
                less.pop(other, None)
        read(Fields(less))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a":' * 3000,
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1}{"b": 2}',
        b'{"a": 1, "a": 2}',
        b'{"b": [{"a": 1, "a": 1}]}',
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_body(body)
    assert caught.value.status == 400
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (rb'{"input": "\ud800"}', "input"),
        (rb'{"metadata": {"a": "\uDFFF"}}', "metadata.a"),
        (rb'{"metadata": {"\ud800": "a"}}', "metadata"),
        (rb'{"input": [5, {"content": [{"annotations": ["\ud83d"]}]}]}', "input[1].content[0]"),
        (rb'{"\ud800": 1}', None),
    ],
)
def test_half_a_character_is_refused_wherever_it_is(body: bytes, place: str | None) -> None:
    """It cannot be kept or told: a metadata field of it ended the answer in the middle."""
    with pytest.raises(Refused, match="lone surrogate") as caught:
        read_body(body)
    assert caught.value.status == 400
    param = caught.value.param
    assert param == place or (place is not None and str(param).startswith(place))
    assert read_body(rb'{"a": "\ud83d\ude00 \\ud800"}').text("a") == "\U0001f600 \\ud800"


PATHS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/responses": RESPONSE,
    "/v1/embeddings": EMBEDDING,
    "/v1/rerank": RERANK,
}


@pytest.mark.parametrize("path", PATHS)
def test_it_is_refused_over_http(server: Address, path: str) -> None:
    body = {**PATHS[path]}
    body.pop("previous_response_id", None)
    for field, value in (("model", 5), ("surprise", 5), ("user", []), ("top_n", "x")):
        reply = server.post(path, body | {field: value})
        assert reply.status == 400
        assert reply.error["param"] == field
        assert reply.error["type"] == "invalid_request_error"
    assert server.post(path, [1]).status == 400
    packed = server.ask("POST", path, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert packed.status == 415
    assert "gzip" in packed.error["message"]
    assert server.ask("GET", path).status == 405
    missing = server.post(path, body | {"model": "/etc/passwd"})
    assert missing.status == 404
    assert missing.error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1000),
        ("top_p", 2),
        ("max_completion_tokens", 0),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": "a lot"}),
        ("logit_bias", {"99999999": 1}),
        ("stop", [""]),
        ("grammar", "root ::= ("),
        ("tools", [{"type": "function", "function": {"name": "no good"}}]),
        ("messages", []),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}),
        ("n", 0),
        ("n", 1000),
    ],
)
def test_what_the_model_cannot_take_is_named_too(server: Address, field: str, value: Any) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], field: value}
    reply = server.post("/v1/chat/completions", body)
    assert reply.status == 400, reply.body
    assert str(reply.error["param"]).startswith(field)


def test_a_chat_that_is_too_long_is_told_by_how_much(server: Address) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "word " * 5000}]}
    reply = server.post("/v1/chat/completions", json.loads(json.dumps(body)))
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"
    assert "tokens" in reply.error["message"]


BAD = {
    "type": "object",
    "properties": {"a": {"type": "array", "unevaluatedItems": {"type": "string"}}},
}
BAD_TOOL = {"name": "f", "parameters": BAD}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": "?"}],
                "tools": [{"type": "function", "function": BAD_TOOL}],
                "tool_choice": "required",
            },
            "tools",
        ),
        (
            "responses",
            {
                "input": "?",
                "tools": [{"type": "function", **BAD_TOOL}],
                "tool_choice": "required",
            },
            "tools",
        ),
        (
            "responses",
            {"input": "?", "text": {"format": {"type": "json_schema", "name": "x", "schema": BAD}}},
            "text.format",
        ),
        ("responses", {"input": [{"role": "assistant", "content": "x" * 90_000}]}, None),
    ],
)
def test_what_only_the_library_can_know_is_named_as_the_request_has_it(
    server: Address, path: str, body: dict[str, Any], param: str | None
) -> None:
    reply = server.post(f"/v1/{path}", body)
    assert reply.status == 400, reply.body
    assert reply.error["param"] == param, reply.body

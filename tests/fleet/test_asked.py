"""Which conversation a request belongs to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_bridge.serve.fleet.asked import Asked, conversation_of
from llama_bridge.serve.fleet.placing import Conversation
from llama_bridge.serve.kept_responses import replica_mark

MADE = "resp_" + replica_mark("a") + "0" * 32
SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello!"}
BYE = {"role": "user", "content": "Bye!"}


def scope(path: str = "/v1/chat/completions", root: str = "", **headers: str) -> dict[str, Any]:
    told = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {
        "type": "http",
        "method": "POST",
        "path": root + path,
        "root_path": root,
        "headers": told,
    }


def of(body: Any, path: str = "/v1/chat/completions", **headers: str) -> Conversation:
    return conversation_of(scope(path, **headers), json.dumps(body).encode())


def test_a_chat_is_known_by_its_beginning() -> None:
    answer = {"role": "assistant", "content": "Hi!"}
    first = of({"messages": [SYSTEM, HELLO]})
    assert first.key
    assert of({"messages": [SYSTEM, HELLO, answer, BYE], "temperature": 1}) == first
    for other in ([SYSTEM, BYE], [HELLO], [SYSTEM, HELLO | {"content": "Hello?"}]):
        assert of({"messages": other}) != first
    assert of({"messages": [SYSTEM, HELLO], "model": "another"}) != first


def test_a_response_is_known_by_who_made_the_one_before() -> None:
    assert of({"input": "x", "previous_response_id": MADE}, "/v1/responses").maker == replica_mark(
        "a"
    )
    assert of(None, f"/v1/responses/{MADE}").maker == replica_mark("a")
    assert of(None, f"/v1/responses/{MADE}/input_items").maker == replica_mark("a")
    assert of({"input": "x"}, "/v1/responses") == Conversation()
    assert conversation_of(scope(f"/v1/responses/{MADE}", "/llm"), b"").maker == replica_mark("a")


def test_a_session_id_counts_more_than_what_is_said() -> None:
    one = of({"messages": [HELLO]}, x_session_id="one")
    assert of({"messages": [BYE]}, x_session_id="one") == one
    assert of({"messages": [HELLO]}, x_session_id="two") != one
    assert of({"messages": [HELLO]}, x_session_id="one", authorization="Bearer k") != one
    both = of({"previous_response_id": MADE}, x_session_id="one")
    assert both == Conversation(replica_mark("a"), one.key)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"messages": 3}',
        b'{"messages": [1, null]}',
        b'{"previous_response_id": 3}',
        b'{"previous_response_id": "resp_"}',
        b'{"prompt": [1]}',
    ],
)
def test_what_cannot_be_read_is_left_to_who_answers(body: bytes) -> None:
    assert conversation_of(scope("/v1/responses"), body).maker == ""


def test_a_body_that_is_nested_too_deep_is_left_to_who_answers() -> None:
    """Some depths can be read, and not be written."""
    for deep in range(500, 1000):
        body = b'{"messages": [%s%s]}' % (b"[" * deep, b"]" * deep)
        assert conversation_of(scope("/v1/chat/completions"), body).maker == ""


def test_the_beginning_of_a_raw_prompt_is_enough() -> None:
    story = "Once upon a time " * 100
    assert of({"prompt": story}, "/v1/completions") == of(
        {"prompt": story + "x"}, "/v1/completions"
    )


def test_a_request_travels_with_what_asgi_says_of_it() -> None:
    given = scope(content_type="application/json") | {
        "query_string": b"a=b",
        "client": ["127.0.0.1", 1],
        "extensions": {"of": object()},
    }
    asked = Asked.of(given, b"{}")
    assert asked.scope["headers"] == [(b"content-type", b"application/json")]
    assert asked.scope["client"] == ("127.0.0.1", 1)
    assert "extensions" not in asked.scope

"""``/v1/responses``: each id is a session that later requests go on from, as often as they like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from llama_bridge import Capability, LlamaBridge, registry
from llama_bridge.serve import app

from .serving import Address, serving

NAME = "Hello! My name is Zorblax."
ASK = "What is my name?"


def test_a_response_is_a_session(server: Address, demo: LlamaBridge) -> None:
    client = server.openai()
    first = client.responses.create(model="demo", input=NAME)
    assert first.status == "completed"
    assert "Zorblax" in first.output_text
    second = client.responses.create(model="demo", input=ASK, previous_response_id=first.id)
    assert "Zorblax" in second.output_text
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert first.usage is not None
    if Capability.SESSION_TOOLS in demo.capabilities:
        assert {first.id, second.id} <= set(demo.sessions())
        cached = second.usage.input_tokens_details.cached_tokens
        # All that was said and answered, but the token that ends the answer or the last one.
        assert cached >= first.usage.total_tokens - 2
    alone = client.responses.create(model="demo", input=ASK)
    assert "Zorblax" not in alone.output_text


def test_a_session_that_is_damaged_is_evaluated_again(llama_backend: str, tmp_path: Path) -> None:
    """What was said is kept beside it. The answer was an error, each time."""
    if Capability.SESSION_PERSISTENCE not in registry.candidates(llama_backend)[0].capabilities:
        pytest.skip("it keeps no sessions")
    made = None
    for _ in range(2):
        with (
            LlamaBridge("demo", backend=llama_backend, sessions_dir=tmp_path / "kv") as llama,
            serving(app(llama, responses_dir=tmp_path / "said")) as address,
        ):
            responses = address.openai().responses
            if made is None:
                made = responses.create(model="demo", input=NAME, temperature=0)
            else:
                on: Any = {"previous_response_id": made.id, "temperature": 0}
                assert "Zorblax" in responses.create(model="demo", input=ASK, **on).output_text
        (file,) = (tmp_path / "kv").glob(f"{made.id}*")
        damaged = bytearray(file.read_bytes())
        damaged[2000] ^= 1
        file.write_bytes(damaged)


def test_branches_do_not_know_each_other(server: Address) -> None:
    client = server.openai()
    root = client.responses.create(model="demo", input="Hello!")
    names = {
        name: client.responses.create(
            model="demo", input=f"My name is {name}.", previous_response_id=root.id
        )
        for name in ("Zorblax", "Quentin")
    }
    for name, branch in names.items():
        for _ in range(2):  # a use leaves it as it was
            answer = client.responses.create(
                model="demo", input=ASK, previous_response_id=branch.id
            )
            assert name in answer.output_text


def test_an_id_that_cannot_be_used_is_refused_with_the_reason(server: Address) -> None:
    client = server.openai()
    made = client.responses.create(model="demo", input=NAME)
    client.responses.delete(made.id)
    unstored = client.responses.create(model="demo", input=NAME, store=False)
    for id_, why in (
        ("resp_1", "unknown"),
        (made.id[:-1] + "x", "unknown"),
        (made.id, "no longer kept"),
        (unstored.id, "no longer kept"),
        ("../../etc/passwd", "unknown"),
    ):
        with pytest.raises(openai.NotFoundError, match=why) as caught:
            client.responses.create(model="demo", input=ASK, previous_response_id=id_)
        assert caught.value.param == "previous_response_id"


def test_a_kept_response_can_be_read_again(server: Address, demo: LlamaBridge) -> None:
    client = server.openai()
    made = client.responses.create(model="demo", input=NAME, metadata={"a": "b"})
    again = client.responses.retrieve(made.id)
    assert again.to_dict() == made.to_dict()
    assert again.metadata == {"a": "b"}
    (item,) = client.responses.input_items.list(made.id)
    assert item.type == "message"
    assert NAME in item.to_json()
    client.responses.delete(made.id)
    assert made.id not in demo.sessions()
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_instructions_hold_for_one_response(server: Address) -> None:
    client = server.openai()
    first = client.responses.create(model="demo", input="Hello!", instructions="Be brief.")
    second = client.responses.create(model="demo", input="Hello!", previous_response_id=first.id)
    assert first.instructions == "Be brief."
    assert second.instructions is None


def kinds(events: list[Any]) -> list[str]:
    """The kinds of events, repeated ones once."""
    found: list[str] = []
    for event in events:
        if found[-1:] != [event.type]:
            found.append(event.type)
    return found


def test_events_add_up_to_the_response(server: Address) -> None:
    client = server.openai()
    events: list[Any] = list(client.responses.create(model="demo", input=NAME, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    whole = events[-1].response
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text != ""
    assert len(deltas) > 3
    assert client.responses.retrieve(whole.id).to_dict() == whole.to_dict()
    with client.responses.stream(model="demo", input=ASK, previous_response_id=whole.id) as stream:
        assert "Zorblax" in stream.get_final_response().output_text


TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_told_its_result(server: Address, stream: bool) -> None:
    client = server.openai()
    asked: Any = {
        "model": "demo",
        "input": "What is the weather in Oslo?",
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "max_output_tokens": 200,
    }
    if stream:
        events: list[Any] = list(client.responses.create(**asked, stream=True))
        assert kinds(events)[2:-1] == [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
        made = events[-1].response
    else:
        made = client.responses.create(**asked)
    (call,) = made.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    after = client.responses.create(
        model="demo",
        input=[result],
        previous_response_id=made.id,
        max_output_tokens=10,
        tools=[TOOL],
        tool_choice="none",
    )
    assert after.usage is not None
    assert after.usage.input_tokens > made.usage.input_tokens
    # The same with everything said again, as for a server that keeps nothing.
    items: Any = [{"role": "user", "content": asked["input"]}, call.to_dict(), result]
    again = client.responses.create(
        model="demo",
        input=items,
        store=False,
        max_output_tokens=10,
        tools=[TOOL],
        tool_choice="none",
    )
    assert again.output_text == after.output_text


def test_an_answer_fits_its_schema(server: Address) -> None:
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    }
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    made = server.openai().responses.create(model="demo", input=NAME, text=form)
    assert set(json.loads(made.output_text)) == {"yes"}


def test_a_response_that_is_cut_says_so(server: Address) -> None:
    client = server.openai()
    made = client.responses.create(model="demo", input=NAME, max_output_tokens=2)
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    events: list[Any] = list(
        client.responses.create(model="demo", input=NAME, max_output_tokens=2, stream=True)
    )
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output[0].status == "incomplete"

"""Several servers answer as one."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from llama_bridge import Capability, registry
from llama_bridge.errors import ClosedError, InvalidInput, SessionWriteError
from llama_bridge.serve.fleet.asked import Asked
from llama_bridge.serve.fleet.member import Member
from llama_bridge.serve.fleet.settings import FleetSettings
from llama_bridge.serve.kept_responses import made_by, replica_mark
from tests.serve.serving import Address, until

from .together import Fleet, running

NAME = "Hello! My name is Zorblax."
ASK = "What is my name?"

Two = tuple[Fleet, Address]


@pytest.fixture
def two(tmp_path: Path, llama_backend: str) -> Iterator[Two]:
    with running(tmp_path, 2, backend=llama_backend) as found:
        yield found


def cached(response: Any) -> int:
    return int(response.usage.input_tokens_details.cached_tokens)


def maker(fleet: Fleet, response: Any) -> str:
    return next(name for name in fleet.members if replica_mark(name) == made_by(response.id))


def test_conversations_stay_with_their_member(two: Two) -> None:
    fleet, address = two
    client = address.openai()
    talks = [
        client.responses.create(input=f"Hello! My name is {name}.") for name in ("Quill", "Osha")
    ]
    homes = [maker(fleet, talk) for talk in talks]
    assert len(set(homes)) == 2
    for _ in range(3):
        talks = [client.responses.create(input=ASK, previous_response_id=t.id) for t in talks]
        assert [maker(fleet, talk) for talk in talks] == homes
    assert fleet.asked == {"member 0": 4, "member 1": 4}


def test_chats_stay_by_their_beginning_or_their_session_id(two: Two) -> None:
    fleet, address = two
    client = address.openai()
    for given in ({}, {"x-session-id": "mine"}):
        fleet.asked.clear()
        messages: list[Any] = [{"role": "user", "content": "Hello!"}]
        for _ in range(3):
            if given:
                messages[0] = {"role": "user", "content": f"Hello {len(messages)}!"}
            answer = client.chat.completions.create(
                model="demo", messages=messages, extra_headers=given
            )
            messages += [answer.choices[0].message.to_dict(), {"role": "user", "content": ASK}]
        assert list(fleet.asked.values()) == [3]


def test_a_lost_members_conversation_goes_on_from_its_session_file(
    two: Two, tmp_path: Path, llama_backend: str
) -> None:
    fleet, address = two
    client = address.openai()
    first = client.responses.create(input=NAME)
    home = maker(fleet, first)
    keeps = Capability.SESSION_PERSISTENCE in registry.candidates(llama_backend)[0].capabilities
    if keeps:
        until((tmp_path / "store" / first.id[13:15] / f"{first.id}.session").exists)
    fleet.doomed[home] = 0
    second = client.responses.create(input=ASK, previous_response_id=first.id)
    assert "Zorblax" in second.output_text  # another one was asked, and nobody noticed
    assert maker(fleet, second) != home
    assert first.usage is not None
    if keeps:
        assert cached(second) >= 0.95 * first.usage.total_tokens


def test_a_stream_that_is_cut_off_says_so_and_the_conversation_goes_on(two: Two) -> None:
    fleet, address = two
    client = address.openai()
    first = client.responses.create(input=NAME)
    fleet.doomed[maker(fleet, first)] = 2
    said: list[Any] = []
    with pytest.raises(openai.APIError, match="replica that made this answer is gone"):
        said.extend(client.responses.create(input=ASK, previous_response_id=first.id, stream=True))
    assert said, "it had begun"
    again = client.responses.create(input=ASK, previous_response_id=first.id)
    assert "Zorblax" in again.output_text


def test_without_any_member_that_lives_a_request_is_refused(two: Two) -> None:
    fleet, address = two
    fleet.doomed = dict.fromkeys(fleet.members, 0)
    fleet.members = {"member 0": fleet.members["member 0"]}
    fleet.members["again"] = fleet.members["more"] = fleet.members["member 0"]
    fleet.doomed |= {"again": 0, "more": 0}
    reply = address.post("/v1/responses", {"input": "Hello!"})
    assert (reply.status, reply.error["code"]) == (503, "replica_lost")


def test_a_client_that_leaves_ends_its_answer(two: Two) -> None:
    fleet, address = two
    link = http.client.HTTPConnection("127.0.0.1", address.port, timeout=30)
    endless = {
        "prompt": "the",
        "stream": True,
        "max_tokens": 4000,
        "logit_bias": {"0": -100, "5": -100},
    }
    link.request(
        "POST", "/v1/completions", json.dumps(endless), {"Content-Type": "application/json"}
    )
    assert link.getresponse().read(20)
    until(lambda: fleet.at_work.total() == 1)
    link.close()
    until(lambda: fleet.at_work.total() == 0, 10)


def test_what_is_wrong_is_refused_as_by_one_server(
    two: Two, llama_backend: str, tmp_path: Path
) -> None:
    _, address = two
    assert address.post("/v1/responses", {"input": 3}).error["param"] == "input"
    assert address.ask("GET", "/v1/nothing").status == 404
    large = address.ask("POST", "/v1/responses", b"{}", {"Content-Length": str(9 << 20)})
    assert large.status == 413
    assert address.post("/v1/responses", {"input": "x"}, Host="evil.example").status == 403
    keys = tmp_path / "keys"
    keys.write_text("sk-one\n")
    with running(tmp_path, 1, backend=llama_backend, api_key_file=str(keys)) as (fleet, closed):
        assert closed.post("/v1/responses", {"input": "Hello!"}).status == 401
        assert not fleet.asked, "a member is not bothered"
        kept = closed.openai("sk-one").responses.create(input="Hello!")
        assert closed.ask("GET", f"/v1/responses/{kept.id}").status == 401


def test_a_member_that_cannot_begin_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    async def begin(**settings: Any) -> None:
        member = Member(FleetSettings(**({"store": str(tmp_path / "store")} | settings)), "a")
        await member.begin()

    (tmp_path / "file").write_text("a file")
    with pytest.raises(SessionWriteError, match="store"):
        anyio.run(lambda: begin(store=str(tmp_path / "file")))
    with pytest.raises(Exception, match="nothing"):
        anyio.run(lambda: begin(model=str(tmp_path / "nothing.gguf")))
    with pytest.raises(InvalidInput, match="api_key_file"):
        anyio.run(lambda: begin(api_key_file=str(tmp_path / "nothing")))


def test_a_member_that_has_ended_answers_nothing(tmp_path: Path, llama_backend: str) -> None:
    async def ask() -> None:
        settings = FleetSettings(store=str(tmp_path / "store"), backend=llama_backend, n_threads=1)
        member = Member(settings, "a")
        await member.begin()
        member.check_health()
        await member.end()
        with pytest.raises(ClosedError):
            member.check_health()
        scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
        with pytest.raises(ClosedError):
            [piece async for piece in member.answer(Asked.of(scope, b""))]

    anyio.run(ask)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "store"),
        ({"store": "relative/folder"}, "store"),
        ({"store": "memory://store"}, "store"),
        ({"store": "/s", "replicas": 0}, "replicas"),
        ({"store": "/s", "replicas": 3, "max_replicas": 2}, "max_replicas"),
        ({"store": "/s", "load_bound": 1}, "load_bound"),
        ({"store": "/s", "load_bound": math.inf}, "load_bound"),
        ({"store": "/s", "store_gb": 1e308}, "store_gb"),
        ({"store": "/s", "store_seconds": math.inf}, "store_seconds"),
        ({"store": "/s", "modell": "demo"}, "modell"),
        ({"store": "/s", "n_parallel": "many"}, "n_parallel"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        FleetSettings(**settings)

"""A fleet on Ray Serve: real processes, and one of them is killed. Runs where Ray is: ``make fleet``."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import ray
from ray import serve

from llama_bridge import Capability, registry
from llama_bridge.serve.fleet.settings import FleetSettings
from llama_bridge.serve.kept_responses import made_by, replica_mark
from llama_bridge.serve.ray import app
from tests.serve.serving import Address, until

NAME = "Hello! My name is Zorblax."
ASK = "What is my name?"
NAMESPACE = "serve"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """Ray, and the port where Ray Serve answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # "local": one of its own, also where another runs.
    ray.init("local", num_cpus=4, include_dashboard=False, **how)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield port
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def fleet(cluster: int, folder: Path) -> Address:
    """Two replicas."""
    settings = FleetSettings(store=str(folder / "store"), replicas=2, n_ctx=4096, n_parallel=2)
    serve.run(app(settings), route_prefix="/", name="llama")
    return Address(cluster)


def patient(fleet: Address) -> openai.OpenAI:
    """A client that waits until a replica has started."""
    return fleet.openai().with_options(timeout=180)


def actors() -> dict[str, Any]:
    """The replicas that run, by the marks of their responses."""
    named = ray.util.list_named_actors(all_namespaces=True)
    names = [one["name"] for one in named if "#Replica#" in one["name"]]
    return {
        replica_mark(name.rpartition("#")[2]): ray.get_actor(name, namespace=NAMESPACE)
        for name in names
    }


def cached(response: Any) -> int:
    return int(response.usage.input_tokens_details.cached_tokens)


def keeps() -> bool:
    return Capability.SESSION_PERSISTENCE in registry.candidates(registry.AUTO)[0].capabilities


def wait_for_session(folder: Path, response: Any) -> None:
    if keeps():
        path = folder / "store" / response.id[13:15] / f"{response.id}.session"
        until(path.exists)


def test_conversations_stay_with_their_replica_and_both_have_some(fleet: Address) -> None:
    client = patient(fleet)
    names = ("Quill", "Osha", "Marlow", "Tavik")
    talks = [client.responses.create(input=f"Hello! My name is {name}.") for name in names]
    homes = [made_by(talk.id) for talk in talks]
    assert sorted(homes.count(home) for home in set(homes)) == [2, 2]
    assert set(homes) == set(actors())
    for _ in range(2):
        talks = [client.responses.create(input=ASK, previous_response_id=t.id) for t in talks]
        assert [made_by(talk.id) for talk in talks] == homes
    for name, talk in zip(names, talks, strict=True):
        assert name in talk.output_text


def test_one_conversation_has_more_than_its_share_only_up_to_the_bound(fleet: Address) -> None:
    """All at once go on from one response, whose replica has room for two."""
    client = patient(fleet)
    first = client.responses.create(input=NAME)
    made: list[str] = []

    def go_on() -> None:
        answer = client.responses.create(input="Tell me a story.", previous_response_id=first.id)
        made.append(made_by(answer.id))

    threads = [threading.Thread(target=go_on) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 12
    assert set(made) == set(actors()), "the other one helps"


def test_a_stream_comes_piece_by_piece(fleet: Address) -> None:
    stream = patient(fleet).chat.completions.create(
        model="demo", messages=[{"role": "user", "content": NAME}], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "Zorblax" in "".join(pieces)
    assert len(pieces) > 2


def test_after_its_replica_was_killed_a_conversation_goes_on_from_its_session_file(
    fleet: Address, folder: Path
) -> None:
    client = patient(fleet)
    first = client.responses.create(input=NAME)
    second = client.responses.create(input="What is a token?", previous_response_id=first.id)
    wait_for_session(folder, second)
    home = made_by(second.id)
    before = set(actors())
    ray.kill(actors()[home])
    third = client.responses.create(input=ASK, previous_response_id=second.id)
    assert "Zorblax" in third.output_text
    assert made_by(third.id) != home
    assert second.usage is not None
    if keeps():
        assert cached(third) >= 0.95 * second.usage.total_tokens
    until(lambda: len(actors()) == 2 and home not in actors(), 60)  # Ray starts another
    fourth = client.responses.create(input="Hi!", previous_response_id=third.id)
    assert made_by(fourth.id) == made_by(third.id) in before


def test_a_turn_that_is_cut_off_gives_one_clear_error_and_the_conversation_goes_on(
    fleet: Address, folder: Path
) -> None:
    client = patient(fleet)
    first = client.responses.create(input=NAME)
    wait_for_session(folder, first)
    endless = {"logit_bias": {"0": -100, "1": -100, "5": -100}}
    stream: Any = client.responses.create(
        input="Tell me a story.", stream=True, max_output_tokens=3000, extra_body=endless
    )
    home = made_by(next(stream).response.id)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    ray.kill(actors()[home])
    with pytest.raises(openai.APIError, match="replica that made this answer is gone"):
        list(stream)
    answer = client.responses.create(input=ASK, previous_response_id=first.id)
    assert "Zorblax" in answer.output_text
    if keeps():
        assert first.usage is not None
        assert cached(answer) >= 0.95 * first.usage.total_tokens
    until(lambda: len(actors()) == 2 and home not in actors(), 90)


def retried(ask: Any) -> Any:
    """As a client does who is told to try again."""
    for _ in range(60):
        try:
            return ask()
        except openai.InternalServerError:
            time.sleep(0.5)
    return ask()


def test_an_update_to_more_replicas_and_to_fewer_loses_nothing(
    cluster: int, fleet: Address, folder: Path
) -> None:
    """Ray replaces one replica after the other."""
    client = patient(fleet)
    names = ("Quill", "Osha", "Marlow", "Tavik")

    def scale(n: int) -> None:
        settings = FleetSettings(store=str(folder / "store"), replicas=n, n_ctx=4096, n_parallel=2)
        serve.run(app(settings), route_prefix="/", name="llama")
        until(lambda: len(actors()) == n, 90)

    talks: list[Any] = [
        client.responses.create(input=f"Hello! My name is {name}.") for name in names
    ]
    for n in (3, 1):
        for talk in talks:
            wait_for_session(folder, talk)
        past = {talk.id: talk.usage.total_tokens for talk in talks}
        scale(n)
        talks = [
            retried(lambda t=t: client.responses.create(input=ASK, previous_response_id=t.id))
            for t in talks
        ]
        for name, talk in zip(names, talks, strict=True):
            assert name in talk.output_text
            if keeps():
                assert cached(talk) >= 0.95 * past[talk.previous_response_id]

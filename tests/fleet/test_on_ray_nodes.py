"""A fleet on three nodes, while eight people talk: a replica is killed, and then a node. Runs where Ray is: ``make fleet``."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster

from llama_bridge import Capability, registry
from llama_bridge.serve.fleet.settings import FleetSettings
from llama_bridge.serve.kept_responses import made_by
from llama_bridge.serve.ray import app
from tests.serve.serving import Address, until

from .test_on_ray import actors

pytestmark = pytest.mark.timeout(400)

NAMES = ("Quill", "Osha", "Marlow", "Tavik", "Zorvane", "Quentin", "Marvin", "Zorblax")
PAUSE = 1.0
"""Seconds between two turns."""


@pytest.fixture
def cluster() -> Iterator[tuple[Any, int]]:
    """Three nodes for replicas, a head for the rest, and the port where they answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    made: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(3):
            made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        yield made, port
        serve.shutdown()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
        made.shutdown()


@dataclass
class Talk:
    """Somebody who asks again whenever a turn was cut off.

    Attributes:
        answers: responses in their order.
        troubles: what was told of those turns.
    """

    name: str
    answers: list[Any] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)

    def run(self, client: openai.OpenAI, enough: threading.Event) -> None:
        while not enough.wait(PAUSE):
            said = "What is my name?" if self.answers else f"Hello! My name is {self.name}."
            more = {"previous_response_id": self.answers[-1].id} if self.answers else {}
            try:
                answer: Any = None
                for event in client.responses.create(input=said, stream=True, **more):
                    if event.type == "response.completed":
                        answer = event.response
                self.answers.append(answer)
            except openai.APIError as error:
                self.troubles.append(error)


def go_on(talks: list[Talk], turns: int) -> None:
    """Wait until everybody has had so many turns more."""
    goals = [(talk, len(talk.answers) + turns) for talk in talks]
    until(lambda: all(len(talk.answers) >= goal for talk, goal in goals), 150)


def test_everybody_goes_on_after_a_replica_and_a_node_were_killed(
    cluster: tuple[Any, int], tmp_path: Path
) -> None:
    nodes, port = cluster
    settings = FleetSettings(store=str(tmp_path / "store"), replicas=3, n_ctx=4096, n_threads=1)
    serve.run(app(settings), route_prefix="/", name="llama")
    client = Address(port).openai().with_options(timeout=180)
    talks = [Talk(name) for name in NAMES]
    enough = threading.Event()
    threads = [threading.Thread(target=talk.run, args=(client, enough)) for talk in talks]
    for thread in threads:
        thread.start()
    try:
        go_on(talks, 2)
        ray.kill(next(iter(actors().values())))
        go_on(talks, 3)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        go_on(talks, 3)
    finally:
        enough.set()
    for thread in threads:
        thread.join(200)
        assert not thread.is_alive()

    past = cached = 0
    for talk in talks:
        assert all(talk.name in answer.output_text for answer in talk.answers)
        for before, after in zip(talk.answers, talk.answers[1:], strict=False):
            assert after.previous_response_id == before.id
            past += before.usage.total_tokens
            cached += min(after.usage.input_tokens_details.cached_tokens, before.usage.total_tokens)
        # One for each kill, and one more if the ingress was on that node: then it is Ray's proxy that says 500.
        assert len(talk.troubles) <= 3
    assert len({made_by(answer.id) for talk in talks for answer in talk.answers}) >= 3
    if Capability.SESSION_PERSISTENCE in registry.candidates(registry.AUTO)[0].capabilities:
        assert cached >= 0.95 * past

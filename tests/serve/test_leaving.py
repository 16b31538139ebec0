"""A client that leaves ends its own answer at once, and no other; one that stops reading ends it, too."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llama_bridge.serve import ServerSettings, app
from llama_bridge.testing import FakeAnswer, FakeLlama

from .serving import Address, serving, until


def answer(asked: Any) -> FakeAnswer:
    if "flood" in asked.prompt:
        return FakeAnswer("x" * 1000 + " " + "y" * 3_000_000)
    if "long" in asked.prompt:
        return FakeAnswer("word " * 300, token_seconds=0.001)
    return FakeAnswer("short")


@pytest.fixture
def llama() -> Iterator[FakeLlama]:
    with FakeLlama(answer, prefill_token_seconds=0.002) as fake:
        yield fake


@pytest.fixture
def address(llama: FakeLlama) -> Iterator[Address]:
    settings = ServerSettings(read_seconds=0.3)
    with serving(app(llama, name="fake", settings=settings)) as address:
        yield address


def send(address: Address, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request and wait for nothing."""
    data = json.dumps({"model": "fake", **body}).encode()
    link = socket.socket()
    link.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
    )  # soon full, for one that does not read
    link.settimeout(10)
    link.connect(("127.0.0.1", address.port))
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    link.sendall(head.encode() + data)
    return link


def at_work(address: Address, name: str = "requests_at_work") -> float:
    for line in address.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"llama_bridge_{name} "):
            return float(line.split()[1])
    raise AssertionError


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def said_in(data: bytes) -> bytes:
    """The words in a part of a stream."""
    return b"".join(re.findall(rb'"(?:content|delta)":"([^"]+)"', data))


BODIES: dict[str, tuple[str, Any]] = {
    "a stream": ("chat/completions", chat("a long one", stream=True)),
    "a whole answer": ("chat/completions", chat("a long one")),
    "several answers": ("chat/completions", chat("a long one", stream=True, n=2)),
    "raw text": ("completions", {"prompt": "a long one", "max_tokens": 400}),
    "a response": ("responses", {"input": "a long one", "stream": True}),
    "a long prefill": ("chat/completions", chat("a long one " * 300)),
}


@pytest.mark.parametrize("kind", BODIES)
def test_an_answer_ends_with_its_client(address: Address, llama: FakeLlama, kind: str) -> None:
    path, body = BODIES[kind]

    def leave() -> float:
        with send(address, path, body) as link:
            until(lambda: at_work(address) == 1)
            if body.get("stream") and body.get("n") is None:
                until(lambda: b"w" in said_in(link.recv(65536)))
            else:
                time.sleep(0.1)
        return until(lambda: at_work(address) == 0)

    # Within 100 ms, unless this machine has other things to do.
    assert any(leave() < 0.1 for _ in range(5))
    assert llama.sessions() == []  # no response came of it
    assert address.post("/v1/chat/completions", chat("hi")).status == 200


def test_one_that_waits_leaves_no_trace(address: Address) -> None:
    reading = send(address, "chat/completions", chat("a long one", stream=True))
    until(lambda: b"w" in said_in(reading.recv(65536)))
    waiting = send(address, "chat/completions", chat("a long one too"))
    until(lambda: at_work(address) == 2)
    waiting.close()
    until(lambda: at_work(address) == 1)
    said = b""
    while b"[DONE]" not in said:  # it goes on as if nobody had come
        said += reading.recv(65536)
    assert len(said_in(said)) > 1000
    reading.close()


def test_one_that_reads_nothing_is_left(address: Address) -> None:
    body = {"prompt": "a flood", "stream": True, "max_tokens": 2_000_000}
    link = send(address, "completions", body)
    until(lambda: at_work(address) == 1)
    until(lambda: at_work(address) == 0, 60)
    link.close()


def test_many_leave_at_once(address: Address) -> None:
    before = {*threading.enumerate()}
    links = [send(address, *BODIES[kind]) for kind in BODIES for _ in range(2)]
    until(lambda: at_work(address) == len(links))
    for link in links:
        link.close()
    until(lambda: at_work(address) == 0)
    assert address.post("/v1/chat/completions", chat("hi")).status == 200
    # No thread is left that computes for nobody.
    until(lambda: len({*threading.enumerate()} - before) <= 32)


def test_one_that_leaves_in_the_middle_of_its_request_is_no_failure(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("chat/completions", "completions", "responses", "embeddings", "rerank"):
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
        with socket.create_connection(("127.0.0.1", address.port)) as link:
            link.sendall(head.encode() + b"{")
    until(lambda: at_work(address) == 0)
    assert address.ask("GET", "/health").status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

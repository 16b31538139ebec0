"""Servers that want to hold a program for ever, fill its memory, or get its key: over real sockets, byte by byte."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_bridge import (
    AnswerCutOff,
    BackendUnavailable,
    LlamaBridge,
    ModelLoadError,
    ModelNotFound,
)
from llama_bridge_remote import RemoteBackend, answer, client, events
from llama_bridge_remote.address import Address

from .servers import Handler, Heard, scripted
from .test_misbehaving import MODELS, chunk, says, talking

KEY = "sk-very-secret-7"
SECONDS = 0.4
"""How long the server may say nothing."""

ENOUGH = 20
"""Seconds in which a busy machine notices it; what is sent takes minutes."""

Says = Callable[[str, bytes], Iterator[bytes]]
"""The bytes that answer a request for a path, as they are sent. Between them it waits as long as it likes."""


@dataclass
class Bare:
    """A server that sends any bytes.

    Attributes:
        port: where.
        heard: all that it was sent.
    """

    port: int = 0
    heard: list[bytes] = field(default_factory=list[bytes])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def bare(says: Says) -> Iterator[Bare]:
    """Run one. Each connection is answered as long as its client asks, and stays."""
    server = Bare()
    over = threading.Event()

    def talk(link: socket.socket) -> None:
        with link, suppress(OSError):
            link.settimeout(10)
            while data := _request(link):
                server.heard.append(data)
                for piece in says(data.split(b" ")[1].decode(), data):
                    if over.is_set():
                        return
                    link.sendall(piece)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                link, _ = listener.accept()
                threading.Thread(target=talk, args=(link,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _request(link: socket.socket) -> bytes:
    """A whole request, or nothing."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := link.recv(1 << 16)):
            return b""
        data += piece
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", data)
    end = data.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
    while len(data) < end:
        data += link.recv(1 << 16)
    return data


def slowly(data: bytes) -> Iterator[bytes]:
    """A byte now and then: never as long nothing that a time-out of one read would notice it."""
    for byte in data:
        time.sleep(SECONDS / 6)
        yield bytes((byte,))


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join((f"HTTP/{version} {status}", *lines, "", "")).encode()


JSON, STREAM = "Content-Type: application/json", "Content-Type: text/event-stream"
CHUNKED = "Transfer-Encoding: chunked"


def whole(value: Any) -> bytes:
    data = json.dumps(value).encode()
    return head(JSON, f"Content-Length: {len(data)}") + data


def load(server: Bare) -> LlamaBridge:
    return LlamaBridge(server.url, backend=RemoteBackend(api_key=KEY, timeout=SECONDS))


def check_key(error: BaseException | None, *others: str) -> None:
    while error is not None:
        for text in (str(error), repr(error), *others):
            assert KEY not in text
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "drip",
    [
        pytest.param(lambda: slowly(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 999), id="a header"),
        pytest.param(
            lambda: itertools.chain.from_iterable(
                (b"", *slowly(b"H"), head(status="103 Early Hints")[1:]) for _ in range(999)
            ),
            id="hints",
        ),
        pytest.param(
            lambda: itertools.chain([head(JSON, "Content-Length: 999")], slowly(b" " * 999)),
            id="a body",
        ),
        pytest.param(
            lambda: itertools.chain([head(JSON, CHUNKED)], slowly(b"1;" + b"x" * 999)),
            id="the length of a chunk",
        ),
        pytest.param(
            lambda: itertools.chain([head(JSON)], slowly(b"[" * 999)), id="a body without an end"
        ),
    ],
)
def test_a_byte_now_and_then_is_not_waited_for(drip: Callable[[], Iterator[bytes]]) -> None:
    with bare(lambda *_: drip()) as server:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="too long"):
            load(server)
        assert time.monotonic() - began < ENOUGH
        assert len(server.heard) == 1, "it had its time: it is not asked again"


@contextmanager
def chatting(says_it: Callable[[], Iterator[bytes]]) -> Iterator[LlamaBridge]:
    """A bridge over a server whose chats are answered so."""

    def say(path: str, data: bytes) -> Iterator[bytes]:
        if path == "/v1/models":
            yield whole(MODELS)
        elif re.search(rb'"max_tokens":1[,}]', data):
            events = f"data: {json.dumps(chunk('x', 'length'))}\n\ndata: [DONE]\n\n"
            yield head(STREAM, f"Content-Length: {len(events)}") + events.encode()
        elif b"tools" in data or b"response_format" in data or "chat" not in path:
            yield head("Content-Length: 0", status="404 Not Found")
        else:
            yield from says_it()

    with bare(say) as server, load(server) as llama:
        yield llama


WORD = b"data: " + json.dumps(chunk("One")).encode() + b"\n\n"


@pytest.mark.parametrize("drip", [b"data: " + b"x" * 999, b":" + b" " * 999])
def test_an_event_that_does_not_end_is_not_waited_for(drip: bytes) -> None:
    def say() -> Iterator[bytes]:
        yield head(STREAM) + WORD
        yield from slowly(drip)

    with chatting(say) as llama:
        began = time.monotonic()
        with pytest.raises(AnswerCutOff, match="too long") as caught:
            llama.generate("x")
        assert caught.value.text == "One"
        assert time.monotonic() - began < ENOUGH


def test_a_server_that_says_that_it_works_is_waited_for() -> None:
    def say() -> Iterator[bytes]:
        yield head(STREAM) + WORD
        yield from slowly(b":\n" * 6)
        yield b"data: " + json.dumps(chunk(" two", "stop")).encode() + b"\n\ndata: [DONE]\n\n"

    with chatting(say) as llama:
        assert llama.generate("x").text == "One two"


def without_end(piece: bytes) -> Iterator[bytes]:
    """An answer in chunks, each of a million bytes or so."""
    block = piece * (1_000_000 // len(piece))
    yield head(STREAM if piece.startswith(b"data") else JSON, CHUNKED)
    while True:
        yield f"{len(block):x}\r\n".encode() + block + b"\r\n"


@pytest.mark.parametrize("piece", [b"[1,", b" ", b'{"a":'])
def test_json_without_an_end_does_not_fill_the_memory(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST", 8 << 20)
    with bare(lambda *_: without_end(piece)) as server:
        backend = RemoteBackend(api_key=KEY, timeout=60)
        tracemalloc.start()
        try:
            with pytest.raises(ModelLoadError, match="more than 8 MiB"):
                LlamaBridge(server.url, backend=backend)
            assert tracemalloc.get_traced_memory()[1] < 40 << 20
        finally:
            tracemalloc.stop()


def test_small_text_for_many_values_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_VALUES", 1000)
    assert events.read_value(b"[" + b"1," * 900 + b"1]")
    for many in (b"[" + b"1," * 1100 + b"1]", b"[" + b"[]," * 600 + b"[]]"):
        with pytest.raises(ValueError, match="too many values"):
            events.read_value(many)


def test_an_answer_without_an_end_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether words, or events in which there is nothing."""
    monkeypatch.setattr(answer, "_MOST", 1 << 20)
    with chatting(lambda: without_end(WORD)) as llama:
        with pytest.raises(AnswerCutOff, match="does not end its answer") as caught:
            llama.generate("x")
        assert 5000 < len(caught.value.text) < 1 << 20


@pytest.mark.parametrize(("status", "encoding"), [("200 OK", "gzip"), ("500 No", "GZIP, br")])
def test_what_is_compressed_is_not_unpacked(status: str, encoding: str) -> None:
    """64 KiB become 64 MiB, and of that again as much."""
    bomb = gzip.compress(bytes(32 << 20), 1)

    def say(*_: object) -> Iterator[bytes]:
        length = f"Content-Length: {len(bomb)}"
        yield head(JSON, length, f"Content-Encoding: {encoding}", status=status) + bomb

    with bare(say) as server:
        tracemalloc.start()
        try:
            with pytest.raises(ModelLoadError, match="compresses its answers"):
                load(server)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        assert b"accept-encoding: identity" in server.heard[0].lower()


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary", "308 Permanent"])
def test_a_key_does_not_go_to_where_a_server_sends_us(status: str) -> None:
    with bare(lambda *_: iter([head("Content-Length: 0")])) as other:

        def say(*_: object) -> Iterator[bytes]:
            yield head(f"Location: {other.url}/{KEY}", "Content-Length: 0", status=status)

        with bare(say) as server, pytest.raises(ModelLoadError, match="sends us on") as caught:
            load(server)
        assert other.heard == []
    check_key(caught.value)


def test_ten_thousand_models_are_not_all_told() -> None:
    listed = {"data": [{"id": f"model {i} " + "x" * 500} for i in range(10_000)]}
    with scripted(lambda _, handler: handler.json(listed)) as script:
        began = time.monotonic()
        with pytest.raises(ModelNotFound, match="and 9980 more") as caught:
            LlamaBridge(script.url, model="another", backend="remote")
        assert time.monotonic() - began < 5
        assert len(str(caught.value)) < 6000
        assert len(caught.value.there) == 10_000


BODY = b'{"data": [{"id": "m"}]}'
WRONG: dict[str, bytes] = {
    "shorter than it says": head(JSON, "Content-Length: 99") + BODY,
    "two lengths": head(JSON, "Content-Length: 5", "Content-Length: 99") + BODY,
    "a length that is none": head(JSON, "Content-Length: -5") + BODY,
    "a chunk without length": head(JSON, CHUNKED) + b"zz\r\n" + BODY,
    "a chunk that is too short": head(JSON, CHUNKED) + b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk that is cut": head(JSON, CHUNKED) + b"ffff\r\n" + BODY,
    "a long head": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000,
    "a status that is none": b"HTTP/1.1 2000 OK\r\n\r\n",
    "the key in place of HTTP": KEY.encode() + b" \r\n\r\n",
    "nothing": b"",
    "a body that is cut": head(JSON, version="1.0") + BODY[:-2],
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_no_http_is_told(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    caplog.set_level(logging.DEBUG)

    def say(*_: object) -> Iterator[bytes]:
        yield WRONG[how]
        raise OSError  # it hangs up

    with bare(say) as server, pytest.raises((BackendUnavailable, ModelLoadError)) as caught:
        load(server)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("llama_bridge")]
    check_key(caught.value, *ours)
    assert server.url in str(caught.value)


def test_an_old_server_is_understood() -> None:
    """HTTP/1.0: the end of an answer is the end of its connection."""

    def say(heard: Heard, handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.0"
        talking(says("hi"))(heard, handler)
        handler.close_connection = True

    with (
        scripted(say) as script,
        LlamaBridge(script.url, backend=RemoteBackend(timeout=5)) as llama,
    ):
        assert llama.generate("x").text == "hi"


def test_what_comes_after_an_answer_is_no_answer_to_the_next_question() -> None:
    foreign = whole({"data": [{"id": "foreign"}]})
    with bare(lambda *_: iter([whole(MODELS) + foreign])) as server:
        asked = client.Client(Address(server.url), seconds=5)
        try:
            assert [asked.get("/v1/models") for _ in range(3)] == [MODELS] * 3
        finally:
            asked.close()

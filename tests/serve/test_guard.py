"""Who may ask, and how much: nothing else of a request is looked at before."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from llama_bridge import Busy, EngineError, InvalidInput, LlamaBridge, ModelLoadError
from llama_bridge.serve import ServerSettings, app, protocol
from llama_bridge.serve.refusals import on_error
from llama_bridge.testing import FakeAnswer, FakeLlama

from .serving import Address, serving, until

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell nobody: xyzzy"}]}
CHAT = "/v1/chat/completions"
SETTINGS = ServerSettings(
    api_keys=("sk-one", "sk-two"),
    hosts=("models.example",),
    cors_origins=("https://page.example",),
    max_body=20_000,
    body_seconds=0.3,
    max_requests=3,
)


def answer(asked: Any) -> FakeAnswer:
    if "fail" in asked.prompt:
        return FakeAnswer("half of it", fails_after=2)
    if "slow" in asked.prompt:
        return FakeAnswer("word " * 60, token_seconds=0.01)
    return FakeAnswer("Well.")


@pytest.fixture(scope="module")
def fake() -> Iterator[LlamaBridge]:
    with FakeLlama(answer) as llama:
        yield llama


@pytest.fixture(scope="module")
def address(fake: LlamaBridge) -> Iterator[Address]:
    with serving(app(fake, name="fake", settings=SETTINGS)) as address:
        yield address


KEY = {"Authorization": "Bearer sk-two"}


def test_each_key_opens_and_nothing_else_does(address: Address) -> None:
    for key in SETTINGS.api_keys:
        assert address.openai(key).models.list().data[0].id == "fake"
    for wrong in (
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk-",
        "Bearer sk-onex",
        "Basic sk-one",
        "sk-one",
    ):
        for path in ("/v1/models", "/metrics", CHAT, "/nowhere"):
            reply = address.ask("GET", path, headers={"Authorization": wrong})
            assert reply.status == 401
            assert reply.error["code"] == "invalid_api_key"
            assert reply.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        address.openai("sk-x").models.list()
    assert address.ask("GET", "/health").status == 200


def test_a_name_that_somebody_has_pointed_here_is_refused(address: Address) -> None:
    port = address.port
    good = (
        "localhost",
        "LOCALHOST",
        f"localhost:{port}",
        "127.0.0.1",
        "[::1]:80",
        "models.example",
    )
    for host in (*good, "10.0.0.7:1", "models.example.:8080"):
        assert address.ask("GET", "/health", headers={"Host": host}).status == 200, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "models.example.evil",
        "",
        "127.0.0.1.nip",
    ):
        reply = address.ask("GET", "/health", headers={"Host": host})
        assert reply.status == 403, host
        assert reply.error["code"] == "host_not_allowed"


def test_only_pages_that_may_can_ask(address: Address) -> None:
    good = "https://page.example"
    reply = address.ask("GET", "/v1/models", headers={**KEY, "Origin": good})
    assert reply.headers["access-control-allow-origin"] == good
    asked = {"Origin": good, "Access-Control-Request-Method": "POST"}
    preflight = address.ask(
        "OPTIONS", CHAT, headers={**asked, "Access-Control-Request-Headers": "authorization"}
    )
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == good
    for origin in (
        "https://evil.example",
        "null",
        "https://page.example.evil",
        "http://page.example",
    ):
        reply = address.ask("POST", CHAT, HELLO, {**KEY, "Origin": origin})
        assert reply.status == 403
        assert reply.error["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in reply.headers
    own = f"http://127.0.0.1:{address.port}"
    assert address.ask("POST", CHAT, HELLO, {**KEY, "Origin": own}).status == 200


def test_a_large_body_is_refused_before_it_is_read(address: Address) -> None:
    reply = address.post(CHAT, b"x" * 20_001, **KEY)
    assert reply.status == 413
    assert "20,000 bytes" in reply.error["message"]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-one\r\n"
    for length in ("Content-Length: 99999999999", "Content-Length: 20001"):
        assert b" 413 " in talk(address, f"{head}{length}\r\n\r\n".encode())
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    said = talk(address, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 30)
    assert b" 413 " in said


def test_a_body_that_takes_long_to_check_holds_up_nobody(fake: LlamaBridge) -> None:
    messages = [{"role": "user", "content": "x"}] * 100_000
    body = json.dumps({"messages": [*messages, {"role": "nobody"}]}).encode()
    with serving(app(fake, name="fake")) as address, ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        large = pool.submit(address.post, CHAT, body)
        waits: list[float] = []
        while not large.done():
            asked = time.perf_counter()
            assert address.ask("GET", "/health").status == 200
            waits.append(time.perf_counter() - asked)
        took = time.perf_counter() - began
    assert large.result().error["param"] == "messages[100000].role"
    assert max(waits) < took / 2


def test_a_body_of_two_lengths_is_refused(address: Address) -> None:
    """A proxy may believe the other one, and take the rest for a request of its own."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-one\r\n"
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    said = talk(address, (head + both).encode())
    assert b" 400 " in said
    assert b'"invalid_http"' in said


def test_what_is_no_http_is_refused_in_the_shape_of_all_errors(address: Address) -> None:
    for data in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\n\x00: x\r\n\r\n"):
        head, _, body = talk(address, data).partition(b"\r\n\r\n")
        assert b" 400 " in head
        assert b"application/json" in head
        assert json.loads(body)["error"]["code"] == "invalid_http"


def test_an_address_that_is_not_there_leads_nowhere_else(address: Address) -> None:
    for path in ("/v1/models/../", "/v1/responses/%2e%2e%2f", "/health/", "//health"):
        reply = address.ask("GET", path, None, KEY)
        assert reply.status == 404, path
        assert reply.error["type"] == "not_found_error"


def talk(address: Address, data: bytes, rest: float = 3.0) -> bytes:
    """Send some bytes and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", address.port), timeout=rest) as link:
        link.sendall(data)
        said = b""
        try:
            while part := link.recv(65536):
                said += part
        except (TimeoutError, ConnectionResetError):
            pass
        return said


def test_a_body_that_drips_is_cut_off(address: Address) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-one\r\n"
    began = time.perf_counter()
    assert b" 408 " in talk(address, f"{head}Content-Length: 500\r\n\r\n{{".encode())
    assert time.perf_counter() - began < 2


def test_a_head_that_drips_is_cut_off(fake: LlamaBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(app(fake, name="fake")) as address:
        for begin in (b"", b"GET /he", whole + b"GET /hea"):
            with socket.create_connection(("127.0.0.1", address.port), timeout=5) as link:
                link.sendall(begin)
                began = time.perf_counter()
                gone = False
                while not gone and time.perf_counter() - began < 4:
                    try:
                        link.sendall(b"x" if begin else b"G")
                        link.settimeout(0.05)
                        gone = link.recv(65536) == b""
                    except TimeoutError:
                        pass
                    except OSError:
                        gone = True
                assert gone, begin
        assert address.ask("GET", "/health").status == 200


def test_one_too_many_is_told_at_once(address: Address) -> None:
    body = dict(HELLO, messages=[{"role": "user", "content": "slow"}], stream=True)
    links = []
    for _ in range(3):
        link = socket.create_connection(("127.0.0.1", address.port), timeout=10)
        data = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-one\r\n"
        link.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        links.append(link)
    time.sleep(0.2)
    reply = address.post(CHAT, HELLO, **KEY)
    assert reply.status == 503
    assert reply.error["code"] == "busy"
    assert int(reply.headers["retry-after"]) > 0
    assert "3 calls" in reply.error["message"]
    for link in links:
        link.close()


def test_a_failure_is_an_error_in_openais_shape(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"messages": [{"role": "user", "content": "fail"}]}
    reply = address.post(CHAT, body, **KEY)
    assert reply.status == 500
    assert reply.error["code"] == "engine_error"
    stream = address.post(CHAT, body | {"stream": True}, **KEY)
    assert stream.status == 200
    assert b'"code":"engine_error"' in stream.body
    assert b"[DONE]" not in stream.body
    with pytest.raises(openai.APIError, match="failed while it worked"):
        list(
            address.openai("sk-one").chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "fail"}], stream=True
            )
        )
    events: list[Any] = list(
        address.openai("sk-one").responses.create(model="fake", input="fail", stream=True)
    )
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    assert address.ask("GET", "/nowhere", headers=KEY).error["message"] == (
        "there is nothing at this address"
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelLoadError("/home/me/secret.gguf", "no"), 500),
        (EngineError("cannot map /home/me/secret.gguf"), 500),
        (InvalidInput("prompt is empty"), 400),
        (Busy(5), 503),
        (RuntimeError("/home/me"), 500),
    ],
)
def test_no_path_of_the_machine_is_told(error: Exception, status: int) -> None:
    with ThreadPoolExecutor(1) as pool:  # this thread may have a loop already: a browser's
        reply = pool.submit(asyncio.run, on_error(None, error)).result()  # type: ignore[arg-type]
    assert reply.status_code == status
    assert b"/home" not in bytes(reply.body)


def test_the_log_has_no_prompts(
    address: Address, fake: LlamaBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "llama_bridge")
    assert address.post(CHAT, HELLO, **KEY).status == 200
    until(lambda: "POST '/v1/chat/completions' 200" in caplog.text)
    assert "xyzzy" not in caplog.text
    assert "sk-two" not in caplog.text
    with serving(app(fake, name="fake", settings=ServerSettings(log_prompts=True))) as open_hearted:
        assert open_hearted.post(CHAT, HELLO).status == 200
    assert "xyzzy" in caplog.text


def test_numbers_for_prometheus(address: Address) -> None:
    def number(name: str) -> float:
        lines = address.ask("GET", "/metrics", headers=KEY).body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    names = (
        'llama_bridge_requests_total{path="/v1/chat/completions",status="200"}',
        "llama_bridge_completion_tokens_total",
        "llama_bridge_first_token_seconds_count",
        "llama_bridge_prompt_tokens_total",
    )
    assert number("llama_bridge_kv_room_tokens") > 0
    before = {name: number(name) for name in names}
    usage = address.post(CHAT, HELLO, **KEY).json["usage"]
    address.post(CHAT, HELLO | {"stream": True}, **KEY)
    until(lambda: number(names[0]) - before[names[0]] == 2)  # counted once they are answered
    after = {name: number(name) - before[name] for name in names}
    assert list(after.values()) == [
        2,
        2 * usage["completion_tokens"],
        1,
        2 * usage["prompt_tokens"],
    ]
    assert number('llama_bridge_requests_total{path="/nowhere"') == 0
    assert number("llama_bridge_models_loaded ") == 1


def test_settings_that_make_no_sense_are_refused(fake: LlamaBridge, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"api_keys": "sk"},
        {"api_keys": [""]},
        {"api_keys": ["a b"]},
        {"api_keys": ["\u00e4"]},
        {"hosts": 5},
        {"log_prompts": 1},
        {"max_body": 0},
        {"body_seconds": float("nan")},
        {"read_seconds": "5"},
        {"max_requests": True},
    ]
    for one in wrong:
        with pytest.raises(InvalidInput, match=next(iter(one))):
            ServerSettings(**one)
    for arguments in ({"name": ""}, {"name": 5}, {"settings": 5}, {"responses_dir": 5}):
        with pytest.raises(InvalidInput):
            app(fake, **{"name": "fake", **arguments})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        app("demo")  # type: ignore[arg-type]

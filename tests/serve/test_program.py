"""``llama-bridge serve`` as the program it is: signals, restarts, keys, several models."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from llama_bridge import Capability, registry
from llama_bridge.cli.app import app
from llama_bridge.models.source import open_model

from .serving import Address, until

NAME = "Hello! My name is Zorblax."
ASK = "What is my name?"


class Program:
    """A running server."""

    def __init__(self, *args: str | Path) -> None:
        command = [sys.executable, "-m", "llama_bridge", "serve", "--port", "0", *map(str, args)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.log: list[str] = []
        stderr = self.process.stderr
        self._reader = threading.Thread(target=lambda: self.log.extend(stderr))
        self._reader.start()
        match = re.fullmatch(r"http://127.0.0.1:(\d+)/v1\n", self.process.stdout.readline())
        assert match, self.log
        self.address = Address(int(match[1]))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(20)
        self._reader.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers; they are ended with the test."""
    running: list[Program] = []

    def start(*args: str | Path) -> Program:
        running.append(Program(*args))
        return running[-1]

    yield start
    for program in running:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


def long_answer(program: Program) -> Any:
    """A stream that has begun."""
    stream: Any = program.address.openai().chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Tell me a story."}],
        stream=True,
        max_tokens=150,
        logit_bias={str(token): -100 for token in range(4)},  # nothing ends it
    )
    next(iter(stream))
    return stream


def test_sigterm_finishes_what_streams(start: Start) -> None:
    program = start()
    stream = long_answer(program)
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", program.address.port), timeout=2)
    rest = list(stream)
    assert rest[-1].choices[0].finish_reason in ("stop", "length")
    assert program.process.wait(20) == 0
    assert program.end(0) == 0


def test_responses_outlive_the_server_and_a_kill(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-one\n\n sk-two \n", encoding="utf-8-sig")  # as Windows' editors do
    args = ("--sessions-dir", tmp_path / "kept", "--api-key-file", keys)
    program = start(*args)
    first = program.address.openai("sk-one").responses.create(model="demo", input=NAME)
    assert program.end() == 0
    program = start(*args)
    client = program.address.openai("sk-one")
    second = client.responses.create(model="demo", input=ASK, previous_response_id=first.id)
    assert "Zorblax" in second.output_text
    again = client.responses.create(model="demo", input="Hi!", previous_response_id=second.id)
    assert second.usage is not None
    assert again.usage is not None
    if Capability.SESSION_TOOLS in registry.candidates(registry.AUTO)[0].capabilities:
        cached = again.usage.input_tokens_details.cached_tokens
        assert cached >= second.usage.total_tokens - 2
    foreign = program.address.openai("sk-two")
    with pytest.raises(openai.PermissionDeniedError, match="another API key"):
        foreign.responses.create(model="demo", input=ASK, previous_response_id=first.id)
    with pytest.raises(openai.PermissionDeniedError, match="another API key"):
        foreign.responses.delete(first.id)
    program.end(signal.SIGKILL)
    program = start(*args)
    client = program.address.openai("sk-one")
    for kept in (first, second):
        third = client.responses.create(model="demo", input=ASK, previous_response_id=kept.id)
        assert "Zorblax" in third.output_text
    assert program.end(signal.SIGINT) == 0
    said = "".join(program.log)
    assert "Zorblax" not in said
    assert "sk-one" not in said


def test_models_are_loaded_when_somebody_asks(start: Start, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(open_model("demo").path, tmp_path / f"{name}.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF?")
    (tmp_path / "notes.txt").write_text("no model")
    program = start("demo", "--models-dir", tmp_path, "--idle", "1")
    client = program.address.openai()
    assert [model.id for model in client.models.list()] == ["a", "b", "broken", "demo"]
    assert loaded(program) == 0
    made = client.responses.create(model="a", input=NAME)
    assert loaded(program) == 1
    with pytest.raises(openai.BadRequestError, match="made with the model 'a'"):
        client.responses.create(model="b", input=ASK, previous_response_id=made.id)
    with pytest.raises(openai.InternalServerError, match="cannot be loaded") as caught:
        client.chat.completions.create(model="broken", messages=[{"role": "user", "content": "?"}])
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(openai.NotFoundError, match="give one of a, b, broken, demo"):
        client.responses.create(model="../a", input=NAME)
    with pytest.raises(openai.BadRequestError, match="model is missing"):
        client.responses.create(input=NAME)
    until(lambda: loaded(program) == 0, 8)
    # What was said is kept, although the model that said it was unloaded.
    later = client.responses.create(model="a", input=ASK, previous_response_id=made.id)
    assert "Zorblax" in later.output_text
    assert program.end() == 0


def loaded(program: Program) -> float:
    text = program.address.ask("GET", "/metrics").body.decode()
    found = re.search(r"^llama_bridge_models_loaded (\S+)$", text, re.M)
    assert found
    return float(found[1])


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases: list[tuple[tuple[str, ...], str]] = [
            (("--api-key-file", str(empty)), "there is no key"),
            (("--api-key-file", str(tmp_path / "no")), "No such file"),
            (("--models-dir", str(tmp_path / "no")), "models_dir"),
            (("--models-dir", str(tmp_path)), "models is empty"),
            (("--host", "nowhere.invalid"), "give others"),
            (("--port", "99999"), "up to 65535"),
            (("--port", str(taken.getsockname()[1])), "in use"),
            (("a", "b", "--alias", "c"), "for one MODEL"),
            ((str(tmp_path / "no.gguf"), "--port", "0"), "no.gguf"),
        ]
        for args, why in cases:
            result = CliRunner().invoke(app, ["serve", *args])
            assert result.exit_code in (1, 2), args
            assert why in result.stderr, args


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 1
    assert 'pip install "llama-bridge[serve]"' in result.stderr


def test_two_servers_do_not_share_a_folder(start: Start, tmp_path: Path) -> None:
    start("--sessions-dir", tmp_path, "--backend", "wasm")
    result = CliRunner().invoke(
        app, ["serve", "--port", "0", "--sessions-dir", str(tmp_path), "--backend", "wasm"]
    )
    assert result.exit_code == 1
    assert "another LlamaBridge uses this folder" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    program = start("--grace", "60")
    endless: Any = {"n": 2, "extra_body": {"grammar": 'root ::= "a"+'}}
    stream: Any = program.address.openai().chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "Hello!"}], stream=True, **endless
    )
    next(iter(stream))
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert program.process.poll() is None
    began = time.perf_counter()
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    assert program.end() == 0  # and a third one while it ends
    assert time.perf_counter() - began < 5


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_terminal_that_is_closed_ends_it_in_peace(start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    program = start("--grace", "60")
    signal.signal(signal.SIGHUP, before)
    stream = long_answer(program)
    for _ in range(2):  # the shell tells it, and the system does
        program.process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")
    assert program.process.wait(20) == 0
    assert program.end(0) == 0


_STUCK = """
import sys, threading, time
from anyio import to_thread
from llama_bridge.cli.listening import listen
from llama_bridge.serve import running

async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        event = (await receive())["type"]
        if event.endswith("shutdown") and sys.argv[1] == "end":
            await to_thread.run_sync(time.sleep, 60)
        await send({"type": event + ".complete"})

if sys.argv[1] == "thread":
    threading.Thread(target=time.sleep, args=(60,)).start()
running._LAST = 0.5
running.run(app, listen("127.0.0.1", 0), grace=1, ready=lambda: print("ready", flush=True))
running.ignore_signals()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("stuck", ["end", "thread"])
def test_a_thread_that_is_stuck_does_not_hold_the_program(stuck: str) -> None:
    """In the work that ends it, a second signal is needed; once all is done, none."""
    with subprocess.Popen(
        [sys.executable, "-c", _STUCK, stuck],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            if stuck == "end":
                time.sleep(1)
                assert process.poll() is None, "it may be writing sessions"
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 1
            assert "most recent call first" in process.stderr.read(), "it tells where it is stuck"
        finally:
            process.kill()

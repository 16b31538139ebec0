"""The commands with a model on a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.serve import app
from tests.serve.serving import serving

from .servers import LlamaServer


@pytest.fixture(scope="module", params=["serve", "llama-server"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "llama-server":
        server: LlamaServer = request.getfixturevalue("llama_cpp")
        yield server.url
        return
    with LlamaBridge("demo", n_parallel=4) as llama, serving(app(llama)) as address:
        yield f"http://127.0.0.1:{address.port}"


def run(url: str, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llama_bridge", *arguments, "--backend", "remote"],
        input=given,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "LLAMA_BRIDGE_URL": url},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_answer_as_json_names_the_servers_model(url: str) -> None:
    made = json.loads(run(url, "run", "--json", "Hello! My name is Zorblax."))
    assert (made["model"], made["backend"]) == ("demo", "remote")
    assert "Zorblax" in made["text"]


def test_a_chat_tells_where_its_model_is(url: str) -> None:
    said = run(url, "chat", given="My name is Zorblax.\nWhat is my name?\n/stats\n")
    assert "Your name is Zorblax." in said
    assert f"demo at {url}" in said


def test_the_demo_checks_what_the_servers_flags_promise(url: str) -> None:
    said = run(url, "demo", "--name", "Zorblax")
    assert "Everything was right (remote" in said
    assert "llama-bridge chat --backend remote  " in said
    assert ".gguf" not in said, "a server has no models by their files"


def test_the_example_of_sessions_runs_on_a_server(url: str) -> None:
    program = Path(__file__).parents[2] / "examples" / "kv_sessions.py"
    done = subprocess.run(
        [sys.executable, program, "--backend", "remote"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "LLAMA_BRIDGE_URL": url},
    )
    assert done.returncode == 0, done.stderr
    assert "demo on the remote backend" in done.stdout
    assert "Your name is Zanora." in done.stdout or "lacks kv_continuation" in done.stdout

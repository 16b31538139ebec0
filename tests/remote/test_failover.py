"""A server that goes away between turns, and the backend that takes over."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from llama_bridge import (
    Fallback,
    FallbackWarning,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    ServerGone,
)
from llama_bridge.serve import app
from tests.serve.serving import serving

GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=64)
NAME, ASK = "Hello! My name is Zorblax.", "What is my name?"
CHAIN = ["remote", "native", "wasm"]


class Server:
    """One that can be stopped."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        llama = self._stack.enter_context(LlamaBridge("demo", n_parallel=2))
        address = self._stack.enter_context(serving(app(llama)))
        self.url = f"http://127.0.0.1:{address.port}"

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def chained(server: Server, **how: Any) -> LlamaBridge:
    settings: dict[str, Any] = {"backend": CHAIN, "failover": True, "sampling": GREEDY} | how
    return LlamaBridge(server.url, model="demo", **settings)


@pytest.mark.usefixtures("native_backend")  # the server continues conversations
def test_a_conversation_goes_on_here_with_all_that_was_said(server: Server) -> None:
    with chained(server) as llama:
        assert llama.backend == "remote"
        llama.system = "Be brief."
        llama.generate(NAME)
        server.stop()
        with pytest.warns(FallbackWarning, match="takes over") as caught:
            answer = llama.generate_continue(ASK)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert llama.backend != "remote"
        assert "Zorblax" in answer.text
        assert (answer.mode, answer.fallback) == (Mode.FRESH, Fallback.FAILOVER)
        roles = [message["role"] for message in llama.session().messages]
        assert roles == ["system", *["user", "assistant"] * 2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if llama.backend == "wasm" else "error")
            again = llama.generate_continue(ASK)
        assert again.fallback is not Fallback.FAILOVER
        if again.mode is Mode.CONTINUED:
            assert "Zorblax" in again.text


def test_a_chat_and_a_fresh_prompt_go_on_too(server: Server) -> None:
    with chained(server, backend=["remote", "wasm"]) as llama:
        messages: list[dict[str, Any]] = [{"role": "user", "content": NAME}]
        messages.append(llama.chat(messages).message)
        server.stop()
        messages.append({"role": "user", "content": ASK})
        with pytest.warns(FallbackWarning, match="the wasm backend takes over"):
            assert "Zorblax" in llama.chat(messages).text
        assert llama.backend == "wasm"
        assert llama.generate(NAME).fallback is None


@pytest.mark.usefixtures("native_backend")  # the server continues conversations
def test_without_failover_it_is_an_error_and_nothing_is_lost(server: Server) -> None:
    with chained(server, failover=False) as llama:
        llama.generate(NAME)
        said = llama.session().messages
        server.stop()
        with pytest.raises(ServerGone):
            llama.generate_continue(ASK)
        assert llama.backend == "remote"
        assert llama.session().messages == said


@pytest.mark.usefixtures("native_backend")  # the server continues conversations
def test_with_nobody_left_it_is_an_error(server: Server) -> None:
    with chained(server, backend=["remote"]) as llama:
        llama.generate(NAME)
        server.stop()
        with pytest.raises(ServerGone):
            llama.generate_continue(ASK)
        assert len(llama.session().messages) == 2


@pytest.mark.usefixtures("native_backend")  # the server continues conversations
def test_raw_text_cannot_be_said_again(server: Server) -> None:
    with chained(server) as llama:
        llama.generate("The KV cache", chat=False, max_tokens=4)
        server.stop()
        with pytest.raises(ServerGone):
            llama.generate_continue(" and", chat=False, max_tokens=4)
        assert llama.backend == "remote"


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="failover"):
        LlamaBridge(failover=1)  # type: ignore[arg-type]

"""A server that goes away between turns, and the backend that takes over."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    AnswerCutOff,
    ContextOverflow,
    Fallback,
    FallbackWarning,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    ServerGone,
)
from llama_bridge.runtime import ServedModel
from llama_bridge.serve import app
from llama_bridge_remote import RemoteBackend
from tests.serve.serving import serving

from .servers import Handler, Heard, scripted
from .test_misbehaving import chunk, talking

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


def takes_over_and_fails(llama: LlamaBridge, server: Server) -> None:
    """Another backend has the conversation, and nobody has gone on with it."""
    llama.generate(NAME)
    said = llama.session().messages
    server.stop()
    with pytest.warns(FallbackWarning, match="takes over"), pytest.raises(ContextOverflow):
        llama.generate_continue("word " * 20_000)
    assert llama.session().messages == said


ON_WASM = pytest.mark.filterwarnings("ignore:this backend cannot continue a conversation")
"""A server without native says so before it is missed."""


@ON_WASM
def test_a_conversation_that_was_handed_over_can_be_forgotten(server: Server) -> None:
    with chained(server, backend=["remote", "wasm"]) as llama:
        takes_over_and_fails(llama, server)
        llama.session_reset()
        assert llama.session().messages == []
        answer = llama.generate_continue(ASK)
        assert answer.fallback is Fallback.NO_SESSION
        assert "Zorblax" not in answer.text


@pytest.mark.usefixtures("native_backend")  # it keeps session files
def test_a_conversation_that_was_handed_over_can_be_replaced_by_a_file(
    server: Server, tmp_path: Path
) -> None:
    with LlamaBridge("demo", backend="native", sampling=GREEDY) as other:
        other.generate("Hello! My name is Quentin.")
        other.session_save(tmp_path / "a.session")
    with chained(server) as llama:
        takes_over_and_fails(llama, server)
        llama.session_load(tmp_path / "a.session")
        assert "Quentin" in llama.generate_continue(ASK).text


@pytest.fixture
def second() -> Iterator[Server]:
    second = Server()
    yield second
    second.stop()


@ON_WASM
def test_two_servers_that_go_one_after_the_other(server: Server, second: Server) -> None:
    """The second has never heard of the conversation when it goes."""

    class Second(RemoteBackend):
        def open(self, model: Any, *rest: Any) -> Any:
            return super().open(ServedModel(second.url, model.model), *rest)

    with chained(server, backend=[RemoteBackend(), Second(), "wasm"]) as llama:
        takes_over_and_fails(llama, server)
        assert second.url in str(llama.where)
        second.stop()
        with pytest.warns(FallbackWarning, match="the wasm backend takes over"):
            answer = llama.generate_continue(ASK)
        assert "Zorblax" in answer.text


def test_calls_that_wait_for_the_server_that_is_gone_are_taken_over_too(server: Server) -> None:
    with chained(server, backend=["remote", "wasm"]) as llama, warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        llama.generate(NAME)
        server.stop()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: llama.generate_continue(ASK), range(8)))
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert all(answer.fallback is not Fallback.NO_SESSION for answer in answers)
    assert any("Zorblax" in answer.text for answer in answers)


def test_after_a_first_answer_that_broke_off_there_is_nothing_to_carry_over() -> None:
    def answer(heard: Heard, handler: Handler) -> None:
        if heard.path == "/v1/models":
            handler.json({"data": [{"id": "demo", "owned_by": "somebody"}]})
        else:
            talking(breaks_off)(heard, handler)

    def breaks_off(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("One"))

    with scripted(answer) as script:
        how: dict[str, Any] = {"backend": ["remote", "wasm"], "failover": True, "model": "demo"}
        llama = LlamaBridge(script.url, sampling=GREEDY, **how)
        with pytest.raises(AnswerCutOff):
            llama.generate(NAME)
    with llama, pytest.warns(FallbackWarning, match="the wasm backend takes over"):
        assert llama.generate(NAME).finish_reason == "stop"

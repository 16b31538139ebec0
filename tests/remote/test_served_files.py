"""Session files of conversations over ``llama-bridge serve --sessions-dir``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    AccessDenied,
    Capability,
    EngineError,
    InvalidInput,
    LlamaBridge,
    Mode,
    NoSession,
    SamplingParams,
    SessionCorrupt,
    SessionMismatch,
    SessionNotFound,
    SessionWriteError,
    UnsupportedCapability,
    registry,
)
from llama_bridge.serve import ServerSettings, app
from llama_bridge_remote import RemoteBackend
from tests.remote.servers import free_port
from tests.serve.serving import Address, serving

GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=48)
NAME, ASK = "Hello! My name is Zorblax.", "What is my name?"


@contextmanager
def server(
    folder: Path | None, port: int = 0, *, key: str = "", most: int = 1024
) -> Iterator[Address]:
    """A server of its own: its bridge keeps KV caches in the folder, and the application its responses."""
    if Capability.SESSION_PERSISTENCE not in registry.candidates("auto")[0].capabilities:
        pytest.skip("the server keeps no sessions")
    with LlamaBridge(
        "demo", n_parallel=4, sampling=GREEDY, sessions_dir=folder and folder / "caches"
    ) as bridge:
        settings = ServerSettings(max_responses=most, api_keys=(key,) * bool(key))
        kept = app(bridge, settings=settings, responses_dir=folder and folder / "responses")
        with serving(kept, port) as address:
            yield address


def remote(port: int, key: str = "") -> LlamaBridge:
    backend = RemoteBackend(api_key=key)
    return LlamaBridge(f"http://127.0.0.1:{port}", backend=backend, sampling=GREEDY)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with server(tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture
def llama(address: Address) -> Iterator[LlamaBridge]:
    with remote(address.port) as llama:
        yield llama


def test_a_conversation_comes_back_after_a_restart_without_being_evaluated(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "a.session"
    with server(tmp_path / "served", port), remote(port) as llama:
        assert Capability.SESSION_PERSISTENCE in llama.capabilities
        first = llama.generate(NAME)
        n_tokens = first.usage.prompt_tokens + first.usage.completion_tokens
        saved = llama.session_save(file)
        assert (saved.n_tokens, saved.cached_tokens) == (n_tokens, n_tokens)
        assert saved.path == file
        assert saved.messages == tuple(llama.session().messages)
        expected = llama.generate_continue(ASK)
        assert "Zorblax" in expected.text
    with server(tmp_path / "served", port), remote(port) as llama:
        assert llama.session_verify(file).ok
        info = llama.session_load(file)
        assert (info.n_tokens, info.cached_tokens, info.replayed) == (n_tokens, n_tokens, None)
        assert info.messages == saved.messages
        again = llama.generate_continue(ASK)
        assert (again.text, again.mode) == (expected.text, Mode.CONTINUED)
        assert again.usage.cached_tokens >= n_tokens - 1


def test_what_is_loaded_can_be_undone_branched_and_answered_again(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    for question in (NAME, "Who are you?", ASK):
        last = llama.generate_continue(question)
    llama.session_save(tmp_path / "a")
    llama.session_reset()
    llama.session_load(tmp_path / "a")
    session = llama.session()
    assert session.n_turns == 3
    assert llama.regenerate().text == last.text
    assert session.n_turns == 3
    branch = session.fork("branch")
    branch.rewind(2)
    answer = branch.generate_continue(ASK)
    assert "Zorblax" in answer.text
    assert answer.usage.evaluated_tokens < answer.usage.cached_tokens
    assert (branch.n_turns, session.n_turns) == (2, 3)


def test_named_sessions_have_files_of_their_own(llama: LlamaBridge, tmp_path: Path) -> None:
    for name in ("Zorblax", "Quexlor"):
        llama.session(name).generate_continue(f"Hello! My name is {name}.")
        llama.session(name).save(tmp_path / name)
    for name in ("Zorblax", "Quexlor"):
        other = llama.session(f"again {name}")
        other.load(tmp_path / name)
        assert name in other.generate_continue(ASK).text


def test_raw_text_comes_back_as_text(llama: LlamaBridge, tmp_path: Path) -> None:
    first = llama.generate("one two three", chat=False, max_tokens=4)
    saved = llama.session_save(tmp_path / "a")
    assert saved.messages == ()
    expected = llama.generate_continue(" and", chat=False, max_tokens=4)
    llama.session_reset()
    llama.session_load(tmp_path / "a")
    assert llama.generate_continue(" and", chat=False, max_tokens=4).text == expected.text
    assert first.text


def test_a_cut_answer_is_saved_as_what_was_said(llama: LlamaBridge, tmp_path: Path) -> None:
    llama.generate(NAME)
    stream = llama.generate_continue_stream("Tell me about yourself.")
    next(iter(stream))
    stream.close()
    llama.session_save(tmp_path / "a")
    messages = llama.session().messages
    llama.session_reset()
    info = llama.session_load(tmp_path / "a")
    assert llama.session().messages == messages
    assert info.cached_tokens == 0
    assert "Zorblax" in llama.generate_continue(ASK).text


def test_a_response_that_is_gone_is_refused_and_can_be_replayed(tmp_path: Path) -> None:
    with server(tmp_path / "served", most=2) as address, remote(address.port) as llama:
        llama.generate(NAME)
        llama.session_save(tmp_path / "a")
        for _ in range(3):
            llama.generate("Hi!")
        live = llama.session().messages
        with pytest.raises(
            SessionMismatch, match="no longer kept here: pass replay=True"
        ) as caught:
            llama.session_load(tmp_path / "a")
        assert caught.value.field == "response"
        assert llama.session().messages == live
        assert not llama.session_verify(tmp_path / "a").ok
        info = llama.session_load(tmp_path / "a", replay=True)
        assert info.replayed
        assert info.cached_tokens == 0
        assert "Zorblax" in llama.generate_continue(ASK).text


def test_another_server_or_model_is_refused_with_the_field(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    llama.generate(NAME)
    llama.session_save(tmp_path / "a")
    with server(tmp_path / "other") as other, remote(other.port) as there:
        with pytest.raises(SessionMismatch) as caught:
            there.session_load(tmp_path / "a")
        assert caught.value.field == "server"
        there.session_load(tmp_path / "a", replay=True)
        assert "Zorblax" in there.generate_continue(ASK).text
    named = _changed(tmp_path / "a", lambda body: body.update(model="another"))
    with pytest.raises(SessionMismatch) as caught:
        llama.session_load(named)
    assert caught.value.field == "model"


def _changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with other contents, whose digest fits."""
    from llama_bridge_remote.session_file import write_file

    body = json.loads(json.loads(path.read_text())["body"])
    change(body)
    other = path.with_name("changed")
    write_file(other, "llama-bridge response", body)
    return other


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no states": lambda body: body.update(states=[]),
    "fewer messages": lambda body: body["messages"].pop(),
    "order": lambda body: body["states"].reverse(),
    "negative": lambda body: body["states"][-1].update(n_messages=-1),
    "a number that is a text": lambda body: body["states"][-1].update(n_messages="2"),
    "a path": lambda body: body["states"][-1].update(response="../models"),
    "a number for a response": lambda body: body["states"][-1].update(response=7),
    "a question of another type": lambda body: body["states"][-1].update(asked=["prompt"]),
    "a prompt of another type": lambda body: body["states"][-1]["asked"].update(prompt=[]),
    "messages of another type": lambda body: body.update(messages=[7]),
    "text of another type": lambda body: body.update(text=None),
    "no server": lambda body: body.pop("server"),
}


@pytest.mark.parametrize("how", ["empty", "text", "json", "altered", "folder", "cut", *HOSTILE])
def test_what_is_no_session_file_is_refused(llama: LlamaBridge, tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    llama.generate(NAME)
    live = llama.session().messages
    llama.session_save(path)
    whole = path.read_bytes()
    made = {
        "empty": b"",
        "text": b"\xff\xfe hello",
        "json": b'{"format": []}',
        "altered": whole.replace(b"Zorblax", b"Mallory", 1),
        "cut": whole[:-20],
    }
    if how == "folder":
        path = tmp_path
    elif how in HOSTILE:
        path = _changed(path, HOSTILE[how])
    else:
        path.write_bytes(made[how])
    with pytest.raises(SessionCorrupt):
        llama.session_load(path)
    with pytest.raises(SessionCorrupt):
        llama.session_verify(path)
    assert llama.session().messages == live
    with pytest.raises(SessionNotFound):
        llama.session_load(tmp_path / "nothing")


def test_what_cannot_be_saved_leaves_what_was_there(llama: LlamaBridge, tmp_path: Path) -> None:
    llama.session_reset()
    with pytest.raises(NoSession):
        llama.session_save(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    llama.generate(NAME)
    with pytest.raises(SessionWriteError):
        llama.session_save(tmp_path / "missing" / "a")
    wrong: Any = 7
    with pytest.raises(InvalidInput):
        llama.session_save(wrong)


def test_a_server_that_is_gone_or_wants_another_key_is_told(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "a"
    with server(tmp_path / "served", port, key="first"):
        llama = remote(port, "first")
        llama.generate(NAME)
        llama.session_save(file)
        before = file.read_bytes()
    with llama, pytest.raises(EngineError, match="does not answer"):
        llama.session_save(file)
    assert file.read_bytes() == before
    with server(tmp_path / "served", port, key="first"):
        llama = remote(port, "first")
    with llama, pytest.raises(EngineError, match="does not answer"):
        llama.session_load(file)
    with server(tmp_path / "served", port, key="second"), pytest.raises(AccessDenied):
        remote(port, "first")
    assert "first" not in file.read_text()


def test_a_folder_for_sessions_here_is_refused(llama: LlamaBridge, tmp_path: Path) -> None:
    url = llama.where.split()[2]
    with pytest.raises(InvalidInput, match="sessions_dir: a server keeps conversations"):
        LlamaBridge(url, backend="remote", sessions_dir=tmp_path)


def test_without_a_folder_nothing_is_promised() -> None:
    with server(None) as address, remote(address.port) as llama:
        assert Capability.SESSION_TOOLS in llama.capabilities
        assert Capability.SESSION_PERSISTENCE not in llama.capabilities
        llama.generate(NAME)
        with pytest.raises(UnsupportedCapability, match="--sessions-dir"):
            llama.session_save("a")

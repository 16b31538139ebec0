"""Which server and model are meant, and what is refused before anything is asked."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    BackendUnavailable,
    Capability,
    InvalidInput,
    LlamaBridge,
    ServedModel,
    registry,
)
from llama_bridge_remote import RemoteBackend
from llama_bridge_remote.address import read_address

from .servers import free_port


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://host:8080", "http://host:8080"),
        ("http://host:8080/", "http://host:8080"),
        ("http://host:8080/v1", "http://host:8080"),
        ("http://host:8080/v1/", "http://host:8080"),
        ("HTTPS://Host/llm/v1", "https://host/llm"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("https://me:secret@host", "https://host"),
    ],
)
def test_an_address_is_read(given: str, url: str) -> None:
    assert read_address(given).url == url
    assert read_address(ServedModel(given, "m")).model == "m"


def test_user_and_password_are_kept_and_never_shown() -> None:
    address = read_address("https://me:p%40ss@host/v1")
    assert address.user == ("me", "p@ss")
    assert "p@ss" not in repr(address)
    assert "p%40ss" not in repr(address)


@pytest.mark.parametrize(
    "broken",
    [
        *("me:hush@host:80", "http://me:hush@host:99999", "ftp://me:hush@host", "//me:hush@host"),
        *("http:/me:hush@host", "http://me:hush/1@host", "http://me:hush?1@host:80"),
        *("http://me:hush#1@host", "http://me:a://hush@host:x"),
    ],
)
def test_a_password_is_not_shown_of_an_address_that_is_none(broken: str) -> None:
    for model in (broken, ServedModel(broken, "m")):
        with pytest.raises(InvalidInput) as caught:
            read_address(model)
        assert "hush" not in f"{caught.value} {caught.value!r}"


@pytest.mark.skipif(sys.platform == "emscripten", reason="the browser reads some as another one")
@pytest.mark.parametrize(
    "place",
    ["host/\x00", "host/\x1b[31m", "\ud800", "host/\ud800", "１２７.0.0.1", "h/" + "a" * 70_000],
)
def test_an_address_that_no_request_can_have_is_refused(place: str) -> None:
    with pytest.raises(InvalidInput, match="the server's address"):
        LlamaBridge(f"http://{place}", backend="remote")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("host:8080", "write http://host:8080"),
        ("127.0.0.1:8080", "write http://127.0.0.1:8080"),
        ("demo", "no server is named"),
        ("ftp://host", "http:// or https://"),
        ("http://", "names no host"),
        ("http://host:port", "cannot be used"),
        ("http://host:99999", "cannot be used"),
        ("http://ho st", "names no host"),
        ("http://host?key=1", "a query"),
        ("", "no server is named"),
    ],
)
def test_what_is_no_address_is_refused_with_the_way_out(given: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        LlamaBridge(given, backend="remote") if "://" not in given else LlamaBridge(
            given, model="m", backend="remote"
        )


def test_without_a_scheme_a_name_is_a_model_of_the_server_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLAMA_BRIDGE_URL", "http://host:1")
    assert (read_address("demo").url, read_address("demo").model) == ("http://host:1", "demo")
    assert read_address("http://other:2").url == "http://other:2"


@pytest.mark.parametrize("model", [Path("demo"), 3, b"demo", None, ServedModel("http://h", Path())])
def test_models_that_are_no_names_are_refused(model: Any) -> None:
    with pytest.raises(InvalidInput):
        read_address(model)


def test_only_with_the_remote_backend_is_an_address_a_server() -> None:
    with pytest.raises(InvalidInput, match="the wasm backend asks none"):
        LlamaBridge("http://127.0.0.1:1", backend="wasm", model="demo")
    with pytest.raises(InvalidInput, match="goes with a server's address"):
        LlamaBridge(Path("a.gguf"), backend="wasm", model="demo")
    with pytest.raises(InvalidInput, match="model is missing"):
        LlamaBridge("http://127.0.0.1:1", backend=["remote", "wasm"])
    with LlamaBridge(model="demo", backend="wasm", n_ctx=256) as llama:
        assert llama.backend == "wasm"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"api_key": "a b"}, {"api_key": 3}, {"api_key": "é"}, {"timeout": 0}, {"timeout": "1"}),
        *(
            {"timeout": math.inf},
            {"timeout": 1e10},
            {"headers": {"a b": "x"}},
            {"headers": {3: "x"}},
        ),
        *({"headers": {"x-key": "hush\r\nHost: x"}}, {"headers": {"x-key": 3}}),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))) as caught:
        RemoteBackend(**wrong)
    assert str(wrong.get("api_key", "?")) not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_server_is_never_taken_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_BRIDGE_URL", "http://127.0.0.1:1")
    assert "remote" not in [backend.name for backend in registry.candidates()]
    assert "remote" not in registry.available_in(Capability.GENERATE)
    assert [backend.name for backend in registry.candidates("remote")] == ["remote"]


# several backends


def test_the_first_that_answers_is_taken(bridge_url: str) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with LlamaBridge(dead, model="demo", backend=["remote", "wasm"], n_ctx=256) as llama:
        assert llama.backend == "wasm"
        assert llama.generate("Hello!", max_tokens=4).text
    with LlamaBridge(bridge_url, model="demo", backend=["remote", "wasm"]) as llama:
        assert llama.backend == "remote"
    with LlamaBridge("demo", backend=("nothing", "wasm"), n_ctx=256) as llama:
        assert llama.backend == "wasm"


def test_if_none_of_several_is_there_all_reasons_are_told() -> None:
    with pytest.raises(BackendUnavailable, match=r"no-one.*neither") as caught:
        LlamaBridge("demo", backend=["no-one", "neither"])
    assert "no backend of that name" in caught.value.reason
    dead = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailable, match="does not answer"):
        LlamaBridge(dead, model="demo", backend=["remote"])


@pytest.mark.parametrize("choice", [[], (), {}, 3, None, [3], ["wasm", None], [["wasm"]], {"wasm"}])
def test_what_is_no_choice_of_backends_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidInput, match="backend="):
        LlamaBridge("demo", backend=choice)

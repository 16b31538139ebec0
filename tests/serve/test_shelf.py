"""Several models: loaded once however many ask, unloaded when idle or when memory is short, never while in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import AsyncLlamaBridge, InvalidInput, ModelParams, OutOfMemory
from llama_bridge.runtime import Model, Runtime, SessionStorage
from llama_bridge.serve import ServerSettings
from llama_bridge.serve.app import application
from llama_bridge.serve.shelf import Shelf, models_in
from llama_bridge.testing import FakeAnswer, FakeBackend

from .serving import Address, serving, until


class Small(FakeBackend):
    """A machine with room for so many models."""

    def __init__(self, room: int) -> None:
        super().__init__(lambda asked: FakeAnswer("word " * 40, token_seconds=0.0005))
        self.room = room
        self.loads: list[str] = []
        self.here: list[Runtime] = []

    def open(
        self, model: Model, params: ModelParams, storage: SessionStorage, on_progress: Any
    ) -> Runtime:
        time.sleep(0.05)
        if model == "huge" or len(self.here) >= self.room:
            raise OutOfMemory(str(model), "it does not fit")
        self.loads.append(str(model))
        runtime = super().open("demo", params, storage, on_progress)
        self.here.append(runtime)
        close = runtime.close

        def gone() -> None:
            close()
            if runtime in self.here:
                self.here.remove(runtime)

        runtime.close = gone  # type: ignore[method-assign]
        return runtime


def shelf(backend: Small, idle: float = 60.0) -> Shelf:
    names = {name: name for name in ("a", "b", "c", "huge")}

    def open_model(name: str, model: str, keeps: bool) -> AsyncLlamaBridge:
        return AsyncLlamaBridge(model, backend=backend)

    return Shelf(names, open_model, idle)


@pytest.fixture
def small() -> Small:
    return Small(room=2)


@pytest.fixture
def address(small: Small) -> Iterator[Address]:
    with serving(application(shelf(small), ServerSettings(), None)) as address:
        yield address


def ask(address: Address, model: str, **more: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "?"}], **more}
    return address.post("/v1/chat/completions", body)


def test_many_who_ask_load_it_once(address: Address, small: Small) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(address, "a").status)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 6
    assert small.loads == ["a"]


def test_the_one_that_was_not_used_for_longest_makes_room(address: Address, small: Small) -> None:
    for name in ("a", "b", "a", "c"):
        assert ask(address, name).status == 200
    assert small.loads == ["a", "b", "c"]
    assert ask(address, "a").status == 200  # b has gone
    assert small.loads == ["a", "b", "c"]
    assert ask(address, "b").status == 200
    assert small.loads[3:] == ["b"]


def test_one_that_is_in_use_stays(address: Address, small: Small) -> None:
    said: list[Any] = []
    threads = [
        threading.Thread(target=lambda name=name: said.append(ask(address, name, stream=True)))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(small.loads) == 2)
    reply = ask(address, "c")
    for thread in threads:
        thread.join()
    assert all(b"[DONE]" in one.body for one in said)
    assert reply.status in (200, 503)  # as soon as one was done, or there was no room
    if reply.status == 503:
        assert reply.error["code"] == "out_of_memory"
    assert ask(address, "c").status == 200


def test_one_that_never_fits_is_refused(address: Address, small: Small) -> None:
    assert ask(address, "a").status == 200
    reply = ask(address, "huge")
    assert (reply.status, reply.error["code"]) == (503, "out_of_memory")
    assert ask(address, "a").status == 200


def test_an_idle_one_goes(small: Small) -> None:
    with serving(application(shelf(small, idle=0.2), ServerSettings(), None)) as address:
        assert ask(address, "a").status == 200
        assert len(small.here) == 1
        until(lambda: not small.here)
        assert ask(address, "a").status == 200
    assert not small.here  # it went with the server


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    names = ("one.gguf", "two-00001-of-00002.gguf", "two-00002-of-00002.gguf", "x.txt", "Z.gguf")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder.gguf").mkdir()
    assert models_in(tmp_path) == {
        "Z": str(tmp_path / "Z.gguf"),
        "one": str(tmp_path / "one.gguf"),
        "two": str(tmp_path / "two-00001-of-00002.gguf"),
    }
    with pytest.raises(InvalidInput, match="give a folder"):
        models_in(tmp_path / "one.gguf")
    with pytest.raises(InvalidInput, match="models is empty"):
        Shelf({}, lambda _, model, keeps: AsyncLlamaBridge(model), 5)

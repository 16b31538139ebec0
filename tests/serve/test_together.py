"""Several clients at once are answered side by side, each as if it were alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import app

from .serving import Address, serving

GRAMMAR = f"root ::= {'b ' * 40}\nb ::= {'[a-z] ' * 50}"
LONG: Any = {"extra_body": {"grammar": GRAMMAR}}
"""An answer of exactly 2,000 letters."""


@pytest.fixture(scope="module")
def address(llama_backend: str) -> Iterator[Address]:
    greedy = SamplingParams(temperature=0, max_tokens=None)
    with (
        LlamaBridge("demo", backend=llama_backend, n_parallel=4, sampling=greedy) as llama,
        serving(app(llama)) as address,
    ):
        yield address


def stream(address: Address, text: str, **more: Any) -> Any:
    said: Any = [{"role": "user", "content": text}]
    client = address.openai()
    return client.chat.completions.create(model="demo", messages=said, stream=True, **more)


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_short_answer_does_not_wait_for_a_long_one(address: Address) -> None:
    ended: dict[str, float] = {}
    begun = threading.Event()

    def read() -> None:
        chunks = iter(stream(address, "Hello!", **LONG))
        while not next(chunks).choices[0].delta.content:
            pass
        begun.set()
        for _ in chunks:
            pass
        ended["long"] = time.perf_counter()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    assert "Zorblax" in text_of(stream(address, "My name is Zorblax."))
    ended["short"] = time.perf_counter()
    reader.join()
    assert ended["short"] < ended["long"]


def test_answers_in_company_are_those_alone_whoever_leaves(address: Address) -> None:
    names = ("Zorblax", "Quentin", "Mirabel")
    alone = {name: text_of(stream(address, f"Hello! My name is {name}.")) for name in names}
    found: dict[str, str] = {}

    def ask(name: str) -> None:
        found[name] = text_of(stream(address, f"Hello! My name is {name}."))

    leaving = stream(address, "Hello!", **LONG)
    next(iter(leaving))
    readers = [threading.Thread(target=ask, args=(name,)) for name in names]
    for reader in readers:
        reader.start()
    leaving.close()
    for reader in readers:
        reader.join()
    assert found == alone


def test_more_than_may_wait_are_told_so(llama_backend: str) -> None:
    with (
        LlamaBridge("demo", backend=llama_backend, n_parallel=1, max_waiting=1) as llama,
        serving(app(llama)) as address,
    ):
        found: list[Any] = []
        body = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
        first = iter(stream(address, "Hello!", **LONG))
        while not next(first).choices[0].delta.content:
            pass

        def ask() -> None:
            found.append(address.post("/v1/chat/completions", body))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [*first][-1].choices[0].finish_reason == "length"  # it was not disturbed
        busy = [reply for reply in found if reply.status == 503]
        assert len(busy) >= 1
        assert all(reply.error["code"] == "busy" for reply in busy)
        assert all(int(reply.headers["retry-after"]) > 0 for reply in busy)
        assert [reply.status for reply in found if reply not in busy] == [200] * (4 - len(busy))

"""HubServer, as people meet it in their own tests."""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge.testing.hub import HubServer

DATA = bytes(range(256)) * 1000


@pytest.fixture
def hub() -> Iterator[HubServer]:
    if sys.platform == "emscripten":
        pytest.skip("a page has no server")
    with HubServer() as server:
        yield server


def ask(url: str, **headers: str) -> Any:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url, headers=named), timeout=10)


def test_it_tells_what_llama_cpp_asks_for(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "b.gguf").write_bytes(DATA)
    commit = hub.add("org/repo", {"d/a.gguf": b"a", "b.gguf": tmp_path / "b.gguf"})
    with ask(f"{hub.url}/api/models/org/repo/refs") as answer:
        assert json.load(answer)["branches"] == [{"name": "main", "targetCommit": commit}]
    with ask(f"{hub.url}/api/models/org/repo/tree/{commit}?recursive=true") as answer:
        told = {file["path"]: (file["size"], file["lfs"]["oid"]) for file in json.load(answer)}
    assert told == {
        "b.gguf": (len(DATA), hashlib.sha256(DATA).hexdigest()),
        "d/a.gguf": (1, hashlib.sha256(b"a").hexdigest()),
    }
    with ask(f"{hub.url}/org/repo/resolve/{commit}/b.gguf", Range="bytes=100-") as answer:
        assert answer.status == 206
        assert answer.read() == DATA[100:]
    assert [asked.server for asked in hub.asked] == ["hub"] * 3 + ["files"]
    assert len(hub.downloads()) == 1


def test_the_same_files_are_the_same_commit_and_old_commits_stay(hub: HubServer) -> None:
    first = hub.add("org/repo", {"a.gguf": b"1"})
    second = hub.add("org/repo", {"a.gguf": b"2"})
    assert first != second
    assert hub.add("org/other", {"a.gguf": b"1"}) == first
    with ask(f"{hub.url}/org/repo/resolve/{first}/a.gguf") as answer:
        assert answer.read() == b"1"
    with ask(f"{hub.url}/org/repo/resolve/main/a.gguf") as answer:
        assert answer.read() == b"2"


def test_a_fault_happens_as_often_as_it_was_asked_for(hub: HubServer) -> None:
    hub.add("org/repo", {"a.gguf": DATA})
    url = hub.address("org/repo", "a.gguf")
    hub.fail("status", path="*/a.gguf", status=418, times=2)
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="418") as error:
            ask(url)
        error.value.close()
    with ask(url) as answer:
        assert answer.read() == DATA
    hub.fail("corrupt", path="*.gguf", after=70_000)
    with ask(url) as answer:
        got = answer.read()
    assert [i for i in range(len(DATA)) if got[i] != DATA[i]] == [70_000]


def test_it_ends_with_its_block(hub: HubServer) -> None:
    hub.add("org/repo", {"a.gguf": DATA})
    hub.fail("stall", after=10)
    stalled = ask(hub.address("org/repo", "a.gguf"))
    hub.close()
    hub.close()
    with stalled, pytest.raises((OSError, http.client.HTTPException)):
        assert len(stalled.read()) == len(DATA)
    with pytest.raises(urllib.error.URLError):
        ask(hub.url)

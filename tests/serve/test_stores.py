"""A folder and a store of objects do the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llama_bridge.errors import SessionWriteError
from llama_bridge.serve.kept_responses import replica_mark
from llama_bridge.serve.shared_store import SharedFolder, SharedStore
from llama_bridge.serve.stores import open_store

pytest.importorskip("fsspec")

from llama_bridge.serve.object_store import ObjectStore

from .serving import until
from .test_shared_responses import ASK, NAME, cached, member

NAME_OF = "resp_" + replica_mark("a") + "ab" * 16 + ".json"


@pytest.fixture(params=["folder", "file://", "memory://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    where = str(tmp_path / "store")
    return open_store(where if request.param == "folder" else f"{request.param}{where}")


def test_what_is_written_is_there_for_all_until_it_is_removed(
    store: SharedStore, tmp_path: Path
) -> None:
    assert store.read(NAME_OF) is None
    assert not store.has(NAME_OF)
    assert not store.fetch(NAME_OF, tmp_path / "copy")
    store.write(NAME_OF, b"one")
    assert store.read(NAME_OF) == b"one"
    assert store.has(NAME_OF)
    assert store.fetch(NAME_OF, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"one"
    (found,) = store.contents()
    assert (found.name, found.n_bytes) == (NAME_OF, 3)
    assert abs(found.used - time.time()) < 3600
    for _ in range(2):
        store.remove(NAME_OF)
    assert not store.has(NAME_OF)
    assert list(store.contents()) == []


def test_a_file_is_placed_whole(store: SharedStore, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    file = store.place(NAME_OF, scratch)
    file.write_bytes(b"x" * 1000)
    store.placed(NAME_OF, file)
    assert store.read(NAME_OF) == b"x" * 1000
    assert list(scratch.iterdir()) == []


def test_the_first_one_counts(store: SharedStore) -> None:
    assert [store.write_first("secret", word) for word in (b"one", b"two")] == [b"one", b"one"]


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    for name in (f"{tmp_path}/a file", f"file://{tmp_path}/a file/in it", "nonsense://x"):
        with pytest.raises((SessionWriteError, ValueError), match=r"a file|nonsense"):
            open_store(name)


def test_an_error_of_the_store_is_one_of_the_system_and_tells_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(f"memory://{tmp_path}/failing")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("key=secret")

    monkeypatch.setattr(store._fs, "cat_file", fail)
    with pytest.raises(OSError, match="RuntimeError") as caught:
        store.read(NAME_OF)
    assert "secret" not in str(caught.value)


def test_a_conversation_moves_through_a_store_of_objects(
    llama_backend: str, tmp_path: Path
) -> None:
    store = open_store(f"memory://{tmp_path}/fleet")
    assert not isinstance(store, SharedFolder)
    with member(store, 1, llama_backend) as one, member(store, 2, llama_backend) as other:
        first = one.say(NAME)
        if one.keeps:
            until(lambda: store.has(f"{first.id}.session"))
        second = other.say(ASK, first)
        assert "Zorblax" in second.output_text
        if one.keeps:
            assert cached(second) >= 0.95 * first.usage.total_tokens


@pytest.mark.parametrize(
    "place", ["ftp://me:hush@127.0.0.1:1/x", "nothing://me:hush@x", "http://me:hush/1@127.0.0.1:1/"]
)
def test_a_password_in_a_url_is_not_shown(place: str) -> None:
    with pytest.raises(SessionWriteError, match="cannot be used as a store") as caught:
        open_store(place)
    assert "hush" not in f"{caught.value} {caught.value!r}"

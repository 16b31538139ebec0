"""The store of responses holds only so much, in memory and in a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import pytest

from llama_bridge import SessionsLocked, SessionWriteError
from llama_bridge.serve import kept_record
from llama_bridge.serve.kept_responses import Kept
from llama_bridge.serve.refusals import Refused, as_refused
from llama_bridge.serve.response_store import ResponseStore

from .serving import Address


def response(store: ResponseStore, size: int) -> Kept:
    return Kept(store.new_id("me"), "me", "demo", {"text": "x" * size}, [], [])


@pytest.mark.parametrize("in_folder", [False, True])
def test_large_responses_go_before_there_are_many(tmp_path: Path, in_folder: bool) -> None:
    """A request of 8 MB can make a response as large, and a thousand of them would fill the machine."""
    folder = tmp_path if in_folder else None

    async def fill() -> None:
        store = ResponseStore(folder, most=1000, most_bytes=10_000)
        made = [response(store, 3_000) for _ in range(5)]
        gone = [id_ for one in made for id_ in await store.keep(one)]
        assert gone == [one.id for one in made[:2]]
        with pytest.raises(Refused, match="no longer kept"):
            await store.find(gone[0], "me")
        assert await store.find(made[-1].id, "me") == made[-1]
        huge = response(store, 50_000)
        assert len(await store.keep(huge)) == 3
        assert await store.find(huge.id, "me") == huge
        await store.remove(huge.id)
        assert [await store.keep(response(store, 3_000)) for _ in range(3)] == [[], [], []]
        store.close()
        if folder is not None:  # the same holds after a restart
            store = ResponseStore(folder, most=1000, most_bytes=10_000)
            assert len(await store.keep(response(store, 3_000))) == 1
            store.close()

    anyio.run(fill)


def test_a_record_that_was_altered_is_noticed_whichever_byte_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """JSON with another letter in it is still JSON: the conversation would go on from what nobody said."""
    id_ = "resp_" + "0" * 40
    kept = Kept(id_, "me", "demo", {"a": 1}, [{"b": "é"}], [{"content": "Zorblax\n"}])
    data = kept_record.to_bytes(kept)
    assert kept_record.from_bytes(data, id_) == kept
    assert kept_record.from_bytes(data.partition(b"\n")[0], id_) == kept, "as it once was"
    caplog.set_level(100)
    for at in range(len(data)):
        for bit in (0, 5, 7):
            altered = bytearray(data)
            altered[at] ^= 1 << bit
            assert kept_record.from_bytes(bytes(altered), id_) is None, at
    for n in range(1, 64):
        assert kept_record.from_bytes(data[:-n], id_) is None
    assert kept_record.from_bytes(data, id_.replace("0", "1")) is None


def test_an_altered_record_of_a_folder_is_refused(tmp_path: Path) -> None:
    async def alter() -> None:
        store = ResponseStore(tmp_path, most=10)
        kept = response(store, 10)
        await store.keep(kept)
        store.close()
        file = tmp_path / f"{kept.id}.json"
        file.write_bytes(file.read_bytes().replace(b"xxx", b"yyy"))
        store = ResponseStore(tmp_path, most=10)
        with pytest.raises(Refused, match="no longer kept"):
            await store.find(kept.id, "me")
        store.close()

    anyio.run(alter)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_what_is_no_response_is_not_read(tmp_path: Path) -> None:
    """A pipe in the place of one was read for ever, and the server could not end."""

    async def damage() -> None:
        store = ResponseStore(tmp_path / "kept", most=10)
        made = [response(store, 10) for _ in range(3)]
        for one in made:
            await store.keep(one)
        store.close()
        link, pipe, deep = (tmp_path / "kept" / f"{one.id}.json" for one in made)
        os.replace(link, tmp_path / "elsewhere.json")
        link.symlink_to(tmp_path / "elsewhere.json")
        pipe.unlink()
        os.mkfifo(pipe)
        deep.write_text("[" * 100_000)
        store = ResponseStore(tmp_path / "kept", most=10)
        for one in made:
            with pytest.raises(Refused, match="no longer kept"):
                await store.find(one.id, "me")
        store.close()

    anyio.run(damage)


def test_a_folder_that_somebody_removes_is_made_again(tmp_path: Path) -> None:
    """Until the server started again, no response could be kept, and what failed was said to be the model."""

    async def remove() -> None:
        folder = tmp_path / "kept"
        store = ResponseStore(folder, most=10)
        secret = (folder / "secret").read_bytes()
        old = response(store, 10)
        await store.keep(old)
        shutil.rmtree(folder)
        new = response(store, 10)
        await store.keep(new)
        assert await store.find(old.id, "me") == old  # from memory
        assert (folder / "secret").read_bytes() == secret
        with pytest.raises(SessionsLocked):
            ResponseStore(folder, most=10)
        shutil.rmtree(folder)
        folder.write_text("in its place")
        with pytest.raises(SessionWriteError) as caught:
            await store.keep(response(store, 10))
        assert as_refused(caught.value).code == "not_kept"
        folder.unlink()
        await store.keep(new)
        store.close()
        store = ResponseStore(folder, most=10)
        assert await store.find(new.id, "me") == new
        store.close()

    anyio.run(remove)


def test_a_secret_that_a_killed_server_was_writing_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    ResponseStore(tmp_path, most=10).close()
    assert len((tmp_path / "secret").read_bytes()) == 32


def test_metadata_has_at_most_16_entries(server: Address) -> None:
    body = {"input": "Hello!", "max_output_tokens": 16, "metadata": {str(i): "" for i in range(17)}}
    refused = server.ask("POST", "/v1/responses", body)
    assert (refused.status, refused.error["param"]) == (400, "metadata")
    body["metadata"] = {str(i): "" for i in range(16)}
    assert server.ask("POST", "/v1/responses", body).status == 200

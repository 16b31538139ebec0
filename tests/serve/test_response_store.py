"""The store of responses holds only so much, in memory and in a folder."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from llama_bridge.serve.kept_responses import Kept
from llama_bridge.serve.refusals import Refused
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


def test_metadata_has_at_most_16_entries(server: Address) -> None:
    body = {"input": "Hello!", "max_output_tokens": 16, "metadata": {str(i): "" for i in range(17)}}
    refused = server.ask("POST", "/v1/responses", body)
    assert (refused.status, refused.error["param"]) == (400, "metadata")
    body["metadata"] = {str(i): "" for i in range(16)}
    assert server.ask("POST", "/v1/responses", body).status == 200

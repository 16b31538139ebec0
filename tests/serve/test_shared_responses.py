"""Several servers keep their responses in one store: each goes on from what the others have answered."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import openai
import pytest

from llama_bridge import Capability, LlamaBridge, SamplingParams
from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.errors import SessionWriteError
from llama_bridge.serve import ServerSettings, shared_responses
from llama_bridge.serve.app import application
from llama_bridge.serve.kept_responses import Kept, NotKept, made_by, replica_mark
from llama_bridge.serve.refusals import Refused
from llama_bridge.serve.served import OneModel
from llama_bridge.serve.shared_responses import SharedResponses, StoreBounds
from llama_bridge.serve.shared_store import SharedFolder, SharedStore

from .serving import Address, serving, until

NAME = "Hello! My name is Zorblax."
ASK = "What is my name?"
PATIENT = StoreBounds(seconds=20)


@dataclass
class Member:
    """One of the servers."""

    address: Address
    llama: LlamaBridge
    responses: SharedResponses

    def say(self, text: str, previous: Any = None, **more: Any) -> Any:
        given = {} if previous is None else {"previous_response_id": previous.id}
        return self.address.openai().responses.create(model="demo", input=text, **given, **more)

    @property
    def keeps(self) -> bool:
        return Capability.SESSION_PERSISTENCE in self.llama.capabilities


@contextmanager
def member(
    store: SharedStore, number: int, backend: str, bounds: StoreBounds = PATIENT
) -> Iterator[Member]:
    greedy = SamplingParams(max_tokens=None, temperature=0)
    with LlamaBridge("demo", backend=backend, sampling=greedy, n_parallel=2, n_ctx=4096) as llama:
        responses = SharedResponses(store, replica_mark(f"replica {number}"), bounds)
        models = OneModel(AsyncLlamaBridge.of(llama), ["demo"])
        with serving(application(models, ServerSettings(), responses)) as address:
            yield Member(address, llama, responses)


@pytest.fixture
def store(tmp_path: Path) -> SharedFolder:
    return SharedFolder(tmp_path / "store")


@pytest.fixture
def two(store: SharedFolder, llama_backend: str) -> Iterator[tuple[Member, Member]]:
    with member(store, 1, llama_backend) as one, member(store, 2, llama_backend) as two:
        yield one, two


def session_of(tmp_path: Path, response: Any) -> Path:
    """Where a session's file will be."""
    id_: str = response.id
    return tmp_path / "store" / id_[13:15] / f"{id_}.session"


def cached(response: Any) -> int:
    return int(response.usage.input_tokens_details.cached_tokens)


def test_a_conversation_goes_on_at_another_server_from_its_session_file(
    two: tuple[Member, Member], tmp_path: Path
) -> None:
    one, other = two
    first = one.say(NAME)
    second = one.say("What is a token?", first)
    if one.keeps:
        until(session_of(tmp_path, second).exists)
    third = other.say(ASK, second)
    assert "Zorblax" in third.output_text
    if one.keeps:
        past = second.usage.total_tokens
        assert cached(third) >= 0.95 * past
        until(session_of(tmp_path, third).exists)
    fourth = one.say("Hi!", third)
    assert made_by(fourth.id) == made_by(first.id) != made_by(third.id)
    if one.keeps:
        assert cached(fourth) >= 0.95 * third.usage.total_tokens


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clocks_of_servers_may_differ(
    two: tuple[Member, Member], tmp_path: Path, minutes: int
) -> None:
    one, other = two
    first = one.say(NAME)
    if one.keeps:
        until(session_of(tmp_path, first).exists)
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():  # as the other server sees what this one has written
            os.utime(path, (time.time() + 60 * minutes,) * 2)
    second = other.say(ASK, first)
    assert "Zorblax" in second.output_text
    assert not one.keeps or cached(second) >= 0.95 * first.usage.total_tokens
    assert "Zorblax" in one.say(ASK, second).output_text


def test_without_its_session_file_a_conversation_is_evaluated_again(
    two: tuple[Member, Member], tmp_path: Path
) -> None:
    one, other = two
    if not one.keeps:
        pytest.skip("there are no session files on this backend")
    spoiled: dict[str, Callable[[Path], object]] = {
        "Quentin": lambda path: path.unlink(),
        "Marvin": lambda path: path.write_bytes(b"no session"),
    }
    for name, spoil in spoiled.items():
        first = one.say(f"Hello! My name is {name}.")
        until(session_of(tmp_path, first).exists)
        spoil(session_of(tmp_path, first))
        second = other.say(ASK, first)
        assert name in second.output_text
        assert cached(second) < first.usage.input_tokens


def test_what_one_server_deletes_is_gone_for_all(two: tuple[Member, Member]) -> None:
    one, other = two
    first = one.say(NAME)
    other.say(ASK, first)
    other.address.openai().responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="no longer kept"):
        one.say(ASK, first)
    other.say("Hello!")  # with the next answer its session goes, too
    one.say("Hello!")
    assert not {first.id} & {*one.llama.sessions(), *other.llama.sessions()}
    for id_ in ("resp_1", first.id[:-1], "../../etc/passwd", "resp_" + "G" * 40):
        with pytest.raises(openai.NotFoundError, match="unknown"):
            one.address.openai().responses.create(input=ASK, previous_response_id=id_)


def test_another_owner_cannot_go_on(store: SharedFolder) -> None:
    async def ask() -> None:
        mine, others = (SharedResponses(store, replica_mark(one), PATIENT) for one in "ab")
        kept = Kept(mine.new_id("me"), "me", "demo", {}, [], [{"role": "user", "content": "x"}])
        await mine.keep(kept)
        assert await others.find(kept.id, "me") == kept
        with pytest.raises(Refused, match="another API key"):
            await others.find(kept.id, "you")
        never = others.new_id("me")
        with pytest.raises(Refused, match="not finished, or no longer kept"):
            await mine.find(never, "me")  # they share the secret
        mine.close()
        others.close()

    anyio.run(ask)


def test_answers_go_on_while_the_store_is_gone_and_are_kept_once_it_is_back(
    store: SharedFolder, tmp_path: Path, llama_backend: str
) -> None:
    folder, away = tmp_path / "store", tmp_path / "away"
    with member(store, 1, llama_backend) as one, member(store, 2, llama_backend) as other:
        first = one.say(NAME)
        folder.rename(away)
        second = one.say(ASK, first)
        assert "Zorblax" in second.output_text
        assert (first.store, second.store) == (True, False)
        third = one.say("Hi!", second)
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            other.say(ASK, first)
        assert one.responses.failures
        assert b"llama_bridge_keeping_failures" in one.address.ask("GET", "/metrics").body
        away.rename(folder)
        until(lambda: store.has(f"{third.id}.json") and store.has(f"{second.id}.json"))
        assert "Zorblax" in other.say(ASK, third).output_text


class SlowFolder(SharedFolder):
    """Hangs until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.free = threading.Event()
        self.free.set()

    def write(self, name: str, data: bytes) -> None:
        self.free.wait(60)
        super().write(name, data)


def test_a_slow_store_makes_nobody_wait_long(tmp_path: Path, llama_backend: str) -> None:
    store = SlowFolder(tmp_path / "store")
    with member(store, 1, llama_backend, StoreBounds(seconds=0.3)) as one:
        one.say(NAME)
        store.free.clear()
        began = time.monotonic()
        answers = [one.say(NAME) for _ in range(3)]
        assert time.monotonic() - began < 15
        assert not any(answer.store for answer in answers)
        store.free.set()
        for answer in answers:
            until(lambda answer=answer: store.has(f"{answer.id}.json"))


def test_a_store_that_hangs_holds_few_threads(store: SharedFolder, tmp_path: Path) -> None:
    class Hanging(SharedFolder):
        free = threading.Event()

        def read(self, name: str) -> bytes | None:
            self.free.wait(20)
            return super().read(name)

    async def ask() -> None:
        folder = Hanging(tmp_path / "store")
        responses = SharedResponses(folder, replica_mark("a"), StoreBounds(seconds=0.02))
        before = threading.active_count()
        for _ in range(30):
            with pytest.raises(Refused, match="cannot be reached"):
                await responses.find(responses.new_id("me"), "me")
        assert threading.active_count() - before <= 8
        folder.free.set()
        until(lambda: threading.active_count() - before <= 8)
        patient = SharedResponses(folder, replica_mark("a"), PATIENT)
        for one in (responses, patient):
            with pytest.raises(Refused, match="not finished, or no longer kept"):
                await patient.find(one.new_id("me"), "me")
            one.close()

    anyio.run(ask)


@pytest.mark.parametrize(
    "text",
    [
        *("[", "{}", "null", "[" * 100_000),
        '{"id": "resp_1", "owner": "me", "model": "m", "response": {}, "items": [], "messages": []}',
        '{"id": "ID", "owner": "me", "model": 5, "response": {}, "items": [], "messages": []}',
        '{"id": "ID", "owner": "me", "model": "m", "response": {}, "items": [], "messages": "x"}',
    ],
)
def test_what_is_damaged_in_the_store_counts_as_gone(store: SharedFolder, text: str) -> None:
    async def ask() -> None:
        responses = SharedResponses(store, replica_mark("a"), PATIENT)
        id_ = responses.new_id("me")
        store.write(f"{id_}.json", text.replace("ID", id_).encode())
        with pytest.raises(Refused, match="not finished, or no longer kept"):
            await responses.find(id_, "me")
        responses.close()

    anyio.run(ask)


def test_what_is_deleted_while_its_kv_cache_is_written_leaves_nothing(store: SharedFolder) -> None:
    class Slow:
        """A bridge whose session is being written when it is deleted: with a real one that is a matter of luck."""

        begun, free = anyio.Event(), anyio.Event()

        def session(self, _: str) -> Slow:
            return self

        async def save(self, file: Path) -> None:
            self.begun.set()
            await self.free.wait()
            file.write_bytes(b"KV")

    async def ask() -> None:
        responses, llama = SharedResponses(store, replica_mark("a"), PATIENT), Slow()
        kept = Kept(responses.new_id(""), "", "demo", {}, [], [])
        await responses.keep(kept)
        responses.carry(cast("AsyncLlamaBridge", llama), kept.id)
        async with anyio.create_task_group() as group:
            group.start_soon(responses.finish)
            await llama.begun.wait()
            await responses.remove(kept.id)
            llama.free.set()
        assert list(store.contents()) == []
        responses.close()

    anyio.run(ask)


def test_a_full_store_is_told(tmp_path: Path) -> None:
    class Full(SharedFolder):
        def write(self, name: str, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def keep() -> None:
        responses = SharedResponses(Full(tmp_path / "store"), replica_mark("a"), PATIENT)
        kept = Kept(responses.new_id(""), "", "demo", {}, [], [])
        with pytest.raises(NotKept):
            await responses.keep(kept)
        assert await responses.find(kept.id, "") == kept
        assert responses.failures == 1
        responses.close()

    anyio.run(keep)


def test_a_store_holds_only_so_much(store: SharedFolder, tmp_path: Path) -> None:
    """KV caches go first; what was said goes when there are too many."""

    async def fill() -> list[str]:
        bounds = StoreBounds(responses=3, n_bytes=25_000, looks=0.05)
        responses = SharedResponses(store, replica_mark("a"), bounds)
        made: list[str] = []
        for i in range(5):
            kept = Kept(responses.new_id(""), "", "demo", {}, [], [])
            await responses.keep(kept)
            store.write(f"{kept.id}.session", b"x" * 10_000)
            for suffix in ("json", "session"):
                path = tmp_path / "store" / kept.id[13:15] / f"{kept.id}.{suffix}"
                os.utime(path, (1000 + i, 1000 + i))
            made.append(kept.id)
        part = tmp_path / "store" / made[-1][13:15] / ".llama-bridge-left.part"
        part.write_bytes(b"half")
        os.utime(part, (1000, 1000))
        with anyio.move_on_after(0.5):
            await responses.watch()
        assert not part.exists()
        assert len(responses) >= 3
        responses.close()
        return made

    made = anyio.run(fill)
    assert [store.has(f"{id_}.json") for id_ in made] == [False, False, True, True, True]
    assert [store.has(f"{id_}.session") for id_ in made] == [False, False, False, True, True]


def test_one_secret_is_the_first_that_any_server_has_written(store: SharedFolder) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(store.write_first("secret", b"%d" % i)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_a_store_is_for_its_owner_and_must_be_usable(tmp_path: Path) -> None:
    SharedFolder(tmp_path / "a" / "b").write("resp_" + "0" * 40 + ".json", b"{}")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("a file")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(SessionWriteError, match="cannot be used as a store"):
            SharedFolder(folder)


def test_a_server_has_the_sessions_of_those_responses_that_it_remembers(
    two: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_responses, "_HERE", 3)
    one, other = two
    last = first = one.say(NAME)
    for i in range(6):
        last = (one, other)[i % 2].say(f"This is turn {i}.", last, max_output_tokens=16)
    one.say("Hello!")
    assert len(one.llama.sessions()) <= 4
    assert first.id not in one.llama.sessions()
    assert "Zorblax" in one.say(ASK, first).output_text  # the store has it

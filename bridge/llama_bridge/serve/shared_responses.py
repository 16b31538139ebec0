"""Responses of a fleet: each replica goes on from what any other has answered.

A response is written once, by the replica that has made it, and never changes; nobody else uses its id. So there is nothing to
lock: the store has two files for each, what was said and, a moment later, the KV cache.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from ..aio import AsyncLlamaBridge
from ..errors import BridgeError, NoSession, SessionCorrupt, SessionError, SessionWriteError
from ..files.format import state_bytes
from . import kept_record
from .kept_responses import Kept, NotKept, Responses
from .refusals import Refused
from .shared_store import SharedStore

__all__ = ["SharedResponses", "StoreBounds"]

T = TypeVar("T")

_HERE = 256
"""Responses that this replica remembers, and whose sessions it has."""

_THREADS = 8
"""What may wait for the store at once."""

_LOOK = 0.01
"""Seconds between two looks whether there is room to ask it."""

_AGAIN = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before what failed is tried again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreBounds:
    """How much a store holds, and how long it may take.

    Attributes:
        responses: how many; beyond it those that were not used for longest go.
        n_bytes: of everything; beyond it KV caches go, least recently used first: what was said stays.
        seconds: how long the store may keep a request waiting.
        looks: seconds between two looks at what is there.
    """

    responses: int = 100_000
    n_bytes: int = 64 << 30
    seconds: float = 5.0
    looks: float = 60.0


class SharedResponses(Responses):
    """Keeps responses where all replicas of a fleet see them.

    If the store cannot be reached, this replica goes on from what it remembers, and tries again to write the rest.

    Args:
        store: where.
        mark: of this replica.
        bounds: of the store.

    Raises:
        SessionWriteError: the store cannot be used.
    """

    def __init__(self, store: SharedStore, mark: str, bounds: StoreBounds) -> None:
        try:
            secret = store.write_first("secret", os.urandom(32))
        except OSError as error:
            raise SessionWriteError("store", f"cannot be used: {_why(error)}") from error
        super().__init__(secret, mark)
        self._store = store
        self._bounds = bounds
        self._rooms = threading.BoundedSemaphore(_THREADS)
        self._here: OrderedDict[str, Kept] = OrderedDict()
        self._unwritten: set[str] = set()
        self._leaving: list[str] = []  # sessions that this replica need not have any more
        self._jobs: OrderedDict[str, AsyncLlamaBridge | None] = OrderedDict()
        self._wake = anyio.Event()
        self._there = 0  # responses in the store, when somebody looked last
        self._scratch = Path(tempfile.mkdtemp(prefix="llama-bridge-fleet-"))

    def __len__(self) -> int:
        return max(self._there, len(self._here))

    def close(self) -> None:
        """See :meth:`Responses.close`."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    # what was said

    async def find(self, id_: str, owner: str, param: str | None = None) -> Kept:
        """See :meth:`Responses.find`. If the store cannot be reached, what is remembered counts."""
        name = _words(id_)
        kept = self._here.get(id_)
        if name is not None and id_ not in self._unwritten:
            try:
                if kept is None:
                    found = await self._ask(lambda: self._store.read(name))
                    kept = None if found is None else kept_record.from_bytes(found, id_)
                elif not await self._ask(lambda: self._store.has(name)):
                    kept = None  # another replica has deleted it, or it had to go
                    self._forget(id_)
            except (OSError, TimeoutError) as error:
                self._failed("read", error)
                if kept is None:
                    why = "the store of responses cannot be reached: try again"
                    headers = {"Retry-After": "2"}
                    raise Refused(503, why, code="store_unavailable", headers=headers) from error
        kept = self.checked(kept, id_, owner, param)
        self._remember(kept)
        return kept

    async def keep(self, kept: Kept) -> list[str]:
        """See :meth:`Responses.keep`."""
        self._remember(kept)
        gone, self._leaving = self._leaving, []
        try:
            await self._ask(lambda: self._write(kept))
        except (OSError, TimeoutError) as error:
            self._failed("written", error)
            self._unwritten.add(kept.id)
            self._queue(kept.id, None)
            raise NotKept(gone) from error
        return gone

    async def remove(self, id_: str) -> None:
        """See :meth:`Responses.remove`.

        Raises:
            Refused: the store cannot be reached.
        """
        self._forget(id_)
        try:
            for name in (_cache(id_), _words(id_)):
                if name is not None:
                    await self._ask(lambda name=name: self._store.remove(name))  # type: ignore[misc]
        except (OSError, TimeoutError) as error:
            self._failed("removed", error)
            why = "the store of responses cannot be reached: try again"
            raise Refused(503, why, code="store_unavailable") from error

    def _remember(self, kept: Kept) -> None:
        self._here[kept.id] = kept
        self._here.move_to_end(kept.id)
        while len(self._here) > _HERE:
            id_, _ = self._here.popitem(last=False)
            self._unwritten.discard(id_)
            self._leaving.append(id_)

    def _forget(self, id_: str) -> None:
        if self._here.pop(id_, None) is not None:
            self._leaving.append(id_)
        self._unwritten.discard(id_)
        self._jobs.pop(id_, None)

    def _write(self, kept: Kept) -> None:
        name = _words(kept.id)
        assert name is not None
        self._store.write(name, kept_record.to_bytes(kept))

    # KV caches

    async def bring(self, llama: AsyncLlamaBridge, id_: str) -> bool:
        """See :meth:`Responses.bring`. What cannot be loaded is evaluated again, and the log says why."""
        name = _cache(id_)
        if name is None:
            return False
        file = self._scratch / f"{os.urandom(8).hex()}.session"
        try:
            if not await self._ask(lambda: self._store.fetch(name, file)):
                _log.info("%s has no KV cache in the store: it is evaluated again", id_)
                return False
            if await to_thread.run_sync(state_bytes, str(file)) is None:
                raise SessionCorrupt(file, "this is not a whole session file")
            # A member of this fleet has written it: prompts may use whatever they have in common with it.
            await llama.session(id_).load(file, trust_unverified=True)
        except (OSError, TimeoutError, BridgeError) as error:
            self._failed("loaded", error)
            return False
        finally:
            file.unlink(missing_ok=True)
        return True

    def carry(self, llama: AsyncLlamaBridge, id_: str) -> None:
        """See :meth:`Responses.carry`."""
        self._queue(id_, llama)

    def _queue(self, id_: str, llama: AsyncLlamaBridge | None) -> None:
        self._jobs[id_] = llama or self._jobs.get(id_)
        if len(self._jobs) > _HERE:
            lost, _ = self._jobs.popitem(last=False)
            _log.warning("the store is too slow: the KV cache of %s is not written", lost)
        self._wake.set()

    async def watch(self) -> None:
        """See :meth:`Responses.watch`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._write_all)
            group.start_soon(self._tidy_now_and_then)

    async def _write_all(self) -> None:
        failed = 0
        while True:
            if not self._jobs:
                self._wake = anyio.Event()
                await self._wake.wait()
            id_, llama = next(iter(self._jobs.items()))
            if await self._written(id_, llama):
                failed = 0
                if self._jobs.get(id_) is llama:
                    self._jobs.pop(id_, None)
            else:
                await anyio.sleep(_AGAIN[min(failed, len(_AGAIN) - 1)])
                failed += 1

    async def _written(self, id_: str, llama: AsyncLlamaBridge | None) -> bool:
        """Write a response, if that has failed before, and its session; False if it is worth another try."""
        try:
            if id_ in self._unwritten and id_ in self._here:
                kept = self._here[id_]
                await to_thread.run_sync(self._write, kept)
                if id_ not in self._jobs:  # it was deleted meanwhile
                    await to_thread.run_sync(self._store.remove, f"{id_}{_WORDS}")
                self._unwritten.discard(id_)
            if llama is not None:
                name = _cache(id_)
                assert name is not None
                file = await to_thread.run_sync(self._store.place, name, self._scratch)
                await llama.session(id_).save(file)
                await to_thread.run_sync(self._store.placed, name, file)
                if id_ not in self._jobs:  # it was deleted meanwhile
                    await to_thread.run_sync(self._store.remove, name)
        except (NoSession, SessionError) as error:
            if isinstance(error, SessionWriteError):
                self._failed("written", error)
                return False
            _log.info("%s is gone before it was written: %s", id_, error)
        except BridgeError as error:
            self._failed("written", error)
        except OSError as error:
            self._failed("written", error)
            return False
        return True

    async def finish(self) -> None:
        """See :meth:`Responses.finish`. Each session has one more try."""
        with anyio.move_on_after(len(self._jobs) + self._bounds.seconds):
            for id_, llama in list(self._jobs.items()):
                await self._written(id_, llama)
        self._jobs.clear()

    # bounds

    async def _tidy_now_and_then(self) -> None:
        while True:
            try:
                self._there = await to_thread.run_sync(self._tidy)
            except OSError as error:
                self._failed("looked through", error)
            # Not all replicas at the same time.
            await anyio.sleep(self._bounds.looks * (0.5 + os.urandom(1)[0] / 255))

    def _tidy(self) -> int:
        """Remove what is too much; returns how many responses are there."""
        found = sorted(self._store.contents())
        words = [one for one in found if one.name.endswith(_WORDS)]
        sizes = {one.name: one.n_bytes for one in found}
        for one in words[: max(0, len(words) - self._bounds.responses)]:
            for name in (one.name.removesuffix(_WORDS) + _CACHE, one.name):
                if sizes.pop(name, None) is not None:
                    self._store.remove(name)
        excess = sum(sizes.values()) - self._bounds.n_bytes
        for one in found:
            if excess <= 0:
                break
            if one.name.endswith(_CACHE) and one.name in sizes:
                self._store.remove(one.name)
                excess -= one.n_bytes
        return min(len(words), self._bounds.responses)

    # the store

    async def _ask(self, work: Callable[[], T]) -> T:
        """Ask the store, for a request that waits.

        Raises:
            OSError: it cannot be used.
            TimeoutError: it takes too long.
        """
        asking = _Asking(work, self._rooms)
        with anyio.fail_after(self._bounds.seconds):
            while not self._rooms.acquire(blocking=False):
                await anyio.sleep(_LOOK)
            try:
                return await to_thread.run_sync(
                    asking.work, abandon_on_cancel=True, limiter=CapacityLimiter(1)
                )
            finally:
                asking.give_up()

    def _failed(self, done: str, error: Exception) -> None:
        self.failures += 1
        _log.error("a response could not be %s: %s", done, _why(error))


class _Asking(Generic[T]):
    """What a thread asks the store. It has its room until the store has answered, however long nobody waits for that."""

    def __init__(self, work: Callable[[], T], rooms: threading.BoundedSemaphore) -> None:
        self._work = work
        self._rooms = rooms
        self._first = (
            threading.Lock()
        )  # whoever has it first: the thread, or who gives up before it begins

    def work(self) -> T:
        if not self._first.acquire(blocking=False):
            raise TimeoutError
        try:
            return self._work()
        finally:
            self._rooms.release()

    def give_up(self) -> None:
        if self._first.acquire(blocking=False):
            self._rooms.release()


_WORDS, _CACHE = ".json", ".session"


def _words(id_: str) -> str | None:
    return f"{id_}{_WORDS}" if _is_id(id_) else None


def _cache(id_: str) -> str | None:
    return f"{id_}{_CACHE}" if _is_id(id_) else None


def _is_id(id_: str) -> bool:
    random = id_.removeprefix("resp_")
    return len(random) == 40 and random != id_ and set(random) <= set("0123456789abcdef")


def _why(error: Exception) -> str:
    """An error without a path of this machine, unless the library's own."""
    if isinstance(error, TimeoutError):
        return "the store takes too long"
    return str(getattr(error, "strerror", None) or error)

"""Several conversations with one model: one has the KV cache, the others are at rest."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass, replace

from ..engine import Engine, MemoryKind
from ..errors import (
    BridgeError,
    InvalidInput,
    SessionCorrupt,
    SessionMismatch,
    SessionNotFound,
)
from ..models.source import ModelFile
from ..request import DEFAULT
from ..runtime import SessionStorage
from ..session_name import MAX_FILE_NAME, file_name
from ..snapshot import Snapshot
from .active import Active
from .keeper import Keeper
from .ledger import common_beginning

__all__ = ["Holder", "Pool"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resting:
    """A conversation that does not have the KV cache.

    Attributes:
        snapshot: the conversation, without its state if that is on the disk.
        path: path of the file with the state, or empty.
        kept: whether that file stays when the conversation gets the cache again.
    """

    snapshot: Snapshot
    path: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """Which conversation has the KV cache. There is a new object each time that changes.

    Attributes:
        name: name of the conversation; None if an interrupt left the cache without one.
    """

    name: str | None


class Pool:
    """Named conversations of one engine.

    Copies of KV caches are kept in memory up to a limit; beyond it the least recently used go to a temporary
    folder and come back when needed. What cannot be written is evaluated again: nothing is ever lost.

    With a :class:`SessionFolder`, each named conversation has a file there, which is updated after each call.
    Conversations of an earlier process are loaded when first used.

    Attributes:
        active: the conversation that has the cache.
        holder: which one it is.
    """

    def __init__(self, engine: Engine, model: ModelFile, storage: SessionStorage) -> None:
        self.active = Active(engine, model)
        self.holder = Holder(DEFAULT)
        self._engine = engine
        self._memory = storage.memory
        self._resting: OrderedDict[str, _Resting] = OrderedDict()  # least recently used first
        self._temporary = ""
        self._keeper = Keeper(self.active, storage.folder)

    def names(self) -> list[str]:
        """Names of all conversations except the bridge's own, least recently used first.

        Raises:
            SessionCorrupt: the folder cannot be read.
        """
        active = [] if self.holder.name is None else [self.holder.name]
        here = [name for name in [*self._resting, *active] if name != DEFAULT]
        there = self._keeper.names()
        return list(dict.fromkeys([name for name in there if name not in here] + here))

    def glance(self, name: str) -> Snapshot:
        """A conversation without its state and without changing anything, even while the engine works.

        Raises:
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        while True:
            holder = self.holder
            if name == holder.name:
                seen = self.active.bare_snapshot()
            elif (resting := self._resting.get(name)) is not None:
                seen = resting.snapshot.bare()
            else:
                seen = self._keeper.glance(name)
            if (
                holder is self.holder
            ):  # otherwise the cache changed hands, and this may be another conversation
                return seen

    def switch(self, name: str, *, or_empty: bool = False) -> None:
        """Give the KV cache to another conversation, which is empty if its name is new.

        With ``or_empty``, a conversation whose file cannot be used is empty too, because its content will come from
        elsewhere. The previous conversation is put to rest before the cache changes, so an interrupt never mixes two.

        Raises:
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        try:
            wanted = self._wake(name)
        except (SessionCorrupt, SessionMismatch):
            if not or_empty:
                raise
            wanted = Snapshot()
        self.rest()
        if wanted.tokens:
            self._resting.setdefault(name, _Resting(wanted))
        wanted = self.active.usable(wanted)
        if wanted.state is None and (near := self._nearest(wanted)) is not None:
            self.active.restore(near)
        if not self.active.restore(wanted):
            # The engine refuses its own copy: evaluate the conversation again, which the usage shows.
            _log.warning("the engine refused the KV cache of session %r; evaluating it again", name)
            self.active.restore(replace(wanted, state=None, held=0))
        self.is_now(name)
        self._keep_bound()

    def rest(self, *, copy: bool = True) -> None:
        """Put the conversation that has the cache to rest. Then no conversation has the cache.

        Without a ``copy`` of the cache, whatever is gone by the next use is evaluated again.
        """
        name = self.holder.name
        if name is None:
            return
        snapshot = self.active.snapshot() if copy else self.active.bare_snapshot()
        self._resting[name] = _Resting(snapshot)
        self._resting.move_to_end(name)
        self.holder = Holder(None)
        if copy:  # an interrupt may have prevented this in the call that changed it
            self._keep_resting(name)

    def is_now(self, name: str) -> None:
        """From now on the cache belongs to the conversation of this name."""
        self.holder = Holder(name)
        self._drop(self._resting.pop(name, None))

    def fork(self, origin: str, name: str | None) -> str:
        """Start a conversation with the history of another; None picks a name. Returns the name.

        Raises:
            InvalidInput: the name is taken.
        """
        if name is None:
            name = self._new_name(origin)
        elif (
            name in (self.holder.name, DEFAULT)
            or name in self._resting
            or self._keeper.is_taken(name)
        ):
            raise InvalidInput(
                f"there is already a session named {name!r}: give another name, or delete it"
            )
        if origin != self.holder.name:
            self.switch(origin)
        copy = self._keeper.keeps(name)
        self._resting[name] = _Resting(self.active.snapshot() if copy else self.active.branch())
        self._keep_resting(name)
        self._keep_bound()
        return name

    def _new_name(self, origin: str) -> str:
        """An unused name for a branch of ``origin``."""
        taken = {self.holder.name, *self._resting, *self.names()}
        stem = origin or "branch"
        while len(file_name(f"{stem}-{len(taken) + 2}")) > MAX_FILE_NAME:
            stem = stem[:-1]
        names = (f"{stem}-{i}" for i in itertools.count(2))
        return next(name for name in names if name not in taken and not self._keeper.is_taken(name))

    def delete(self, name: str) -> None:
        """Forget a conversation.

        Raises:
            SessionWriteError: its file cannot be removed.
        """
        if name == self.holder.name:
            self.rest(copy=False)
        self._keeper.forget(name)  # first, so that after an interrupt it is written again
        self._keeper.drop(name)
        self._drop(self._resting.pop(name, None))
        if self.holder.name is None:
            self.switch(DEFAULT)

    def keep(self) -> None:
        """Write the active conversation to its file in the background, if it has changed."""
        name = self.holder.name
        if name is None or not self._keeper.keeps(name):
            return
        if not self.active.exists:
            self._keeper.drop(name, known=True)
        elif not self._keeper.is_kept(name, self.active.bare_snapshot()):
            self._keeper.keep(name, self.active.snapshot())

    def keep_all(self) -> None:
        """Do the same for all conversations in memory."""
        self.keep()
        for name in list(self._resting):
            self._keep_resting(name)

    def _keep_resting(self, name: str) -> None:
        snapshot = self._resting[name].snapshot
        if (
            name != self.holder.name
            and self._keeper.keeps(name)
            and not self._keeper.is_kept(name, snapshot.bare())
        ):
            self._keeper.keep(name, snapshot)

    def close(self) -> None:
        """Forget everything and delete the temporary folder."""
        self.holder = Holder(None)
        self._resting.clear()
        if self._temporary:
            import shutil  # 4 ms with tempfile: only needed if something was written there

            shutil.rmtree(self._temporary, ignore_errors=True)

    # at rest

    def _wake(self, name: str) -> Snapshot:
        """A conversation at rest, with its state if there is one."""
        resting = self._resting.get(name)
        if resting is None:
            return self._keeper.take(name)
        if not resting.path:
            return resting.snapshot
        try:
            if resting.kept and not self._keeper.has(name):  # has() waits until it is written
                raise SessionNotFound(resting.path, "it is gone")
            snapshot = self._keeper.read(resting.path)
        except BridgeError as error:
            why = str(error)
        else:
            if snapshot.bare() == resting.snapshot:
                if not resting.kept:  # a file that only this process writes
                    snapshot = replace(snapshot, origin=resting.snapshot.origin)
                return snapshot
            why = f"{resting.path} now has another conversation"
        _log.warning("session %r cannot be read back (%s); evaluating it again", name, why)
        self._keeper.forget(name)
        return resting.snapshot

    def _nearest(self, wanted: Snapshot) -> Snapshot | None:
        """A copy in memory that shares a longer beginning with a conversation than the cache does."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return None  # it could not be rewound to the common beginning
        tokens, usable = wanted.tokens, (None, wanted.origin)
        kv = self.active.kv
        most, best = common_beginning(kv.tokens if kv.origin in usable else [], tokens), None
        for resting in self._resting.values():
            snapshot = resting.snapshot
            if snapshot.state is not None and snapshot.origin in usable:
                common = common_beginning(snapshot.tokens[: snapshot.held], tokens)
                if common > most:
                    most, best = common, snapshot
        return best

    def _keep_bound(self) -> None:
        used = sum(resting.snapshot.n_bytes for resting in self._resting.values())
        for name, resting in list(self._resting.items()):
            if used <= self._memory:
                return
            if resting.snapshot.state is not None:
                used -= resting.snapshot.n_bytes
                self._resting[name] = self._put_on_disk(name, resting.snapshot)

    def _put_on_disk(self, name: str, snapshot: Snapshot) -> _Resting:
        bare = snapshot.bare()
        if self._keeper.keeps(name) and bare.tokens:
            if not self._keeper.is_kept(name, bare):
                self._keeper.keep(name, snapshot)
            return _Resting(bare, self._keeper.file(name), kept=True)
        import tempfile  # as shutil

        try:
            self._temporary = self._temporary or tempfile.mkdtemp(prefix="llama-bridge-sessions-")
            path = os.path.join(self._temporary, f"{os.urandom(8).hex()}.session")
            self._keeper.write(snapshot, path)
        except (BridgeError, OSError) as error:
            _log.warning(
                "session %r cannot be written to the disk (%s); it will be evaluated again",
                name,
                error,
            )
            return _Resting(bare)
        return _Resting(bare, path)

    def _drop(self, resting: _Resting | None) -> None:
        if resting is not None and resting.path and not resting.kept:
            with contextlib.suppress(OSError):
                os.unlink(resting.path)

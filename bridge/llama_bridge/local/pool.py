"""Several conversations over one model: one has the KV cache, the others are at rest."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial

from ..engine import Engine, MemoryKind
from ..errors import (
    BridgeError,
    InvalidInput,
    SessionCorrupt,
    SessionMismatch,
    SessionNotFound,
)
from ..models.source import ModelFile
from ..params import SamplingParams
from ..request import DEFAULT
from ..runtime import SessionStorage
from ..snapshot import Snapshot
from .active import Active
from .ledger import common_beginning

__all__ = ["Pool"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resting:
    """A conversation that does not have the KV cache.

    Attributes:
        snapshot: without a state where that is on the disk.
        path: of the file that holds the state, or empty.
        kept: whether that file stays when the conversation is awake again.
    """

    snapshot: Snapshot
    path: str = ""
    kept: bool = False


class Pool:
    """Named conversations of one engine.

    Copies of KV caches are kept in memory up to a bound; beyond it the least recently used go to a temporary
    folder and come back by themselves. What cannot be written is evaluated again: nothing is ever lost.

    With a :class:`SessionFolder`, named conversations have a file there, up to date after each call, and those of
    an earlier process come back with their first use.

    Attributes:
        active: the conversation that has the cache.
        name: its name; None if an interrupt left it without one.
    """

    def __init__(self, engine: Engine, model: ModelFile, storage: SessionStorage) -> None:
        self.active = Active(engine, model)
        self.name: str | None = DEFAULT
        self._engine = engine
        self._memory = storage.memory
        self._resting: OrderedDict[str, _Resting] = OrderedDict()  # least recently used first
        self._temporary = ""
        self._folder = storage.folder
        self._kept: dict[str, Snapshot] = {}
        """What the files in the folder hold or are about to, without states."""

    def names(self) -> list[str]:
        """Of all conversations but the bridge's own, in order of use."""
        active = [] if self.name is None else [self.name]
        here = [name for name in [*self._resting, *active] if name != DEFAULT]
        there = self._folder.names() if self._folder is not None else []
        return list(dict.fromkeys([name for name in there if name not in here] + here))

    def glance(self, name: str) -> Snapshot:
        """What a conversation holds, without its state and without touching it; also while the engine works.

        Raises:
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        if name == self.name:
            seen = self.active.bare_snapshot()
            if name == self.name:  # not switched away in between
                return seen
        resting = self._resting.get(name)
        return (self._read(name) if resting is None else resting.snapshot).bare()

    def switch(self, name: str, *, or_empty: bool = False) -> None:
        """Give another conversation the KV cache; a new name begins an empty one.

        With ``or_empty``, one whose file cannot be used does, too: what it is to hold comes from elsewhere. Each
        conversation is at rest before the cache changes, so that an interrupt mixes none with another.

        Raises:
            InvalidInput: the name is too long for a file's.
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        try:
            wanted = self._wake(name)
        except (SessionCorrupt, SessionMismatch):
            if not or_empty:
                raise
            wanted = Snapshot()
        self.rest()
        self._resting[name] = _Resting(wanted)
        if wanted.state is None and (near := self._nearest(wanted)) is not None:
            self.active.restore(near)
        if not self.active.restore(wanted):
            # The engine refuses what it gave: the conversation is evaluated again, and the usage shows it.
            _log.warning("the KV cache of session %r was refused; evaluating it again", name)
            self.active.restore(replace(wanted, state=None, held=0))
        self.is_now(name)
        self._keep_bound()

    def rest(self, *, copy: bool = True) -> None:
        """Put the conversation that has the cache to rest; the cache is then nobody's.

        Without a ``copy`` of the cache, what it has lost by the next use is evaluated again.
        """
        if self.name is not None:
            snapshot = self.active.snapshot() if copy else self.active.bare_snapshot()
            self._resting[self.name] = _Resting(snapshot)
            self._resting.move_to_end(self.name)
            self.name = None

    def is_now(self, name: str) -> None:
        """What the cache holds is from now on the conversation of this name."""
        self.name = name
        self._drop(self._resting.pop(name, None))

    def fork(self, origin: str, name: str | None) -> str:
        """Begin a conversation with the past of another; None finds a name. Gives the name.

        Raises:
            InvalidInput: there is one of that name.
        """
        if name is None:
            name = self._new_name(origin)
        elif name in (self.name, DEFAULT) or name in self._resting or self._on_disk(name):
            raise InvalidInput(
                f"there is a session named {name!r}: give another name, or delete it"
            )
        if origin != self.name:
            self.switch(origin)
        branch = self.active.branch() if self._folder is None else self.active.snapshot()
        self._resting[name] = _Resting(branch)
        self._keep(name, branch)
        self._keep_bound()
        return name

    def _new_name(self, origin: str) -> str:
        """A name that is not taken, for a branch of ``origin``."""
        taken = {self.name, *self._resting, *self.names()}
        names = (f"{origin or 'branch'}-{i}" for i in itertools.count(2))
        return next(name for name in names if name not in taken)

    def delete(self, name: str) -> None:
        """Forget a conversation.

        Raises:
            SessionWriteError: its file cannot be removed.
        """
        if self._folder is not None and name != DEFAULT:
            self._folder.drop(name)
            self._kept.pop(name, None)
        if name == self.name:
            self.active.reset()
            if name == DEFAULT:
                return
            self.switch(DEFAULT)
        self._drop(self._resting.pop(name, None))

    def keep(self) -> None:
        """Have the active conversation written to its file in the background, where it has changed."""
        name = self.name
        if self._folder is None or name is None or name == DEFAULT:
            return
        if self.active.exists:
            if not self._is_kept(name, self.active.bare_snapshot()):
                self._keep(name, self.active.snapshot())
        elif self._kept.pop(name, None) is not None:
            self._folder.drop(name)

    def close(self) -> None:
        """Remove what is on the disk for a while only."""
        self._resting.clear()
        if self._temporary:
            import shutil  # with tempfile 4 ms, which only who spills to the disk pays

            shutil.rmtree(self._temporary, ignore_errors=True)

    # in the folder

    def _on_disk(self, name: str) -> bool:
        return self._folder is not None and name != DEFAULT and self._folder.has(name)

    def _read(self, name: str) -> Snapshot:
        """A conversation that only its file knows; an empty one where there is none."""
        if not self._on_disk(name):
            return Snapshot()
        assert self._folder is not None
        path = self._folder.file(name)
        try:
            return self._read_file(path)
        except SessionNotFound:  # it had to make room just now
            return Snapshot()

    def _read_file(self, path: str) -> Snapshot:
        from ..files.format import read_session_file  # 8 ms with json, which only files need
        from ..files.manifest import read_snapshot
        from .replay import plan_replay

        file = read_session_file(path, state_prefix=self._engine.state_prefix)
        try:
            return read_snapshot(path, file, self.active.made_with)
        except SessionMismatch as mismatch:
            if not mismatch.field.startswith("context.") or mismatch.field == "context.n_ctx":
                why = "delete() the session, give another sessions_dir, or load its file with replay=True"
                raise SessionMismatch(
                    path, mismatch.field, mismatch.saved, mismatch.current, mismatch.why or why
                ) from None
            # The same model in another setting, or another llama.cpp: the conversation holds, its cache does not.
            snapshot, why = plan_replay(self.active, path, file, mismatch)
            _log.warning("%s: %s", path, why)
            return snapshot

    def _is_kept(self, name: str, bare: Snapshot) -> bool:
        kept = self._kept.get(name)
        return kept is not None and kept == bare

    def _keep(self, name: str, snapshot: Snapshot) -> None:
        if self._folder is not None and name != DEFAULT and snapshot.tokens:
            self._kept[name] = snapshot.bare()
            write = partial(self._write, snapshot)
            self._folder.keep(name, write, snapshot.n_bytes)

    def _write(self, snapshot: Snapshot, path: str) -> None:
        from ..files.manifest import write_snapshot  # 8 ms, as above

        write_snapshot(path, snapshot, self.active.made_with, SamplingParams())

    # at rest

    def _wake(self, name: str) -> Snapshot:
        resting = self._resting.get(name)
        if resting is None:
            snapshot = self._read(name)
            if snapshot.tokens and self._folder is not None:
                self._kept[name] = snapshot.bare()
                self._folder.touch(name)
            return snapshot
        if not resting.path:
            return resting.snapshot
        try:
            if resting.kept and not self._on_disk(name):
                raise SessionNotFound(resting.path, "it had to make room for others")
            snapshot = self._read_file(resting.path)
            if not resting.kept:  # a file that nobody else writes to
                snapshot = replace(snapshot, origin=resting.snapshot.origin)
        except BridgeError as error:
            _log.warning("session %r cannot be read back (%s); evaluating it again", name, error)
            snapshot = resting.snapshot
            self._kept.pop(name, None)
        self._drop(resting)
        return snapshot

    def _nearest(self, wanted: Snapshot) -> Snapshot | None:
        """The copy in memory that holds more of the beginning of a conversation than the cache does."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return None  # it could not be rewound to what is common
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
        if self._folder is not None and name != DEFAULT:
            if not self._is_kept(name, bare):
                self._keep(name, snapshot)
            return _Resting(bare, self._folder.file(name), kept=True)
        import tempfile  # as shutil

        try:
            self._temporary = self._temporary or tempfile.mkdtemp(prefix="llama-bridge-sessions-")
            path = os.path.join(self._temporary, f"{os.urandom(8).hex()}.session")
            self._write(snapshot, path)
        except (BridgeError, OSError) as error:
            _log.warning(
                "session %r cannot go to the disk (%s); it will be evaluated again", name, error
            )
            return _Resting(bare)
        return _Resting(bare, path)

    def _drop(self, resting: _Resting | None) -> None:
        if resting is not None and resting.path and not resting.kept:
            with contextlib.suppress(OSError):
                os.unlink(resting.path)

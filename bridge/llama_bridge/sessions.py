"""Several conversations over one model: one has the KV cache, the others are at rest."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .engine import Engine, MemoryKind
from .errors import BridgeError, InvalidInput
from .models import ModelFile
from .params import SamplingParams
from .persistence import read_snapshot, write_snapshot
from .session import Session
from .session_file import read_session_file
from .snapshot import Snapshot

__all__ = ["DEFAULT", "Sessions"]

DEFAULT = ""
"""Name of the conversation that the bridge's own calls continue."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resting:
    """A conversation that does not have the KV cache.

    Attributes:
        snapshot: without a state where that is on the disk.
        path: of the file that holds the state, or empty.
    """

    snapshot: Snapshot
    path: str = ""


class Sessions:
    """Named conversations of one engine.

    Copies of KV caches are kept in memory up to a bound; beyond it the least recently used go to a temporary
    folder and come back by themselves. What cannot be written is evaluated again: nothing is ever lost.

    Attributes:
        session: the machine that runs whichever conversation has the cache.
        active: name of that conversation.
    """

    def __init__(self, engine: Engine, model: ModelFile, memory: int) -> None:
        self.session = Session(engine, model.chat_template)
        self.active = DEFAULT
        self._engine = engine
        self._model = model
        self._memory = memory
        self._resting: OrderedDict[str, _Resting] = OrderedDict()  # least recently used first
        self._folder = ""

    def names(self) -> list[str]:
        """Of all conversations but the bridge's own, in order of use."""
        return [name for name in [*self._resting, self.active] if name != DEFAULT]

    def glance(self, name: str) -> Snapshot:
        """What a conversation holds, without its state and without touching it."""
        if name == self.active:
            return self.session.bare_snapshot()
        resting = self._resting.get(name)
        return Snapshot() if resting is None else replace(resting.snapshot, state=None, held=0)

    def take(self, name: str) -> Session:
        """Give a conversation the KV cache; a new name begins an empty one."""
        if name == self.active:
            return self.session
        wanted = self._wake(name)
        leaving = self.session.snapshot()
        if wanted.state is None and (near := self._nearest(wanted.tokens)) is not None:
            self.session.restore(near)
        if not self.session.restore(wanted):
            # The engine refuses what it gave: the conversation is evaluated again, and the usage shows it.
            _log.warning("the KV cache of session %r was refused; evaluating it again", name)
            self.session.restore(replace(wanted, state=None, held=0))
        self._resting.pop(name, None)
        self._resting[self.active] = _Resting(leaving)
        self.active = name
        self._keep_bound()
        return self.session

    def fork(self, origin: str, name: str) -> None:
        """Begin a conversation with the past of another.

        Raises:
            InvalidInput: there is one of that name.
        """
        if name == self.active or name in self._resting:
            raise InvalidInput(
                f"there is a session named {name!r}: give another name, or delete it"
            )
        self._resting[name] = _Resting(self.take(origin).branch())
        self._keep_bound()

    def new_name(self, origin: str) -> str:
        """A name that is not taken, for a branch of ``origin``."""
        taken = {self.active, *self._resting}
        names = (f"{origin or 'branch'}-{i}" for i in itertools.count(2))
        return next(name for name in names if name not in taken)

    def delete(self, name: str) -> None:
        """Forget a conversation."""
        if name == self.active:
            self.session.reset()
            if name == DEFAULT:
                return
            self.take(DEFAULT)
        self._drop(self._resting.pop(name, None))

    def close(self) -> None:
        """Remove what is on the disk."""
        self._resting.clear()
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)

    # at rest

    def _wake(self, name: str) -> Snapshot:
        resting = self._resting.get(name)
        if resting is None:
            return Snapshot()
        if not resting.path:
            return resting.snapshot
        try:
            file = read_session_file(resting.path, state_prefix=self._engine.state_prefix)
            snapshot = read_snapshot(resting.path, file, self._engine, self._model)
        except BridgeError as error:
            _log.warning("session %r cannot be read back (%s); evaluating it again", name, error)
            snapshot = resting.snapshot
        self._drop(resting)
        return snapshot

    def _nearest(self, tokens: Sequence[int]) -> Snapshot | None:
        """The copy in memory that holds more of the beginning of ``tokens`` than the cache does."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return None  # it could not be rewound to what is common
        most, best = _common(self.session.kv.tokens, tokens), None
        for resting in self._resting.values():
            snapshot = resting.snapshot
            if snapshot.state is not None:
                common = _common(snapshot.tokens[: snapshot.held], tokens)
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
        import tempfile  # with shutil, 4 ms of every start: only who spills needs them

        bare = replace(snapshot, state=None, held=0)
        try:
            self._folder = self._folder or tempfile.mkdtemp(prefix="llama-bridge-sessions-")
            path = os.path.join(self._folder, f"{os.urandom(8).hex()}.session")
            write_snapshot(path, snapshot, self._engine, self._model, SamplingParams())
        except (BridgeError, OSError) as error:
            _log.warning(
                "session %r cannot go to the disk (%s); it will be evaluated again", name, error
            )
            return _Resting(bare)
        return _Resting(bare, path)

    def _drop(self, resting: _Resting | None) -> None:
        if resting is not None and resting.path:
            with contextlib.suppress(OSError):
                os.unlink(resting.path)


def _common(held: Sequence[int], wanted: Sequence[int]) -> int:
    """Length of the common beginning."""
    for i, (a, b) in enumerate(zip(held, wanted, strict=False)):
        if a != b:
            return i
    return min(len(held), len(wanted))

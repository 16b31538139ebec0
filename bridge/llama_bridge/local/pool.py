"""Several conversations with one model: some have a seat, a sequence in the KV cache; the others are at rest."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..capabilities import Capability
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
from .running_turn import RunningTurn
from .spelling import Spelling

__all__ = ["Holder", "Pool", "Seat"]

_ENDING = 2
"""Tokens that may end an answer in the cache, but not in a prompt that goes on from it."""

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
    """Which conversation has a seat. There is a new object each time that changes.

    Attributes:
        name: name of the conversation; None if the seat belongs to none.
    """

    name: str | None


@dataclass(slots=True, eq=False)
class Seat:
    """A sequence of the KV cache, with the conversation that has it.

    Attributes:
        active: the conversation.
        holder: which one it is.
        turn: the last turn that was begun there, or None.
        used: the seat with the lowest number was used least recently.
    """

    active: Active
    holder: Holder
    turn: RunningTurn | None = None
    used: int = 0

    @property
    def busy(self) -> bool:
        """Whether an answer is in progress there."""
        return self.turn is not None and not self.turn.done

    @property
    def name(self) -> str | None:
        """Name of the conversation, or None."""
        return self.holder.name


class Pool:
    """Named conversations of one engine.

    A conversation is used on a seat. Those that find none are at rest.

    Copies of KV caches are kept in memory up to a limit; beyond it the least recently used go to a temporary
    folder and come back when needed. What cannot be written is evaluated again: nothing is ever lost.

    With a :class:`SessionFolder`, each named conversation has a file there, which is updated after each call.
    Conversations of an earlier process are loaded when first used.

    Attributes:
        spelling: messages and texts to the model's tokens.
        seats: one for each sequence of the engine.
    """

    def __init__(self, engine: Engine, model: ModelFile, storage: SessionStorage) -> None:
        self.spelling = Spelling(engine, model)
        self.seats = [
            Seat(Active(self.spelling, sequence), Holder(None if i else DEFAULT))
            for i, sequence in enumerate(engine.sequences)
        ]
        for seat in self.seats:
            seat.active.kv.make_room = partial(self.make_room, seat)
        self._engine = engine
        self._memory = storage.memory
        self._resting: OrderedDict[str, _Resting] = OrderedDict()  # least recently used first
        self._temporary = ""
        self._keeper = Keeper(self.active, storage.folder)
        self._clock = itertools.count(1)

    @property
    def active(self) -> Active:
        """The conversation that has the first seat."""
        return self.seats[0].active

    def seat_of(self, name: str) -> Seat | None:
        """The seat that a conversation has."""
        return next((seat for seat in self.seats if seat.name == name), None)

    def turns(self) -> list[RunningTurn]:
        """The turns in progress, oldest first."""
        turns = [seat.turn for seat in self.seats if seat.turn is not None and not seat.turn.done]
        return turns if len(turns) < 2 else sorted(turns, key=lambda turn: turn.number)

    def names(self) -> list[str]:
        """Names of all conversations except the bridge's own, least recently used first.

        Raises:
            SessionCorrupt: the folder cannot be read.
        """
        seats = sorted(self.seats, key=lambda seat: seat.used)
        active = [seat.name for seat in seats if seat.name is not None]
        here = [name for name in [*self._resting, *active] if name != DEFAULT]
        there = self._keeper.names()
        return list(dict.fromkeys([name for name in there if name not in here] + here))

    def glance(self, name: str) -> Snapshot:
        """A conversation without its state and without changing anything, even while the engine works.

        Raises:
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        while True:
            holders = [seat.holder for seat in self.seats]
            if (seat := self.seat_of(name)) is not None:
                seen = seat.active.bare_snapshot()
            elif (resting := self._resting.get(name)) is not None:
                seen = resting.snapshot.bare()
            else:
                seen = self._keeper.glance(name)
            if all(seat.holder is was for seat, was in zip(self.seats, holders, strict=True)):
                return seen  # otherwise a seat changed hands, and this may be another conversation

    def switch(self, name: str, *, or_empty: bool = False) -> Seat:
        """Give a conversation a seat, if it has none; it is empty if its name is new. One seat must not be busy.

        With ``or_empty``, a conversation whose file cannot be used is empty too, because its content will come from
        elsewhere. The previous conversation of the seat is put to rest before that, so an interrupt never mixes two.

        Raises:
            SessionCorrupt, SessionMismatch: it is in a file that cannot be used.
        """
        seat = self.seat_of(name)
        if seat is not None:
            seat.used = next(self._clock)
            return seat
        try:
            wanted = self._wake(name)
        except (SessionCorrupt, SessionMismatch):
            if not or_empty:
                raise
            wanted = Snapshot()
        seat = self._free_seat(wanted.tokens, wanted.origin)
        self.rest(seat)
        if wanted.tokens:
            self._resting.setdefault(name, _Resting(wanted))
        active = seat.active
        wanted = active.usable(wanted)
        if wanted.state is None and (near := self._nearest(seat, wanted)) is not None:
            active.restore(near)
        if wanted.state is None:
            self._share_beginning(seat, wanted.tokens, wanted.origin)
        if not active.restore(wanted):
            # The engine refuses its own copy: evaluate the conversation again, which the usage shows.
            _log.warning("the engine refused the KV cache of session %r; evaluating it again", name)
            active.restore(replace(wanted, state=None, held=0))
        self.is_now(seat, name)
        self._keep_bound()
        return seat

    def seat_for(self, name: str, tokens: Sequence[int]) -> Seat:
        """A seat for a new conversation that begins with these tokens. One seat must not be busy.

        With one seat, its conversation is the one of this name afterwards. With more, it belongs to none until
        :meth:`is_now`, so that the conversation of this name, if there is one, stays until then.
        """
        if len(self.seats) == 1:
            return self.switch(name)
        seat = self._free_seat(tokens, None, name)
        if seat.name != name:
            self.rest(seat)
        if seat.name is not None or not (
            self._wake_beginning(seat, name, tokens[:-1]) or self._wake_origin(seat, name, tokens)
        ):
            self._share_beginning(seat, tokens[:-1], self._origin(name, tokens))
        seat.used = next(self._clock)
        return seat

    def _origin(self, name: str, tokens: Sequence[int]) -> object:
        """The file that a conversation at rest came from, if these tokens go on from all of it."""
        resting = self._resting.get(name)
        if resting is None:
            return None
        said = resting.snapshot.tokens
        return resting.snapshot.origin if said == tuple(tokens[: len(said)]) else None

    def _wake_beginning(self, seat: Seat, name: str, tokens: Sequence[int]) -> bool:
        """Give a seat the state of a conversation at rest, if these tokens begin more like that than like any other."""
        if Capability.PREFIX_CACHE not in self._engine.capabilities:
            return False
        resting = self._resting.get(name)
        try:
            wanted = resting.snapshot if resting is not None else self._keeper.glance(name)
            common = common_beginning(wanted.tokens, tokens)
            if common <= max(_shared(other, tokens, None) for other in self.seats):
                return False
            if common < len(wanted.tokens) and self._engine.info.memory is not MemoryKind.DENSE:
                return False  # it could not be rewound
            wanted = self._wake(name)
        except (SessionCorrupt, SessionMismatch):
            return False
        return wanted.state is not None and seat.active.restore(wanted)

    def _wake_origin(self, seat: Seat, name: str, tokens: Sequence[int]) -> bool:
        """Give a seat the state that a branch at rest shares with another conversation at rest, if no seat has more of it."""
        resting = self._resting.get(name)
        if resting is None or not resting.snapshot.tokens:
            return False
        wanted = Snapshot(tokens=tuple(tokens[:-1]), origin=self._origin(name, tokens))
        near = self._nearest(seat, wanted)
        return near is not None and seat.active.restore(near)

    def rest(self, seat: Seat, *, copy: bool = True) -> None:
        """Put the conversation that has a seat to rest. Then the seat belongs to none.

        Without a ``copy`` of the cache, whatever is gone by the next use is evaluated again.
        """
        name = seat.name
        if name is None:
            return
        snapshot = seat.active.snapshot() if copy else seat.active.bare_snapshot()
        self._resting[name] = _Resting(snapshot)
        self._resting.move_to_end(name)
        seat.holder = Holder(None)
        if copy:  # an interrupt may have prevented this in the call that changed it
            self._keep_resting(name)

    def is_now(self, seat: Seat, name: str) -> None:
        """From now on a seat belongs to the conversation of this name, and no other seat does."""
        for other in self.seats:
            if other.name == name and other is not seat:
                other.holder = Holder(None)
        seat.holder = Holder(name)
        seat.used = next(self._clock)
        self._drop(self._resting.pop(name, None))

    def fork(self, origin: str, name: str | None) -> str:
        """Start a conversation with the history of another; None picks a name. Returns the name.

        Raises:
            InvalidInput: the name is taken.
        """
        if name is None:
            name = self._new_name(origin)
        elif (
            name == DEFAULT
            or self.seat_of(name) is not None
            or name in self._resting
            or self._keeper.is_taken(name)
        ):
            raise InvalidInput(
                f"there is already a session named {name!r}: give another name, or delete it"
            )
        active = self.switch(origin).active
        copy = self._keeper.keeps(name)
        self._resting[name] = _Resting(active.snapshot() if copy else active.branch())
        self._keep_resting(name)
        self._keep_bound()
        return name

    def _new_name(self, origin: str) -> str:
        """An unused name for a branch of ``origin``."""
        taken = {*(seat.name for seat in self.seats), *self._resting, *self.names()}
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
        seat = self.seat_of(name)
        if seat is not None:
            self.rest(seat, copy=False)
        self._keeper.forget(name)  # first, so that after an interrupt it is written again
        self._keeper.drop(name)
        self._drop(self._resting.pop(name, None))
        if len(self.seats) == 1 and self.seats[0].name is None:
            self.switch(DEFAULT)

    def keep(self) -> None:
        """Write the conversations that have seats to their files in the background, as far as they have changed."""
        for seat in self.seats:
            name, active = seat.name, seat.active
            if seat.busy or name is None or not self._keeper.keeps(name):
                continue
            if not active.exists:
                self._keeper.drop(name, known=True)
            elif not self._keeper.is_kept(name, active.bare_snapshot()):
                self._keeper.keep(name, active.snapshot())

    def keep_all(self) -> None:
        """Do the same for all conversations in memory."""
        self.keep()
        for name in list(self._resting):
            self._keep_resting(name)

    def _keep_resting(self, name: str) -> None:
        snapshot = self._resting[name].snapshot
        if (
            self.seat_of(name) is None
            and self._keeper.keeps(name)
            and not self._keeper.is_kept(name, snapshot.bare())
        ):
            self._keeper.keep(name, snapshot)

    def close(self) -> None:
        """Forget everything and delete the temporary folder."""
        for seat in self.seats:
            seat.holder = Holder(None)
            seat.active.kv.make_room, seat.turn = _no_room, None  # no circle of references
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

    # seats

    def _free_seat(self, tokens: Sequence[int], origin: object, name: str | None = None) -> Seat:
        """A seat that is not busy: one that belongs to none, or to the conversation of this name, if there is one.

        Of these it is the one that holds most of the tokens. But if it holds more than these, that may be another conversation,
        which goes on later: then it is left, and the seat that was used least recently is taken. The beginning can be shared.
        """
        free = [seat for seat in self.seats if not seat.busy]
        given_up = [seat for seat in free if seat.name is None or seat.name == name]
        if not given_up:
            return min(free, key=lambda seat: seat.used)
        best = max(given_up, key=lambda seat: (_shared(seat, tokens, origin), -seat.used))
        goes_on = _shared(best, tokens, origin) >= len(best.active.kv.tokens) - _ENDING
        if goes_on or self._engine.info.memory is not MemoryKind.DENSE:
            return best
        return min(given_up, key=lambda seat: seat.used)

    def _share_beginning(self, seat: Seat, tokens: Sequence[int], origin: object) -> None:
        """Give a seat the cells of another one whose conversation begins more like these tokens than its own."""
        if len(self.seats) == 1 or self._engine.info.memory is not MemoryKind.DENSE:
            return
        best = max(self.seats, key=lambda other: (_shared(other, tokens, origin), other is seat))
        if best is not seat:
            self.rest(seat, copy=False)
            seat.active.kv.share(best.active.kv, _shared(best, tokens, origin))

    def _nearest(self, seat: Seat, wanted: Snapshot) -> Snapshot | None:
        """A copy in memory that shares a longer beginning with a conversation than any seat does."""
        if self._engine.info.memory is not MemoryKind.DENSE:
            return None  # it could not be rewound to the common beginning
        tokens, usable = wanted.tokens, (None, wanted.origin)
        most, best = max(_shared(other, tokens, wanted.origin) for other in self.seats), None
        for resting in self._resting.values():
            snapshot = resting.snapshot
            if snapshot.state is not None and snapshot.origin in usable:
                common = common_beginning(snapshot.tokens[: snapshot.held], tokens)
                if common > most:
                    most, best = common, snapshot
        return best

    def free_seat(self) -> Seat:
        """A seat that is not busy, the one used least recently. There must be one."""
        return self._free_seat((), None)

    def check(self) -> None:
        """Bring all ledgers in line with the cache, after something that may have emptied it."""
        for seat in self.seats:
            seat.active.kv.check()

    def make_room(self, asking: Seat) -> bool:
        """Free cells for a seat; False if no other has any.

        Those whose conversation is at rest go first, then an answer that nobody reads, then the youngest answer, which is
        parked: it goes on when another has ended.
        """
        others = [seat for seat in self.seats if seat is not asking]
        idle = [seat for seat in others if not seat.busy and seat.active.kv.tokens]
        if idle:
            seat = min(idle, key=lambda seat: (seat.name is not None, seat.used))
            self.rest(seat)
            seat.active.reset()
            self._keep_bound()
            return True
        turns = [turn for turn in self.turns() if turn is not asking.turn and not turn.parked]
        if turns:
            (next((t for t in turns if not t.goes_on), None) or turns[-1]).park()
        return bool(turns)

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


def _shared(seat: Seat, tokens: Sequence[int], origin: object) -> int:
    """How many of these tokens a seat's part of the cache begins with, as far as it may be used for them."""
    kv = seat.active.kv
    return common_beginning(kv.tokens, tokens) if kv.origin in (None, origin) else 0


def _no_room() -> bool:
    return False

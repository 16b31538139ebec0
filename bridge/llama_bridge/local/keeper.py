"""Conversations in the files of a folder: read when needed, written when changed."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from ..errors import SessionMismatch, SessionNotFound
from ..files.folder import SessionFolder
from ..request import DEFAULT
from ..snapshot import Snapshot
from .active import Active

if TYPE_CHECKING:
    from ..files.format import SessionFile

__all__ = ["Keeper"]

_SEEN = 64
"""How many conversations in files are remembered for the next look."""

_log = logging.getLogger(__name__)


class Keeper:
    """The files of named conversations. There are none without a folder or for the bridge's own conversation.

    Args:
        active: where the conversations will run.
        folder: where the files are, or None.
    """

    def __init__(self, active: Active, folder: SessionFolder | None) -> None:
        self._active = active
        self._folder = folder
        self._era = None if folder is None else folder.era
        self._kept: dict[str, Snapshot] = {}
        """What the files hold or soon will, without states."""
        self._seen: OrderedDict[str, tuple[object, Snapshot]] = OrderedDict()
        """What was seen in files, and in which version of each file."""

    def _of(self, name: str) -> SessionFolder | None:
        return None if name == DEFAULT else self._folder

    def keeps(self, name: str) -> bool:
        """Whether a conversation of this name is kept in a file."""
        return self._of(name) is not None

    def names(self) -> list[str]:
        """Names of all that have a file or soon will, least recently used first; then those whose files are gone."""
        if self._folder is None:
            return []
        there = self._folder.names()
        gone = [name for name in list(self._seen) if name not in there]
        return there + [name for name in gone if self._remembered(name).tokens]

    def has(self, name: str) -> bool:
        """Whether there is a file for this name."""
        return self._path(name) is not None

    def is_taken(self, name: str) -> bool:
        """Whether there is a file for this name, or was one whose conversation goes on."""
        return self.has(name) or bool(self._remembered(name).tokens)

    def _path(self, name: str) -> str | None:
        """Path of the file, or None if there is none."""
        folder = self._of(name)
        return folder.file(name) if folder is not None and folder.has(name) else None

    def file(self, name: str) -> str:
        """Path of the file."""
        assert self._folder is not None
        return self._folder.file(name)

    # reading

    def glance(self, name: str) -> Snapshot:
        """A conversation from the head of its file, which is read once. The rest is checked when it is used.

        Raises:
            SessionCorrupt, SessionMismatch: it cannot be used.
        """
        path = self._path(name)
        if path is None:
            return self._remembered(name)
        from ..files.format import read_session_head  # 8 ms with json: only files need it

        try:
            status = os.lstat(path)
            file = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            seen = self._seen.get(name)
            if seen is not None and seen[0] == file:
                return seen[1]
            head = read_session_head(path, follow=False)
        except (FileNotFoundError, NotADirectoryError):  # also SessionNotFound: just deleted
            return self._remembered(name)
        snapshot = self._understood(path, head)[0].bare()
        self._seen[name] = file, snapshot
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return snapshot

    def take(self, name: str) -> Snapshot:
        """The conversation in a file, to continue; an empty one if there is no file.

        Raises:
            SessionCorrupt, SessionMismatch: it cannot be used.
        """
        path = self._path(name)
        try:
            snapshot = None if path is None else self.read(path)
        except SessionNotFound:  # just deleted
            snapshot = None
        if snapshot is None:
            snapshot = self._remembered(name)
            if snapshot.tokens:
                _log.warning(
                    "the file of session %r is gone: its %d tokens are evaluated again",
                    name,
                    len(snapshot.tokens),
                )
        elif snapshot.tokens and (folder := self._of(name)) is not None:
            self._kept[name] = snapshot.bare()
            folder.touch(name)
        return snapshot

    def _remembered(self, name: str) -> Snapshot:
        """What was last seen in a file that is gone now, unless ``sessions_limit`` removed it."""
        if self._folder is not None and name in self._folder.dropped:
            self._seen.pop(name, None)
        seen = self._seen.get(name)
        return Snapshot() if seen is None else seen[1]

    def read(self, path: str) -> Snapshot:
        """Read the conversation in a file and check the whole file.

        Raises:
            SessionNotFound, SessionCorrupt, SessionMismatch.
        """
        from ..files.format import read_session_file  # 8 ms, as above

        file = read_session_file(path, state_prefix=self._active.engine.state_prefix, follow=False)
        snapshot, why = self._understood(path, file)
        if why is not None:
            _log.warning("%s: %s", path, why)
        return snapshot

    def _understood(self, path: str, file: SessionFile) -> tuple[Snapshot, str | None]:
        """A conversation, and why it must be evaluated again, or None."""
        from ..files.manifest import read_snapshot  # 8 ms, as above
        from .replay import plan_replay

        try:
            return read_snapshot(path, file, self._active.made_with), None
        except SessionMismatch as mismatch:
            if not mismatch.field.startswith("context.") or mismatch.field == "context.n_ctx":
                why = "delete() the session, use another sessions_dir, or load its file with replay=True"
                raise SessionMismatch(
                    path, mismatch.field, mismatch.saved, mismatch.current, mismatch.why or why
                ) from None
            # The same model with other settings or another llama.cpp: the conversation is valid, its cache is not.
            return plan_replay(self._active, path, file, mismatch)

    # writing

    def is_kept(self, name: str, bare: Snapshot) -> bool:
        """Whether the file holds this conversation or soon will."""
        if self._folder is not None and self._era is not (era := self._folder.era):
            self._kept.clear()  # the folder was removed: write again what is in memory
            self._era = era
        return self._kept.get(name) == bare

    def keep(self, name: str, snapshot: Snapshot) -> None:
        """Write a conversation in the background."""
        folder = self._of(name)
        if folder is not None and snapshot.tokens:
            folder.keep(name, partial(self.write, snapshot), snapshot.n_bytes)
            self._kept[name] = snapshot.bare()  # not earlier: an interrupt would leave it unwritten

    def write(self, snapshot: Snapshot, path: str) -> None:
        """Write a conversation to a file. Links are not followed.

        Raises:
            SessionWriteError.
        """
        from ..files.manifest import write_snapshot  # 8 ms, as above

        write_snapshot(path, snapshot, self._active.made_with, follow=False)

    def forget(self, name: str) -> None:
        """Forget what a file holds, so that the conversation in memory is written again."""
        self._kept.pop(name, None)

    def drop(self, name: str, *, known: bool = False) -> None:
        """Delete a file; with ``known``, only if its conversation was in memory.

        Raises:
            SessionWriteError: it cannot be deleted.
        """
        folder = self._of(name)
        self._seen.pop(name, None)
        if folder is not None and not (known and name not in self._kept):
            folder.drop(name)
            self._kept.pop(name, None)

"""Conversations in the files of a folder: read when they are wanted, written when they have changed."""

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
"""Conversations in files that are remembered for whoever looks at them again."""

_log = logging.getLogger(__name__)


class Keeper:
    """The files of named conversations. Without a folder there are none; the bridge's own has none.

    Args:
        active: what reads them is to run on.
        folder: where they are, or None.
    """

    def __init__(self, active: Active, folder: SessionFolder | None) -> None:
        self._active = active
        self._folder = folder
        self._era = None if folder is None else folder.era
        self._kept: dict[str, Snapshot] = {}
        """What the files hold or are about to, without states."""
        self._seen: OrderedDict[str, tuple[object, Snapshot]] = OrderedDict()
        """What was seen in files, and which files these were."""

    def _of(self, name: str) -> SessionFolder | None:
        return None if name == DEFAULT else self._folder

    def keeps(self, name: str) -> bool:
        """Whether a conversation of this name is kept."""
        return self._of(name) is not None

    def names(self) -> list[str]:
        """Of all that have a file or are about to, the least recently used first."""
        return [] if self._folder is None else self._folder.names()

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        folder = self._of(name)
        return folder is not None and folder.has(name)

    def file(self, name: str) -> str:
        """Its path."""
        assert self._folder is not None
        return self._folder.file(name)

    # reading

    def glance(self, name: str) -> Snapshot:
        """What a file says, from its head alone, which is read once. The rest is checked when it is used.

        Raises:
            SessionCorrupt, SessionMismatch: it cannot be used.
        """
        folder = self._of(name)
        if folder is None or not folder.has(name):
            return Snapshot()
        from ..files.format import read_session_head  # 8 ms with json, which only files need

        path = folder.file(name)
        try:
            status = os.lstat(path)
            file = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            seen = self._seen.get(name)
            if seen is not None and seen[0] == file:
                return seen[1]
            head = read_session_head(path, follow=False)
        except (FileNotFoundError, NotADirectoryError):  # SessionNotFound, too: gone just now
            return Snapshot()
        snapshot = self._understood(path, head)[0].bare()
        self._seen[name] = file, snapshot
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return snapshot

    def take(self, name: str) -> Snapshot:
        """The conversation of a file, to go on with; an empty one where there is none.

        Raises:
            SessionCorrupt, SessionMismatch: it cannot be used.
        """
        folder = self._of(name)
        if folder is None or not folder.has(name):
            return Snapshot()
        try:
            snapshot = self.read(folder.file(name))
        except SessionNotFound:  # dropped just now
            return Snapshot()
        if snapshot.tokens:
            self._kept[name] = snapshot.bare()
            folder.touch(name)
        return snapshot

    def read(self, path: str) -> Snapshot:
        """The conversation in a file, all of which is checked.

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
        """A conversation, and why it is to be evaluated again, or None."""
        from ..files.manifest import read_snapshot  # 8 ms, as above
        from .replay import plan_replay

        try:
            return read_snapshot(path, file, self._active.made_with), None
        except SessionMismatch as mismatch:
            if not mismatch.field.startswith("context.") or mismatch.field == "context.n_ctx":
                why = "delete() the session, give another sessions_dir, or load its file with replay=True"
                raise SessionMismatch(
                    path, mismatch.field, mismatch.saved, mismatch.current, mismatch.why or why
                ) from None
            # The same model in another setting, or another llama.cpp: the conversation holds, its cache does not.
            return plan_replay(self._active, path, file, mismatch)

    # writing

    def is_kept(self, name: str, bare: Snapshot) -> bool:
        """Whether the file holds this, or is about to."""
        if self._folder is not None and self._era is not (era := self._folder.era):
            self._kept.clear()  # somebody removed the folder: what is in memory is written again
            self._era = era
        return self._kept.get(name) == bare

    def keep(self, name: str, snapshot: Snapshot) -> None:
        """Have a conversation written in the background."""
        folder = self._of(name)
        if folder is not None and snapshot.tokens:
            folder.keep(name, partial(self.write, snapshot), snapshot.n_bytes)
            self._kept[name] = snapshot.bare()  # not before: an interrupt would leave it unwritten

    def write(self, snapshot: Snapshot, path: str) -> None:
        """Write a conversation to a file. Links are not followed.

        Raises:
            SessionWriteError.
        """
        from ..files.manifest import write_snapshot  # 8 ms, as above

        write_snapshot(path, snapshot, self._active.made_with, follow=False)

    def forget(self, name: str) -> None:
        """Take what a file holds for something else than what is in memory: that is written again."""
        self._kept.pop(name, None)

    def drop(self, name: str, *, known: bool = False) -> None:
        """Remove a file; with ``known`` only one whose conversation was in memory.

        Raises:
            SessionWriteError: it cannot be removed.
        """
        folder = self._of(name)
        if folder is not None and not (known and name not in self._kept):
            folder.drop(name)
            self._kept.pop(name, None)

"""Conversations by name, branches and undone turns, over a server that keeps each response for as many turns as go on from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from llama_bridge.capabilities import Capability
from llama_bridge.checks import shown
from llama_bridge.errors import InvalidInput
from llama_bridge.request import DEFAULT, Request

from ..remote_runtime import Kept, Place
from .asking import OpenAIRuntime

__all__ = ["BranchingRuntime"]

T = TypeVar("T")


class BranchingRuntime(OpenAIRuntime):
    """Knows what each conversation was before each of its turns: the server can go on from there."""

    def names(self) -> list[str]:
        """See :meth:`Runtime.names`."""
        with self.lock:
            return [name for name in self.places if name != DEFAULT]

    def fork(self, session: str, name: str | None) -> str:
        """See :meth:`Runtime.fork`. The branch goes on from the same response.

        Raises:
            InvalidInput: the name is taken.
        """

        def work(place: Place) -> str:
            if name is None:
                names = (f"{session or 'branch'}-{i}" for i in itertools.count(2))
                chosen = next(one for one in names if one not in self.places)
            elif name == DEFAULT or name in self.places:
                raise InvalidInput(
                    f"there is already a session named {name!r}: give another name, or delete it"
                )
            else:
                chosen = name
            self.places[chosen] = Place(place.kept)
            return chosen

        return self._with(session, work)

    def rewind(self, session: str, turns: int) -> None:
        """See :meth:`Runtime.rewind`."""

        def work(place: Place) -> None:
            kept = place.kept
            if turns < 1 or turns > len(kept.turns):
                raise InvalidInput(
                    f"turns={shown(turns)}: the session has only {len(kept.turns)} to undo"
                )
            for _ in range(turns):
                assert kept.before is not None
                kept = kept.before
            place.kept = kept

        self._with(session, work)

    def delete(self, session: str) -> None:
        """See :meth:`Runtime.delete`."""
        self.settled(session)
        with self.lock:
            self.places.pop(session, None)

    def once_more(self, request: Request, kept: Kept) -> tuple[Request, Kept]:
        """See :meth:`RemoteRuntime.once_more`."""
        self.needs(Capability.SESSION_TOOLS)
        if kept.asked is None or kept.before is None:
            raise InvalidInput("there is no answer to regenerate: generate something first")
        same = replace(
            request,
            prompt=kept.asked.prompt,
            chat=kept.asked.chat,
            continues=kept.asked.continues,
            system=kept.asked.system,
            told=kept.asked.told,
        )
        return same, replace(kept.before, again=True)

    def _with(self, session: str, work: Callable[[Place], T]) -> T:
        """Change a conversation at rest."""
        self.needs(Capability.SESSION_TOOLS)
        place = self.settled(session)
        with self.lock:
            return work(place)

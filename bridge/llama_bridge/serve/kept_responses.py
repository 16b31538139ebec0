"""Responses that are kept, so that later requests go on from them: what every place that keeps them does."""

from __future__ import annotations

import hashlib
import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..aio import AsyncLlamaBridge
from .refusals import Refused

__all__ = ["MARK_DIGITS", "Kept", "NotKept", "Responses", "made_by", "replica_mark"]

MARK_DIGITS = 8
"""Hexadecimal digits at the beginning of an id that say which replica of a fleet has made it."""

_BEGINS = "resp_"
_RANDOM_DIGITS = 24


@dataclass(frozen=True, slots=True)
class Kept:
    """A response, and what is needed to go on from it.

    Attributes:
        id: of the response; the session of its KV cache has the same name.
        owner: whose it is: a digest of the API key.
        model: the model that answered.
        response: as the client got it.
        items: what the client said in this request.
        messages: the whole conversation with the answer, without instructions.
    """

    id: str
    owner: str
    model: str
    response: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]
    messages: Sequence[Mapping[str, Any]]


class NotKept(Exception):
    """A response could not be kept; what had to go for it is in ``gone``. It was answered all the same."""

    def __init__(self, gone: list[str]) -> None:
        super().__init__()
        self.gone = gone


class Responses(ABC):
    """Keeps responses.

    An id has a seal of a secret, so that it is known of one that is not there whether it ever was.

    Args:
        secret: of the seal.
        mark: what ids begin with; random without one.

    Attributes:
        failures: how often something could not be kept.
        lasting: whether what is kept outlives the server.
    """

    lasting = True

    def __init__(self, secret: bytes, mark: str = "") -> None:
        self._secret = secret
        self._mark = mark
        self.failures = 0

    def new_id(self, owner: str) -> str:
        """An id for a new response."""
        random = (self._mark + os.urandom(_RANDOM_DIGITS // 2).hex())[:_RANDOM_DIGITS]
        return f"{_BEGINS}{random}{self._seal(random, owner)}"

    def _seal(self, random: str, owner: str) -> str:
        return hmac.new(self._secret, f"{random} {owner}".encode(), hashlib.sha256).hexdigest()[:16]

    def checked(self, kept: Kept | None, id_: str, owner: str, param: str | None) -> Kept:
        """What was found for an id.

        Raises:
            Refused: nothing, or it is another's; says which.
        """
        if kept is None:
            random, seal = id_[5:29], id_[29:].encode()
            sealed = hmac.compare_digest(seal, self._seal(random, owner).encode())
            why = (
                "is not finished, or no longer kept here" if sealed else "is unknown to this server"
            )
            code = "response_evicted" if sealed else "response_not_found"
            raise Refused(404, f"the response {id_[:100]!r} {why}", param=param, code=code)
        if kept.owner != owner:
            why = "was made with another API key"
            raise Refused(
                403, f"the response {id_[:100]!r} {why}", param=param, code="response_foreign"
            )
        return kept

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    async def find(self, id_: str, owner: str, param: str | None = None) -> Kept:
        """The response of an id.

        Raises:
            Refused: there is none, or it is another's; says which.
        """

    @abstractmethod
    async def keep(self, kept: Kept) -> list[str]:
        """Keep a response; returns the ids of those whose sessions had to go for it.

        Raises:
            NotKept.
        """

    @abstractmethod
    async def remove(self, id_: str) -> None:
        """Forget a response."""

    async def bring(self, llama: AsyncLlamaBridge, id_: str) -> bool:
        """Let a bridge have the session of a response that another has answered; False if that is not possible."""
        return False

    def carry(self, llama: AsyncLlamaBridge, id_: str) -> None:  # noqa: B027 -- optional: a bridge keeps its sessions itself
        """Let others have the session of a response that was answered here. This does not wait."""

    async def watch(self) -> None:  # noqa: B027 -- optional
        """Do what takes its time, for as long as the server runs."""

    async def finish(self) -> None:  # noqa: B027 -- optional
        """Do what is left of that at the end."""

    def close(self) -> None:  # noqa: B027 -- optional
        """Let go of where they are kept."""


def replica_mark(replica: str) -> str:
    """What the ids of responses begin with that a replica has made."""
    return hashlib.sha256(replica.encode()).hexdigest()[:MARK_DIGITS]


def made_by(id_: str) -> str:
    """The mark of the replica that has made a response; empty if the id has none."""
    mark = id_.removeprefix(_BEGINS)[:MARK_DIGITS]
    return mark if id_.startswith(_BEGINS) and len(mark) == MARK_DIGITS else ""

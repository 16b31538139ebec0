"""The models that a server has, by the names that requests give."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from ..aio import AsyncLlamaBridge
from .refusals import Refused

__all__ = ["Models", "OneModel", "Served"]


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model.

    Attributes:
        name: as requests give it.
        llama: answers.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    llama: AsyncLlamaBridge
    created: int = field(default_factory=lambda: int(time.time()))


class Models(ABC):
    """Finds the model of a request."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names that requests may give."""

    @abstractmethod
    def loaded(self) -> Sequence[Served]:
        """The models that are loaded."""

    @abstractmethod
    def borrow(self, name: str | None) -> AbstractAsyncContextManager[Served]:
        """The model of a request, which stays loaded as long as it is borrowed.

        Raises:
            Refused: there is none of that name.
            ModelError: it cannot be loaded.
        """

    async def watch(self) -> None:  # noqa: B027 -- optional: one model stays
        """Unload what nobody uses, for as long as the server runs."""

    async def close(self) -> None:  # noqa: B027 -- optional: a bridge that somebody else made is not closed
        """Free what this has loaded itself."""

    def same(self, name: str, other: str) -> bool:
        """Whether two names mean the same model."""
        return name == other

    def unknown(self, name: str | None) -> Refused:
        """The refusal of a name."""
        there = ", ".join(self.names())
        if name is None:
            return Refused(
                400, f"model is missing: give one of {there}", param="model", code="missing_field"
            )
        message = f"there is no model {name[:200]!r} here: give one of {there}"
        return Refused(404, message, param="model", code="model_not_found")


class OneModel(Models):
    """The model of a bridge that somebody else has made, and closes."""

    def __init__(self, llama: AsyncLlamaBridge, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._served = Served(self._names[0], llama)

    def names(self) -> Sequence[str]:
        """See :meth:`Models.names`."""
        return self._names

    def loaded(self) -> Sequence[Served]:
        """See :meth:`Models.loaded`."""
        return (self._served,)

    def same(self, name: str, other: str) -> bool:
        """See :meth:`Models.same`. There is only one; a name that is not its own is refused elsewhere."""
        return other in self._names

    @asynccontextmanager
    async def borrow(self, name: str | None) -> AsyncGenerator[Served, None]:
        """See :meth:`Models.borrow`. Without a name there is only one to mean."""
        if name is not None and name not in self._names:
            raise self.unknown(name)
        yield self._served

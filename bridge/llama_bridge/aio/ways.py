"""How a task waits for work that would block its event loop: the contract of threads and slices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from ..claim import Claim

__all__ = ["END", "End", "Reading", "SyncStream", "Ways"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class End(Enum):
    """What is read at the end."""

    END = 0


END: Final = End.END


class SyncStream(Protocol[T_co, R_co]):
    """An answer in progress, as the library's own calls return it."""

    def __next__(self) -> T_co:
        """Wait for the next item."""
        ...

    def cancel(self) -> None:
        """End the answer soon; waits for nothing."""
        ...

    @property
    def result(self) -> R_co:
        """The whole answer."""
        ...


class Reading(ABC, Generic[T, R]):
    """An answer that a task reads. It starts with the first call that is awaited."""

    @abstractmethod
    async def start(self) -> None:
        """Plan the answer, which raises the errors that can be known in advance."""

    @abstractmethod
    async def next(self) -> T | End:
        """The next item. If the task is cancelled meanwhile, the answer ends."""

    @abstractmethod
    async def result(self) -> R:
        """The whole answer. If the task is cancelled meanwhile, the answer ends."""

    @abstractmethod
    async def close(self) -> None:
        """End the answer, and wait until it has ended."""

    @abstractmethod
    def cancel(self) -> None:
        """End the answer soon. Waits for nothing, takes no lock, works in any thread."""

    @abstractmethod
    def drop(self) -> None:
        """Nobody reads it any more."""


class Ways(ABC):
    """A way to wait. A bridge has one."""

    @abstractmethod
    async def run(self, work: Callable[[], T], claim: Claim) -> T:
        """Do some work and wait for its result.

        If the task is cancelled before the work has begun, it never does. If it has begun, it is waited for, and can
        end early by looking at the claim.
        """

    @abstractmethod
    def read(self, start: Callable[[], SyncStream[T, R]]) -> Reading[T, R]:
        """An answer, which ``start`` plans."""

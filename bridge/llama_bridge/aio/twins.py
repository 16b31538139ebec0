"""Makes an asynchronous call of one of the library's own: same name, arguments, types and documentation, in one line.

``tests/aio/test_twins.py`` finds the calls that have no twin yet.
"""

# The functions here become methods:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..checks import check_callback
from ..claim import Claim
from ..progress import OnProgress, Progress
from .stream import AsyncStream
from .ways import SyncStream, Ways

__all__ = ["Twin", "answered", "awaited", "documented_as", "streamed"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
C = TypeVar("C", bound=type)


class Twin(Protocol):
    """What an asynchronous object knows of the one it stands for."""

    _sync: Any
    _ways: Ways

    def _ready(self) -> None:
        """Do what has to be done before the first call. Runs where the call does."""


def awaited(
    call: Callable[Concatenate[Any, P], T], *, begins: bool = False
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A call that waits.

    Args:
        call: of the synchronous class.
        begins: whether it begins at once, whoever has the engine, instead of where the runtime says so. It is also
            what comes before everything else: nothing is made ready for it.
    """
    name = call.__name__
    reports = "on_progress" in inspect.signature(call).parameters

    @functools.wraps(call)
    async def twin(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        claim = Claim()
        given: dict[str, Any] = {**kwargs}
        if reports:
            given["on_progress"] = stoppable(given.get("on_progress"), self._sync, claim)

        def work() -> T:
            if begins:
                claim.begin()
            else:
                self._ready()
            return getattr(self._sync, name)(*args, **given)  # type: ignore[no-any-return]

        return await self._ways.run(work, claim)

    return twin


def answered(
    call: Callable[Concatenate[Any, P], T],
    stream: Callable[Concatenate[Any, P], SyncStream[Any, T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A call that generates. It reads the stream of its streaming sibling, so that it can be cancelled."""
    name = stream.__name__

    @functools.wraps(call)
    async def twin(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        stream: AsyncStream[Any, T] = _stream(self, name, args, kwargs)
        return await stream.result()

    return twin


def streamed(
    call: Callable[Concatenate[Any, P], SyncStream[T, R]],
) -> Callable[Concatenate[Any, P], AsyncStream[T, R]]:
    """A call that streams. It waits for nothing yet."""
    name = call.__name__

    @functools.wraps(call)
    def twin(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[T, R]:
        return _stream(self, name, args, kwargs)

    return twin


def _stream(self: Twin, name: str, args: tuple[Any, ...], kwargs: Any) -> AsyncStream[Any, Any]:
    def start() -> SyncStream[Any, Any]:
        self._ready()
        return getattr(self._sync, name)(*args, **kwargs)  # type: ignore[no-any-return]

    return AsyncStream(self._ways, start)


def stoppable(given: OnProgress | None, sync: Any, claim: Claim) -> OnProgress:
    """A function for ``on_progress`` that ends the work when its task is cancelled."""
    report: OnProgress | None = check_callback("on_progress", given) or sync._shared.on_progress

    def told(step: Progress) -> None:
        claim.stop()
        if report is not None:
            report(step)

    return told


def documented_as(sync: type) -> Callable[[C], C]:
    """Take over the documentation of properties and calls that have none, from the synchronous class."""

    def take(cls: C) -> C:
        for name, member in vars(cls).items():
            if not name.startswith("_") and not getattr(member, "__doc__", None):
                member.__doc__ = getattr(sync, name).__doc__
        return cls

    return take

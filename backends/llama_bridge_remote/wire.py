"""What carries a request to a server and its answer back: httpx2 on a desktop, the browser's ``fetch`` in a page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from llama_bridge.errors import ServerGone

from .waiting import Signal

__all__ = ["Arrived", "Line", "NoAnswer", "Wire"]


class NoAnswer(ServerGone):
    """Nobody answered at the address, or the connection broke. Nothing is known of what was done.

    Attributes:
        unheard: True if the request did not arrive, False if it may have, None where that cannot be told.
        late: whether the server had all its time.
    """

    def __init__(self, message: str, *, unheard: bool | None = False, late: bool = False) -> None:
        super().__init__(message)
        self.unheard = unheard
        self.late = late


class Line:
    """One request under way, which can be given up from any thread.

    Attributes:
        sent: set once all of it has left, or never will.
        is_new: whether a connection was made for it, where that is known.
    """

    def __init__(self) -> None:
        self.given_up = Signal()
        self.sent = Signal()
        self.is_new = False
        self._cut: Callable[[], object] | None = None

    def give_up(self) -> None:
        """End the connection now: whoever reads from it fails at once, and the server hears of it."""
        self.given_up.set()
        self.sent.set()
        if self._cut is not None:
            self._cut()

    def connected(self, cut: Callable[[], object]) -> None:
        """There is a connection, which ``cut`` ends."""
        self._cut = cut
        if self.given_up.is_set():
            cut()


class Arrived(ABC):
    """The beginning of an answer.

    Attributes:
        status: HTTP's.
        headers: by their names in lower case.
        packed: how it is compressed, if that is left to whoever reads it; nobody asked for that.
    """

    packed = ""

    status: int
    headers: Mapping[str, str]

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """The rest of it as it comes.

        Raises:
            NoAnswer: it breaks off.
        """

    @abstractmethod
    def close(self) -> None:
        """Nothing more is read. If something was left, the server hears of it."""


class Wire(ABC):
    """Carries requests to one server. Redirects are not followed."""

    @abstractmethod
    def send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        line: Line,
        *,
        kept: bool,
    ) -> Arrived:
        """Send a request, and wait until its answer begins.

        Args:
            method, path, content, headers: of the request.
            line: gives it up.
            kept: whether the connection may be one of those that are kept, which cannot be cut.

        Raises:
            NoAnswer.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

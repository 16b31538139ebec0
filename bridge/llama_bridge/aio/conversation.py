"""The calls of a conversation, for tasks; and AsyncSession."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..chat.message import Message
from ..checks import NotCopied
from ..conversation import Conversation
from ..session import Session
from .twins import answered, awaited, documented_as, streamed
from .ways import Ways

__all__ = ["AsyncConversation", "AsyncSession"]

S = TypeVar("S", bound=Conversation)


class AsyncConversation(NotCopied, Generic[S]):
    """The calls of one conversation, as in the synchronous class."""

    def __init__(self, sync: S, ways: Ways, ready: Callable[[], None]) -> None:
        self._sync = sync
        self._ways = ways
        self._ready = ready  # called before each call, where that works

    def __repr__(self) -> str:
        return f"Async{self._sync!r}"

    def _repr_html_(self) -> str:
        sync: Any = self._sync
        return str(sync._repr_html_())

    generate = answered(Conversation.generate, Conversation.generate_stream)
    generate_stream = streamed(Conversation.generate_stream)
    generate_continue = answered(
        Conversation.generate_continue, Conversation.generate_continue_stream
    )
    generate_continue_stream = streamed(Conversation.generate_continue_stream)
    chat = answered(Conversation.chat, Conversation.chat_stream)
    chat_stream = streamed(Conversation.chat_stream)
    regenerate = answered(Conversation.regenerate, Conversation.regenerate_stream)
    regenerate_stream = streamed(Conversation.regenerate_stream)


@documented_as(Session)
class AsyncSession(AsyncConversation[Session]):
    """A conversation with a name: what :class:`Session` is to :class:`LlamaBridge`.

    Calls that work are awaited; properties are not.
    """

    reset = awaited(Session.reset)
    rewind = awaited(Session.rewind)
    save = awaited(Session.save)
    load = awaited(Session.load)
    verify = awaited(Session.verify)
    delete = awaited(Session.delete)
    _fork = awaited(Session.fork)

    async def fork(self, name: str | None = None) -> AsyncSession:
        return AsyncSession(await self._fork(name), self._ways, self._ready)

    @property
    def name(self) -> str:
        return self._sync.name

    @property
    def tokens(self) -> tuple[int, ...]:
        return self._sync.tokens

    @property
    def messages(self) -> list[Message]:
        return self._sync.messages

    @property
    def n_turns(self) -> int:
        return self._sync.n_turns

    @property
    def active(self) -> bool:
        return self._sync.active

"""One immutable message of a conversation, and the check of a caller's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

from ..checks import check_text, shown
from ..errors import InvalidInput

__all__ = ["Message", "check_messages"]


class Message(dict[str, str]):
    """One message: ``Message(role="user", content="Hello!")``.

    It is a dictionary, so it is valid JSON and equals a plain dict. It cannot be changed, so nobody edits a live
    conversation by accident.

    Raises:
        TypeError: on any change.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Message cannot be changed: copy it first with dict(message)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> tuple[type[Message], tuple[dict[str, str]]]:
        return Message, (dict(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def check_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """Check messages and copy them.

    Raises:
        InvalidInput: an empty list, or something that is not ``{"role": str, "content": str}``.
    """
    given: object = messages
    if isinstance(given, str | bytes) or not isinstance(messages, Sequence):
        raise InvalidInput(
            f"messages={shown(messages)}: give a list of {{'role': ..., 'content': ...}}"
        )
    checked: list[Message] = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidInput(
                f"messages[{i}] is {shown(message)}: give {{'role': ..., 'content': ...}}"
            )
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidInput(
                f"messages[{i}] needs the strings 'role' and 'content', got {shown(message)}"
            )
        name = f"messages[{i}]"
        checked.append(
            Message(role=check_text(f"{name} role", role), content=check_text(name, content))
        )
    if not checked:
        raise InvalidInput("messages is empty: give at least one")
    return checked

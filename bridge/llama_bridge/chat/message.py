"""One immutable message of a conversation, and the check of a caller's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self, cast

from ..checks import check_text, shown
from ..errors import InvalidInput

__all__ = ["Message", "check_messages"]

_SHAPE = "{'role': ..., 'content': ...}"
_TEXTS = ("name", "tool_call_id", "reasoning_content")
_KNOWN = ("role", "content", "tool_calls", *_TEXTS)


class _Fixed(dict[str, Any]):
    """A dictionary that cannot be changed."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Message cannot be changed: copy it first with dict(message)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class _FixedList(list[Any]):
    """A list that cannot be changed."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Message cannot be changed: copy it first with copy.deepcopy")

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> tuple[type[Self], tuple[list[Any]]]:
        return type(self), (list(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class Message(_Fixed):
    """One message: ``Message(role="user", content="Hello!")``.

    It is a dictionary in OpenAI's shape, so it is valid JSON and equals a plain dict. It cannot be changed, so nobody
    edits a live conversation by accident.

    Raises:
        TypeError: on any change.
    """

    __slots__ = ()


def check_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """Check messages and copy them.

    A message has a ``role``, and a ``content`` that is text or a list of ``{"type": "text", "text": ...}``. It may have
    ``name``, ``reasoning_content``, ``tool_call_id`` and ``tool_calls``; with these, ``content`` may be missing. Other
    keys are refused, unless they are empty.

    Raises:
        InvalidInput: an empty list, or something that is no such message.
    """
    given: object = messages
    if isinstance(given, str | bytes) or not isinstance(messages, Sequence):
        raise InvalidInput(f"messages={shown(messages)}: give a list of {_SHAPE}")
    checked = [_message(f"messages[{i}]", message) for i, message in enumerate(messages)]
    if not checked:
        raise InvalidInput("messages is empty: give at least one")
    return checked


def _message(name: str, message: object) -> Message:
    if not isinstance(message, Mapping):
        raise InvalidInput(f"{name} is {shown(message)}: give {_SHAPE}")
    message = cast("object", message)
    given = cast("Mapping[str, object]", message)
    role, content, calls = given.get("role"), given.get("content"), given.get("tool_calls")
    if _is_nothing(calls):
        calls = None
    if not isinstance(role, str):
        raise InvalidInput(f"{name} needs the strings 'role' and 'content', got {shown(message)}")
    made: dict[str, Any] = {"role": check_text(f"{name} role", role)}
    if isinstance(content, str):
        made["content"] = check_text(name, content)
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        parts = cast("Sequence[object]", content)
        made["content"] = _FixedList(
            _part(f"{name}['content'][{i}]", part) for i, part in enumerate(parts)
        )
    elif content is None and calls is not None:
        made["content"] = None
    else:
        raise InvalidInput(f"{name} needs the strings 'role' and 'content', got {shown(message)}")
    for key in _TEXTS:
        if (value := given.get(key)) is not None:
            if not isinstance(value, str):
                raise InvalidInput(f"{name}[{key!r}] is {shown(value)}: give a string")
            made[key] = check_text(f"{name} {key}", value)
    if calls is not None:
        if not isinstance(calls, Sequence) or isinstance(calls, str | bytes):
            raise InvalidInput(f"{name}['tool_calls'] is {shown(calls)}: give a list")
        several = cast("Sequence[object]", calls)
        made["tool_calls"] = _FixedList(
            _call(f"{name}['tool_calls'][{i}]", call) for i, call in enumerate(several)
        )
    for key, value in given.items():
        if key not in _KNOWN and not _is_nothing(value):
            raise InvalidInput(
                f"{name} has {shown(key)}, which has no meaning here: leave it out "
                f"(known are {', '.join(_KNOWN)})"
            )
    return Message(made)


def _is_nothing(value: object) -> bool:
    """Whether a value is None or empty. Others are not asked whether they are true: a numpy array raises."""
    return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


def _as_mapping(value: object) -> Mapping[str, object]:
    """A mapping as it is; anything else as an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _part(name: str, part: object) -> _Fixed:
    given = _as_mapping(part)
    text = given.get("text")
    if given.get("type") != "text" or not isinstance(text, str):
        raise InvalidInput(f"{name} is {shown(part)}: give {{'type': 'text', 'text': ...}}")
    return _Fixed(type="text", text=check_text(name, text))


def _call(name: str, call: object) -> _Fixed:
    shape = "{'id': ..., 'type': 'function', 'function': {'name': ..., 'arguments': ...}}"
    given = _as_mapping(call)
    function = given.get("function")
    if not isinstance(function, Mapping) or given.get("type", "function") != "function":
        raise InvalidInput(f"{name} is {shown(call)}: give {shape}")
    inner = cast("Mapping[str, object]", function)
    called, arguments, id_ = inner.get("name"), inner.get("arguments"), given.get("id")
    if not isinstance(called, str) or not called:
        raise InvalidInput(f"{name} has no name: give {shape}")
    if id_ is not None and not isinstance(id_, str):
        raise InvalidInput(f"{name}['id'] is {shown(id_)}: give a string")
    made = _Fixed(name=check_text(name, called), arguments=_arguments(name, arguments))
    fixed = {"id": check_text(f"{name} id", id_)} if id_ else {}
    return _Fixed(fixed, type="function", function=made)


def _arguments(name: str, arguments: object) -> str:
    """A call's arguments as JSON text of an object."""
    from ..json_text import read_json, write_json  # 2 ms: only messages with calls need it

    try:
        value: object = read_json(arguments) if isinstance(arguments, str) else arguments
        if isinstance(value, Mapping):
            return check_text(f"{name} arguments", write_json(cast("Mapping[str, Any]", value)))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: its arguments are no JSON object: {error}") from error
    raise InvalidInput(
        f"{name}: its arguments are {shown(arguments)}: give a dictionary, or the JSON text of one"
    )

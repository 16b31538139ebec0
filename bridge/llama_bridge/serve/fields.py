"""Reads the fields of a request. What is wrong is refused before any work, with the name of the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from ..checks import shown
from ..json_text import read_json
from .refusals import Refused

__all__ = ["Fields", "read_body"]

T = TypeVar("T")

_Place: TypeAlias = "tuple[_Place | None, str]"
"""A place in a body: the one around it, and its name there."""


def read_body(body: bytes) -> Fields:
    """The fields of a request's body.

    Raises:
        Refused: it is no JSON object.
    """
    try:
        text = body.decode()
        value: object = read_json(text)
        if isinstance(value, dict):  # read_json() is no deeper than this can be
            json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise Refused(400, f"the body is {_kind(value)}: give a JSON object", code="invalid_json")
    if "\\ud" in text or "\\uD" in text:  # nothing else can spell half of a character
        _refuse_halves(cast("object", value))
    return Fields(cast("dict[str, Any]", value))


def _refuse_halves(body: object) -> None:
    """Refuse a lone surrogate, wherever it is: what is kept and told must be text."""
    waiting: list[tuple[_Place, object]] = [((None, ""), body)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in cast("dict[str, object]", value).items():
                waiting.append(((place, f".{key}"), inner))
                _refuse_half(key, place)
        elif isinstance(value, list):
            inside = enumerate(cast("list[object]", value))
            waiting += [((place, f"[{i}]"), inner) for i, inner in inside]
        elif isinstance(value, str):
            _refuse_half(value, place)


def _refuse_half(text: str, place: _Place) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        names: list[str] = []
        above: _Place | None = place
        while above is not None:
            above, name = above
            names.insert(0, shown(name)[1:-1])
        where = "".join(names).removeprefix(".")[:200]
        message = f"{where or 'the body'} has a lone surrogate, which is no text"
        raise Refused(400, message, param=where or None, code="invalid_value") from None


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a key that is there twice: one of the two would be ignored."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {shown(key)} is there twice in one object")
        seen.add(key)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


class Fields:
    """An object of a request, whose fields are taken one by one. Null is the same as nothing.

    Args:
        values: the object.
        where: its place in the request, such as ``"messages[0]"``; empty for the whole.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self._values = values
        self._where = where
        self._taken: set[str] = set()

    def place(self, name: str) -> str:
        """The name of a field as the client is told it."""
        return f"{self._where}.{name}" if self._where else name

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def any(self, name: str) -> Any:
        """A field as it is, or None."""
        self._taken.add(name)
        return self._values.get(name)

    def refuse(self, name: str, wanted: str) -> Refused:
        """The refusal of a field."""
        place = self.place(name)
        value = self._values.get(name)
        if value is None:
            return Refused(
                400, f"{place} is missing: give {wanted}", param=place, code="missing_field"
            )
        return Refused(
            400, f"{place} is {shown(value)}: give {wanted}", param=place, code="invalid_value"
        )

    def text(self, name: str) -> str | None:
        """A string, or None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refuse(name, "a string")
        return value

    def needed_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise self.refuse(name, "a string")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def whole(self, name: str, low: int, high: int | None = None) -> int | None:
        """A whole number, or None."""
        value = self.any(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(name, "a whole number")
        if value < low or (high is not None and value > high):
            most = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise self.refuse(name, f"a whole number {most}")
        return value

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A number, or None."""
        value = self.any(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(name, "a number")
        if not low <= value <= high or abs(value) > 1e300:
            raise self.refuse(name, f"a number from {low:g} to {high:g}")
        return value

    def choice(self, name: str, *words: str) -> str | None:
        """One of some words, or None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in words:
            raise self.refuse(name, " or ".join(f'"{word}"' for word in words))
        return value

    def only(self, name: str, *values: object, why: str) -> None:
        """A field that may be there, but only with a value that asks for nothing special."""
        value = self.any(name)
        if value is not None and not any(
            value == one and type(value) is type(one) for one in values
        ):
            place = self.place(name)
            raise Refused(400, f"{place}: {why}", param=place, code="unsupported_value")

    def inner(self, name: str) -> Fields | None:
        """An object, or None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return Fields(cast("dict[str, Any]", value), self.place(name))

    def plain_object(self, name: str) -> dict[str, Any] | None:
        """An object as it is, such as a JSON schema, or None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return cast("dict[str, Any]", value)

    def items(self, name: str) -> Sequence[Any] | None:
        """A list as it is, or None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.refuse(name, "a list")
        return cast("Sequence[Any]", value)

    def objects(self, name: str) -> Iterator[Fields]:
        """The objects of a list; none if there is no list."""
        for i, value in enumerate(self.items(name) or ()):
            place = f"{self.place(name)}[{i}]"
            if not isinstance(value, dict):
                raise Refused(
                    400,
                    f"{place} is {shown(value)}: give an object",
                    param=place,
                    code="invalid_value",
                )
            yield Fields(cast("dict[str, Any]", value), place)

    def texts(self, name: str, *, most: int = 1 << 20) -> tuple[str, ...]:
        """A string, or a list of strings; nothing is none."""
        value = self.any(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise self.refuse(name, "a string, or a list of strings")
        given = cast("list[object]", value)
        if len(given) > most:
            raise self.refuse(name, f"at most {most} strings")
        return tuple(self._one_text(f"{name}[{i}]", one) for i, one in enumerate(given))

    def _one_text(self, name: str, value: object) -> str:
        if isinstance(value, str):
            return value
        place = self.place(name)
        raise Refused(
            400, f"{place} is {shown(value)}: give a string", param=place, code="invalid_value"
        )

    def done(self) -> None:
        """Refuse what nobody asked for: it would be ignored without a word."""
        for name, value in self._values.items():
            if name not in self._taken and value is not None:
                place = self.place(name[:100])
                message = f"{place} has no meaning here: leave it out"
                raise Refused(400, message, param=place, code="unknown_field")

    def map(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """What is read from each object of a list, which must have no other fields."""
        made: list[T] = []
        for one in self.objects(name):
            made.append(read(one))
            one.done()
        return tuple(made)


def _kind(value: object) -> str:
    kinds: dict[type, str] = {list: "a list", str: "a string", bool: "true or false"}
    return kinds.get(type(value), "null" if value is None else "a number")

"""Server-sent events: the JSON objects in a stream of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

__all__ = ["NoEvent", "as_object", "read_events", "read_value"]

_LONGEST = 64 << 20
"""Bytes of one event. The last one of a long answer tells all of its tokens."""
_VALUES = 8_000_000
"""Values in what a server sends at once. Each may take 100 bytes of memory for two that were sent."""


class NoEvent(ValueError):
    """What came is no event with a JSON object."""


def read_events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of the events, up to ``[DONE]`` or the end.

    Lines end with LF or CRLF only: other line breaks of Unicode stand in what was said. An object that came with
    ``error:`` in place of ``data:``, as older servers send it, is ``{"error": ...}``.

    Raises:
        NoEvent.
    """
    data: list[bytes] = []
    size = 0
    for line in _lines(pieces):
        if not line:
            size = 0
            if data:
                whole, data = b"\n".join(data), []
                if whole.strip() == b"[DONE]":
                    return
                yield _object(whole)
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
            size += len(value) + 1
            if size > _LONGEST:
                raise NoEvent(f"an event has more than {_LONGEST} bytes")
        elif name == b"error":
            yield {"error": _object(value)}
    if data and b"\n".join(data).strip() != b"[DONE]":
        yield _object(b"\n".join(data))


def read_value(data: bytes) -> Any:
    """The JSON value that a server sends. NaN and Infinity, which are no JSON, count as null.

    Raises:
        ValueError: it is no JSON, is nested too deep, has too much in it, or half of a character.
    """
    if len(data) > _VALUES and sum(map(data.count, (b",", b"[", b"{"))) > _VALUES:
        raise ValueError("it has too many values")
    text = data.decode("utf-8-sig")
    try:
        value: object = json.loads(text, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if "\\ud" in text or "\\uD" in text:  # nothing else can spell half of a character
        json.dumps(value, ensure_ascii=False).encode()
    return value


def as_object(value: object) -> Mapping[str, Any]:
    """A JSON object as it is; anything else as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = bytearray()
    for piece in pieces:
        at = piece.find(b"\n")
        if at < 0:
            rest += piece
            if len(rest) > _LONGEST:
                raise NoEvent(f"an event has more than {_LONGEST} bytes")
            continue
        rest += piece[: at + 1]
        first, rest = bytes(rest), bytearray()
        yield first.rstrip(b"\r\n")
        *lines, last = piece[at + 1 :].split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        rest += last
    if rest:
        yield bytes(rest).removesuffix(b"\r")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value: object = read_value(data)
    except UnicodeEncodeError as error:
        raise NoEvent(f"an event has half of a character: {data[:80]!r}") from error
    except ValueError as error:
        raise NoEvent(f"an event is no JSON: {data[:80]!r}") from error
    if not isinstance(value, dict):
        raise NoEvent(f"an event is no JSON object: {data[:80]!r}")
    return cast("dict[str, Any]", value)

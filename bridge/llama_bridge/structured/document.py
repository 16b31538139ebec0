"""A JSON schema as a document: checked, with its places, identifiers and references."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urldefrag, urljoin

from ..checks import shown
from ..errors import InvalidInput, InvalidSchema

__all__ = ["Document", "Json", "Place", "Schema", "canonical", "dumps", "plain_json"]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Schema = bool | dict[str, Json]

MAX_DEPTH = 100
MAX_VALUES = 50_000
"""Each takes 60 us: more would be seconds of work that nothing can stop, for a schema that nobody means."""

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


@dataclass(frozen=True, eq=False)
class Place:
    """One schema of the document; each is there once.

    Attributes:
        schema: it.
        base: the URI that its references are relative to.
        pointer: JSON pointer from the root of the document, as a fragment: ``#/properties/name``.
        old: whether siblings of ``$ref`` are ignored, as up to draft 7.
    """

    schema: Schema
    base: str = field(repr=False)
    pointer: str
    number: int = field(repr=False)
    old: bool = field(default=False, repr=False)


def plain_json(value: object, what: str, depth: int = 0) -> Json:
    """A copy of a JSON value, tuples as lists.

    Raises:
        InvalidInput: it is no JSON value, or too deep. Names it as ``what``.
    """
    left = [MAX_VALUES]

    def copied(value: object, depth: int) -> Json:
        left[0] -= 1
        if left[0] < 0:
            raise InvalidInput(f"{what} has more than {MAX_VALUES:,} values: make it smaller")
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{what} is nested more than {MAX_DEPTH} deep")
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise InvalidInput(f"{what} contains a lone surrogate, which is not text")
            return str(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise InvalidInput(f"{what} contains {value}, which is no JSON number")
            return value
        if isinstance(value, list | tuple):
            return [copied(one, depth + 1) for one in cast("Sequence[object]", value)]
        if isinstance(value, dict):
            members: dict[str, Json] = {}
            for key, one in cast("dict[object, object]", value).items():
                if not isinstance(key, str):
                    raise InvalidInput(f"{what} has the key {shown(key)}: keys must be strings")
                copied(key, depth)
                members[key] = copied(one, depth + 1)
            return members
        raise InvalidInput(f"{what} contains {shown(value)}, which is no JSON value")

    return copied(value, depth)


class Document:
    """A schema whose references can be followed.

    Raises:
        InvalidInput: it is no JSON schema. Names place and keyword.
    """

    def __init__(self, schema: object) -> None:
        root = plain_json(schema, "json_schema")
        if not isinstance(root, bool | dict):
            raise InvalidInput(f"json_schema={shown(schema)}: a schema is an object, True or False")
        dialect = root.get("$schema") if isinstance(root, dict) else None
        self._old = isinstance(dialect, str) and any(f"draft-0{n}" in dialect for n in (3, 4, 6, 7))
        self._places: dict[str, Place] = {}
        self._resources: dict[str, tuple[Json, str]] = {"": (root, "#")}
        self._bases: dict[str, str] = {"#": ""}
        self._anchors: dict[str, tuple[Json, str]] = {}
        self._dynamic: dict[str, int] = {}
        self._made = 0
        self.names: set[str] = set()
        """Names of members that any of its schemas knows."""
        self._register(root)
        self.root = self.place(root, self._bases["#"], "#")
        self.never = self.made(False, self.root)

    def place(self, schema: Json, base: str, pointer: str) -> Place:
        """The place of a schema inside the document."""
        known = self._places.get(pointer)
        if known is None:
            if not isinstance(schema, bool | dict):
                raise InvalidSchema(
                    pointer, "", f"{shown(schema)} is no schema: an object, True or False"
                )
            base = self._bases.get(pointer, base)
            known = Place(schema, base, pointer, len(self._places), self._old)
            self._places[pointer] = known
        return known

    def below(self, place: Place, *keys: str | int) -> Place:
        """The schema under those keys of another one."""
        assert isinstance(place.schema, dict)
        here: Json = place.schema
        for key in keys:
            if isinstance(here, list):
                here = here[int(key)]  # pyright: ignore[reportArgumentType]
            else:
                assert isinstance(here, dict)
                here = here[str(key)]
        return self.place(here, place.base, _pointer(place.pointer, *keys))

    def made(self, schema: Schema, like: Place) -> Place:
        """A schema that is not in the document, but follows from the one at ``like``."""
        self._made += 1
        return Place(schema, like.base, like.pointer, 1_000_000_000 + self._made)

    # references

    def target(self, place: Place, keyword: str) -> Place:
        """What a reference leads to.

        Raises:
            InvalidSchema: it leads nowhere, or out of the document.
        """
        assert isinstance(place.schema, dict)
        ref = place.schema[keyword]
        if not isinstance(ref, str):
            raise InvalidSchema(place.pointer, keyword, f"{shown(ref)} is no reference")
        uri, fragment = urldefrag(_joined(place.base, ref))
        if uri not in self._resources:
            raise InvalidSchema(
                place.pointer, keyword, f"{shown(ref)} is not in this document: put it into $defs"
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if keyword == "$dynamicRef" and self._dynamic.get(fragment, 0) > 1:
                raise InvalidSchema(
                    place.pointer,
                    keyword,
                    "several schemas have that $dynamicAnchor: not supported",
                )
            found = self._anchors.get(f"{uri}#{fragment}")
            if found is None:
                raise InvalidSchema(place.pointer, keyword, f"there is no anchor {shown(ref)}")
            return self.place(found[0], uri, found[1])
        schema, pointer = self._resources[uri]
        for part in fragment.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(schema, dict) and key in schema:
                schema = schema[key]
            elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
                schema = schema[int(key)]
            else:
                raise InvalidSchema(place.pointer, keyword, f"{shown(ref)} leads nowhere")
            pointer = _pointer(pointer, key)
            uri = self._bases.get(pointer, uri)
        return self.place(schema, uri, pointer)

    def _register(self, root: Json) -> None:
        """Find identifiers, and check what each keyword is given."""
        todo: list[tuple[Json, str, str]] = [(root, "", "#")]
        while todo:
            schema, base, pointer = todo.pop()
            if not isinstance(schema, dict):
                if not isinstance(schema, bool):
                    raise InvalidSchema(
                        pointer, "", f"{shown(schema)} is no schema: an object, True or False"
                    )
                continue
            if self._old and "$ref" in schema:
                base = self._identified({"$ref": schema["$ref"]}, base, pointer)
            else:
                base = self._identified(schema, base, pointer)
            for keyword, value in schema.items():
                check = _CHECKS.get(keyword)
                if check is not None and not check[0](value):
                    raise InvalidSchema(pointer, keyword, f"{shown(value)} is not {check[1]}")
                if keyword == "properties" or keyword == "required":
                    assert isinstance(value, dict | list)
                    self.names.update(map(str, value))
                for key, below in _subschemas(keyword, value):
                    todo.append((below, base, _pointer(pointer, keyword, *key)))

    def _identified(self, schema: dict[str, Json], base: str, pointer: str) -> str:
        own = schema.get("$id")
        if isinstance(own, str):
            uri, fragment = urldefrag(_joined(base, own))
            if fragment and not own.startswith("#"):
                raise InvalidSchema(pointer, "$id", f"{shown(own)} has a fragment: use $anchor")
            if fragment:
                self._anchors[f"{base}#{fragment}"] = (schema, pointer)
            else:
                base = uri
                self._resources[uri] = (schema, pointer)
                self._bases[pointer] = uri
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str):
                self._anchors[f"{base}#{name}"] = (schema, pointer)
                self._dynamic[name] = self._dynamic.get(name, 0) + (keyword == "$dynamicAnchor")
        return base


def _joined(base: str, ref: str) -> str:
    # urljoin knows nothing of urn: and tag:.
    if ref.startswith("#"):
        return base + ref
    return urljoin(base, ref)


def _pointer(start: str, *keys: str | int) -> str:
    parts = [str(key).replace("~", "~0").replace("/", "~1") for key in keys]
    return "/".join([start, *parts])


_ONE = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
]
_LISTS = ["allOf", "anyOf", "oneOf", "prefixItems"]
_MAPS = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"]


def _subschemas(keyword: str, value: Json) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    if (keyword == "items" and isinstance(value, list)) or keyword in _LISTS:
        assert isinstance(value, list)
        yield from (((i,), one) for i, one in enumerate(value))
    elif keyword in _ONE:
        yield (), value
    elif keyword in _MAPS:
        assert isinstance(value, dict)
        yield from (((key,), one) for key, one in value.items())
    elif keyword == "dependencies" and isinstance(value, dict):
        yield from (((key,), one) for key, one in value.items() if not isinstance(one, list))


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Json) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)  # type: ignore[operator,arg-type]


def _is_strings(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_type(value: Json) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str) and one in TYPES for one in value)
    return isinstance(value, str) and value in TYPES


def _is_dependencies(value: Json) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, bool | dict) or _is_strings(one) for one in value.values()
    )


_Check = tuple[Callable[[Json], bool], str]
_COUNT: _Check = (_is_count, "a whole number of at least 0")
_NUMBER: _Check = (_is_number, "a number")
_BOUND: _Check = (lambda v: _is_number(v) or isinstance(v, bool), "a number")
_STRINGS: _Check = (_is_strings, "a list of strings")
_TEXT: _Check = (lambda v: isinstance(v, str), "a string")
_FLAG: _Check = (lambda v: isinstance(v, bool), "true or false")
_SCHEMAS: _Check = (lambda v: isinstance(v, dict), "an object of schemas")
_LIST: _Check = (lambda v: isinstance(v, list) and bool(v), "a list of schemas that is not empty")
_CHECKS: dict[str, _Check] = {
    "type": (_is_type, f"one of {', '.join(TYPES)}, or a list of them"),
    "enum": (lambda v: isinstance(v, list), "a list"),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _BOUND,
    "exclusiveMaximum": _BOUND,
    "multipleOf": (lambda v: _is_number(v) and v > 0, "a number above 0"),  # type: ignore[operator]
    **dict.fromkeys(
        [
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minContains",
            "maxContains",
            "minProperties",
            "maxProperties",
        ],
        _COUNT,
    ),
    "pattern": _TEXT,
    "format": _TEXT,
    "$id": _TEXT,
    "$anchor": _TEXT,
    "uniqueItems": _FLAG,
    "required": _STRINGS,
    "dependentRequired": (
        lambda v: isinstance(v, dict) and all(map(_is_strings, v.values())),
        "an object of lists of strings",
    ),
    "dependencies": (_is_dependencies, "an object of schemas or lists of strings"),
    **dict.fromkeys(_MAPS, _SCHEMAS),
    **dict.fromkeys(_LISTS, _LIST),
}


def dumps(value: Json) -> str:
    """JSON text as the grammars spell it: each value in one way, and 1.0, which is an integer in JSON Schema, as 1."""
    return json.dumps(_spelled(value), ensure_ascii=False)


def canonical(value: Json) -> str:
    """A text that equal values share: 1 and 1.0, and objects with their members in another order."""
    return json.dumps(_spelled(value, True), sort_keys=True)


def _spelled(value: Json, every: bool = False) -> Json:
    if isinstance(value, float) and value.is_integer() and (every or abs(value) < 1e15):
        return int(value)
    if isinstance(value, list):
        return [_spelled(one, every) for one in value]
    if isinstance(value, dict):
        return {key: _spelled(one, every) for key, one in value.items()}
    return value

"""Classes as schemas: pydantic models, dataclasses and TypedDicts, and instances of them from JSON."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

from ..checks import shown
from ..errors import InvalidInput
from ..json_text import read_json
from .document import Json

__all__ = ["QUALIFIERS", "class_schema", "is_class", "is_required"]

Parse: TypeAlias = Callable[[Any], Any]

MAX_DEPTH = 50


def is_class(given: object) -> bool:
    """Whether it is a class, or a type like ``list[City]``, rather than a schema."""
    return isinstance(given, type) or typing.get_origin(given) is not None


def class_schema(given: Any) -> tuple[dict[str, Json], Callable[[str], Any]]:
    """The JSON schema of a class, and how to make an instance from JSON text.

    Raises:
        InvalidInput: it is none of those classes, or has a field whose type has no JSON form. Names it.
    """
    if _is_pydantic(given):
        return _pydantic_schema(given), given.model_validate_json
    builder = _Builder()
    schema, parse = builder.of(given, getattr(given, "__name__", str(given)))
    whole: dict[str, Json] = dict(schema)
    if builder.definitions:
        whole["$defs"] = dict(builder.definitions)
    return whole, lambda text: parse(read_json(text))


def _is_pydantic(given: Any) -> bool:
    # Without an import: who has such a class has pydantic.
    return (
        isinstance(given, type)
        and hasattr(given, "__pydantic_core_schema__")
        and hasattr(given, "model_json_schema")
    )


def _pydantic_schema(model: Any) -> dict[str, Json]:
    try:
        schema: dict[str, Json] = model.model_json_schema(mode="validation")
    except Exception as error:  # pydantic's errors: it is not imported here
        raise InvalidInput(
            f"json_schema={model.__name__}: pydantic has no JSON schema for it: {error}"
        ) from error
    return schema


def _just(*kinds: type) -> Parse:
    """Takes a value of these types as it is. Which class of a union is meant is found by trying."""

    def parse(value: Any) -> Any:
        if type(value) not in kinds:
            raise ValueError(f"{shown(value)} is no {kinds[0].__name__}")
        return value

    return parse


_number = _just(int, float)


def _float(value: Any) -> float:
    return float(_number(value))


def _decimal(value: Any) -> Decimal:
    return Decimal(repr(_number(value)))


def _text(make: Callable[[str], Any], form: str) -> Parse:
    """Makes a value of a text in its one JSON form: Python also reads others, which are just texts."""
    pattern = re.compile(form)

    def parse(value: Any) -> Any:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{shown(value)} is not of the form that is meant")
        return make(value)

    return parse


_DATE, _TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d:\d\d.*"
_PLAIN: dict[Any, tuple[dict[str, Json], Parse]] = {
    str: ({"type": "string"}, _just(str)),
    int: ({"type": "integer"}, _just(int)),
    float: ({"type": "number"}, _float),
    bool: ({"type": "boolean"}, _just(bool)),
    None: ({"type": "null"}, _just(type(None))),
    type(None): ({"type": "null"}, _just(type(None))),
    Any: ({}, lambda value: value),
    object: ({}, lambda value: value),
    Decimal: ({"type": "number"}, _decimal),
    datetime.datetime: (
        {"type": "string", "format": "date-time"},
        _text(datetime.datetime.fromisoformat, f"{_DATE}[Tt]{_TIME}"),
    ),
    datetime.date: (
        {"type": "string", "format": "date"},
        _text(datetime.date.fromisoformat, _DATE),
    ),
    datetime.time: (
        {"type": "string", "format": "time"},
        _text(datetime.time.fromisoformat, _TIME),
    ),
    uuid.UUID: (
        {"type": "string", "format": "uuid"},
        _text(uuid.UUID, "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    ),
}
_list, _object = _just(list), _just(dict)


# Python 3.12 and 3.13 have these.
_ALIAS: Any = getattr(typing, "TypeAliasType", None)
QUALIFIERS = (typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", typing.Required))


class _Builder:
    """Schemas of types; a class that contains itself becomes a definition."""

    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}
        self._names: dict[Any, str] = {}
        self._parsers: dict[Any, Parse] = {}

    def of(self, given: Any, where: str, depth: int = 0) -> tuple[dict[str, Json], Parse]:
        """The schema of a type, and what makes a value of it from plain JSON."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"json_schema: {where} is nested more than {MAX_DEPTH} deep")
        try:
            plain = _PLAIN.get(given)
        except TypeError:
            plain = None
        if plain is not None:
            return plain
        origin: Any = typing.get_origin(given)
        arguments: tuple[Any, ...] = typing.get_args(given)
        if origin is typing.Annotated:
            schema, parse = self.of(arguments[0], where, depth)
            texts = [one for one in arguments[1:] if isinstance(one, str)]
            return ({**schema, "description": texts[0]} if texts else schema), parse
        if origin in QUALIFIERS:
            return self.of(arguments[0], where, depth)
        if _ALIAS is not None and isinstance(given, _ALIAS):
            return self.of(given.__value__, where, depth + 1)
        if origin is Literal:
            return self._literal(arguments, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments, where, depth)
        if origin in (list, Sequence, set, frozenset) or given in (
            list,
            set,
            frozenset,
            tuple,
            dict,
        ):
            return self._collection(origin or given, arguments, where, depth)
        if origin is tuple:
            return self._tuple(arguments, where, depth)
        if origin in (dict, Mapping):
            return self._mapping(arguments, where, depth)
        if isinstance(given, enum.EnumMeta):
            return self._enum(cast("type[enum.Enum]", given), where)
        if _is_pydantic(given):
            raise InvalidInput(
                f"json_schema: {where} is a pydantic model inside a class that is none: make that one a model, too"
            )
        if dataclasses.is_dataclass(given) or typing.is_typeddict(given):
            return self._class(given, where, depth)
        raise InvalidInput(
            f"json_schema: {where} has the type {shown(given)}, which has no JSON form here: use str, int, float, bool, "
            "None, list, tuple, dict[str, ...], Literal, Enum, Optional, Union, date, time, datetime, UUID, or another "
            "dataclass or TypedDict"
        )

    def _literal(self, values: tuple[Any, ...], where: str) -> tuple[dict[str, Json], Parse]:
        choices: dict[str, Any] = {}
        plains: list[Json] = []
        for value in values:
            plain = value.value if isinstance(value, enum.Enum) else value
            if plain is not None and not isinstance(plain, str | int | bool):
                raise InvalidInput(
                    f"json_schema: {where} has the literal {shown(value)}, which is not JSON"
                )
            choices[_key(plain)] = value
            plains.append(json.loads(json.dumps(plain)))
        return {"enum": plains}, lambda v: choices[_key(v)]

    def _enum(self, given: type[enum.Enum], where: str) -> tuple[dict[str, Json], Parse]:
        choices: dict[str, enum.Enum] = {}
        for one in given:
            if one.value is not None and not isinstance(one.value, str | int | float | bool):
                raise InvalidInput(
                    f"json_schema: {where} has {one}, whose value {shown(one.value)} is not JSON"
                )
            choices[_key(one.value)] = one
        if not choices:
            raise InvalidInput(f"json_schema: {where} is an Enum without members")
        plains: list[Json] = [json.loads(json.dumps(one.value)) for one in given]
        return {"enum": plains}, lambda v: choices[_key(v)]

    def _union(
        self, options: tuple[Any, ...], where: str, depth: int
    ) -> tuple[dict[str, Json], Parse]:
        made = [self.of(option, where, depth + 1) for option in options]

        def parse(value: Any) -> Any:
            for _, parser in made:
                try:
                    return parser(value)
                except (TypeError, ValueError, KeyError):
                    continue
            raise ValueError(f"{where}: {shown(value)} is none of {options}")

        return {"anyOf": [schema for schema, _ in made]}, parse

    def _collection(
        self, kind: Any, arguments: tuple[Any, ...], where: str, depth: int
    ) -> tuple[dict[str, Json], Parse]:
        if kind is dict:
            return {"type": "object"}, _object
        if kind in (set, frozenset) and not all(map(_may_be_in_a_set, arguments)):
            raise InvalidInput(
                f"json_schema: {where} is a set of {shown(arguments[0])}, which cannot be in a set: use a list"
            )
        makers: dict[Any, Parse] = {set: set, frozenset: frozenset, tuple: tuple}
        make = makers.get(kind, list)
        item, parse = self.of(arguments[0] if arguments else Any, f"{where}[]", depth + 1)
        schema: dict[str, Json] = {"type": "array"}
        if item:
            schema["items"] = item
        return schema, lambda value: make(parse(one) for one in _list(value))

    def _tuple(
        self, arguments: tuple[Any, ...], where: str, depth: int
    ) -> tuple[dict[str, Json], Parse]:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item, parse = self.of(arguments[0], f"{where}[]", depth + 1)
            return {"type": "array", "items": item}, lambda value: tuple(
                parse(one) for one in _list(value)
            )
        made = [self.of(one, f"{where}[{i}]", depth + 1) for i, one in enumerate(arguments)]
        schema: dict[str, Json] = {
            "type": "array",
            "items": False,
            "minItems": len(made),
            "maxItems": len(made),
        }
        if made:
            schema["prefixItems"] = [one for one, _ in made]
        return schema, lambda value: tuple(
            p(one) for (_, p), one in zip(made, _list(value), strict=True)
        )

    def _mapping(
        self, arguments: tuple[Any, ...], where: str, depth: int
    ) -> tuple[dict[str, Json], Parse]:
        if arguments[0] is not str:
            raise InvalidInput(
                f"json_schema: {where} has keys of {shown(arguments[0])}: JSON has only str"
            )
        item, parse = self.of(arguments[1], f"{where}[...]", depth + 1)
        schema: dict[str, Json] = {"type": "object", "additionalProperties": item or True}
        return schema, lambda value: {key: parse(one) for key, one in _object(value).items()}

    def _class(self, given: Any, where: str, depth: int) -> tuple[dict[str, Json], Parse]:
        if given not in self._names:
            name = given.__name__
            while name in self.definitions:
                name += "_"
            self._names[given] = name
            self.definitions[name] = {}
            self.definitions[name], self._parsers[given] = self._fields(given, name, depth)
        reference: dict[str, Json] = {"$ref": f"#/$defs/{self._names[given]}"}
        return reference, lambda value: self._parsers[given](value)

    def _fields(self, given: Any, name: str, depth: int) -> tuple[dict[str, Json], Parse]:
        try:
            hints = typing.get_type_hints(given, include_extras=True)
        except (
            Exception
        ) as error:  # a name in a string annotation that is not there, or an expression that fails
            raise InvalidInput(
                f"json_schema: the annotations of {name} cannot be read: {error}"
            ) from error
        typed = typing.is_typeddict(given)
        if typed:
            fields = {key: is_required(hints[key], key, given) for key in hints}
        else:
            fields = {
                one.name: one.default is dataclasses.MISSING
                and one.default_factory is dataclasses.MISSING
                for one in given.__dataclass_fields__.values()
                if one.init and typing.get_origin(hints[one.name]) is not typing.ClassVar
            }
            hints = {
                key: cast("Any", hint).type if isinstance(hint, dataclasses.InitVar) else hint
                for key, hint in hints.items()
            }
        made = {key: self.of(hints[key], f"{name}.{key}", depth + 1) for key in fields}
        required = [key for key, needed in fields.items() if needed]
        schema: dict[str, Json] = {
            "type": "object",
            "properties": {key: one for key, (one, _) in made.items()},
            "required": list[Json](required),
            "additionalProperties": False,
        }

        def parse(value: Any) -> Any:
            given_keys = _object(value).keys()
            if not given_keys <= made.keys() or not given_keys >= set(required):
                raise ValueError(f"{shown(value)} is no {name}")
            values = {key: made[key][1](one) for key, one in value.items()}
            return values if typed else given(**values)

        return schema, parse


def _may_be_in_a_set(kind: Any) -> bool:
    """Whether values of a type have a hash."""
    origin: Any = typing.get_origin(kind) or kind
    arguments = typing.get_args(kind)
    if origin is typing.Annotated:
        return _may_be_in_a_set(arguments[0])
    if origin in (typing.Union, types.UnionType, tuple, frozenset):
        return all(_may_be_in_a_set(one) for one in arguments)
    return origin is not Sequence and getattr(origin, "__hash__", None) is not None


def _key(value: Any) -> str:
    """A scalar as JSON text: one for each value, because 1.0 is written as 1."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value)


def is_required(hint: Any, key: str, given: Any) -> bool:
    """Whether a TypedDict needs this key."""
    # Where annotations are texts, __required_keys__ does not know of NotRequired.
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return key in given.__required_keys__

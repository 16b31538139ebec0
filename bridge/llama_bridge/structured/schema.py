"""What callers give as a schema, and what they get: a grammar, and a reader for the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from ..checks import shown
from ..errors import InvalidInput, InvalidSchema
from ..json_text import read_json
from .classes import class_schema, is_class
from .document import Document
from .emit import grammar
from .meaning import Meaning
from .nodes import Literal

__all__ = ["Structured", "compile_schema", "to_gbnf"]


@dataclass(frozen=True)
class Structured:
    """A schema, ready for use.

    Attributes:
        grammar: GBNF; each text that it accepts is JSON that validates against the schema.
        parse: turns such a text into the value: plain JSON values, or an instance where a class was given.
        schema: the schema itself.
    """

    grammar: str = field(repr=False)
    parse: Callable[[str], Any]
    schema: Any = field(default=None, repr=False)


def to_gbnf(schema: object) -> str:
    """The GBNF grammar of a JSON schema.

    Whatever the grammar accepts validates against the schema. It may accept less than the schema does: members come in
    the schema's order, with one space after each comma and colon, numbers have at most 15 digits.

    Args:
        schema: a dict, ``True`` for any JSON value, or JSON text; drafts 4 to 2020-12.

    Raises:
        InvalidSchema: it is no schema, or has a keyword that no grammar can enforce. Names place and keyword.
    """
    return _grammar(_loaded(schema), False)


def compile_schema(given: object) -> Structured:
    """The grammar of what ``json_schema=`` was given, and how to read an answer.

    Args:
        given: a schema as for :func:`to_gbnf`; or a pydantic model, a dataclass or a TypedDict.

    Raises:
        InvalidSchema: as :func:`to_gbnf`.
        InvalidInput: a class with a field whose type has no JSON form. Names it.
    """
    if is_class(given):
        schema, parse = class_schema(given)
        return Structured(_grammar(schema, True), parse, schema)
    loaded = _loaded(given)
    return Structured(_grammar(loaded, False), read_json, loaded)


def _loaded(schema: object) -> object:
    if not isinstance(schema, str):
        if not isinstance(schema, dict | bool):
            raise InvalidInput(
                f"json_schema={shown(schema)}: give a dict, True, JSON text, or a class: a pydantic model, a dataclass "
                "or a TypedDict"
            )
        return cast(object, schema)
    try:
        return read_json(schema)
    except ValueError as error:
        raise InvalidInput(f"json_schema is not JSON: {error}") from error


def _grammar(schema: object, formats: bool) -> str:
    document = Document(schema)
    try:
        return grammar(Meaning(document, formats), frozenset({Literal(document.root)}))
    except RecursionError as error:
        raise InvalidSchema("#", "", "its schemas are too deep inside each other") from error

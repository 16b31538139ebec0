"""What clauses are made of: changes of sets of values, and what keywords are given.

A literal becomes clauses, all of which must hold; a clause is a list of alternatives, one of which must; an alternative
is a tuple of effects. *Narrow* clauses hold only values that surely satisfy the schema; *wide* ones hold all that may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from .document import Json, Place, dumps
from .evaluate import exact
from .nodes import Arrays, Literal, Node, Numbers, ObjectOrigin, Objects, Strings

__all__ = [
    "NUMBER",
    "STRING",
    "TRUE",
    "Alternative",
    "Clause",
    "Effect",
    "OneOf",
    "adding",
    "contained",
    "containing",
    "enums",
    "filled",
    "groups",
    "least_of",
    "listed",
    "number_change",
    "on",
    "requiring",
    "sized",
]


@dataclass(frozen=True)
class OneOf:
    """Only these values."""

    values: tuple[Json, ...]


Effect = Literal | OneOf | Callable[[Node], Node]
Alternative = tuple[Effect, ...]
Clause = list[Alternative]

TRUE: Clause = [()]

_N = TypeVar("_N", Numbers, Strings, Arrays, Objects)


def on(cls: type[_N], change: Callable[[_N], _N]) -> Callable[[Node], Node]:
    """A change of sets of one class."""

    def changed(node: Node) -> Node:
        assert isinstance(node, cls)
        return change(node)

    return changed


_ITEMS = ("prefixItems", "items", "additionalItems")
_MEMBERS = ("properties", "patternProperties", "additionalProperties")
_GROUPS = {
    **dict.fromkeys(_ITEMS, "items"),
    **dict.fromkeys(_MEMBERS, "properties"),
    "minContains": "contains",
    "maxContains": "contains",
    "then": "if",
    "else": "if",
    "const": "enum",
    "dependencies": "dependencies",
    "dependentRequired": "dependencies",
    "dependentSchemas": "dependencies",
}
NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
STRING = {"minLength", "maxLength", "pattern", "format"}
_ARRAY = {"items", "contains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"}
_OBJECT = {
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "dependencies",
    "unevaluatedProperties",
}
_KINDS = {
    **dict.fromkeys(NUMBER, "number"),
    **dict.fromkeys(STRING, "string"),
    **dict.fromkeys(_ARRAY, "array"),
    **dict.fromkeys(_OBJECT, "object"),
}
_ALL = {
    "type",
    "enum",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
}


def groups(place: Place, of: str) -> list[str]:
    """The keywords of a schema that say something of a type, those that belong together once; ``type`` first."""
    assert isinstance(place.schema, dict)
    if place.old and "$ref" in place.schema:
        return ["$ref"]
    groups = dict.fromkeys(_GROUPS.get(keyword, keyword) for keyword in place.schema)
    told = [group for group in groups if group in _ALL or _KINDS.get(group) == of]
    return sorted(told, key=lambda group: group != "type")


def enums(schema: dict[str, Json]) -> list[str]:
    """The keywords of a schema that list values."""
    return [keyword for keyword in ("enum", "const") if keyword in schema]


def listed(schema: dict[str, Json], keyword: str) -> list[Json]:
    """The values that a keyword lists."""
    given = schema[keyword]
    if keyword == "const":
        return [given]
    assert isinstance(given, list)
    return list({dumps(value): value for value in given}.values())


def contained(schema: dict[str, Json]) -> tuple[int, int | None]:
    """How many items ``contains`` asks for."""
    most = schema.get("maxContains")
    return int(schema.get("minContains", 1)), None if most is None else int(most)  # type: ignore[arg-type]


def least_of(a: int | None, b: int) -> int:
    """The lower of two upper bounds, the first of which may be missing."""
    return b if a is None else min(a, b)


def sized(least: int, most: int | None) -> Alternative:
    """So many items."""

    def changed(node: Arrays) -> Arrays:
        bound = node.most if most is None else least_of(node.most, most)
        return replace(node, least=max(node.least, least), most=bound)

    return (on(Arrays, changed),)


def filled(least: int, most: int | None) -> Alternative:
    """So many members."""

    def changed(node: Objects) -> Objects:
        bound = node.most if most is None else least_of(node.most, most)
        return replace(node, least=max(node.least, least), most=bound)

    return (on(Objects, changed),)


def containing(literal: Literal, least: int, most: int | None) -> Alternative:
    """So many items that satisfy the literal."""
    return (on(Arrays, lambda n: replace(n, contains=(*n.contains, (literal, least, most)))),)


def adding(origin: ObjectOrigin) -> Callable[[Node], Node]:
    """What one more schema says of members."""
    return on(Objects, lambda n: replace(n, origins=(*n.origins, origin)))


def requiring(*names: str) -> Callable[[Node], Node]:
    """That members are there."""
    return on(Objects, lambda n: n.requiring(names))


def number_change(
    schema: dict[str, Json], keyword: str, positive: bool
) -> Callable[[Node], Node] | None:
    """What a bound, or its opposite, does to a set of numbers; None if it says nothing."""
    given = schema[keyword]
    if isinstance(given, bool):  # draft 4: a flag of the bound itself
        return None
    bound = exact(given)  # type: ignore[arg-type]
    if keyword == "multipleOf":
        if positive:
            return on(Numbers, lambda n: n.multiples(bound))
        return on(Numbers, lambda n: replace(n, not_multiples=n.not_multiples | {bound}))
    strict = keyword.startswith("exclusive")
    if not strict:
        strict = schema.get("exclusive" + keyword[0].upper() + keyword[1:]) is True
    upper = keyword.lower().endswith("maximum")
    if upper is positive:
        return on(Numbers, lambda n: n.below(bound, strict is positive))
    return on(Numbers, lambda n: n.above(bound, strict is positive))

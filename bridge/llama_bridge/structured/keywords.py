"""What each keyword of a schema demands of values of one type, and what its opposite demands.

A literal becomes clauses, all of which must hold; a clause is a list of alternatives, one of which must; an alternative
is a tuple of effects. *Narrow* clauses hold only values that surely satisfy the schema; *wide* ones hold all that may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import InvalidSchema
from .document import Document, Json, Place, dumps
from .evaluate import exact, kind
from .formats import format_language
from .language import Language, Not, TooLarge, automaton, words
from .nodes import (
    ArrayOrigin,
    Arrays,
    Booleans,
    Literal,
    Node,
    Numbers,
    ObjectOrigin,
    Objects,
    Strings,
)
from .regex import Unsupported, found_in

__all__ = ["Clause", "Effect", "Keywords", "OneOf"]


@dataclass(frozen=True)
class OneOf:
    """Only these values."""

    values: tuple[Json, ...]


Effect = Literal | OneOf | Callable[[Node], Node]
Alternative = tuple[Effect, ...]
Clause = list[Alternative]

_TRUE: Clause = [()]

_N = TypeVar("_N", Numbers, Strings, Arrays, Objects)


def _on(cls: type[_N], change: Callable[[_N], _N]) -> Callable[[Node], Node]:
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
_NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_STRING = {"minLength", "maxLength", "pattern", "format"}
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
    **dict.fromkeys(_NUMBER, "number"),
    **dict.fromkeys(_STRING, "string"),
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


class Keywords:
    """The clauses of literals.

    Args:
        document: where the schemas are.
        disjoint: whether two schemas surely have no value of a type in common.
        formats: whether an unknown ``format`` is refused.
    """

    def __init__(
        self, document: Document, disjoint: Callable[[Place, Place, str], bool], formats: bool
    ) -> None:
        self._document = document
        self._disjoint = disjoint
        self._strict_formats = formats
        self.lost: list[InvalidSchema] = []
        """Why alternatives were left out: what could not be excluded."""

    def clauses(self, literal: Literal, of: str, wide: bool) -> list[Clause]:
        """What a literal demands of values of the type ``of``."""
        place = literal.place
        if isinstance(place.schema, bool):
            return [] if place.schema is literal.positive else [[]]
        if literal.positive:
            return [
                clause
                for group in _groups(place, of)
                for clause in self._plus(place, group, of, wide)
            ]
        alternatives: Clause = []
        for group in _groups(place, of):
            found = self._minus(place, group, of, wide)
            if found == _TRUE:
                return []
            alternatives += found
        return [alternatives]

    def _refuse(self, place: Place, keyword: str, why: str) -> InvalidSchema:
        return InvalidSchema(place.pointer, keyword, why)

    def _unsure(self, place: Place, keyword: str, wide: bool, why: str) -> Clause:
        """The opposite of something that cannot be told: it is left out, or everything may be it."""
        if wide:
            return _TRUE
        self.lost.append(self._refuse(place, keyword, f"its opposite cannot be enforced: {why}"))
        return []

    # that it holds

    def _plus(self, place: Place, group: str, of: str, wide: bool) -> list[Clause]:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        match group:
            case "type":
                return self._type(place, of)
            case "enum":
                return [[(OneOf(tuple(_listed(schema, keyword))),)] for keyword in _enums(schema)]
            case "$ref" | "$dynamicRef":
                return [[(Literal(self._document.target(place, group)),)]]
            case "$recursiveRef":
                raise self._refuse(place, group, "not supported: use $ref")
            case "allOf":
                return [[(Literal(one),)] for one in self._each(place, group)]
            case "anyOf":
                return [[(Literal(one),) for one in self._each(place, group)]]
            case "oneOf":
                return [self._one_of(place, of)]
            case "not":
                return [[(Literal(below(place, "not"), False),)]]
            case "if":
                return self._conditional(place)
            case (
                "items" | "contains" | "minItems" | "maxItems" | "uniqueItems" | "unevaluatedItems"
            ):
                return self._plus_array(place, group, wide)
            case _ if group in _NUMBER:
                change = _number(schema, group, True)
                return [[(change,)]] if change else []
            case _ if group in _STRING:
                return self._plus_string(place, group, wide)
            case _:
                return self._plus_object(place, group, wide)

    def _each(self, place: Place, keyword: str) -> Iterator[Place]:
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        assert isinstance(given, list)
        for i in range(len(given)):
            yield self._document.below(place, keyword, i)

    def _type(self, place: Place, of: str) -> list[Clause]:
        assert isinstance(place.schema, dict)
        given = place.schema["type"]
        names = given if isinstance(given, list) else [given]
        if of in names:
            return []
        if of == "number" and "integer" in names:
            return [[(_on(Numbers, lambda node: node.multiples(exact(1))),)]]
        return [[]]

    def _one_of(self, place: Place, of: str) -> Clause:
        options = list(self._each(place, "oneOf"))
        clause: Clause = []
        for one in options:
            others = [two for two in options if two is not one and not self._disjoint(one, two, of)]
            clause.append((Literal(one), *(Literal(two, False) for two in others)))
        return clause

    def _conditional(self, place: Place) -> list[Clause]:
        schema = place.schema
        assert isinstance(schema, dict)
        if "if" not in schema or not ("then" in schema or "else" in schema):
            return []
        below = self._document.below
        condition = Literal(below(place, "if"))
        branches: Clause = []
        for key, literal in (("then", condition), ("else", ~condition)):
            extra = (Literal(below(place, key)),) if key in schema else ()
            branches.append((literal, *extra))
        return [branches]

    def _plus_string(self, place: Place, keyword: str, wide: bool) -> list[Clause]:
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        language: Language | None
        match keyword:
            case "minLength":
                least = int(given)  # type: ignore[arg-type]
                return [[(_on(Strings, lambda n: replace(n, least=max(n.least, least))),)]]
            case "maxLength":
                most = int(given)  # type: ignore[arg-type]
                return [[(_on(Strings, lambda n: replace(n, most=_least(n.most, most))),)]]
            case "format":
                assert isinstance(given, str)
                language = None if wide else format_language(given)
                if language is None and not wide and self._strict_formats:
                    raise self._refuse(place, "format", f"{given!r} is not a supported format")
            case _:
                language = self._pattern(place, str(given), wide)
        if language is None:
            return []
        added = language
        return [[(_on(Strings, lambda n: replace(n, languages=(*n.languages, added))),)]]

    def _pattern(
        self, place: Place, pattern: str, wide: bool, keyword: str = "pattern"
    ) -> Language | None:
        try:
            language = found_in(pattern, wide)
            automaton(language)
            return language
        except (Unsupported, TooLarge) as error:
            if wide:
                return None
            why = str(error) or "too large"
            raise self._refuse(place, keyword, f"{pattern!r} is not supported: {why}") from error

    def _plus_array(self, place: Place, group: str, wide: bool) -> list[Clause]:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "items":
                origin = self._array_origin(place)
                return [[(_on(Arrays, lambda n: replace(n, origins=(*n.origins, origin))),)]]
            case "contains":
                if "contains" not in schema:
                    return []
                literal = Literal(self._document.below(place, "contains"))
                least, most = _contained(schema)
                return [[_containing(literal, least, most)]] if least or most is not None else []
            case "minItems":
                return [[_sized(int(schema[group]), None)]]  # type: ignore[arg-type]
            case "maxItems":
                return [[_sized(0, int(schema[group]))]]  # type: ignore[arg-type]
            case "uniqueItems":
                unique = Literal(place)
                return (
                    [[(_on(Arrays, lambda n: replace(n, unique=unique)),)]] if schema[group] else []
                )
            case _:
                if schema[group] is True or wide:
                    return []
                raise self._refuse(place, group, "not supported: use items")

    def _array_origin(self, place: Place) -> ArrayOrigin:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        first = "items" if isinstance(schema.get("items"), list) else "prefixItems"
        rest = "additionalItems" if first == "items" else "items"
        prefix = schema.get(first, [])
        assert isinstance(prefix, list)
        return ArrayOrigin(
            tuple(Literal(below(place, first, i)) for i in range(len(prefix))),
            Literal(below(place, rest)) if rest in schema else None,
        )

    def _plus_object(self, place: Place, group: str, wide: bool) -> list[Clause]:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "properties":
                origin = self._object_origin(place, wide)
                return [[(_adding(origin),)]]
            case "required":
                names = [str(name) for name in schema[group]]  # type: ignore[union-attr]
                return [[(_requiring(*names),)]]
            case "minProperties":
                return [[_filled(int(schema[group]), None)]]  # type: ignore[arg-type]
            case "maxProperties":
                return [[_filled(0, int(schema[group]))]]  # type: ignore[arg-type]
            case "propertyNames":
                literal = Literal(self._document.below(place, group))
                return [[(_on(Objects, lambda n: replace(n, names=(*n.names, literal))),)]]
            case "dependencies":
                return [
                    [(self._absent(place, name),), (_requiring(name), *effects)]
                    for name, effects in self._dependencies(place)
                ]
            case _:
                if schema[group] is True or wide:
                    return []
                raise self._refuse(place, group, "not supported: use additionalProperties")

    def _object_origin(self, place: Place, wide: bool) -> ObjectOrigin:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        assert isinstance(properties, dict)
        assert isinstance(patterns, dict)
        known: list[tuple[str, Literal]] = []
        additional = (
            Literal(below(place, "additionalProperties"))
            if "additionalProperties" in schema
            else None
        )
        for pattern in patterns:
            if self._pattern(place, pattern, wide, "patternProperties") is None:
                additional = None
            else:
                known.append((pattern, Literal(below(place, "patternProperties", pattern))))
        return ObjectOrigin(
            tuple((name, Literal(below(place, "properties", name))) for name in properties),
            tuple(known),
            additional,
        )

    def _absent(self, place: Place, name: str) -> Effect:
        never = Literal(self._document.made(False, place))
        return _adding(ObjectOrigin(((name, never),)))

    def _dependencies(self, place: Place) -> Iterator[tuple[str, Alternative]]:
        assert isinstance(place.schema, dict)
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            given = place.schema.get(keyword, {})
            assert isinstance(given, dict)
            for name, needed in given.items():
                if isinstance(needed, list):
                    yield name, (_requiring(*map(str, needed)),)
                else:
                    yield name, (Literal(self._document.below(place, keyword, name)),)

    # that it does not hold

    def _minus(self, place: Place, group: str, of: str, wide: bool) -> Clause:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        match group:
            case "type":
                return self._not_type(place, of)
            case "enum":
                return [
                    alternative
                    for keyword in _enums(schema)
                    for alternative in self._not_values(place, _listed(schema, keyword), of, wide)
                ]
            case "$ref" | "$dynamicRef":
                return [(Literal(self._document.target(place, group), False),)]
            case "$recursiveRef":
                raise self._refuse(place, group, "not supported: use $ref")
            case "allOf":
                return [(Literal(one, False),) for one in self._each(place, group)]
            case "anyOf":
                return [tuple(Literal(one, False) for one in self._each(place, group))]
            case "oneOf":
                options = list(self._each(place, group))
                none: Clause = [tuple(Literal(one, False) for one in options)]
                return none + [
                    (Literal(one), Literal(two))
                    for i, one in enumerate(options)
                    for two in options[:i]
                    if not self._disjoint(one, two, of)
                ]
            case "not":
                return [(Literal(below(place, "not")),)]
            case "if":
                return self._not_conditional(place)
            case (
                "items" | "contains" | "minItems" | "maxItems" | "uniqueItems" | "unevaluatedItems"
            ):
                return self._minus_array(place, group, wide)
            case _ if group in _NUMBER:
                change = _number(schema, group, False)
                return [(change,)] if change else []
            case _ if group in _STRING:
                return self._minus_string(place, group, wide)
            case _:
                return self._minus_object(place, group, wide)

    def _not_type(self, place: Place, of: str) -> Clause:
        clauses = self._type(place, of)
        if not clauses:
            return []
        if not clauses[0]:
            return _TRUE
        one = exact(1)
        return [(_on(Numbers, lambda n: replace(n, not_multiples=n.not_multiples | {one})),)]

    def _not_conditional(self, place: Place) -> Clause:
        assert isinstance(place.schema, dict)
        branches = self._conditional(place)
        if not branches:
            return []
        opposite: Clause = []
        for condition, *consequence in branches[0]:
            for literal in consequence:
                assert isinstance(literal, Literal)
                opposite.append((condition, ~literal))
        return opposite

    def _not_values(self, place: Place, values: list[Json], of: str, wide: bool) -> Clause:
        mine = [value for value in values if kind(value) == of]
        if not mine:
            return _TRUE
        if of == "null":
            return []
        if of == "boolean":
            left = frozenset({True, False}) - {bool(value) for value in mine}

            def among(node: Node) -> Node:
                assert isinstance(node, Booleans)
                return Booleans(node.values & left)

            return [(among,)]
        if of == "number":
            numbers = frozenset(exact(value) for value in mine)  # type: ignore[arg-type]
            return [(_on(Numbers, lambda n: replace(n, excluded=n.excluded | numbers)),)]
        if of == "string":
            other = Not(words(map(str, mine)))
            return [(_on(Strings, lambda n: replace(n, languages=(*n.languages, other))),)]
        if wide:
            return _TRUE
        if len(mine) > 1:
            schemas: list[Json] = [{"const": value} for value in mine]
            each = (self._document.made({"enum": [one["const"]]}, place) for one in schemas)  # type: ignore[index,call-overload]
            return [tuple(Literal(one, False) for one in each)]
        return list(self._differing(place, mine[0]))

    def _differing(self, place: Place, value: Json) -> Iterator[Alternative]:
        """Ways in which an array or object differs from a value; not all: it may also have other members."""
        if isinstance(value, dict):
            for name, one in value.items():
                other = Literal(self._document.made({"enum": [one]}, place), False)
                yield (self._absent(place, name),)
                yield (_requiring(name), _adding(ObjectOrigin(((name, other),))))
            if not value:
                yield _filled(1, None)
        elif isinstance(value, list):
            if value:
                yield _sized(0, len(value) - 1)
            yield _sized(len(value) + 1, None)
            for i, one in enumerate(value):
                yield self._item(
                    place, i, Literal(self._document.made({"enum": [one]}, place), False)
                )

    def _item(self, place: Place, index: int, literal: Literal) -> Alternative:
        """That the item is there and satisfies the literal."""
        always = Literal(self._document.made(True, place))
        origin = ArrayOrigin((always,) * index + (literal,))
        return (
            *_sized(index + 1, None),
            _on(Arrays, lambda n: replace(n, origins=(*n.origins, origin))),
        )

    def _minus_string(self, place: Place, keyword: str, wide: bool) -> Clause:
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        match keyword:
            case "minLength":
                most = int(given) - 1  # type: ignore[arg-type]
                if most < 0:
                    return []
                return [(_on(Strings, lambda n: replace(n, most=_least(n.most, most))),)]
            case "maxLength":
                least = int(given) + 1  # type: ignore[arg-type]
                return [(_on(Strings, lambda n: replace(n, least=max(n.least, least))),)]
            case "format":
                return _TRUE if wide else []
            case _:
                # Narrow: not even another engine finds the pattern there. Wide: not every one does.
                try:
                    found = self._pattern(place, str(given), not wide)
                except InvalidSchema:
                    found = None
                if found is None:
                    return self._unsure(place, keyword, wide, "the pattern is not supported")
                other = Not(found)
                return [(_on(Strings, lambda n: replace(n, languages=(*n.languages, other))),)]

    def _minus_array(self, place: Place, group: str, wide: bool) -> Clause:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "items":
                origin = self._array_origin(place)
                found = [self._item(place, i, ~one) for i, one in enumerate(origin.prefix)]
                if origin.rest is not None:
                    if not origin.prefix:
                        return [_containing(~origin.rest, 1, None)]
                    if wide:
                        return _TRUE
                    found.append(self._item(place, len(origin.prefix), ~origin.rest))
                return found
            case "contains":
                if "contains" not in schema:
                    return []
                literal = Literal(self._document.below(place, "contains"))
                least, most = _contained(schema)
                fewer = [_containing(literal, 0, least - 1)] if least else []
                return fewer + ([] if most is None else [_containing(literal, most + 1, None)])
            case "minItems":
                most = int(schema[group]) - 1  # type: ignore[arg-type]
                return [_sized(0, most)] if most >= 0 else []
            case "maxItems":
                return [_sized(int(schema[group]) + 1, None)]  # type: ignore[arg-type]
            case _:
                if schema[group] in (True, False) and (schema[group] is (group != "uniqueItems")):
                    return []
                return self._unsure(place, group, wide, "that depends on all items")

    def _minus_object(self, place: Place, group: str, wide: bool) -> Clause:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "properties":
                origin = self._object_origin(place, wide)
                found: Clause = [
                    (_requiring(name), _adding(ObjectOrigin(((name, ~literal),))))
                    for name, literal in origin.properties
                ]
                if not origin.patterns and origin.additional is None:
                    return found
                if wide:
                    return _TRUE
                outside = _on(Objects, lambda n: replace(n, outside=(*n.outside, origin)))
                return [*found, (outside,)]
            case "required":
                return [(self._absent(place, str(name)),) for name in schema[group]]  # type: ignore[union-attr]
            case "minProperties":
                most = int(schema[group]) - 1  # type: ignore[arg-type]
                return [_filled(0, most)] if most >= 0 else []
            case "maxProperties":
                return [_filled(int(schema[group]) + 1, None)]  # type: ignore[arg-type]
            case "dependencies":
                return list(self._not_dependencies(place))
            case _:
                if schema[group] is True:
                    return []
                return self._unsure(place, group, wide, "that depends on all members")

    def _not_dependencies(self, place: Place) -> Iterator[Alternative]:
        assert isinstance(place.schema, dict)
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            given = place.schema.get(keyword, {})
            assert isinstance(given, dict)
            for name, needed in given.items():
                if isinstance(needed, list):
                    for other in needed:
                        yield _requiring(name), self._absent(place, str(other))
                else:
                    yield (
                        _requiring(name),
                        Literal(self._document.below(place, keyword, name), False),
                    )


def _groups(place: Place, of: str) -> list[str]:
    """The keywords of a schema that say something of a type, those that belong together once."""
    assert isinstance(place.schema, dict)
    if place.old and "$ref" in place.schema:
        return ["$ref"]
    groups = dict.fromkeys(_GROUPS.get(keyword, keyword) for keyword in place.schema)
    return [group for group in groups if group in _ALL or _KINDS.get(group) == of]


def _enums(schema: dict[str, Json]) -> list[str]:
    return [keyword for keyword in ("enum", "const") if keyword in schema]


def _listed(schema: dict[str, Json], keyword: str) -> list[Json]:
    given = schema[keyword]
    if keyword == "const":
        return [given]
    assert isinstance(given, list)
    return list({dumps(value): value for value in given}.values())


def _contained(schema: dict[str, Json]) -> tuple[int, int | None]:
    most = schema.get("maxContains")
    return int(schema.get("minContains", 1)), None if most is None else int(most)  # type: ignore[arg-type]


def _least(a: int | None, b: int) -> int:
    return b if a is None else min(a, b)


def _sized(least: int, most: int | None) -> Alternative:
    def changed(node: Arrays) -> Arrays:
        bound = node.most if most is None else _least(node.most, most)
        return replace(node, least=max(node.least, least), most=bound)

    return (_on(Arrays, changed),)


def _filled(least: int, most: int | None) -> Alternative:
    def changed(node: Objects) -> Objects:
        bound = node.most if most is None else _least(node.most, most)
        return replace(node, least=max(node.least, least), most=bound)

    return (_on(Objects, changed),)


def _containing(literal: Literal, least: int, most: int | None) -> Alternative:
    return (_on(Arrays, lambda n: replace(n, contains=(*n.contains, (literal, least, most)))),)


def _adding(origin: ObjectOrigin) -> Callable[[Node], Node]:
    return _on(Objects, lambda n: replace(n, origins=(*n.origins, origin)))


def _requiring(*names: str) -> Callable[[Node], Node]:
    return _on(Objects, lambda n: n.requiring(names))


def _number(schema: dict[str, Json], keyword: str, positive: bool) -> Callable[[Node], Node] | None:
    """What a bound, or its opposite, does to a set of numbers; None if it says nothing."""
    given = schema[keyword]
    if isinstance(given, bool):  # draft 4: a flag of the bound itself
        return None
    bound = exact(given)  # type: ignore[arg-type]
    if keyword == "multipleOf":
        if positive:
            return _on(Numbers, lambda n: n.multiples(bound))
        return _on(Numbers, lambda n: replace(n, not_multiples=n.not_multiples | {bound}))
    strict = keyword.startswith("exclusive")
    if not strict:
        strict = schema.get("exclusive" + keyword[0].upper() + keyword[1:]) is True
    upper = keyword.lower().endswith("maximum")
    if upper is positive:
        return _on(Numbers, lambda n: n.below(bound, strict is positive))
    return _on(Numbers, lambda n: n.above(bound, strict is positive))

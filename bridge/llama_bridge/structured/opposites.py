"""What the opposite of each keyword demands of values of one type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import InvalidSchema
from .demands import Demands
from .document import Json, Place
from .effects import (
    NUMBER,
    STRING,
    TRUE,
    Alternative,
    Clause,
    adding,
    contained,
    containing,
    enums,
    filled,
    least_of,
    listed,
    number_change,
    on,
    requiring,
    sized,
)
from .evaluate import exact, kind
from .language import Not, words
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

__all__ = ["Opposites"]


class Opposites:
    """The alternatives of schemas that must not hold: one of their keywords does not."""

    def __init__(self, demands: Demands) -> None:
        self._demands = demands
        self._document = demands.document
        self.lost: list[InvalidSchema] = []
        """Why alternatives were left out: what could not be excluded."""

    def _unsure(self, place: Place, keyword: str, wide: bool, why: str) -> Clause:
        """The opposite of something that cannot be told: it is left out, or everything may be it."""
        if wide:
            return TRUE
        self.lost.append(
            self._demands.refused(place, keyword, f"its opposite cannot be enforced: {why}")
        )
        return []

    def alternatives(self, place: Place, group: str, of: str, wide: bool) -> Clause:
        """The alternatives of the keywords of a group: that it does not hold."""
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        match group:
            case "type":
                return self._not_type(place, of)
            case "enum":
                return [
                    alternative
                    for keyword in enums(schema)
                    for alternative in self._not_values(place, listed(schema, keyword), of, wide)
                ]
            case "$ref" | "$dynamicRef":
                return [(Literal(self._document.target(place, group), False),)]
            case "$recursiveRef":
                raise self._demands.refused(place, group, "not supported: use $ref")
            case "allOf":
                return [(Literal(one, False),) for one in self._demands.each(place, group)]
            case "anyOf":
                return [tuple(Literal(one, False) for one in self._demands.each(place, group))]
            case "oneOf":
                options = list(self._demands.each(place, group))
                none: Clause = [tuple(Literal(one, False) for one in options)]
                return none + [
                    (Literal(one), Literal(two))
                    for i, one in enumerate(options)
                    for two in options[:i]
                    if not self._demands.disjoint(one, two, of)
                ]
            case "not":
                return [(Literal(below(place, "not")),)]
            case "if":
                return self._not_conditional(place)
            case (
                "items" | "contains" | "minItems" | "maxItems" | "uniqueItems" | "unevaluatedItems"
            ):
                return self._minus_array(place, group, wide)
            case _ if group in NUMBER:
                change = number_change(schema, group, False)
                return [(change,)] if change else []
            case _ if group in STRING:
                return self._minus_string(place, group, wide)
            case _:
                return self._minus_object(place, group, wide)

    def _not_type(self, place: Place, of: str) -> Clause:
        clauses = self._demands.type(place, of)
        if not clauses:
            return []
        if not clauses[0]:
            return TRUE
        one = exact(1)
        return [(on(Numbers, lambda n: replace(n, not_multiples=n.not_multiples | {one})),)]

    def _not_conditional(self, place: Place) -> Clause:
        assert isinstance(place.schema, dict)
        branches = self._demands.conditional(place)
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
            return TRUE
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
            return [(on(Numbers, lambda n: replace(n, excluded=n.excluded | numbers)),)]
        if of == "string":
            other = Not(words(map(str, mine)))
            return [(on(Strings, lambda n: replace(n, languages=(*n.languages, other))),)]
        if wide:
            return TRUE
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
                yield (self._demands.absent(place, name),)
                yield (requiring(name), adding(ObjectOrigin(((name, other),))))
            if not value:
                yield filled(1, None)
        elif isinstance(value, list):
            if value:
                yield sized(0, len(value) - 1)
            yield sized(len(value) + 1, None)
            for i, one in enumerate(value):
                yield self._item(
                    place, i, Literal(self._document.made({"enum": [one]}, place), False)
                )

    def _item(self, place: Place, index: int, literal: Literal) -> Alternative:
        """That the item is there and satisfies the literal."""
        always = Literal(self._document.made(True, place))
        origin = ArrayOrigin((always,) * index + (literal,))
        return (
            *sized(index + 1, None),
            on(Arrays, lambda n: replace(n, origins=(*n.origins, origin))),
        )

    def _minus_string(self, place: Place, keyword: str, wide: bool) -> Clause:
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        match keyword:
            case "minLength":
                most = int(given) - 1  # type: ignore[arg-type]
                if most < 0:
                    return []
                return [(on(Strings, lambda n: replace(n, most=least_of(n.most, most))),)]
            case "maxLength":
                least = int(given) + 1  # type: ignore[arg-type]
                return [(on(Strings, lambda n: replace(n, least=max(n.least, least))),)]
            case "format":
                return TRUE if wide else []
            case _:
                # Narrow: not even another engine finds the pattern there. Wide: not every one does.
                try:
                    found = self._demands.pattern(place, str(given), not wide)
                except InvalidSchema:
                    found = None
                if found is None:
                    return self._unsure(place, keyword, wide, "the pattern is not supported")
                other = Not(found)
                return [(on(Strings, lambda n: replace(n, languages=(*n.languages, other))),)]

    def _minus_array(self, place: Place, group: str, wide: bool) -> Clause:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "items":
                origin = self._demands.array_origin(place)
                found = [self._item(place, i, ~one) for i, one in enumerate(origin.prefix)]
                if origin.rest is not None:
                    if not origin.prefix:
                        return [containing(~origin.rest, 1, None)]
                    if wide:
                        return TRUE
                    found.append(self._item(place, len(origin.prefix), ~origin.rest))
                return found
            case "contains":
                if "contains" not in schema:
                    return []
                literal = Literal(self._document.below(place, "contains"))
                least, most = contained(schema)
                fewer = [containing(literal, 0, least - 1)] if least else []
                return fewer + ([] if most is None else [containing(literal, most + 1, None)])
            case "minItems":
                most = int(schema[group]) - 1  # type: ignore[arg-type]
                return [sized(0, most)] if most >= 0 else []
            case "maxItems":
                return [sized(int(schema[group]) + 1, None)]  # type: ignore[arg-type]
            case _:
                if schema[group] in (True, False) and (schema[group] is (group != "uniqueItems")):
                    return []
                return self._unsure(place, group, wide, "that depends on all items")

    def _minus_object(self, place: Place, group: str, wide: bool) -> Clause:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "properties":
                origin = self._demands.object_origin(place, wide)
                found: Clause = [
                    (requiring(name), adding(ObjectOrigin(((name, ~literal),))))
                    for name, literal in origin.properties
                ]
                if not origin.patterns and origin.additional is None:
                    return found
                if wide:
                    return TRUE
                outside = on(Objects, lambda n: replace(n, outside=(*n.outside, origin)))
                return [*found, (outside,)]
            case "required":
                return [(self._demands.absent(place, str(name)),) for name in schema[group]]  # type: ignore[union-attr]
            case "minProperties":
                most = int(schema[group]) - 1  # type: ignore[arg-type]
                return [filled(0, most)] if most >= 0 else []
            case "maxProperties":
                return [filled(int(schema[group]) + 1, None)]  # type: ignore[arg-type]
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
                        yield requiring(name), self._demands.absent(place, str(other))
                else:
                    yield (
                        requiring(name),
                        Literal(self._document.below(place, keyword, name), False),
                    )

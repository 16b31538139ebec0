"""What each keyword of a schema demands of values of one type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ..checks import shown
from ..errors import InvalidSchema
from .document import Document, Json, Place
from .effects import (
    NUMBER,
    STRING,
    Alternative,
    Clause,
    Effect,
    OneOf,
    adding,
    contained,
    containing,
    enums,
    filled,
    groups,
    least_of,
    listed,
    number_change,
    on,
    requiring,
    sized,
)
from .evaluate import constants, exact
from .formats import format_language
from .language import Language, TooLarge, automaton
from .nodes import ArrayOrigin, Arrays, Literal, Numbers, ObjectOrigin, Objects, Strings
from .regex import Unsupported, found_in

__all__ = ["Demands", "Disjoint"]

MAX_COMPARED = 2000
"""Pairs of options of a oneOf that are compared with care; each takes about a millisecond."""

Disjoint = Callable[[Place, Place, str], bool]


class Demands:
    """The clauses of schemas that must hold.

    Args:
        document: where the schemas are.
        disjoint: whether two schemas surely have no value of a type in common.
        formats: whether an unknown ``format`` is refused.
    """

    def __init__(self, document: Document, disjoint: Disjoint, formats: bool) -> None:
        self.document = document
        self.disjoint = disjoint
        self._strict_formats = formats
        self._known_tags: dict[int, dict[str, frozenset[str]]] = {}

    def refused(self, place: Place, keyword: str, why: str) -> InvalidSchema:
        """The error for a keyword that cannot be enforced."""
        return InvalidSchema(place.pointer, keyword, why)

    def clauses(self, place: Place, group: str, of: str, wide: bool) -> list[Clause]:
        """The clauses of the keywords of a group."""
        schema = place.schema
        assert isinstance(schema, dict)
        below = self.document.below
        match group:
            case "type":
                return self.type(place, of)
            case "enum":
                return [[(OneOf(tuple(listed(schema, keyword))),)] for keyword in enums(schema)]
            case "$ref" | "$dynamicRef":
                return [[(Literal(self.document.target(place, group)),)]]
            case "$recursiveRef":
                raise self.refused(place, group, "not supported: use $ref")
            case "allOf":
                return [[(Literal(one),)] for one in self.each(place, group)]
            case "anyOf" | "oneOf" if (texts := constants(schema[group])) is not None:
                return [[(OneOf(tuple(texts)),)]]
            case "anyOf":
                return [[(Literal(one),) for one in self.each(place, group)]]
            case "oneOf":
                return [self._one_of(place, of)]
            case "not":
                return [[(Literal(below(place, "not"), False),)]]
            case "if":
                return self.conditional(place)
            case (
                "items" | "contains" | "minItems" | "maxItems" | "uniqueItems" | "unevaluatedItems"
            ):
                return self._plus_array(place, group, wide)
            case _ if group in NUMBER:
                change = number_change(schema, group, True)
                return [[(change,)]] if change else []
            case _ if group in STRING:
                return self._plus_string(place, group, wide)
            case _:
                return self._plus_object(place, group, wide)

    def each(self, place: Place, keyword: str) -> Iterator[Place]:
        """The schemas that a keyword lists."""
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        assert isinstance(given, list)
        for i in range(len(given)):
            yield self.document.below(place, keyword, i)

    def type(self, place: Place, of: str) -> list[Clause]:
        """Clauses of ``type``: none, one that fails, or that numbers are integers."""
        assert isinstance(place.schema, dict)
        given = place.schema["type"]
        names = given if isinstance(given, list) else [given]
        if of in names:
            return []
        if of == "number" and "integer" in names:
            return [[(on(Numbers, lambda node: node.multiples(exact(1))),)]]
        return [[]]

    def _one_of(self, place: Place, of: str) -> Clause:
        options = [one for one in self.each(place, "oneOf") if not _excludes(one, of)]
        if sum(_allows_all(one, of) for one in options) > 1:
            return []
        slow = 0
        clause: Clause = []
        for one in options:
            others: list[Literal] = []
            for two in options:
                if two is one or (of == "object" and self._told_apart(one, two)):
                    continue
                slow += 1
                if slow > MAX_COMPARED:
                    raise self.refused(
                        place,
                        "oneOf",
                        "too many options that no constant member tells apart: use anyOf",
                    )
                if not self.disjoint(one, two, of):
                    others.append(Literal(two, False))
            clause.append((Literal(one), *others))
        return clause

    def _told_apart(self, one: Place, two: Place) -> bool:
        """Whether a required member has one of some values in one, and one of others in the other."""
        a, b = self._tags(one), self._tags(two)
        return any(name in b and a[name].isdisjoint(b[name]) for name in a)

    def _tags(self, place: Place) -> dict[str, frozenset[str]]:
        """Required members that can have a few texts only."""
        known = self._known_tags.get(place.number)
        if known is None:
            known = self._known_tags[place.number] = {}
            schema = place.schema
            if isinstance(schema, bool):
                return known
            if "$ref" in schema:
                known.update(self._tags(self.document.target(place, "$ref")))
                if place.old:
                    return known
            required = schema.get("required", [])
            assert isinstance(required, list)
            for name in required:
                values = _texts(schema, str(name))
                if values is not None:
                    known[str(name)] = values
        return known

    def conditional(self, place: Place) -> list[Clause]:
        """Clauses of ``if``: its two branches, or none."""
        schema = place.schema
        assert isinstance(schema, dict)
        if "if" not in schema or not ("then" in schema or "else" in schema):
            return []
        below = self.document.below
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
                return [[(on(Strings, lambda n: replace(n, least=max(n.least, least))),)]]
            case "maxLength":
                most = int(given)  # type: ignore[arg-type]
                return [[(on(Strings, lambda n: replace(n, most=least_of(n.most, most))),)]]
            case "format":
                assert isinstance(given, str)
                language = None if wide else format_language(given)
                if language is None and not wide and self._strict_formats:
                    raise self.refused(place, "format", f"{given!r} is not a supported format")
            case _:
                language = self.pattern(place, str(given), wide)
        if language is None:
            return []
        added = language
        return [[(on(Strings, lambda n: replace(n, languages=(*n.languages, added))),)]]

    def pattern(
        self, place: Place, pattern: str, wide: bool, keyword: str = "pattern"
    ) -> Language | None:
        """The strings in which a pattern is found; None, wide, if it is not supported."""
        try:
            language = found_in(pattern, wide)
            automaton(language)
            return language
        except (Unsupported, TooLarge) as error:
            if wide:
                return None
            why = str(error) or "too large"
            raise self.refused(
                place, keyword, f"{shown(pattern)} is not supported: {why}"
            ) from error

    def _plus_array(self, place: Place, group: str, wide: bool) -> list[Clause]:
        schema = place.schema
        assert isinstance(schema, dict)
        match group:
            case "items":
                origin = self.array_origin(place)
                return [[(on(Arrays, lambda n: replace(n, origins=(*n.origins, origin))),)]]
            case "contains":
                if "contains" not in schema:
                    return []
                literal = Literal(self.document.below(place, "contains"))
                least, most = contained(schema)
                return [[containing(literal, least, most)]] if least or most is not None else []
            case "minItems":
                return [[sized(int(schema[group]), None)]]  # type: ignore[arg-type]
            case "maxItems":
                return [[sized(0, int(schema[group]))]]  # type: ignore[arg-type]
            case "uniqueItems":
                unique = Literal(place)
                return (
                    [[(on(Arrays, lambda n: replace(n, unique=unique)),)]] if schema[group] else []
                )
            case _:
                if schema[group] is True or wide:
                    return []
                raise self.refused(place, group, "not supported: use items")

    def array_origin(self, place: Place) -> ArrayOrigin:
        """What a schema says of items."""
        schema = place.schema
        assert isinstance(schema, dict)
        below = self.document.below
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
                origin = self.object_origin(place, wide)
                return [[(adding(origin),)]]
            case "required":
                names = [str(name) for name in schema[group]]  # type: ignore[union-attr]
                return [[(requiring(*names),)]]
            case "minProperties":
                return [[filled(int(schema[group]), None)]]  # type: ignore[arg-type]
            case "maxProperties":
                return [[filled(0, int(schema[group]))]]  # type: ignore[arg-type]
            case "propertyNames":
                literal = Literal(self.document.below(place, group))
                return [[(on(Objects, lambda n: replace(n, names=(*n.names, literal))),)]]
            case "dependencies":
                return [
                    [(self.absent(place, name),), (requiring(name), *effects)]
                    for name, effects in self.dependencies(place)
                ]
            case _:
                if schema[group] is True or wide:
                    return []
                raise self.refused(place, group, "not supported: use additionalProperties")

    def object_origin(self, place: Place, wide: bool) -> ObjectOrigin:
        """What a schema says of members."""
        schema = place.schema
        assert isinstance(schema, dict)
        below = self.document.below
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
            if self.pattern(place, pattern, wide, "patternProperties") is None:
                additional = None
            else:
                known.append((pattern, Literal(below(place, "patternProperties", pattern))))
        return ObjectOrigin(
            tuple((name, Literal(below(place, "properties", name))) for name in properties),
            tuple(known),
            additional,
        )

    def absent(self, place: Place, name: str) -> Effect:
        """That a member is not there."""
        never = Literal(self.document.made(False, place))
        return adding(ObjectOrigin(((name, never),)))

    def dependencies(self, place: Place) -> Iterator[tuple[str, Alternative]]:
        """Names, and what must hold when a member of that name is there."""
        assert isinstance(place.schema, dict)
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            given = place.schema.get(keyword, {})
            assert isinstance(given, dict)
            for name, needed in given.items():
                if isinstance(needed, list):
                    yield name, (requiring(*map(str, needed)),)
                else:
                    yield name, (Literal(self.document.below(place, keyword, name)),)


def _excludes(place: Place, of: str) -> bool:
    """Whether a schema says by its ``type`` that a type is none of it."""
    if isinstance(place.schema, bool):
        return not place.schema
    if place.old and "$ref" in place.schema:
        return False
    given = place.schema.get("type")
    names = given if isinstance(given, list) else [given]
    return given is not None and of not in names and not (of == "number" and "integer" in names)


def _allows_all(place: Place, of: str) -> bool:
    """Whether a schema says nothing of a type."""
    if isinstance(place.schema, bool):
        return place.schema
    return not groups(place, of)


def _texts(schema: dict[str, Json], name: str) -> frozenset[str] | None:
    """The texts that a member can be, if they are listed."""
    properties = schema.get("properties")
    member = properties.get(name) if isinstance(properties, dict) else None
    if not isinstance(member, dict):
        return None
    values = [member["const"]] if "const" in member else member.get("enum")
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        return None
    return frozenset(map(str, values))

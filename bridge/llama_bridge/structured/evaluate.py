"""Whether a value satisfies a schema: yes, no, or None where this library will not say.

For the few values that a schema itself lists (``enum``, ``const``): those that the rest of it forbids are left out.

What goes down into a schema is a plain loop, here and in :mod:`.meaning`. A generator that C code asks for its values takes
from the stack of C, which is small in a page, and whose end is the page's end.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction

from .document import Document, Json, Place
from .formats import format_language
from .language import TooLarge, automaton
from .regex import Unsupported, found_in

__all__ = ["Evaluator", "constants", "equal", "exact", "identity", "is_integer", "kind"]

Verdict = bool | None


def exact(number: float) -> Fraction:
    """A JSON number as it was written, without the rounding of a float."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def kind(value: Json) -> str:
    """The JSON type of a value; every number is a ``number``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def is_integer(value: Json) -> bool:
    """Whether it is a number without a fraction: 1.0 is an integer."""
    return kind(value) == "number" and exact(value).denominator == 1  # type: ignore[arg-type]


def equal(a: Json, b: Json) -> bool:
    """Equality of JSON values: 1 is 1.0 and is not true."""
    if kind(a) != kind(b):
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if kind(a) == "number":
        return exact(a) == exact(b)  # type: ignore[arg-type]
    return a == b


def identity(value: Json) -> Hashable:
    """The same for values that are :func:`equal`, and for no others: for looking one up among thousands."""
    if isinstance(value, list):
        items: list[Hashable] = []
        for one in value:
            items.append(identity(one))
        return "array", tuple(items)
    if isinstance(value, dict):
        members: list[Hashable] = []
        for name in value:
            members.append((name, identity(value[name])))
        return "object", frozenset(members)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return kind(value), value
    return "number", exact(value)


def constants(options: Json) -> list[str] | None:
    """The texts, if each of the schemas is one constant text, and no two are the same."""
    assert isinstance(options, list)
    texts: list[str] = []
    for one in options:
        if not isinstance(one, dict) or not one.keys() <= {"const", "title", "description"}:
            return None
        text = one.get("const")
        if not isinstance(text, str):
            return None
        texts.append(text)
    return texts if len(set(texts)) == len(texts) else None


def every(verdicts: list[Verdict]) -> Verdict:
    """Three-valued and."""
    result: Verdict = True
    for one in verdicts:
        if one is False:
            return False
        if one is None:
            result = None
    return result


def negated(verdict: Verdict) -> Verdict:
    """Three-valued not."""
    return None if verdict is None else not verdict


def some(verdicts: list[Verdict]) -> Verdict:
    """Three-valued or."""
    return negated(every([negated(one) for one in verdicts]))


def counted(verdicts: list[Verdict], least: int, most: int | None) -> Verdict:
    """Whether the number of those that hold is within the bounds."""
    sure = sum(one is True for one in verdicts)
    possible = sure + sum(one is None for one in verdicts)
    if possible < least or (most is not None and sure > most):
        return False
    return True if sure >= least and (most is None or possible <= most) else None


class Evaluator:
    """Evaluates values against the schemas of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._enums: dict[int, set[Hashable]] = {}
        self._options: dict[int, frozenset[str]] = {}

    def valid(self, value: Json, place: Place) -> Verdict:
        """Whether the value satisfies the schema."""
        schema = place.schema
        if isinstance(schema, bool):
            return schema
        if place.old and "$ref" in schema:
            return self.valid(value, self._document.target(place, "$ref"))
        verdict: Verdict = True
        for keyword, given in schema.items():
            one = self._keyword(value, place, keyword, given)
            if one is False:
                return False
            if one is None:
                verdict = None
        return verdict

    def all(self, pairs: list[tuple[Json, Place]]) -> Verdict:
        """Whether each value satisfies its schema; the first that does not ends it."""
        verdict: Verdict = True
        for value, place in pairs:
            one = self.valid(value, place)
            if one is False:
                return False
            if one is None:
                verdict = None
        return verdict

    def _any(self, pairs: list[tuple[Json, Place]]) -> Verdict:
        """Whether some value satisfies its schema; the first that does ends it."""
        verdict: Verdict = False
        for value, place in pairs:
            one = self.valid(value, place)
            if one:
                return True
            if one is None:
                verdict = None
        return verdict

    def _keyword(self, value: Json, place: Place, keyword: str, given: Json) -> Verdict:
        match keyword:
            case "$ref" | "$dynamicRef" | "$recursiveRef":
                if keyword == "$recursiveRef":
                    return None
                return self.valid(value, self._document.target(place, keyword))
            case "type":
                names = given if isinstance(given, list) else [given]
                return kind(value) in names or ("integer" in names and is_integer(value))
            case "const":
                return equal(value, given)
            case "enum":
                assert isinstance(given, list)
                return self._listed(value, place, given)
            case "allOf":
                return self.all(self._each(value, place, keyword))
            case "anyOf" | "oneOf" if self._is_option(value, place, keyword):
                return True
            case "anyOf":
                return self._any(self._each(value, place, keyword))
            case "oneOf":
                return counted(
                    [self.valid(value, one) for _, one in self._each(value, place, keyword)], 1, 1
                )
            case "not":
                return negated(self.valid(value, self._document.below(place, "not")))
            case "if":
                return self._conditional(value, place)
            case _:
                pass
        match value:
            case bool() | None:
                return True
            case int() | float():
                return _number(exact(value), keyword, given, place)
            case str():
                return _string(value, keyword, given)
            case list():
                return self._array(value, place, keyword, given)
            case dict():
                return self._object(value, place, keyword, given)

    def _is_option(self, value: Json, place: Place, keyword: str) -> bool:
        """Whether the options are one text each, and it is one of them: there may be thousands."""
        if not isinstance(value, str):
            return False
        if place.number not in self._options:
            assert isinstance(place.schema, dict)
            self._options[place.number] = frozenset(constants(place.schema[keyword]) or ())
        return value in self._options[place.number]

    def _listed(self, value: Json, place: Place, given: list[Json]) -> bool:
        if place.number not in self._enums:
            self._enums[place.number] = set(map(identity, given))
        return identity(value) in self._enums[place.number]

    def _each(self, value: Json, place: Place, keyword: str) -> list[tuple[Json, Place]]:
        assert isinstance(place.schema, dict)
        given = place.schema[keyword]
        assert isinstance(given, list)
        return [(value, self._document.below(place, keyword, i)) for i in range(len(given))]

    def _conditional(self, value: Json, place: Place) -> Verdict:
        assert isinstance(place.schema, dict)
        condition = self.valid(value, self._document.below(place, "if"))
        then, otherwise = [
            self.valid(value, self._document.below(place, key)) if key in place.schema else True
            for key in ("then", "else")
        ]
        if condition is None:
            return then if then == otherwise else None
        return then if condition else otherwise

    def _array(self, value: list[Json], place: Place, keyword: str, given: Json) -> Verdict:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        match keyword:
            case "minItems":
                return len(value) >= given  # type: ignore[operator]
            case "maxItems":
                return len(value) <= given  # type: ignore[operator]
            case "uniqueItems":
                return not given or len(set(map(identity, value))) == len(value)
            case "prefixItems":
                assert isinstance(given, list)
                return self._first(value, place, keyword, given)
            case "items" if isinstance(given, list):
                return self._first(value, place, keyword, given)
            case "items":
                prefix = schema.get("prefixItems", [])
                assert isinstance(prefix, list)
                return self.all([(one, below(place, keyword)) for one in value[len(prefix) :]])
            case "additionalItems" if isinstance(items := schema.get("items"), list):
                return self.all([(one, below(place, keyword)) for one in value[len(items) :]])
            case "contains":
                least, most = schema.get("minContains", 1), schema.get("maxContains")
                verdicts = [self.valid(one, below(place, keyword)) for one in value]
                return counted(verdicts, int(least), None if most is None else int(most))  # type: ignore[arg-type]
            case "unevaluatedItems":
                return True if given is True or not value else None
            case _:
                return True

    def _first(self, value: list[Json], place: Place, keyword: str, given: list[Json]) -> Verdict:
        below = self._document.below
        return self.all(
            [(one, below(place, keyword, i)) for i, one in enumerate(value[: len(given)])]
        )

    def _object(self, value: dict[str, Json], place: Place, keyword: str, given: Json) -> Verdict:
        schema = place.schema
        assert isinstance(schema, dict)
        below = self._document.below
        match keyword:
            case "minProperties":
                return len(value) >= given  # type: ignore[operator]
            case "maxProperties":
                return len(value) <= given  # type: ignore[operator]
            case "required":
                return all(name in value for name in given)  # type: ignore[union-attr]
            case "properties":
                assert isinstance(given, dict)
                return self.all(
                    [(value[name], below(place, keyword, name)) for name in given if name in value]
                )
            case "patternProperties":
                assert isinstance(given, dict)
                return every(
                    [
                        some([negated(found), self.valid(one, below(place, keyword, pattern))])
                        for pattern in given
                        for name, one in value.items()
                        if (found := _found(pattern, name)) is not False
                    ]
                )
            case "additionalProperties":
                return every(
                    [
                        some([self._declared(name, schema), self.valid(one, below(place, keyword))])
                        for name, one in value.items()
                    ]
                )
            case "propertyNames":
                return self.all([(name, below(place, keyword)) for name in value])
            case "dependentRequired" | "dependentSchemas" | "dependencies":
                assert isinstance(given, dict)
                return every(
                    [
                        all(other in value for other in needed)
                        if isinstance(needed, list)
                        else self.valid(value, below(place, keyword, name))
                        for name, needed in given.items()
                        if name in value
                    ]
                )
            case "unevaluatedProperties":
                return True if given is True or not value else None
            case _:
                return True

    def _declared(self, name: str, schema: dict[str, Json]) -> Verdict:
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        assert isinstance(properties, dict)
        assert isinstance(patterns, dict)
        return some([name in properties, *(_found(pattern, name) for pattern in patterns)])


def _number(value: Fraction, keyword: str, given: Json, place: Place) -> Verdict:
    if isinstance(given, bool) or not isinstance(given, int | float):
        flags = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
        if keyword in flags and given is True:  # draft 4
            assert isinstance(place.schema, dict)
            bound = place.schema.get(flags[keyword])
            return bound is None or value != exact(bound)  # type: ignore[arg-type]
        return True
    limit = exact(given)
    match keyword:
        case "minimum":
            return value >= limit
        case "maximum":
            return value <= limit
        case "exclusiveMinimum":
            return value > limit
        case "exclusiveMaximum":
            return value < limit
        case "multipleOf":
            return value % limit == 0
        case _:
            return True


def _string(value: str, keyword: str, given: Json) -> Verdict:
    match keyword:
        case "minLength":
            return len(value) >= given  # type: ignore[operator]
        case "maxLength":
            return len(value) <= given  # type: ignore[operator]
        case "pattern":
            assert isinstance(given, str)
            return _found(given, value)
        case "format":
            assert isinstance(given, str)
            language = format_language(given)
            # What is not in the narrow language of a format may still have it.
            return True if language is None or automaton(language).accepts(value) else None
        case _:
            return True


def _found(pattern: str, text: str) -> Verdict:
    try:
        if automaton(found_in(pattern)).accepts(text):
            return True
        return None if automaton(found_in(pattern, True)).accepts(text) else False
    except (Unsupported, TooLarge):
        return None

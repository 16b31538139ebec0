"""Schemas made at random, small and with everything in them that meets."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

__all__ = ["schemas"]

TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
NAMES = st.sampled_from(["a", "b", "foo", "bar", "x", "y1"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.sampled_from([0.5, 1.0, 2.5, -0.25, 100.125])
    | st.sampled_from(["", "a", "ab", "foo", "bar", "x y"])
)
PATTERNS = st.sampled_from(
    ["^a", "b$", "^[a-c]+$", "\\d", "^(foo|bar)?$", "o{2}", "^.{2}$", "^(?!a)", "(?=.*o)x"]
)
LEAVES: list[st.SearchStrategy[Any]] = [
    st.just(True),
    st.just({}),
    st.fixed_dictionaries({"type": st.sampled_from(TYPES)}),
    st.fixed_dictionaries(
        {"type": st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 4),
            "maxLength": st.integers(0, 6),
            "pattern": PATTERNS,
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["integer", "number"]),
            "minimum": st.integers(-30, 30) | st.sampled_from([0.1, -2.5, 3.75]),
            "maximum": st.integers(-30, 300) | st.sampled_from([0.3, 99.99]),
            "exclusiveMinimum": st.integers(-9, 9),
            "exclusiveMaximum": st.integers(-9, 40),
            "multipleOf": st.sampled_from([1, 2, 3, 7, 0.5, 0.1, 2.5, 10]),
        },
    ),
    st.fixed_dictionaries({"enum": st.lists(SCALARS, min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {
            "const": SCALARS
            | st.lists(SCALARS, max_size=2)
            | st.dictionaries(NAMES, SCALARS, max_size=2)
        }
    ),
]


def schemas(depth: int = 2) -> st.SearchStrategy[Any]:
    """Schemas that are nested at most so deep."""
    if depth == 0:
        return st.one_of(*LEAVES)
    below = schemas(depth - 1)
    objects = below.filter(lambda schema: isinstance(schema, dict))
    return st.one_of(
        *LEAVES,
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.just("object"),
                "properties": st.dictionaries(NAMES, below, max_size=3),
                "required": st.lists(NAMES, max_size=2, unique=True),
                "additionalProperties": below,
                "minProperties": st.integers(0, 3),
                "maxProperties": st.integers(0, 4),
                "propertyNames": st.sampled_from(
                    [{"maxLength": 2}, {"pattern": "^[a-f]"}, {"enum": ["a", "b", "x"]}]
                ),
                "patternProperties": st.dictionaries(
                    st.sampled_from(["^a", "o", "\\d$"]), below, max_size=2
                ),
                "dependentRequired": st.dictionaries(
                    NAMES, st.lists(NAMES, max_size=2), max_size=1
                ),
                "dependentSchemas": st.dictionaries(NAMES, below, max_size=1),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": below,
                "prefixItems": st.lists(below, min_size=1, max_size=2),
                "minItems": st.integers(0, 3),
                "maxItems": st.integers(0, 4),
                "uniqueItems": st.booleans(),
                "contains": below,
                "minContains": st.integers(0, 2),
                "maxContains": st.integers(0, 3),
            },
        ),
        st.fixed_dictionaries({"allOf": st.lists(below, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"anyOf": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": below}),
        st.fixed_dictionaries({"if": below, "then": below, "else": below}),
        st.builds(lambda one, two: {**one, **two}, objects, objects),
    )

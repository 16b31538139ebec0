"""Schemas made at random: whatever their grammars accept is valid."""

from __future__ import annotations

import json
import random
import sys
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, check_grammar, to_gbnf

if sys.platform == "emscripten":
    pytest.skip("a page has no jsonschema", allow_module_level=True)

import jsonschema  # type: ignore[import-untyped]
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from .official import groups
from .schemas import schemas
from .walks import accepts, walk


def judged(schema: Any, texts: int) -> None:
    """Texts of the grammar, and what the judge says of each; a schema may be refused."""
    try:
        grammar = to_gbnf(schema)
    except InvalidInput:
        return
    check_grammar(grammar)
    start = Matcher(grammar)
    judge = jsonschema.Draft202012Validator(json.loads(json.dumps(schema), parse_float=Decimal))
    rng = random.Random(1)
    with localcontext() as context:
        context.prec = 400  # numbers are judged as they are written
        for _ in range(texts):
            text = walk(start, rng, soft=60)
            assert judge.is_valid(json.loads(text, parse_float=Decimal)), text


QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, **QUIET)
@given(schemas())
def test_what_is_accepted_is_valid(schema: Any) -> None:
    judged(schema, 6)


@pytest.mark.slow
@settings(max_examples=300, **QUIET)
@given(schemas(3))
def test_what_is_accepted_is_valid_in_deeper_ones(schema: Any) -> None:
    judged(schema, 8)


@pytest.mark.slow
@settings(max_examples=80, **QUIET)
@given(st.data())
def test_invalid_values_made_by_others_are_not_accepted(data: st.DataObject) -> None:
    # hypothesis-jsonschema makes values of the one schema; most of them are none of the other.
    schema, other = data.draw(schemas()), data.draw(schemas(1))
    try:
        start = Matcher(to_gbnf(schema))
    except InvalidInput:
        return
    try:
        value = data.draw(from_schema(other))
    except Exception:  # it does not know all keywords
        return
    text = json.dumps(value, ensure_ascii=False)
    if "\\ud" not in json.dumps(value) and accepts(start, text):
        assert jsonschema.Draft202012Validator(schema).is_valid(value), text


VALUES: list[Any] = [
    None,
    True,
    -1,
    0.5,
    1e300,
    "",
    "x",
    "#/a",
    "[",
    [],
    [1],
    ["a"],
    [{}],
    {},
    {"a": 1},
    {"a": {}},
]


def altered(schema: Any, rng: random.Random) -> Any:
    """The schema with some of its parts replaced by anything."""
    if rng.random() < 0.12:
        return rng.choice(VALUES)
    if isinstance(schema, dict):
        members = {key: altered(one, rng) for key, one in schema.items()}
        if rng.random() < 0.2:
            members[rng.choice(KEYWORDS)] = rng.choice(VALUES)
        return members
    if isinstance(schema, list):
        return [altered(one, rng) for one in schema]
    return schema


KEYWORDS = [
    "type",
    "enum",
    "const",
    "minimum",
    "multipleOf",
    "pattern",
    "format",
    "minLength",
    "items",
    "prefixItems",
    "contains",
    "minContains",
    "uniqueItems",
    "properties",
    "required",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "minProperties",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "$id",
    "$anchor",
    "$defs",
    "definitions",
    "$schema",
    "additionalItems",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
    "exclusiveMinimum",
    "maxItems",
]


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 8))]
)
def test_whatever_is_given_it_is_a_grammar_or_an_invalid_input(seed: int) -> None:
    rng = random.Random(seed)
    refused = made = 0
    for group in groups("draft2020-12"):
        schema = altered(group.schema, rng)
        try:
            grammar = to_gbnf(schema)
        except InvalidInput:
            refused += 1
            continue
        check_grammar(grammar)
        made += 1
    assert refused > 50
    assert made > 50

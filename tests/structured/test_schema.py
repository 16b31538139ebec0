"""JSON Schema to a grammar: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from typing import Any

import pytest

from llama_bridge import InvalidInput, InvalidSchema
from llama_bridge.structured import Matcher, check_grammar, compile_schema, to_gbnf
from llama_bridge.structured.evaluate import equal, identity
from tests.pace import idle_seconds

from .walks import accepts, walk

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def tree(depth: int) -> Any:
    return {"value": depth, "children": [tree(depth - 1)] if depth else []}


EXAMPLES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("anything", True, [None, True, 1, "x", [1, {"a": []}], {"": {}}], []),
    ("types", {"type": ["string", "null"]}, ["", None], [1, [], {}]),
    ("enum", {"enum": ["a", 1, None, {"b": [2]}]}, ["a", 1, None, {"b": [2]}], ["b", 2, {}]),
    ("enum and type", {"enum": ["a", 1], "type": "string"}, ["a"], [1]),
    ("const", {"const": [1, {"a": None}]}, [[1, {"a": None}]], [[1], 1]),
    (
        "members",
        {
            "type": "object",
            "properties": {"a": {"type": "null"}, "b": {}, "c": {}},
            "required": ["b"],
        },
        [{"b": 1}, {"a": None, "b": 2}, {"b": [], "c": ""}, {"a": None, "b": 1, "c": 2}],
        [{}, {"a": None}, {"a": 1, "b": 2}],
    ),
    (
        "only optional ones",
        {
            "type": "object",
            "properties": {"a": {}, "b": {}, "c": {}},
            "additionalProperties": False,
        },
        [{}, {"a": 1}, {"b": 1}, {"a": 1, "c": 2}, {"b": 1, "c": 2}],
        [{"d": 1}, {"a": 1, "d": 1}],
    ),
    (
        "other members",
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        [{}, {"a": "x"}, {"b": 1}, {"a": None, "bb": 1, "c": 2}],
        [{"b": "x"}],
    ),
    (
        "names by pattern",
        {"patternProperties": {"^x": {"type": "integer"}, "y$": {"minimum": 5}}},
        [{"x": 1}, {"xy": 7}, {"ay": 6}],
        [{"x": "a"}, {"xy": 4}],
    ),
    (
        "allowed names",
        {"type": "object", "propertyNames": {"pattern": "^[a-z]{2}$"}, "required": ["ab"]},
        [{"ab": 1}, {"ab": 1, "cd": 2}],
        [{"abc": 1}, {}, {"ab": 1, "C": 2}],
    ),
    (
        "few members",
        {
            "type": "object",
            "properties": {"a": {}, "b": {}, "c": {}},
            "minProperties": 1,
            "maxProperties": 2,
        },
        [{"a": 1}, {"c": 1}, {"a": 1, "c": 2}],
        [{}, {"a": 1, "b": 2, "c": 3}],
    ),
    ("many members", {"type": "object", "minProperties": 2}, [{"ab": 1, "c": 2}], [{}, {"a": 1}]),
    (
        "members that need others",
        {
            "type": "object",
            "properties": {"card": {"type": "string"}, "address": {"type": "string"}},
            "dependentRequired": {"card": ["address"]},
        },
        [{}, {"address": "x"}, {"card": "1", "address": "x"}],
        [{"card": "1"}],
    ),
    ("items", {"type": "array", "items": {"type": "integer"}}, [[], [1, 2, 3]], [["a"], [1, None]]),
    (
        "first items",
        {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}},
        [[], [1], [1, "a"], [1, "a", None]],
        [["a"], [1, 2], [1, "a", 3]],
    ),
    (
        "draft 7 items",
        {"items": [{"type": "integer"}], "additionalItems": False, "minItems": 1},
        [[1]],
        [[], [1, 2]],
    ),
    (
        "so many",
        {"items": {"type": "null"}, "minItems": 2, "maxItems": 60},
        [[None] * 2, [None] * 60],
        [[None], [None] * 61],
    ),
    (
        "more of them",
        {"items": {"type": "null"}, "maxItems": 150},
        [[], [None] * 149, [None] * 150],
        [[None] * 151],
    ),
    (
        "no item twice",
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True},
        [[], ["b", "a"], ["c", "a", "b"]],
        [["a", "a"], ["a", "b", "a"]],
    ),
    (
        "no item twice, of many: in their order",
        {"type": "array", "items": {"enum": list("abcdefgh")}, "uniqueItems": True, "minItems": 2},
        [["a", "c"], list("abcdefgh")],
        [["a"], ["a", "a"]],
    ),
    (
        "some items",
        {"type": "array", "contains": {"const": 5}, "minContains": 2, "maxContains": 3},
        [[5, 5], [1, 5, 2, 5], [5, 5, 5]],
        [[], [5], [5, 5, 5, 5], [1, 2]],
    ),
    (
        "lengths",
        {"type": "string", "minLength": 2, "maxLength": 3},
        ["ab", "abc", "é😀", '"\\'],
        ["a", "abcd"],
    ),
    (
        "long lengths",
        {"type": "string", "minLength": 99, "maxLength": 5000},
        ["x" * 99, "x" * 5000],
        ["x" * 98, "x" * 5001],
    ),
    ("a pattern", {"type": "string", "pattern": "^[A-Z]{2}\\d+$"}, ["AB1"], ["AB", "xAB1"]),
    ("a pattern anywhere", {"type": "string", "pattern": "o.o"}, ["xoboy", "o\\o"], ["ob"]),
    (
        "a pattern and a length",
        {"pattern": "^a", "maxLength": 2, "type": "string"},
        ["a", "ab"],
        ["abc", "b"],
    ),
    (
        "two patterns",
        {"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]},
        ["xbya"],
        ["a", "b"],
    ),
    ("not a pattern", {"type": "string", "not": {"pattern": "a"}}, ["", "b"], ["a", "bab"]),
    (
        "one of",
        {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]},
        [3, 5, 9, 10],
        [15, 30, 2],
    ),
    (
        "one of, told apart by a member",
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "a"}, "x": {}},
                    "required": ["kind", "x"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "b"}, "y": {}},
                    "required": ["kind"],
                },
            ]
        },
        [{"kind": "a", "x": 1}, {"kind": "b"}, {"kind": "b", "y": 2}],
        [{"kind": "a"}, {"kind": "c"}, {"x": 1}],
    ),
    ("any of", {"anyOf": [{"type": "integer", "minimum": 5}, {"const": 1}]}, [1, 5, 6], [2, "x"]),
    (
        "all of",
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}},
                {"properties": {"a": {"minimum": 3}}, "required": ["a"]},
            ]
        },
        [{"a": 3}],
        [{}, {"a": 2}, {"a": "x"}],
    ),
    ("not", {"not": {"type": ["object", "array", "string"]}}, [None, True, 1.5], ["x", [], {}]),
    (
        "if",
        {
            "type": "object",
            "properties": {"country": {"enum": ["US", "NL"]}, "zip": {"type": "string"}},
            "required": ["country", "zip"],
            "if": {"properties": {"country": {"const": "US"}}},
            "then": {"properties": {"zip": {"pattern": "^\\d{5}$"}}},
            "else": {"properties": {"zip": {"pattern": "^\\d{4} [A-Z]{2}$"}}},
        },
        [{"country": "US", "zip": "12345"}, {"country": "NL", "zip": "1234 AB"}],
        [{"country": "NL", "zip": "12345"}, {"country": "US", "zip": "1234 AB"}],
    ),
    ("itself", TREE, [tree(0), tree(3)], [{"value": 1}, {"value": 1, "children": [1]}]),
    (
        "a reference by name",
        {
            "$defs": {"x": {"$anchor": "here", "type": "null"}},
            "items": {"$ref": "#here"},
            "type": "array",
        },
        [[None]],
        [[1]],
    ),
    (
        "escapes in names",
        {"properties": {'a"b\n': {}}, "required": ['a"b\n'], "type": "object"},
        [{'a"b\n': 1}],
        [{}],
    ),
]


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"), [one[1:] for one in EXAMPLES], ids=[one[0] for one in EXAMPLES]
)
def test_examples(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    grammar = to_gbnf(schema)
    check_grammar(grammar)
    start = Matcher(grammar)
    texts = {json.dumps(value, ensure_ascii=False): value for value in valid}
    assert [value for text, value in texts.items() if not accepts(start, text)] == []
    assert [v for v in invalid if accepts(start, json.dumps(v, ensure_ascii=False))] == []


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        (
            "date",
            ["2024-02-29", "2000-02-29", "1999-12-31"],
            ["2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01"],
        ),
        ("time", ["23:59:59Z", "00:00:00.25+02:00"], ["24:00:00Z", "12:60:00Z", "12:00:00"]),
        ("date-time", ["2024-02-29T12:00:00Z"], ["2023-02-29T12:00:00Z", "2024-02-29 12:00:00Z"]),
        ("duration", ["P3D", "PT1H30M", "P1Y2M3DT4H", "P2W"], ["P", "PT", "3D", "P1H"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000"]),
        ("ipv4", ["0.0.0.0", "255.1.20.199"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["::", "::1", "fe80::1", "1:2:3:4:5:6:7:8"], ["1::2::3", "1:2:3", "12345::"]),
        ("email", ["a.b@example.org"], ["a", "@example.org", "a@"]),
        ("hostname", ["a.example.org", "x-y"], ["-a", "a..b", "xn--zz"]),
        ("uri", ["https://example.org/a?b=c#d"], ["example", "/a"]),
        ("json-pointer", ["", "/a/b~0c"], ["a", "/~2"]),
    ],
)
def test_formats(name: str, valid: list[str], invalid: list[str]) -> None:
    start = Matcher(to_gbnf({"type": "string", "format": name}))
    assert [text for text in valid if not accepts(start, json.dumps(text))] == []
    assert [text for text in invalid if accepts(start, json.dumps(text))] == []


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"),
    [
        ({"properties": {"a": {"pattern": "(a)\\1"}}}, "#/properties/a", "pattern"),
        ({"items": {"type": "strnig"}}, "#/items", "type"),
        ({"anyOf": [{}, {"minimum": "3"}]}, "#/anyOf/1", "minimum"),
        ({"$ref": "#/$defs/missing"}, "#", "$ref"),
        ({"$ref": "https://example.org/schema.json"}, "#", "$ref"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "#/$defs/a", "$ref"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "#", "uniqueItems"),
        ({"unevaluatedProperties": False}, "#", "unevaluatedProperties"),
        ({"properties": {"a/b~": {"multipleOf": 0}}}, "#/properties/a~1b~0", "multipleOf"),
        ({"properties": {"a": 3}}, "#/properties/a", ""),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "#", ""),
        ({"not": {}}, "#", ""),
        (False, "#", ""),
        ({"required": "name"}, "#", "required"),
        ({"enum": "abc"}, "#", "enum"),
        ({"allOf": []}, "#", "allOf"),
        ({"minItems": -1}, "#", "minItems"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_place_and_keyword(
    schema: Any, pointer: str, keyword: str
) -> None:
    with pytest.raises(InvalidSchema) as caught:
        to_gbnf(schema)
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword)
    assert pointer in str(caught.value)
    assert keyword in str(caught.value)


def test_a_schema_of_more_values_than_anybody_means_is_refused_at_once() -> None:
    clock = time.process_time()
    with pytest.raises(InvalidInput, match="more than 50,000 values"):
        compile_schema({"enum": list(range(1_000_000))})
    assert time.process_time() - clock < 5


@pytest.mark.parametrize(
    "given",
    [None, 3, 2.5, b"{}", [], (), {1: 2}, {"a": {2}}, {"minimum": float("nan")}, "not JSON", "[]", "3",
     {"a": "\ud800"}, {"const": object()}, int, str, list, object()],
)  # fmt: skip
def test_what_is_no_schema_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="json_schema"):
        to_gbnf(given)


def test_depth_is_bounded() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"items": deep}
    with pytest.raises(InvalidInput, match="nested more than"):
        to_gbnf(deep)
    with pytest.raises(InvalidInput, match="JSON"):
        to_gbnf("[" * 100_000)


def test_a_schema_can_be_text() -> None:
    assert to_gbnf('{"const": 1}') == to_gbnf({"const": 1})


def test_the_callers_schema_is_not_kept() -> None:
    schema: dict[str, Any] = {"enum": ["a"]}
    structured = compile_schema(schema)
    schema["enum"].append("b")
    assert not accepts(Matcher(structured.grammar), '"b"')


def test_unknown_keywords_and_annotations_are_left_alone() -> None:
    schema = {
        "type": "null",
        "title": "x",
        "description": "y",
        "default": 1,
        "examples": [2],
        "x-own": {"type": 3},
    }
    assert accepts(Matcher(to_gbnf(schema)), "null")
    assert accepts(Matcher(to_gbnf({"type": "string", "format": "colour"})), '"red"')


def test_keys_and_brackets_are_forced() -> None:
    schema = {
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    matcher = Matcher(to_gbnf(schema))
    assert matcher.forced() == '{"name": "'
    assert matcher.accept('{"name": "Ada"')
    assert matcher.forced() == ', "age": '


def test_many_alternatives_are_read_in_few_ways() -> None:
    options = [
        {
            "properties": {"kind": {"const": f"kind {i}"}, "x": {"type": "null"}},
            "required": ["kind"],
        }
        for i in range(200)
    ]
    matcher = Matcher(to_gbnf({"type": "object", "oneOf": options}))
    assert matcher.forced() == '{"kind": "kind '
    assert matcher.accept('{"kind": "kind 1')
    assert matcher.width < 20, "a digit more, or the end"


def test_equal_values_are_the_same_item_however_they_are_written() -> None:
    values = [{"a": 1, "b": 2}, {"b": 2, "a": 1.0}, 1e15, 10**15]
    schema = {"type": "array", "items": {"enum": values}, "uniqueItems": True, "minItems": 2}
    start = Matcher(to_gbnf(schema))
    rng = random.Random(1)
    for _ in range(20):
        first, second = json.loads(walk(start, rng))
        assert isinstance(first, dict) != isinstance(second, dict)


@pytest.mark.skipif(sys.platform == "emscripten", reason="slow in a page")
def test_no_option_is_left_out_because_there_are_many() -> None:
    start = Matcher(to_gbnf({"anyOf": [{"const": i} for i in range(1000)]}))
    assert [i for i in range(1000) if not accepts(start, str(i))] == []
    start = Matcher(to_gbnf({"oneOf": [{"const": f"v{i}"} for i in range(1000)]}))
    assert [i for i in range(1000) if not accepts(start, f'"v{i}"')] == []


@pytest.mark.skipif(sys.platform == "emscripten", reason="slow in a page")
def test_a_hundred_kilobytes_take_a_second() -> None:
    members = {
        f"member_{i}": {
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 0, "maximum": 10 * i + 1},
                "name": {"type": "string", "maxLength": i},
                "kind": {"enum": ["a", "b", f"c{i}"]},
                "seen": {"type": "string", "format": "date-time"},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
            },
            "required": ["id", "kind"],
        }
        for i in range(330)
    }
    schema = {"type": "object", "properties": members}
    assert len(json.dumps(schema)) > 100_000
    grammars: list[str] = []
    assert idle_seconds(lambda: grammars.append(to_gbnf(schema)), times=1) < 1.5
    check_grammar(grammars[0])


@pytest.mark.parametrize(
    ("least", "most"), [(0, None), (2, None), (0, 3), (2, 3), (6, 7), (7, None)]
)
def test_unique_items_of_many_come_in_their_order(least: int, most: int | None) -> None:
    values = list("abcdefg")
    schema: dict[str, Any] = {"type": "array", "items": {"enum": values}, "uniqueItems": True}
    schema["minItems"] = least
    if most is not None:
        schema["maxItems"] = most
    start = Matcher(to_gbnf(schema))
    for chosen in itertools.product((False, True), repeat=len(values)):
        some = list(itertools.compress(values, chosen))
        fits = least <= len(some) <= (len(values) if most is None else most)
        assert accepts(start, json.dumps(some)) == fits, some
    assert not accepts(start, '["b", "b", "c"]')


@pytest.mark.skipif(sys.platform == "emscripten", reason="slow in a page")
def test_thousands_of_numbers_take_no_longer_than_thousands_of_texts() -> None:
    """Each was compared with each: 4,000 numbers took 8 seconds."""
    clock = time.perf_counter()
    for values in (list(range(20_000)), [{"a": [i, i / 2]} for i in range(3000)]):
        to_gbnf({"enum": values})
    assert time.perf_counter() - clock < 20


SAME = [
    1,
    1.0,
    True,
    "1",
    None,
    0,
    False,
    -0.0,
    0.1,
    [1],
    [1.0],
    [True],
    {"a": 1},
    {"a": 1.0},
    {},
    [],
]


@pytest.mark.parametrize("a", SAME)
@pytest.mark.parametrize("b", SAME)
def test_equal_values_have_one_identity(a: Any, b: Any) -> None:
    assert equal(a, b) == (identity(a) == identity(b))

"""Random JSON schemas, for tests that answer them."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["random_schema"]

_WORDS = ("name", "age", "größe", "a b", 'q"uote', "x", "items", "kind", "0")
_PATTERNS = ("^[a-z]{2,5}$", "^\\d+(\\.\\d+)?$", "[A-Z]x", "^(foo|bar)+$", "^.{3}$", "€")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")


def random_schema(draw: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema that something fulfils; some keywords in it may be refused."""
    kinds = ["string", "integer", "number", "enum", "boolean", "null"]
    if depth > 0:
        kinds += ["object", "object", "array", "array", "anyOf", "ref"]
    kind = draw.choice(kinds)
    if kind == "string":
        return _string(draw)
    if kind in ("integer", "number"):
        return _number(draw, kind)
    if kind == "enum":
        values: list[Any] = [draw.randrange(-99, 99), "a", "ä\n", None, True, [1, "x"], {"k": 1.5}]
        return {"enum": draw.sample(values, draw.randrange(1, len(values)))}
    if kind == "array":
        return _array(draw, depth)
    if kind == "object":
        return _object(draw, depth)
    if kind == "anyOf":
        return {"anyOf": [random_schema(draw, depth - 1) for _ in range(draw.randrange(1, 4))]}
    if kind == "ref":
        return {
            "$defs": {"it": random_schema(draw, 0)},
            "type": "array",
            "items": {"$ref": "#/$defs/it"},
            "maxItems": 2,
        }
    return {"type": kind}


def _string(draw: random.Random) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    form = draw.randrange(4)
    if form == 0:
        schema["pattern"] = draw.choice(_PATTERNS)
    elif form == 1:
        schema["format"] = draw.choice(_FORMATS)
    else:
        schema["maxLength"] = draw.randrange(1, 12)
        schema["minLength"] = draw.randrange(schema["maxLength"])
    return schema


def _number(draw: random.Random, kind: str) -> dict[str, Any]:
    low = draw.randrange(-2000, 2000)
    schema: dict[str, Any] = {"type": kind}
    if draw.random() < 0.7:
        schema[draw.choice(("minimum", "exclusiveMinimum"))] = low
    if draw.random() < 0.7:
        schema[draw.choice(("maximum", "exclusiveMaximum"))] = low + draw.randrange(2, 500)
    if draw.random() < 0.2:
        schema["multipleOf"] = draw.choice((1, 2, 5))
    return schema


def _array(draw: random.Random, depth: int) -> dict[str, Any]:
    most = draw.randrange(1, 4)
    schema: dict[str, Any] = {"type": "array", "maxItems": most, "minItems": draw.randrange(most)}
    if draw.random() < 0.8:
        schema["items"] = random_schema(draw, depth - 1)
    if draw.random() < 0.3:
        schema["prefixItems"] = [random_schema(draw, 0)]
    return schema


def _object(draw: random.Random, depth: int) -> dict[str, Any]:
    names = draw.sample(_WORDS, draw.randrange(1, 5))
    return {
        "type": "object",
        "properties": {name: random_schema(draw, depth - 1) for name in names},
        "required": draw.sample(names, draw.randrange(len(names) + 1)),
        "additionalProperties": draw.choice((False, False, {"type": "integer"})),
        "maxProperties": len(names) + 1,
    }

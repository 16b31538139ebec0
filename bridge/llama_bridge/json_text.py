"""JSON from people and models to values and back, at most 500 levels deep.

The json module goes down one level of C per level of JSON. A page has room for some 2,000 and ends with the next one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sized
from typing import Any, cast

__all__ = ["read_json", "write_json"]

_MAX_DEPTH = 500
_DEEP = f"it is nested more than {_MAX_DEPTH} deep"
_MAX_VALUES = 1_000_000
"""So many values are written; an object that is in itself twice has two to the power of the depth."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or too deep.
    """
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        depth = 0
        for match in _BRACKET.finditer(text):
            first = match[0][0]
            depth += (first in "[{") - (first in "]}")
            if depth > _MAX_DEPTH:
                raise ValueError(_DEEP)
    return json.loads(text)


def write_json(value: object) -> str:
    """A value as JSON text.

    Raises:
        TypeError, ValueError: it has no JSON form, or is too deep.
    """
    level: list[object] = [value]
    values = 0
    for _ in range(_MAX_DEPTH):
        values += sum(
            len(cast("Sized", one)) for one in level if isinstance(one, Mapping | list | tuple)
        )
        if values > _MAX_VALUES:
            raise ValueError(f"it has more than {_MAX_VALUES:,} values, or is in itself")
        level = [below for one in level for below in _below(one)]
        if not level:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
    raise ValueError(_DEEP)


def _below(value: object) -> list[object]:
    """The arrays and objects directly in a value."""
    if isinstance(value, Mapping):
        value = list(cast("Mapping[object, object]", value).values())
    if not isinstance(value, list | tuple):
        return []
    return [one for one in cast("list[object]", value) if isinstance(one, Mapping | list | tuple)]

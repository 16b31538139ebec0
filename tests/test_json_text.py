"""JSON from people and models: too deep for a page is refused, by every way in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_bridge import InvalidInput, InvalidSchema
from llama_bridge.chat.message import check_messages
from llama_bridge.chat.stream import refused
from llama_bridge.chat.tools import Tool, check_tools
from llama_bridge.json_text import read_json, write_json
from llama_bridge.structured import compile_schema, to_gbnf

DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("text", [DEEP, "[" * 501, '{"a":' * 600, '["]", ' * 501, DEEP[:70_000]])
def test_too_deep_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="more than 500 deep"):
        read_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500 + "]" * 500,
        json.dumps(["[" * 1000, '"[{' * 1000, "\\" * 1001 + "[" * 1000]),
        json.dumps([[]] * 1000),
        json.dumps({"[": "]", '"': ["{" * 2000]}),
    ],
)
def test_what_is_wide_or_only_text_is_read(text: str) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[" * 400, '"' + "[" * 600, "[" * 300 + '"' + "[" * 300, "{]"])
def test_what_is_no_json_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        read_json(text)


def nested(levels: int) -> Any:
    value: Any = 1
    for i in range(levels):
        value = [value] if i % 2 else {"a": value}
    return value


def test_writing_has_the_same_limit() -> None:
    assert write_json(nested(499)) == json.dumps(nested(499))
    with pytest.raises(ValueError, match="more than 500 deep"):
        write_json(nested(501))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="more than 500 deep"):
        write_json(loop)
    with pytest.raises(TypeError):
        write_json({"a": object()})


def test_every_way_in_refuses_it() -> None:
    with pytest.raises(InvalidInput, match="more than 500 deep"):
        to_gbnf(DEEP)
    with pytest.raises(ValueError, match="more than 500 deep"):
        compile_schema(True).parse(DEEP)
    for arguments in ('{"a": ' + DEEP + "}", {"a": nested(600)}):
        call = {"function": {"name": "f", "arguments": arguments}}
        with pytest.raises(InvalidInput, match="more than 500 deep"):
            check_messages([{"role": "assistant", "content": "", "tool_calls": [call]}])
    with pytest.raises(InvalidInput, match="more than 500 deep"):
        check_tools(
            [{"type": "function", "function": {"name": "f", "parameters": {"a": nested(600)}}}]
        )


def test_schemas_that_lead_too_far_are_refused() -> None:
    """They ended in a RecursionError."""
    inside = {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}, {"const": i}]} for i in range(1000)}
    schema = {"$ref": "#/$defs/0", "$defs": {**inside, "1000": {"type": "integer"}}}
    with pytest.raises(InvalidSchema, match="too deep inside each other"):
        to_gbnf(schema)


def test_arguments_that_are_deeper_than_their_schema_can_be_followed_are_refused() -> None:
    """They ended in a RecursionError."""
    tree = {"type": "array", "items": {"$ref": "#/$defs/tree"}}
    parameters = {"type": "object", "properties": {"a": tree}, "$defs": {"tree": tree}}
    tool = Tool("f", "", parameters)
    assert refused(tool, {"a": [[[]]]}) == ""
    assert refused(tool, {"a": [[[1]]]}) == "its schema refuses these arguments"
    assert refused(tool, read_json('{"a": ' + "[" * 490 + "]" * 490 + "}")).startswith("these arg")


def test_what_is_in_itself_twice_is_refused_and_not_written_for_ever() -> None:
    node: dict[str, object] = {}
    node |= {"left": node, "right": node}
    shared: object = "x"
    for _ in range(40):
        shared = [shared, shared]
    for value in (node, shared):
        with pytest.raises(ValueError, match="more than 1,000,000 values"):
            write_json(value)

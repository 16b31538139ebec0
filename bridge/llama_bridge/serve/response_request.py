"""What a request of /v1/responses asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .chat_request import ChatAsk, read_format
from .fields import Fields
from .refusals import Refused
from .response_items import read_items
from .sampling_fields import read_sampling

__all__ = ["ResponseAsk", "read_response"]

_MOST_NOTES = 16
"""Entries of ``metadata``, as OpenAI has it: they are kept with the response."""


@dataclass(frozen=True, slots=True)
class ResponseAsk:
    """A request, checked as far as no model is needed for it.

    Attributes:
        chat: the same as a chat, whose messages are the new ones only.
        previous: the response to go on from, or None.
        instructions: the system message of this response, or None.
        items: what was said, as it was given.
        store: whether the response is kept.
        echo: what a response tells of its request.
    """

    chat: ChatAsk
    previous: str | None
    instructions: str | None
    items: Sequence[Mapping[str, Any]]
    store: bool
    echo: Mapping[str, Any]


def read_response(fields: Fields) -> ResponseAsk:
    """Read a request.

    Raises:
        Refused: names the field.
    """
    model = fields.text("model")
    items, messages = read_items(fields)
    tools = fields.map("tools", _tool)
    choice, told = _tool_choice(fields, bool(tools))
    form, schema = _format(fields)
    effort = _effort(fields)
    include = _include(fields)
    logprobs = fields.whole("top_logprobs", 0, 20)
    if logprobs is None and "message.output_text.logprobs" in include:
        logprobs = 0
    options = fields.inner("stream_options")
    if options is not None:
        options.flag("include_obfuscation")
        options.done()
    _without_effect(fields)
    parallel = fields.flag("parallel_tool_calls") if "parallel_tool_calls" in fields else None
    settings = read_sampling(fields, ("max_output_tokens",))
    metadata = fields.plain_object("metadata") or {}
    if len(metadata) > _MOST_NOTES:
        raise fields.refuse("metadata", f"at most {_MOST_NOTES} strings")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise fields.refuse("metadata", f"strings, but {name[:64]!r} is none")
    instructions = fields.text("instructions")
    previous = fields.text("previous_response_id")
    store = fields.flag("store", True)
    ask = ResponseAsk(
        chat=ChatAsk(
            model=model,
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel=parallel,
            reasoning=effort != "none",
            stop=fields.texts("stop", most=16),
            json_schema=schema,
            grammar=fields.text("grammar"),
            logprobs=logprobs,
            settings=settings,
            stream=fields.flag("stream"),
        ),
        previous=previous,
        instructions=instructions,
        items=items,
        store=store,
        echo={
            "instructions": instructions,
            "max_output_tokens": settings.get("max_tokens"),
            "metadata": metadata,
            "parallel_tool_calls": parallel is not False,
            "previous_response_id": previous,
            "reasoning": {"effort": effort, "summary": None},
            "store": store,
            "text": {"format": form},
            "tool_choice": told,
            "tools": [{"type": "function", "strict": True, **tool["function"]} for tool in tools],
            "top_logprobs": logprobs or 0,
            "truncation": "disabled",
            "background": False,
        },
    )
    fields.done()
    return ask


def _without_effect(fields: Fields) -> None:
    for name in ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"):
        fields.text(name)
    fields.whole("max_tool_calls", 1)  # of tools that the server has itself: there are none
    fields.choice("service_tier", "auto", "default", "flex", "priority", "scale")
    fields.only("background", False, why="this server answers while you wait")
    fields.only(
        "truncation", "disabled", why="this server never leaves out a part of what was said"
    )
    fields.only("conversation", why="use previous_response_id")
    fields.only("prompt", why="this server has no stored prompts")


def _tool(fields: Fields) -> dict[str, Any]:
    if fields.text("type") != "function":
        raise fields.refuse("type", '"function": this server has no tools of its own')
    function = {
        "name": fields.needed_text("name"),
        "description": fields.text("description"),
        "parameters": fields.plain_object("parameters"),
    }
    fields.flag("strict")  # calls always fit their schema
    return {"type": "function", "function": function}


def _tool_choice(fields: Fields, tools: bool) -> tuple[str | dict[str, Any], Any]:
    """As ``chat`` takes it, and as the response tells it."""
    value = fields.any("tool_choice")
    choice: Any
    told: Any
    if value is None:
        return "auto", "auto"
    if isinstance(value, str):
        choice = told = fields.choice("tool_choice", "auto", "none", "required")
    else:
        given = fields.inner("tool_choice")
        assert given is not None
        if given.text("type") != "function":
            raise given.refuse("type", '"function"')
        name = given.needed_text("name")
        given.done()
        choice, told = (
            {"type": "function", "function": {"name": name}},
            {"type": "function", "name": name},
        )
    if not tools and choice not in ("auto", "none"):
        raise Refused(400, "tool_choice needs tools", param="tool_choice", code="invalid_value")
    return choice, told


def _format(fields: Fields) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The format as it was given, and its schema."""
    text = fields.inner("text")
    given = None if text is None else text.inner("format")
    if text is not None:
        text.choice("verbosity", "low", "medium", "high")
        text.done()
    if given is None:
        return {"type": "text"}, None
    kind = given.choice("type", "text", "json_object", "json_schema")
    if kind == "json_schema":
        name = given.needed_text("name")
        schema = read_format(given)
        given.done()
        return {"type": kind, "name": name, "schema": schema, "strict": True}, schema
    if kind is None:
        raise given.refuse("type", '"text", "json_object" or "json_schema"')
    given.done()
    return {"type": kind}, {"type": "object"} if kind == "json_object" else None


def _effort(fields: Fields) -> str | None:
    given = fields.inner("reasoning")
    if given is None:
        return None
    effort = given.choice("effort", "none", "minimal", "low", "medium", "high", "xhigh")
    for name in ("summary", "generate_summary"):
        given.choice(name, "auto", "concise", "detailed")
    given.done()
    return effort


def _include(fields: Fields) -> tuple[str, ...]:
    include = fields.texts("include")
    for word in include:
        if word not in ("message.output_text.logprobs", "reasoning.encrypted_content"):
            raise fields.refuse("include", '"message.output_text.logprobs", or leave it out')
    return include

"""What a request of /v1/chat/completions asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..params import SamplingSettings
from .fields import Fields
from .refusals import Refused
from .sampling_fields import SEEDS, read_sampling

__all__ = ["ChatAsk", "read_chat", "read_format"]

_MOST_CHOICES = 16


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A chat request, checked as far as no model is needed for it.

    Attributes:
        model: the name of the model, or None.
        messages: what was said, as the library takes it.
        tools, tool_choice, parallel, reasoning, stop, json_schema, grammar, logprobs: as ``chat`` takes them.
        settings: single settings of :class:`SamplingParams`.
        n: how many answers.
        stream: whether they are sent as they are made.
        include_usage: whether a stream ends with what it cost.
    """

    model: str | None
    messages: Sequence[Mapping[str, object]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel: bool | None = None
    reasoning: bool = True
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | bool | None = None
    grammar: str | None = None
    logprobs: int | None = None
    settings: SamplingSettings | None = None
    n: int = 1
    stream: bool = False
    include_usage: bool = False

    @property
    def shaped_by(self) -> dict[str, str]:
        """The field with the schema that can be wrong, by the name of the library's argument."""
        return {"json_schema": "tools" if self.tools else "response_format"}

    def arguments(self, index: int) -> dict[str, Any]:
        """Arguments of ``chat_stream`` for one of the answers."""
        settings: dict[str, Any] = {**(self.settings or {})}
        if index and settings.get("seed") is not None:
            settings["seed"] = (settings["seed"] + index) % SEEDS
        given: dict[str, Any] = {
            "stop": self.stop,
            "json_schema": self.json_schema,
            "grammar": self.grammar,
            "logprobs": self.logprobs,
            "reasoning": self.reasoning,
        }
        if self.tools:
            given |= {"tools": self.tools, "tool_choice": self.tool_choice}
            given["parallel_tool_calls"] = self.parallel
        return given | settings


def read_chat(fields: Fields) -> ChatAsk:
    """Read a request.

    Raises:
        Refused: names the field.
    """
    model = fields.text("model")
    if fields.items("messages") is None:
        raise fields.refuse("messages", "a list of messages")
    messages = fields.map("messages", _message)
    tools = fields.map("tools", _tool)
    choice = _tool_choice(fields, bool(tools))
    logprobs = fields.whole("top_logprobs", 0, 20)
    if not fields.flag("logprobs"):
        if logprobs is not None:
            raise Refused(
                400,
                "top_logprobs needs logprobs=true",
                param="top_logprobs",
                code="invalid_value",
            )
    elif logprobs is None:
        logprobs = 0
    options = fields.inner("stream_options")
    stream = fields.flag("stream")
    include_usage = False
    if options is not None:
        if not stream:
            raise Refused(
                400,
                "stream_options needs stream=true",
                param="stream_options",
                code="invalid_value",
            )
        include_usage = options.flag("include_usage")
        options.flag("include_obfuscation")
        options.done()
    _without_effect(fields)
    ask = ChatAsk(
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel=fields.flag("parallel_tool_calls") if "parallel_tool_calls" in fields else None,
        reasoning=_reasoning(fields),
        stop=fields.texts("stop", most=16),
        json_schema=_response_format(fields),
        grammar=fields.text("grammar"),
        logprobs=logprobs,
        settings=read_sampling(fields, ("max_completion_tokens", "max_tokens")),
        n=fields.whole("n", 1, _MOST_CHOICES) or 1,
        stream=stream,
        include_usage=include_usage,
    )
    fields.done()
    return ask


def _without_effect(fields: Fields) -> None:
    """Fields of OpenAI's that change nothing here, or only ask for what is given anyway."""
    for name in ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"):
        fields.text(name)
    fields.plain_object("metadata")
    fields.flag("store")
    fields.choice("service_tier", "auto", "default", "flex", "priority", "scale")
    fields.choice("verbosity", "low", "medium", "high")
    fields.only("modalities", ["text"], why="this server answers in text only")
    fields.only("audio", why="this server has no audio")
    fields.only("prediction", why="this server predicts by itself")
    fields.only("web_search_options", why="this server searches nothing")
    for name in ("functions", "function_call"):
        fields.only(name, why="use tools")


def _reasoning(fields: Fields) -> bool:
    words = ("none", "minimal", "low", "medium", "high", "xhigh")
    return fields.choice("reasoning_effort", *words) != "none"


_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def _message(fields: Fields) -> dict[str, Any]:
    role = fields.choice("role", *_ROLES)
    if role is None:
        raise fields.refuse("role", "who says it")
    calls = fields.map("tool_calls", _call)
    content = _content(fields)
    if content is None:
        if not calls:
            raise fields.refuse("content", "a string, or a list of parts")
        content = ""
    made: dict[str, Any] = {
        "role": "system" if role == "developer" else role,
        "content": content,
    }
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (text := fields.text(name)) is not None:
            made[name] = text
    if calls:
        made["tool_calls"] = list(calls)
    fields.text("refusal")
    fields.items("annotations")
    fields.only("audio", why="this server has no audio")
    fields.only("function_call", why="use tool_calls")
    return made


def _content(fields: Fields) -> str | None:
    value = fields.any("content")
    if value is None or isinstance(value, str):
        return fields.text("content")
    if not isinstance(value, list):
        raise fields.refuse("content", "a string, or a list of parts")
    return "".join(fields.map("content", _part))


def _part(fields: Fields) -> str:
    kind = fields.text("type")
    if kind == "text":
        return fields.needed_text("text")
    if kind == "refusal":
        return fields.needed_text("refusal")
    raise fields.refuse("type", '"text": this server reads no other parts')


def _call(fields: Fields) -> dict[str, Any]:
    fields.only("type", "function", why='give "function"')
    function = fields.inner("function")
    if function is None:
        raise fields.refuse("function", "what was called")
    name, arguments = function.needed_text("name"), function.needed_text("arguments")
    function.done()
    return {
        "id": fields.text("id"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _tool(fields: Fields) -> dict[str, Any]:
    if fields.text("type") != "function":
        raise fields.refuse("type", '"function": this server has no tools of its own')
    function = fields.inner("function")
    if function is None:
        raise fields.refuse("function", "what can be called")
    return read_function(function)


def read_function(fields: Fields) -> dict[str, Any]:
    """A function that the model may call."""
    made = {
        "name": fields.needed_text("name"),
        "description": fields.text("description"),
        "parameters": fields.plain_object("parameters"),
    }
    fields.flag("strict")  # calls always fit their schema
    fields.done()
    return {"type": "function", "function": made}


def _tool_choice(fields: Fields, tools: bool) -> str | Mapping[str, Any]:
    value = fields.any("tool_choice")
    if value is None:
        return "auto"
    choice: str | Mapping[str, Any] | None
    if isinstance(value, str):
        choice = fields.choice("tool_choice", "auto", "none", "required")
        assert choice is not None
    else:
        choice = _named(fields)
    if not tools and choice not in ("auto", "none"):
        raise Refused(400, "tool_choice needs tools", param="tool_choice", code="invalid_value")
    return choice


def _named(fields: Fields) -> Mapping[str, Any]:
    given = fields.inner("tool_choice")
    assert given is not None
    if given.text("type") != "function":
        raise given.refuse("type", '"function"')
    function = given.inner("function")
    if function is None:
        raise given.refuse("function", "the function that must be called")
    name = function.needed_text("name")
    function.done()
    given.done()
    return {"type": "function", "function": {"name": name}}


def _response_format(fields: Fields) -> dict[str, Any] | bool | None:
    given = fields.inner("response_format")
    if given is None:
        return None
    kind = given.choice("type", "text", "json_object", "json_schema")
    if kind is None:
        raise given.refuse("type", '"text", "json_object" or "json_schema"')
    inner = given.inner("json_schema")
    given.done()
    if kind == "json_schema":
        if inner is None:
            raise given.refuse("json_schema", "an object with the schema")
        schema = read_format(inner)
        inner.done()
        return schema
    return {"type": "object"} if kind == "json_object" else None


def read_format(fields: Fields) -> dict[str, Any]:
    """A schema with its name."""
    fields.text("name")
    fields.text("description")
    fields.flag("strict")  # answers always fit their schema
    schema = fields.plain_object("schema")
    if schema is None:
        raise fields.refuse("schema", "a JSON schema")
    return schema

"""Tools that a model can call: JSON schemas, or Python functions whose signature and docstring become one."""

from __future__ import annotations

import enum
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, cast

from ..checks import check_text, shown
from ..errors import InvalidInput
from ..json_text import write_json

__all__ = ["Tool", "ToolChoice", "ToolLike", "check_tool_choice", "check_tools"]

ToolLike = Mapping[str, Any] | Callable[..., object]
"""What can be given as a tool: ``{"type": "function", "function": {...}}``, or a Python function."""

ToolChoice = str | Mapping[str, Any]
"""``"auto"``, ``"none"``, ``"required"``, the name of a tool, or OpenAI's ``{"type": "function", ...}``."""

_SHAPE = "{'type': 'function', 'function': {'name': ..., 'description': ..., 'parameters': {...}}}"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST = 1 << 20
"""Characters of all tools together, as JSON."""
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_PLAIN: dict[object, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    Any: {},
    object: {},
    list: {"type": "array"},
    dict: {"type": "object"},
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A checked tool.

    Attributes:
        name: its name.
        description: what it does, possibly empty.
        parameters: JSON schema of the object that holds its arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}


def check_tools(tools: Sequence[ToolLike] | None) -> tuple[Tool, ...]:
    """Check tools and copy them.

    Raises:
        InvalidInput: one is no tool, two have the same name, or a function cannot become a schema; names it.
    """
    if tools is None:
        return ()
    given: object = tools
    if isinstance(given, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise InvalidInput(f"tools={shown(tools)}: give a list of tools")
    checked = tuple(_tool(f"tools[{i}]", tool) for i, tool in enumerate(tools))
    seen: set[str] = set()
    for i, tool in enumerate(checked):
        if tool.name in seen:
            raise InvalidInput(f"tools[{i}] has the name {tool.name!r}, which another one has, too")
        seen.add(tool.name)
    size = sum(len(json.dumps(tool.spec)) for tool in checked)
    if size > _LONGEST:
        raise InvalidInput(f"tools has {size:,} characters as JSON: give at most {_LONGEST:,}")
    return checked


def check_tool_choice(choice: ToolChoice, tools: Sequence[Tool]) -> str | Tool:
    """``"auto"``, ``"none"``, ``"required"``, or the tool that must be called.

    Raises:
        InvalidInput: it is none of these.
    """
    given: object = choice
    names = [tool.name for tool in tools]
    if isinstance(given, str) and given in ("auto", "none", "required"):
        if given == "required" and not tools:
            raise InvalidInput("tool_choice='required' needs tools")
        return given
    if isinstance(given, Mapping):
        function: object = given.get("function")
        given = (
            cast("Mapping[str, Any]", function).get("name")
            if isinstance(function, Mapping)
            else None
        )
    if isinstance(given, str) and given in names:
        return tools[names.index(given)]
    known = ", ".join(map(repr, ("auto", "none", "required", *names)))
    raise InvalidInput(f"tool_choice={shown(choice)}: give one of {known}")


def _tool(name: str, tool: object) -> Tool:
    if isinstance(tool, Mapping):
        return _from_spec(name, cast("Mapping[str, Any]", tool))
    if callable(tool):
        return _from_function(name, tool)
    raise InvalidInput(f"{name} is {shown(tool)}: give {_SHAPE}, or a Python function")


def _from_spec(name: str, tool: Mapping[str, Any]) -> Tool:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise InvalidInput(f"{name} is {shown(tool)}: give {_SHAPE}")
    inner = cast("Mapping[str, Any]", function)
    called = inner.get("name")
    if not isinstance(called, str) or not called:
        raise InvalidInput(f"{name} has no name: give {_SHAPE}")
    if not _NAME.fullmatch(called):
        raise InvalidInput(
            f"{name} is named {shown(called)}: use 1 to 64 letters, digits, '_', '-' or '.'"
        )
    description = inner.get("description")
    if not isinstance(description, str | None):
        raise InvalidInput(f"{name}: its description is {shown(description)}: give a string")
    parameters = inner.get("parameters")
    if parameters is None:
        parameters = _NO_PARAMETERS
    if not isinstance(parameters, Mapping):
        raise InvalidInput(f"{name}: its parameters are {shown(parameters)}: give a JSON schema")
    given = cast("Mapping[str, Any]", parameters) or _NO_PARAMETERS
    schema = _copy(f"{name}: its parameters", given)
    if schema.get("type", "object") != "object":
        raise InvalidInput(
            f"{name}: its parameters have the type {shown(schema['type'])}: give a schema of an object"
        )
    return Tool(
        called, check_text(f"{name} description", description or ""), {"type": "object", **schema}
    )


def _copy(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = write_json(schema)
        check_text(name, text)
        copied: dict[str, Any] = json.loads(text)
        return copied
    except InvalidInput:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} are no JSON: {error}") from error


# Python functions


def _from_function(name: str, function: Callable[..., object]) -> Tool:
    called = getattr(function, "__name__", None)
    if not isinstance(called, str) or not _NAME.fullmatch(called):
        raise InvalidInput(f"{name} is {shown(function)}, which has no name to call it by: use def")
    name = f"{name} ({called})"
    if _has_pydantic(function):
        schema = _pydantic_schema(name, function)
        described = str(schema.pop("description", ""))
        return Tool(called, described, _copy(name, {"type": "object", **schema}))
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
        made: object = getattr(function, "__init__", None)
        if isinstance(function, type) and inspect.isfunction(made):
            hints |= typing.get_type_hints(made, include_extras=True)
    except Exception as error:  # a builtin, or an annotation that names nothing
        raise InvalidInput(f"{name} has no signature to read: {error}") from error
    text = inspect.getdoc(function) or ""
    description, told = _docstring(text)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    required: list[str] = []
    for parameter in signature.parameters.values():
        one = f"{name}: its parameter {parameter.name!r}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidInput(f"{one} takes any number of values: name each one")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidInput(f"{one} is positional-only: a model gives arguments by name")
        if parameter.name not in hints:
            raise InvalidInput(f"{one} has no type: annotate it, for example {parameter.name}: str")
        hint = hints[parameter.name]
        try:
            schema = _pydantic_schema(one, hint) if _has_pydantic(hint) else _schema(one, hint)
        except RecursionError as error:
            raise InvalidInput(f"{one} has a type that contains itself: give a schema") from error
        if parameter.name in told:
            schema["description"] = told[parameter.name]
        for key, one_schema in schema.pop("$defs", {}).items():
            if definitions.setdefault(key, one_schema) != one_schema:
                raise InvalidInput(
                    f"{one} has another {key!r} than the parameters before it: rename it"
                )
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        properties[parameter.name] = schema
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    if definitions:
        parameters["$defs"] = definitions
    parameters["additionalProperties"] = False
    return Tool(called, description, _copy(name, parameters))


def _has_pydantic(kind: Any) -> bool:
    """Whether a type is, or contains, what only pydantic understands: its models, and constraints of numbers and texts."""
    if hasattr(kind, "__pydantic_core_schema__"):
        return True
    if isinstance(kind, str) or kind is None:
        return False
    if type(kind).__module__.partition(".")[0] in ("pydantic", "annotated_types"):
        return True
    return any(map(_has_pydantic, typing.get_args(kind)))


def _pydantic_schema(name: str, kind: Any) -> dict[str, Any]:
    # Without an import: who has such a type has pydantic.
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None:
        raise InvalidInput(f"{name} has constraints that only pydantic reads: import it")
    try:
        made: dict[str, Any] = pydantic.TypeAdapter(kind).json_schema()
        return made
    except Exception as error:  # pydantic has many
        raise InvalidInput(f"{name}: pydantic makes no schema of {shown(kind)}: {error}") from error


def _schema(name: str, kind: Any) -> dict[str, Any]:
    """The JSON schema of an annotation."""
    if isinstance(kind, type | types.NoneType) or kind is Any:
        if kind is None:
            kind = types.NoneType
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if isinstance(kind, enum.EnumMeta):
            return _enum(name, [member.value for member in cast("type[enum.Enum]", kind)])
        if typing.is_typeddict(kind):
            return _typed_dict(name, kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        schema = _schema(name, arguments[0])
        words = next((each for each in arguments[1:] if isinstance(each, str)), None)
        return {**schema, "description": words} if words else schema
    if origin is Literal:
        return _enum(name, [one.value if isinstance(one, enum.Enum) else one for one in arguments])
    if origin is Union or origin is types.UnionType:
        several = [_schema(name, each) for each in arguments]
        return {"anyOf": several}
    if isinstance(origin, type):
        origin = cast("type[Any]", origin)
        if issubclass(origin, Mapping) and len(arguments) == 2 and arguments[0] is str:
            return {"type": "object", "additionalProperties": _schema(name, arguments[1])}
        if origin is tuple and (len(arguments) != 2 or arguments[1] is not ...):
            items = [_schema(name, each) for each in arguments]
            return {
                "type": "array",
                "prefixItems": items,
                "minItems": len(items),
                "maxItems": len(items),
            }
        if issubclass(origin, Sequence) and arguments:
            return {"type": "array", "items": _schema(name, arguments[0])}
    raise InvalidInput(
        f"{name} has the type {shown(kind)}, which no JSON value has: use str, int, float, bool, None, Literal, an "
        f"Enum, list, dict, a TypedDict or unions of them, or give a JSON schema"
    )


def _enum(name: str, values: list[Any]) -> dict[str, Any]:
    if not values or not all(
        isinstance(value, str | int | float | bool | None) for value in values
    ):
        raise InvalidInput(f"{name} has choices that are no JSON values: {shown(values)}")
    return {"enum": values}


def _typed_dict(name: str, kind: Any) -> dict[str, Any]:
    from ..structured.classes import QUALIFIERS, is_required  # 60 ms, for those who have one

    hints: dict[str, Any] = typing.get_type_hints(kind, include_extras=True)
    properties: dict[str, Any] = {}
    for key, hint in hints.items():
        inner = hint
        while typing.get_origin(inner) in QUALIFIERS:
            inner = typing.get_args(inner)[0]
        properties[key] = _schema(f"{name}[{key!r}]", inner)
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(key for key, hint in hints.items() if is_required(hint, key, kind)),
        "additionalProperties": False,
    }


_SECTION = re.compile(r"^(\w[\w ]*):\s*$")
_GOOGLE = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_SPHINX = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description in a docstring, and what it says of each parameter (in Google's or Sphinx's style)."""
    description: list[str] = []
    told: dict[str, str] = {}
    section, last = "", ""
    for line in text.splitlines():
        if match := _SPHINX.match(line):
            section, last = "args", match[1]
            told[last] = match[2].strip()
        elif match := _SECTION.match(line):
            section, last = match[1].lower(), ""
        elif re.match(r"^\s*:\w+.*:", line):
            section = "other"
        elif not section:
            description.append(line)
        elif section in ("args", "arguments", "parameters", "params"):
            if match := _GOOGLE.match(line):
                last = match[1]
                told[last] = match[2].strip()
            elif last and line.strip():
                told[last] = f"{told[last]} {line.strip()}".strip()
    return " ".join(" ".join(description).split()), told

"""Every public call with every wrong argument: a typed error that names it, and the bridge goes on."""

from __future__ import annotations

import contextlib
import inspect
import random
import tempfile
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llama_bridge import (
    BridgeError,
    Capability,
    Grammar,
    InvalidInput,
    LlamaBridge,
    ModelParams,
    ModelSettings,
    Piece,
    Prompt,
    SamplingParams,
    SamplingSettings,
    Session,
    Trigger,
)
from llama_bridge.testing import FakeLlama

__all__ = ["VALUES", "arguments", "wrong_arguments"]


class _Hostile:
    """Cannot be shown, compared, counted or hashed."""

    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("no")

    __repr__ = __eq__ = __len__ = __bool__ = __iter__ = __index__ = _refuse


VALUES: list[object] = [
    None,
    True,
    0,
    -1,
    5,
    10**30,
    10**5000,
    1.5,
    float("nan"),
    float("inf"),
    1j,
    "",
    "x",
    "\ud800",
    "nul\0",
    "x" * 5000,
    b"x",
    bytearray(b"x"),
    [],
    ["\ud800"],
    [None],
    [10**6],
    [-1],
    (1.5,),
    {},
    {"role": "user"},
    {"type": "object", "properties": {"a": {"type": "integer"}}},
    {"type": "dragon"},
    {"$ref": "#"},
    {5: 1.0},
    {"x": -1.0},
    '{"type": "string"}',
    'root ::= "a" | [b-d]+',
    "root ::= root",
    [{"role": "user", "content": "\ud800"}],
    {1, 2},
    object(),
    type,
    len,
    lambda: None,
    SamplingParams(),
    ModelParams(),
    Capability.STREAM,
    Prompt(),
    Prompt.text("x"),
    Piece("x"),
    iter("x"),
    _Hostile(),
]

_RIGHT: dict[str, Any] = {
    "adapters": [],
    "capability": Capability.GENERATE,
    "documents": ["x"],
    "kind": "word",
    "value": "x",
    "messages": [{"role": "user", "content": "x"}],
    "model": "demo",
    "name": "work",
    "prompt": "x",
    "query": "x",
    "text": "x",
    "tokens": [1],
}
"""An argument that is right, by the name of each that must be given."""

_SETTINGS = {
    "SamplingSettings": list(typing.get_type_hints(SamplingSettings)),
    "ModelSettings": list(typing.get_type_hints(ModelSettings)),
}


def arguments(call: Callable[..., object]) -> Iterator[str]:
    """Names of all arguments of a call, single settings included."""
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kinds = [kind for kind in _SETTINGS if kind in str(parameter)]
            yield from _SETTINGS[kinds[0]]
        elif name != "self":
            yield name


def wrong_arguments(seed: int) -> Iterator[str | None]:
    """The attack. In a folder of its own, for strings are taken as paths to write to."""
    calls = [*_calls(LlamaBridge), *_calls(Session)]
    random.Random(seed).shuffle(calls)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        path = Path(folder, "saved.session").resolve()
        for kind, name in calls:
            with FakeLlama() as llama:
                llama.generate("x")
                llama.session("own").generate("x")
                llama.session_save(path)
                for wrong in arguments(getattr(kind, name)):
                    for value in VALUES:
                        if wrong == "on_progress" and callable(value):
                            continue  # what a callback raises comes out as it is
                        target = llama if kind is LlamaBridge else llama.session("own")
                        call = getattr(target, name)
                        given = _right(call, path) | {wrong: value}
                        yield _try(f"{kind.__name__}.{name}", call, given, wrong)
                for conversation in (llama, llama.session("own")):
                    yield _try("afterwards", conversation.generate, {"prompt": "x"}, "x")
        for made in (LlamaBridge, SamplingParams, ModelParams, Prompt, Piece, Grammar, Trigger):
            for wrong in arguments(made):
                for value in VALUES:
                    yield _try(made.__name__, made, _right(made, path) | {wrong: value}, wrong)
        with FakeLlama() as llama:
            for wrong in ("sampling", "system"):
                for value in VALUES:
                    given = {"name": wrong, "value": value}
                    yield _try(wrong, lambda name, value: setattr(llama, name, value), given, wrong)
            llama.system, llama.sampling = None, SamplingParams()
            yield _try("afterwards", llama.generate, {"prompt": "x"}, "x")


def _calls(kind: type) -> list[tuple[type, str]]:
    """The public methods that take arguments."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    return [
        (kind, name)
        for name, method in methods
        if not name.startswith("_") and next(arguments(method), None)
    ]


def _right(call: Callable[..., object], path: Path) -> dict[str, Any]:
    """Arguments that are right, for those that must be given."""
    needed = [
        parameter.name
        for parameter in inspect.signature(call).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return {name: path if name == "path" else _RIGHT[name] for name in needed}


def _try(label: str, call: Callable[..., Any], given: dict[str, Any], wrong: str) -> str | None:
    """What is wrong with how a call takes an argument; any end is right but an error that is not ours or unclear."""
    what = f"{label}({wrong}={type(given.get(wrong)).__name__})"
    try:
        result = call(**given)
        if hasattr(result, "result"):
            str(result.result)
        if isinstance(result, LlamaBridge):
            result.close()
    except InvalidInput as error:
        if wrong not in str(error) and wrong.rstrip("s") not in str(error):
            return f"{what}: not named in {str(error)[:200]!r}"
        return f"{what}: {len(str(error))} characters" if len(str(error)) > 1500 else None
    except BridgeError:
        return None  # a file or a model that is not there, say
    except Exception as error:
        return f"{what}: {type(error).__name__}: {str(error)[:200]}"
    return None

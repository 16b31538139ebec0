"""Jinja for untrusted templates: a sandbox with limits on time and output.

Each render has an allowance. Whatever a template builds is charged to it *before* it is built, and every loop round
and call checks the clock. What chat templates do not need and cannot be charged for is removed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from string import Formatter
from typing import Any, cast

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from ..errors import TemplateError

__all__ = ["Allowance", "BoundedEnvironment"]

SECONDS = 5.0
"""For one render. Real ones take milliseconds, even in a page."""
CHARACTERS = 4 << 20
"""What one render may build, in addition to some copies of the messages."""
COPIES = 20
_DEEPEST = 40
"""Calls inside one another."""
_PER_ITEM = 16
"""What a list item costs, in characters."""
_MOST_DIGITS = 10_000
"""The longest number."""

_LEFT_OUT = ("lipsum", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
_METHODS = (str, list, tuple, dict)
"""A template may call the methods of these types, except for those below."""
_NO_METHODS = frozenset({"encode", "expandtabs", "maketrans", "translate"})
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d+|\*)?(?:\.(\d+|\*))?[a-zA-Z%]")


class Allowance:
    """What one render may still do. It is charged while it is the current one.

    Args:
        given: characters in the messages.

    Attributes:
        left: characters that may still be built.
        depth: calls inside one another. An error ends the render, so nothing counts them back then.
    """

    def __init__(self, given: int = 0) -> None:
        self.left = CHARACTERS + COPIES * given
        self.depth = 0
        self._end = time.monotonic() + SECONDS

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def charge(self, size: int) -> None:
        """Charge ``size`` characters.

        Raises:
            TemplateError: fewer are left, or the time is up.
        """
        self.left -= size
        if self.left < 0:
            raise TemplateError("the chat template builds more text than any prompt needs")
        if time.monotonic() > self._end:
            raise TemplateError(f"the chat template takes more than {SECONDS:.0f} seconds")

    def deeper(self) -> None:
        """One more call inside the others.

        Raises:
            TemplateError: there are too many. Python's own bound is too late where the stack is small, as in a page.
        """
        self.depth += 1
        if self.depth > _DEEPEST:
            raise TemplateError(f"the chat template calls itself more than {_DEEPEST} times deep")


_current: ContextVar[Allowance] = ContextVar("allowance")


def _charge(size: int) -> None:
    _current.get().charge(size)


def _weigh(*values: object) -> int:
    """The approximate length of values as text."""
    total, waiting, most = 0, list(values), _current.get().left
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, int):
            total += value.bit_length() // 3
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, range):
            total += len(value) * _PER_ITEM
        elif isinstance(value, Namespace):
            waiting += getattr(value, "_Namespace__attrs").values()  # noqa: B009 -- its own way in
        total += _PER_ITEM
        if total > most:  # the same list many times
            break
    return total


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as model makers' tools configure it, within an :class:`Allowance`."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(
        self, filters: Mapping[str, Callable[..., Any]], helpers: Mapping[str, Any]
    ) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # compute nothing before there is an allowance
            finalize=_finalize,
            extensions=[loopcontrols, _GenerationTag],
        )
        for name in _LEFT_OUT:
            self.filters.pop(name, None)
            self.globals.pop(name, None)
        self.filters |= {"join": _join, "format": _format, **filters}
        self.filters = {name: _charged(name, each) for name, each in self.filters.items()}
        self.tests = {name: _charged(name, cast("Any", each)) for name, each in self.tests.items()}
        self.globals.update(helpers)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Charges().visit(source), *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse methods of bytes, numbers and the like, and those whose result cannot be sized in advance."""
        builtin = type(obj).__module__ == "builtins" and callable(value)
        if builtin and (not isinstance(obj, _METHODS) or attr in _NO_METHODS):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` without wide fields."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def wrapper(*args: Any, **kwargs: Any) -> str:
            return str(_format(value.__self__, *args, _call=formatted, **kwargs))

        return wrapper

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Charge what a string method is about to build, and what a call has built."""
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            name = function.__name__
            if name == "join" and args:
                args = (list(args[0]), *args[1:])
            _charge(_growth(name, owner, *args, *kwargs.values()))
        allowance = _current.get()
        allowance.deeper()
        result = super().call(context, function, *args, **kwargs)
        allowance.depth -= 1
        allowance.charge(_weigh(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Charge what an operator is about to build."""
        numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and numbers and left.bit_length() * right > _MOST_DIGITS * 3:
            raise TemplateError("the chat template computes too large a number")
        if operator == "%" and isinstance(left, str):
            return _format(left, right, _call=left.__mod__)
        if operator == "*" and not numbers:
            size, times = (left, right) if isinstance(right, int) else (right, left)
            _charge(_weigh(size) * max(0, times) if isinstance(times, int) else 0)
        else:
            _charge(_weigh(left, right))
        return super().call_binop(context, operator, left, right)

    def tick(self, size: int) -> str:
        """Charge one round of a loop, which writes ``size`` characters of the template's own text."""
        _charge(size + _PER_ITEM)
        return ""

    def concat_text(self, *values: Any) -> str:
        """The operator ``~``."""
        _charge(_weigh(*values))
        return "".join(map(str, values))

    def container(self, value: Any) -> Any:
        """Charge a new list, tuple or dictionary."""
        _charge(_weigh(value))
        return value


class _Charges(NodeTransformer):
    """Inserts the charges into a template."""

    def ticking(self, node: Any) -> nodes.Node:
        """A loop or macro: charge each round."""
        own = sum(
            len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData)
        )
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [nodes.Const(own)])))
        return cast("nodes.Node", node.set_lineno(node.lineno))

    def concat(self, node: nodes.Concat) -> nodes.Node:
        """Concatenated text."""
        self.generic_visit(node)
        return _call("concat_text", node.nodes)

    def container(self, node: Any) -> nodes.Node:
        """A list, dictionary or tuple."""
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") == "store" else _call("container", [node])

    # under the names that Jinja looks for
    visit_For = visit_Macro = visit_CallBlock = ticking  # noqa: N815
    visit_Concat = concat  # noqa: N815
    visit_List = visit_Dict = visit_Tuple = container  # noqa: N815


def _call(name: str, args: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), args, [], None, None)


def _growth(name: str, text: str, *args: Any) -> int:
    """The approximate length of what a string method or filter returns."""
    whole = _weigh(text, *args)
    if name == "replace" and len(args) >= 2:
        old, new = (str(arg) for arg in args[:2])
        return whole + (text.count(old) if old else len(text) + 1) * len(new)
    if name == "join" and args:
        return whole + len(text) * len(args[0])
    if name in ("rfind", "rindex", "rsplit", "rpartition"):  # each place is compared anew
        return (
            whole
            + len(text) * max((len(arg) for arg in args if isinstance(arg, str)), default=0) // 50
        )
    if name in ("center", "ljust", "rjust", "zfill"):
        return whole + max((arg for arg in args if isinstance(arg, int)), default=80)
    if name == "indent":
        width = next((arg for arg in args if isinstance(arg, int | str)), 4)
        width = len(width) if isinstance(width, str) else width
        return whole + (text.count("\n") + 1) * max(0, width)
    return whole


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that it is charged."""

    @wraps(function)  # keeps Jinja's mark for what is passed first
    def charged(*args: Any, **kwargs: Any) -> Any:
        given = [*(arg for arg in args if not isinstance(arg, Context)), *kwargs.values()]
        numbers = [arg for arg in given if isinstance(arg, int)]
        if name in ("batch", "slice", "tojson", "round") and max(numbers, default=0) > 100:
            raise TemplateError(f"the chat template asks too much of the filter {name}")
        if name == "unique" and any(isinstance(arg, range) and len(arg) > 1000 for arg in given):
            raise TemplateError("the chat template asks the filter unique for too much")
        text = next((arg for arg in given if isinstance(arg, str)), "")
        rest = [arg for arg in given if arg is not text]
        _charge(_growth(name, text, *rest) if name != "join" else 0)
        result = function(*args, **kwargs)
        _charge(_weigh(result))
        return result

    return charged


def _finalize(value: Any) -> Any:
    """Charge what is about to be written."""
    _charge(_weigh(value))
    return value


def _join(value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Replaces Jinja's own, which builds the text before its length is known."""
    if attribute is not None:
        value = map(make_attrgetter(_PLAIN, attribute), value)
    parts: list[str] = []
    for part in value:
        _charge(_weigh(part) + len(d))
        parts.append(str(part))
    return str(d).join(parts)


_PLAIN = ImmutableSandboxedEnvironment()
"""Looks attributes up for ``join``."""


def _format(text: str, *args: Any, _call: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Put values into a text, after its widths were charged."""
    percent = _call is None or getattr(_call, "__name__", "") == "__mod__"
    _charge(sum(_percent_widths(text) if percent else _brace_widths(text)))
    _charge(_weigh(text, args, kwargs) * 2)
    if _call is not None:
        return _call(*args, **kwargs)
    return text % (kwargs or args)


def _percent_widths(text: str) -> Iterator[int]:
    for found in _PERCENT.finditer(text):
        for width in found.groups(default="0"):
            yield _width(width)


def _brace_widths(text: str) -> Iterator[int]:
    for _, _, form, _ in Formatter().parse(text):
        if form and "{" in form:
            raise TemplateError("the chat template takes the width of a field from a value")
        for width in re.findall(r"\d+", form or ""):
            yield _width(width)


def _width(digits: str) -> int:
    if digits == "*" or len(digits) > 4:
        raise TemplateError("the chat template writes too wide a field")
    return int(digits)


class _GenerationTag(Extension):
    """``{% generation %}`` marks the assistant's part for training; here only its content counts."""

    tags = {"generation"}  # noqa: RUF012 -- Jinja's own form

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Parse the content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)

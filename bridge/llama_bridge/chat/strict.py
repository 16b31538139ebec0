"""Makes llama.cpp's grammars for tool calls as strict as the tools' schemas, and such that llama.cpp accepts them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InvalidInput
from ..structured import to_gbnf
from .tools import Tool

__all__ = ["stricter"]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z][A-Za-z0-9-]*')
_EMPTY_ROUNDS = re.compile(r"\(([A-Za-z][A-Za-z0-9-]*)\? space\)\+")


def stricter(grammar: str, tools: Sequence[Tool]) -> str:
    """A grammar for tool calls whose arguments validate, where they are JSON.

    llama.cpp's own rules for a schema allow more than the schema does. They are replaced, except where a schema has a
    keyword that no grammar can enforce: the arguments are then checked when they are there.
    """
    # Rounds of nothing: llama.cpp refuses to read them, though it writes them.
    grammar = _EMPTY_ROUNDS.sub(r"(\1 space)*", grammar)
    for i, tool in enumerate(tools):
        name = f"tool-{re.sub('[^A-Za-z0-9]+', '-', tool.name)}-schema"
        rule = re.compile(rf"^{re.escape(name)} ::= .*$", re.M)
        if not rule.search(grammar):
            continue
        try:
            own = _renamed(to_gbnf(dict(tool.parameters)), f"strict-{i}-")
        except InvalidInput:
            continue
        grammar = rule.sub(f"{name} ::= strict-{i}-root", grammar) + "\n" + own
    return grammar


def _renamed(grammar: str, prefix: str) -> str:
    """The grammar with a prefix before the names of its rules."""

    def rename(match: re.Match[str]) -> str:
        word = match[0]
        return word if word[0] in '"[' else prefix + word

    return _TOKEN.sub(rename, grammar)

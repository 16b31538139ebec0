"""GBNF texts made at random: some are grammars, some nearly."""

from __future__ import annotations

import random

__all__ = ["random_grammar"]

_PIECES = [
    '"a"',
    '"bc"',
    "[a-c]",
    "[^x]",
    ".",
    "a",
    "b",
    "c",
    "root",
    '""',
    "|",
    "|",
    "(",
    ")",
    "(",
    ")",
    "*",
    "+",
    "?",
    "{2}",
    "{0,3}",
    "{1,}",
    "{3,1}",
    "{0}",
    "[]",
    "[^]",
    "[a-]",
    "[-a]",
    "[z-a]",
    '"\\n"',
    '"\\x41"',
    '"\\u00e9"',
    '"\\U0001F600"',
    '"\\q"',
    '"\\x0"',
    "[\\]]",
    "[\\\\]",
    "<[3]>",
    "!<[3]>",
    "<x>",
    "#",
    "::=",
    "\n",
    "{,2}",
    "{99999999999}",
    "{2001}",
    '"\\x00"',
    "[\\x00-\\x20]",
    "é",
    '"é😀"',
    "[à-ü]",
    "\t",
    "\r\n",
    ",",
]


def random_grammar(rng: random.Random) -> str:
    """A few rules; in one of three texts something is broken."""
    names = ["root", "a", "b", "c"][: rng.randint(1, 4)]
    lines: list[str] = []
    for i, name in enumerate(names):
        # Mostly rules that come later: others make left recursion soon.
        known = names if rng.random() < 0.03 else names[i + 1 :]
        lines.append(f"{name} ::= {_alternatives(rng, known, 2)}")
    text = "\n".join(lines) + "\n"
    return _broken(text, rng) if rng.random() < 0.35 else text


def _alternatives(rng: random.Random, names: list[str], depth: int) -> str:
    return " | ".join(
        " ".join(
            _element(rng, names, depth)
            for _ in range(rng.choice([0, *[1] * 8, 2, 2, 3]) if depth < 2 else rng.randint(1, 3))
        )
        or '""'
        for _ in range(rng.randint(1, 3))
    )


def _element(rng: random.Random, names: list[str], depth: int) -> str:
    kind = rng.random()
    if kind < 0.4:
        one = rng.choice(['"a"', '"ab"', "[a-c]", "[^a]", '"é"', "[0-9]", ".", '"\\n"', '"x"'])
    elif names and (kind < 0.6 or depth == 0):
        one = ('"z" ' if rng.random() < 0.3 else "") + rng.choice(names)
    elif depth == 0:
        return '"y"'
    else:
        one = f"({_alternatives(rng, names, depth - 1)})"
    often = ["", "", "", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"]
    return one + (rng.choice(often) if rng.random() < 0.995 else "{40,300}")


def _broken(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        kind = rng.random()
        if kind < 0.4:
            text = text[:at] + rng.choice(_PIECES) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        else:
            end = min(len(text), at + rng.randint(1, 12))
            text = text[:at] + text[at:end] * rng.randint(2, 4) + text[end:]
        text = text or "root"
    return text

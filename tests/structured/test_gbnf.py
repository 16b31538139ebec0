"""A GBNF text is checked before llama.cpp sees it."""

from __future__ import annotations

import sys
import time

import pytest

from llama_bridge import InvalidInput
from llama_bridge.structured import check_grammar


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"',
        "# a comment\nroot ::= a # another\n\n  a ::= [a-z]+\r\n",
        'root ::= ("a" | "b"\n  | "c")* "d"{2} [x]{1,3} "y"{2,}',
        r'root ::= "\x41\u00e9\U0001F600\n\"\\" [\]\[\-^-] .',
        'root ::= item*\nitem ::= "(" root ")"',
        'root ::= <[3]> !<[4]> <|im_end|> "a"',
        'root ::= "é" [à-ü😀]',
        'root ::= "a"{2000}',
    ],
)
def test_grammars_pass(grammar: str) -> None:
    check_grammar(grammar)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "no rule 'root'"),
        ('start ::= "a"', "no rule 'root'"),
        ("root ::= a", "uses the rule 'a'"),
        ('root ::= "a"\nroot ::= "b"', "line 2, column 1: the rule 'root' is defined twice"),
        ('root ::= "a', "line 1, column 12: a text without"),
        ("root ::= [a", "'\\['"),
        ("root ::= []", "empty"),
        ("root ::= [z-a]", "wrong way round"),
        ('root ::= ("a"', "'\\)' was expected"),
        ('root ::= "a") "b"', "end of the line"),
        (r'root ::= "\q"', "unknown escape"),
        (r'root ::= "\x4"', "2 hexadecimal digits"),
        ("root ::= *", "nothing to repeat"),
        ('root ::= "a"{5,2}', "wrong way round"),
        ('root ::= "a"{2001}', "more than 2000 repetitions"),
        ('root ::= "a"{1,2001}', "more than 2000 repetitions"),
        ('root ::= "a"{99999999999999999999}', "more than 2000 repetitions"),
        ('root ::= ("a"{0,100} "b"){100}', "repetitions of repetitions"),
        ('root ::= root "a" | "b"', "begin with itself"),
        ('root ::= a "x"\na ::= b c root | "y"\nb ::= c\nc ::= "z"?', "begin with itself"),
        ('root ::= "a" root', "no text fulfils"),
        (r'root ::= "a" | "\x00"', "line 1, column 21: no such character"),
        (r"root ::= [\uD800-\uD9FF]", "no such character"),
        ('root ::= ("a"?){9}', "may be empty"),
        ("root ::= " + "(" * 60 + '"a"' + ")" * 60, "parentheses"),
        ('root ::= "a" \0', "NUL"),
        ("root ::= <[99999999999]>", "token"),
        ("root = 1", "'::=' was expected"),
        ("root ::= \ud800", "surrogate"),
    ],
)
def test_broken_grammars_are_refused(grammar: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_grammar(grammar)


@pytest.mark.parametrize("grammar", [None, 7, b'root ::= "a"', ["root"]])
def test_what_is_no_text_is_refused(grammar: object) -> None:
    with pytest.raises(InvalidInput, match="must be a str"):
        check_grammar(grammar)  # type: ignore[arg-type]


def doubled(middle: str) -> str:
    lines = [f"a{i} ::= {middle.format(i + 1)}" for i in range(40)]
    return "\n".join(["root ::= a0", *lines, 'a40 ::= "z"'])


@pytest.mark.parametrize(
    "grammar",
    [
        doubled("a{0} | a{0}"),
        doubled('a{0} "x" | a{0} "y"'),
        "root ::= " + "(" * 100_000,
        'root ::= "a" ' * 1 + "| (" * 50_000,
        "\n".join(f"r{i} ::= r{i + 1}" for i in range(50_000)) + '\nr50000 ::= "x"\nroot ::= r0',
        "\n".join(f'r{i} ::= "{"x" * 50}"{{2000}}' for i in range(40)) + "\nroot ::= r0",
        'root ::= "' + "x" * 5_000_000 + '"',
    ],
    ids=["paths", "stacks", "parentheses", "more of them", "a chain", "repetitions", "size"],
)
def test_grammars_that_would_end_or_hang_llama_cpp_are_refused_at_once(grammar: str) -> None:
    start = time.process_time()
    with pytest.raises(InvalidInput):
        check_grammar(grammar)
    assert time.process_time() - start < 5


@pytest.mark.usefixtures("native_backend")
@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no other process")
def test_the_dangers_are_real() -> None:
    # If llama.cpp takes these one day, the check may be less strict.
    from .native_judge import native_judge

    with native_judge() as judge:
        for grammar in (doubled("a{0} | a{0}"), "root ::= " + "(" * 100_000):
            with pytest.raises(AssertionError, match="died or hung"):
                judge.ask(grammar, ["a"], timeout=3)

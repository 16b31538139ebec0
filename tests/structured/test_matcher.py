"""A Matcher follows a text through a grammar."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, to_gbnf
from llama_bridge.structured import matcher as matcher_module
from tests.pace import idle_seconds

PERSON = r"""
root ::= "{\"name\": " string ", \"age\": " [0-9]{1,3} more? "}"
more ::= ", \"tags\": [" (string (", " string)*)? "]"
string ::= "\"" [^"\\\x00-\x1f]* "\""
"""


def test_what_must_come_is_told() -> None:
    matcher = Matcher(PERSON)
    assert matcher.forced() == '{"name": "'
    assert matcher.accept(matcher.forced())
    assert matcher.forced() == ""
    assert matcher.accept('Ada"')
    assert matcher.forced() == ', "age": '
    assert matcher.accept(', "age": 36')
    assert matcher.forced() == "", "a digit, a comma or the end of the object"
    assert matcher.accept(", ")
    assert matcher.forced() == '"tags": ['


def test_what_does_not_fit_changes_nothing() -> None:
    matcher = Matcher(PERSON)
    assert not matcher.accept('{"name": 7')
    assert not matcher.accept("x")
    assert matcher.forced() == '{"name": "'


def test_the_end_is_told() -> None:
    matcher = Matcher('root ::= "a" "b"?')
    assert (matcher.may_end, matcher.must_end) == (False, False)
    assert matcher.accept("a")
    assert (matcher.may_end, matcher.must_end) == (True, False)
    assert matcher.forced() == "", "b can come, but need not"
    assert matcher.accept("b")
    assert (matcher.may_end, matcher.must_end) == (True, True)
    assert not matcher.accept("b")


def test_a_copy_goes_its_own_way() -> None:
    matcher = Matcher('root ::= "a" ("b" | "c")')
    matcher.accept("a")
    other = matcher.copy()
    assert other.accept("b")
    assert other.must_end
    assert matcher.accept("c")


def test_allowed_characters_are_ranges() -> None:
    matcher = Matcher('root ::= [a-c] | "x" | [é]')
    assert matcher.allowed() == ((97, 99), (120, 120), (233, 233))
    matcher.accept("x")
    assert matcher.allowed() == ()


@pytest.mark.parametrize(
    ("grammar", "begin", "rest"),
    [
        ('root ::= "ab" "c"*', "", "ab"),
        ('root ::= "ab" "c"*', "a", "b"),
        ('root ::= "ab" "c"*', "abc", ""),
        ('root ::= "(" root ")" | "x"', "((", "x))"),
        ('root ::= long | "y"\nlong ::= "z" long | "zzz"', "", "y"),
        (PERSON, '{"name": "A', '", "age": 0}'),
    ],
)
def test_a_shortest_completion(grammar: str, begin: str, rest: str) -> None:
    matcher = Matcher(grammar)
    assert matcher.accept(begin)
    assert matcher.completion() == rest
    assert matcher.accept(rest)
    assert matcher.may_end


def test_an_endless_must_is_cut() -> None:
    matcher = Matcher('root ::= "a" root | "a"')
    assert matcher.accept("a")
    assert matcher.forced() == "", "it may end here"
    forced = Matcher('root ::= "ab" root "c" | "abd"').forced()
    assert forced == "ab"
    assert len(Matcher(f'root ::= "{"x" * 3000}"').forced()) == 500


def test_tokens_cannot_be_followed() -> None:
    with pytest.raises(InvalidInput, match="stand for tokens"):
        Matcher("root ::= <[3]>")


def test_a_grammar_that_reads_a_text_in_too_many_ways_stops() -> None:
    matcher = Matcher('root ::= "a" root "x" | "a" root "y" | "b"')
    assert matcher.accept("aaaa")
    with pytest.raises(InvalidInput, match="too many ways"):
        matcher.accept("a" * 100)
    assert matcher.width == 48, "it stays where it was"


def test_a_step_costs_microseconds() -> None:
    text = '{"name": "' + "some words, and more of them " * 20
    matcher = Matcher(PERSON)
    matcher.copy().accept(text)
    assert idle_seconds(lambda: matcher.copy().accept(text), times=20) / len(text) < 3e-6


def test_a_grammar_that_is_forgotten_takes_a_long_text_with_it() -> None:
    """Freeing a chain of states took the stack of a page, and with it the page."""
    matcher = Matcher('root ::= [a-z]{0,1900} "!"')
    assert matcher.accept("a" * 1900)
    for i in range(8):  # so many grammars are remembered
        Matcher(f'root ::= "{i}"')
    del matcher
    gc.collect()


def walked(text: str) -> list[str]:
    """What must come next at each place of a text."""
    matcher, found = Matcher(SHARED), list[str]()
    for c in text:
        found.append(matcher.forced())
        assert matcher.accept(c)
    return [*found, matcher.completion()]


SHARED = to_gbnf({"type": "array", "items": {"enum": ["red", "green", "grey"]}, "maxItems": 9})
SAID = '["red", "gre'


def test_an_interrupt_at_any_line_leaves_what_others_share_whole() -> None:
    expected = walked(SAID)

    class Rung(BaseException):
        pass

    def run(at: int) -> bool:
        left = at

        def step(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith("matcher.py"):
                return None
            left -= 1
            if left == 0:
                raise Rung
            return step

        matcher_module._paths.cache_clear()
        sys.settrace(step)
        try:
            walked(SAID)
        except Rung:
            return True
        finally:
            sys.settrace(None)
        return False

    at = 1
    while run(at):
        assert walked(SAID) == expected, f"after an interrupt at line {at}"
        at += 1
    assert at > 500


def test_many_threads_share_one_grammar() -> None:
    expected = walked(SAID)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                matcher_module._paths.cache_clear()
                matcher_module._paths(SHARED, "root")
                assert list(pool.map(walked, [SAID] * 4)) == [expected] * 4
    finally:
        sys.setswitchinterval(before)

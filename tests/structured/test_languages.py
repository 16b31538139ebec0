"""Regular expressions as automata: the same strings as in Python's re, where both know the same syntax."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_bridge.structured import language
from llama_bridge.structured.charset import ANY, CharSet, chars, span
from llama_bridge.structured.language import (
    And,
    Not,
    TooLarge,
    automaton,
    literal,
    matches,
    word_automaton,
    words,
)
from llama_bridge.structured.regex import Unsupported, found_in, whole

PATTERNS = [
    "^[a-c]+$",
    "a.b",
    "^a{2,3}$",
    "foo|^bar$",
    "^(?:a|ab)*c?$",
    "(?=.*b)a",
    "^(?!ab)a",
    "^(?![-+.]*$)[-+]?0*[0-9]*\\.?[0-9]*$",
    "^(a(?=b)b|c)$",
    "[^ab]$",
    "^a??b*?$",
    "^\\.\\d\\s?$",
    "(^|-)a($|-)",
    "^$",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(deadline=None)  # the first \d makes its table of Unicode once
@given(text=st.text(alphabet="abcfor.-+0 1", max_size=8))
def test_patterns_find_what_re_finds(pattern: str, text: str) -> None:
    found = re.search(pattern, text) is not None
    assert automaton(found_in(pattern)).accepts(text) == found
    assert automaton(found_in(pattern, True)).accepts(text) == found
    assert matches(found_in(pattern), text) == found


@pytest.mark.parametrize(
    ("pattern", "text", "narrow", "wide"),
    [
        ("^\\d$", "٣", False, True),
        ("^\\D$", "٣", False, True),
        ("^\\w$", "é", False, True),
        ("^\\W$", "é", False, True),
        ("^.$", "\u2028", False, True),
        ("^a$", "a\n", False, True),
        ("^\\p{Lu}$", "É", True, True),
        ("^\\u00e9\\x41\\cA$", "éA\x01", True, True),
        ("^\\ud83d\\ude00$", "😀", True, True),
        ("^\\u{1F600}$", "😀", True, True),
        ("^[\\d\\-\\]]$", "]", True, True),
    ],
)
def test_where_engines_differ_there_are_two_readings(
    pattern: str, text: str, narrow: bool, wide: bool
) -> None:
    assert automaton(found_in(pattern)).accepts(text) == narrow
    assert automaton(found_in(pattern, True)).accepts(text) == wide


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "'\\(' without"),
        ("a**", "quantifier of a quantifier"),
        ("*", "nothing to repeat"),
        ("(a)\\1", "back reference"),
        ("(?<=a)b", "lookbehind"),
        ("a\\b", "word boundary"),
        ("(?i)a", "\\(\\?i"),
        ("[b-a]", "wrong way"),
        ("\\a", "'\\\\a'"),
        ("a{3,2}", "wrong way"),
        ("a{100000}", "repetitions"),
        ("\\p{Nonsense}", "property"),
        ("\\ud800", "not a character"),
        ("[a", "too early"),
        ("(?:" * 100, "deep"),
    ],
)
def test_what_is_no_regular_language_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        found_in(pattern)


def test_an_automaton_has_a_bound() -> None:
    with pytest.raises(TooLarge):
        automaton(whole("[ab]*a[ab]{20}"))


def test_the_work_for_an_automaton_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few states can be a lot of work: in each of these, all repetitions may be the one that goes on."""
    monkeypatch.setattr(language, "MAX_PARTS", 10_000)
    with pytest.raises(TooLarge):
        automaton(found_in("^" + "(c|d){0,200}" * 2 + "$"))


def test_sets_of_strings_are_combined() -> None:
    both = automaton(And((whole("[a-c]{2}"), Not(words(["aa", "bc"])))))
    assert sorted(both.some(100) or []) == ["ab", "ac", "ba", "bb", "ca", "cb", "cc"]
    assert automaton(And((literal("a"), literal("b")))).empty
    assert automaton(whole("a*")).some(100) is None, "they have no end"


@given(st.sets(st.text(alphabet="ab\n", max_size=5), min_size=1, max_size=30))
def test_words_are_these_and_no_others(texts: set[str]) -> None:
    assert set(word_automaton(texts).some(100) or []) == texts
    assert set(automaton(words(texts)).some(100) or []) == texts


@given(st.sets(st.integers(0, 0x110000 - 1)), st.sets(st.integers(0, 0x110000 - 1)))
def test_sets_of_characters(one: set[int], two: set[int]) -> None:
    one, two = ({code for code in codes if code in ANY} for codes in (one, two))
    a = CharSet(()) | CharSet(tuple((code, code) for code in one))
    b = chars("".join(map(chr, two)))
    assert set(_codes(a | b)) == one | two
    assert set(_codes(a & b)) == one & two
    assert set(_codes(a - b)) == one - two
    assert ~~a == a
    assert len(a) == len(one)


def _codes(found: CharSet) -> list[int]:
    return [code for low, high in found.ranges for code in range(low, high + 1)]


def test_surrogates_are_no_characters() -> None:
    assert 0xD800 not in ANY
    assert not span(0xD800, 0xDFFF)
    assert len(ANY) == 0x110000 - 0x800

"""Bytes to text: whole characters, and nothing of a stop string."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llama_bridge.local.text_and_stops import TextAssembler


def feed(data: bytes, cuts: list[int], stop: list[str]) -> tuple[list[str], TextAssembler]:
    """Push ``data`` in the pieces that ``cuts`` make of it, until a stop string is found."""
    assembler = TextAssembler(stop)
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    deltas: list[str] = []
    for start, end in pairwise(edges):
        deltas.append(assembler.push(data[start:end]))
        if assembler.stop is not None:
            return deltas, assembler
    deltas.append(assembler.finish())
    return deltas, assembler


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=12))
def test_any_text_in_any_pieces_comes_out_the_same(text: str, cuts: list[int]) -> None:
    deltas, assembler = feed(text.encode(), cuts, [])
    assert "".join(deltas) == assembler.text == text


@given(
    st.text("abc", max_size=30),
    st.lists(st.integers(0, 60), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_string(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    deltas, assembler = feed(text.encode(), cuts, stop)
    found = [text.index(s) for s in stop if s in text]
    shown = text[: min(found)] if found else text
    # In pieces the earliest complete match decides: never later than the end of the first of them.
    ends = [text.index(s) + len(s) for s in stop if s in text]
    if not found:
        assert assembler.stop is None
        assert "".join(deltas) == text
    else:
        assert assembler.stop in stop
        assert len(shown) <= len("".join(deltas)) <= min(ends)
        assert text.startswith("".join(deltas))


def test_an_unfinished_character_is_left_out() -> None:
    deltas, assembler = feed("ok é".encode()[:-1], [], [])
    assert "".join(deltas) == assembler.text == "ok "


def test_bytes_that_are_no_text_are_marked() -> None:
    _, assembler = feed(b"a\xffb", [1, 2], [])
    assert assembler.text == "a\ufffdb"


def test_the_earliest_and_of_those_the_longest_stop_string_is_meant() -> None:
    _, assembler = feed(b"one two", [], ["two", "ne", "ne t"])
    assert (assembler.text, assembler.stop) == ("o", "ne t")

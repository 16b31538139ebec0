"""Words wrap at the edge of any terminal while they come; told by a small terminal that shows them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llama_bridge.cli.wrapping import WordWrap

PROSE = "The quick brown fox jumps over the lazy dog and runs away."
MOVE = re.compile(r"\x1b\[(\d+)G|\x1b\[K|(.)", re.S)


class Paper:
    """What a terminal of so many columns would show: it goes to the next row by itself past the last column."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.column = 0

    def feed(self, text: str) -> None:
        for match in MOVE.finditer(text):
            if match[1]:
                self.column = int(match[1]) - 1
            elif match[2] is None:
                del self.rows[-1][self.column :]
            elif match[2] == "\n":
                self.rows.append([])
                self.column = 0
            else:
                self._letter(match[2])

    def _letter(self, letter: str) -> None:
        width = cell_len(letter)
        if not width and self.rows[-1]:
            self.rows[-1][-1] += letter
            return
        if self.column + width > self.columns:
            self.rows.append([])
            self.column = 0
        assert self.column == len(self.rows[-1]), "it writes over what stands there"
        self.rows[-1] += [letter] + [""] * (width - 1)
        self.column += width

    @property
    def lines(self) -> list[str]:
        return ["".join(row) for row in self.rows]


def shown(text: str, columns: int, piece: int = 1) -> list[str]:
    wrap, paper = WordWrap(), Paper(columns)
    for start in range(0, len(text), piece):
        paper.feed(wrap.feed(text[start : start + piece], columns))
    return paper.lines


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_word_that_reaches_the_edge_begins_the_next_line(piece: int) -> None:
    assert [line.rstrip() for line in shown(PROSE, 20, piece)] == [
        "The quick brown fox",
        "jumps over the lazy",
        "dog and runs away.",
    ]


def test_text_that_fits_is_written_as_it_is() -> None:
    assert WordWrap().feed(PROSE + "\n\n  code  here\n", 80) == PROSE + "\n\n  code  here\n"


def test_each_letter_is_written_at_once() -> None:
    wrap = WordWrap()
    assert [wrap.feed(letter, 5) for letter in "abc def"][:5] == ["a", "b", "c", " ", "d"]


def test_a_line_that_ends_at_the_edge_leaves_no_empty_one() -> None:
    assert shown("abcd efgh\nij", 4) == ["abcd", "efgh", "ij"]
    assert shown("abcd\nefgh", 4) == ["abcd", "efgh"]
    assert shown("abcd  efgh", 4) == ["abcd", "efgh"]


def test_a_word_wider_than_the_terminal_is_left_to_it() -> None:
    address = "example.org/" + "x" * 30
    assert shown(f"see {address} now", 12) == [
        *["see ", *(address[i : i + 12] for i in range(0, 42, 12))][:-1],
        address[36:] + " now",
    ]


def test_wide_letters_break_anywhere_but_before_a_full_stop() -> None:
    assert shown("你好世界你好世界", 6) == ["你好世", "界你好", "世界"]
    assert shown("你好世。界", 6) == ["你好", "世。界"]
    assert shown("hello 世界", 9) == ["hello 世", "界"]
    assert shown("ab世界cd", 5) == ["ab世", "界cd"]


def test_accents_and_joined_signs_stay_with_their_letter() -> None:
    accented = unicodedata.normalize("NFD", "é é é éé")
    assert shown(accented, 7) == [unicodedata.normalize("NFD", part) for part in ("é é é ", "éé")]


def test_a_new_width_counts_from_the_next_letter() -> None:
    wrap = WordWrap()
    assert wrap.feed("The quick brown", 80) == "The quick brown"
    assert wrap.feed(" fox jumps", 20) == " fox \njumps"


@given(
    st.text(alphabet="abc é世界。\n\t-", max_size=120),
    st.integers(1, 30),
    st.integers(1, 7),
)
def test_nothing_is_lost_and_no_word_is_broken_that_would_fit(
    text: str, columns: int, piece: int
) -> None:
    text = text.replace("\t", "") if columns < 8 else text
    lines = shown(text.replace("\t", " "), columns, piece)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= max(columns, 2) for line in lines)
    narrow = re.findall(r"[abcé-]+", text)
    whole = [word for line in lines for word in re.findall(r"[abcé-]+", line)]
    assert [word for word in narrow if len(word) <= columns] == [
        word for word in whole if word in narrow
    ] or any(len(word) > columns for word in narrow)

"""Wraps words at the edge of a terminal as they arrive, character by character."""

from __future__ import annotations

from rich.cells import cell_len

__all__ = ["WordWrap"]

_TAB = 8
_JOINER = "\N{ZERO WIDTH JOINER}"
_NEVER_FIRST = frozenset("、。，．！？：；）」』】》〉”’…ー々")
"""Characters that may not begin a line of Chinese or Japanese."""


class WordWrap:
    """Text that goes to a terminal, from the start of a row.

    Nothing is held back: a word that reaches the edge leaves its row and begins the next one. A word wider than
    a row is left to the terminal, so that a URL can still be copied in one piece.
    """

    def __init__(self) -> None:
        self._column = 0
        self._begin = 0  # column of the current word
        self._word = ""
        self._before = ""  # the previous character
        self._made: list[str] = []

    def feed(self, text: str, columns: int) -> str:
        """The same text with line breaks for a terminal of this width."""
        self._made = []
        for letter in text:
            if letter == "\n":
                self._made.append(letter)
                self._column = 0
                self._begin_word()
            elif letter in " \t":
                self._space(letter, columns)
            else:
                self._letter(letter, columns)
            self._before = letter
        return "".join(self._made)

    def _begin_word(self) -> None:
        self._word, self._begin = "", self._column

    def _space(self, letter: str, columns: int) -> None:
        if self._column < columns:  # at the edge the line break replaces it
            self._made.append(letter)
            step = _TAB - self._column % _TAB if letter == "\t" else 1
            self._column = min(columns - (letter == "\t"), self._column + step)
        self._begin_word()

    def _letter(self, letter: str, columns: int) -> None:
        width = 0 if self._before == _JOINER else cell_len(letter)
        wide = width == 2 or (width > 0 and cell_len(self._before) == 2)
        if wide and letter not in _NEVER_FIRST:  # a line may end between any two wide characters
            self._begin_word()
        if width and self._column + width > columns:
            self._break()
        self._made.append(letter)
        self._word += letter
        self._column += width

    def _break(self) -> None:
        """Move the word to the next row."""
        if not self._begin:  # it fills a row: the terminal continues in the next one by itself
            self._column = 0
            return
        if self._word:  # erase it
            self._made.append(f"\x1b[{self._begin + 1}G\x1b[K")
        self._made.append("\n" + self._word)
        self._column, self._begin = cell_len(self._word), 0

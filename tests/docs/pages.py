"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "PAGES", "ROOT", "Block", "blocks", "commands"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^( *)(```+|~~~+)([^\n]*)\n(.*?)^\1\2 *$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands, from the root of the repository.
        line: of its first line of code, from 1.
        language: first word behind the fence; in braces, a directive for Sphinx.
        flags: the other words.
        text: the code.
    """

    page: str
    line: int
    language: str
    flags: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_tests(self) -> bool:
        """Whether it is a file of tests."""
        return re.search(r"^(def test_|class Test)", self.text, re.M) is not None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    whole = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(whole):
        indent, _, words, text = found.groups()
        language, *flags = words.split() or [""]
        yield Block(
            page.relative_to(ROOT).as_posix(),
            whole.count("\n", 0, found.start(4)) + 1,
            language,
            tuple(flags),
            re.sub(f"^{indent}", "", text, flags=re.M),
        )


def commands(block: Block) -> list[str]:
    """The lines of a console block that a person types."""
    lines = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+#.*", "", line) for line in lines]

"""Output for a person's terminal, a pipe, or a script that reads JSON."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ..progress import Progress
from .bar import DownloadBar
from .wrapping import WordWrap

__all__ = ["STANDARD_OUTPUT", "Terminal", "count", "duration", "one_line", "plain", "size"]

STANDARD_OUTPUT = "standard output"
"""What an error calls it."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNWRAPPED = 10_000
_ROOM = 32
"""Columns that a value needs next to its name."""
_INDENT = 4
_STAGES = {
    "verify": "checking the file, the first time only",
    "compile": "compiling llama.wasm to machine code: some seconds, the first time only",
    "load": "loading the model",
    "prefill": "reading the prompt",
    "embed": "reading the texts",
}
_UNITS = {3: "kB", 6: "MB", 9: "GB", 12: "TB"}


class Terminal:
    """Standard output and standard error of one command.

    Attributes:
        out: for what the command is asked for.
        err: for notes and errors.
        encoding: of standard input.
        interactive: whether a person types at one end and reads at the other.
    """

    def __init__(self) -> None:
        _tolerate(sys.stdout, "replace")
        _read_utf8(sys.stdin)
        # Undecodable bytes are marked, so that they can be refused by name.
        _tolerate(sys.stdin, "surrogateescape")
        self.encoding = getattr(sys.stdin, "encoding", None) or "utf-8"
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)
        self._status: Status | None = None
        self._bar: DownloadBar | None = None
        self._wrap = WordWrap()
        self._open = False  # whether the current line has not ended yet
        self.interactive = self.out.is_terminal and bool(sys.stdin) and sys.stdin.isatty()

    def write(self, text: str) -> None:
        """Show a piece of an answer at once: unchanged in a pipe, harmless and wrapped by words on a terminal."""
        if self.out.is_terminal:
            text = plain(text)
            if not (self.out.is_dumb_terminal or self.out.legacy_windows):
                text = self._wrap.feed(text, self.out.width)
        if text:
            self._open = not text.endswith("\n")
        self._put(text)

    def end_line(self) -> None:
        """Start a new line if this one has a piece of an answer."""
        if self._open:
            self.write("\n")

    @staticmethod
    def _put(text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            error.filename = STANDARD_OUTPUT  # Python names no file here
            raise

    def line(self, text: str | Text = "", style: str = "") -> None:
        """Write one line to standard output."""
        shown = Text(plain(text), style=style) if isinstance(text, str) else text
        self._put(_rendered(self.out, shown))

    def rows(self, rows: Mapping[str, str]) -> None:
        """Write names and values in two columns."""
        self.columns([(name, plain(value)) for name, value in rows.items()])

    def columns(self, rows: Iterable[tuple[str | Text, ...]], *widths: int) -> None:
        """Write columns. All but the last are as wide as ``widths`` or as needed; the last is wrapped.

        On a narrow terminal with hardly any room for the last one, it goes below the others.
        """
        table = [tuple(Text(c) if isinstance(c, str) else c for c in cells) for cells in rows]
        if not table:
            return
        needed = (
            widths or [max(map(_cell_width, column)) for column in zip(*table, strict=True)][:-1]
        )
        gap = 1 if widths else 2
        room = self.out.width - sum(needed) - gap * len(needed)
        wanted = max(_cell_width(cells[-1]) for cells in table)
        below = room < min(wanted, _ROOM)
        text = _rendered(
            self.out, _stacked(table, len(widths) or 1) if below else _grid(table, needed, gap)
        )
        if not self.out.is_terminal or self.out.is_dumb_terminal:  # no padding in a pipe
            text = "".join(line.rstrip() + "\n" for line in text.splitlines())
        self._put(text)

    def note(self, text: str, style: str = "yellow") -> None:
        """Write a remark to standard error."""
        self._aside(Text(plain(text), style=style))

    def error(self, text: str) -> None:
        """Write an error to standard error."""
        self._aside(Text.assemble(("error: ", "bold red"), plain(text)))

    def _aside(self, text: Text) -> None:
        try:
            sys.stderr.write(_rendered(self.err, text))
            sys.stderr.flush()
        except OSError:  # it cannot be shown, and the output matters more
            self.mute(sys.stderr)

    def json(self, value: object) -> None:
        """Write JSON for scripts."""
        unicode = self.out.encoding.startswith("utf")
        self._put(json.dumps(value, ensure_ascii=not unicode, indent=2) + "\n")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Show a person what takes time, until it is done."""
        if not (self.err.is_terminal and self.out.is_terminal):
            yield
            return
        with self.err.status(Text(plain(what))) as self._status:
            try:
                yield
            finally:
                self._end_bar()
                self._status = None

    def progress(self, step: Progress) -> None:
        """Show the progress during :meth:`waiting`. Works from any thread."""
        if (status := self._status) is None:
            return
        if step.stage == "download":
            if self._bar is None:
                status.stop()
                self._bar = DownloadBar(self.err)
            self._bar.show(step)
            return
        if self._end_bar():
            status.start()
        status.update(Text(_STAGES[step.stage] + _share(step)))

    def _end_bar(self) -> bool:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.end()
        return bar is not None

    @property
    def tick(self) -> str:
        """The mark for right."""
        return "✓" if self.out.encoding.startswith("utf") else "ok"

    @property
    def cross(self) -> str:
        """The mark for wrong."""
        return "✗" if self.out.encoding.startswith("utf") else "FAILED"

    @staticmethod
    def mute(stream: TextIO) -> None:
        """Discard the rest of an output, because its reader is gone or its disk is full."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _cell_width(cell: Text) -> int:
    """Width of the widest line in a cell."""
    return max((line.cell_len for line in cell.split(allow_blank=True)), default=0)


def _grid(table: Sequence[tuple[Text, ...]], widths: Sequence[int], gap: int) -> Table:
    grid = Table.grid(padding=(0, gap))
    for width in widths:
        grid.add_column(width=width, no_wrap=True, style="cyan")
    grid.add_column(overflow="fold")
    for cells in table:
        grid.add_row(*cells)
    return grid


def _stacked(table: Sequence[tuple[Text, ...]], n_names: int) -> Group:
    """Each row as a heading from its first cells, with the others below."""
    parts: list[RenderableType] = []
    for cells in table:
        parts.append(Text(" ", "cyan").join(filter(None, cells[:n_names])))
        if below := list(filter(None, cells[n_names:])):
            parts.append(Padding(Text("  ").join(below), (0, 0, 0, _INDENT)))
    return Group(*parts)


def _rendered(console: Console, what: RenderableType) -> str:
    # Rich must not print itself: if a pipe is closed, it ends the process with its own status.
    with console.capture() as captured:
        console.print(what, soft_wrap=isinstance(what, Text) and not console.is_terminal)
    return captured.get()


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNWRAPPED  # lines in a pipe are for grep
    return console


def _tolerate(stream: Any, errors: str) -> None:
    if isinstance(stream, io.TextIOWrapper) and stream.errors != errors:
        stream.reconfigure(errors=errors)  # only before the first read


def _read_utf8(stream: Any) -> None:
    """Read UTF-8 where the environment asks for ASCII: that is UTF-8, too."""
    if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8")


def plain(text: str) -> str:
    """Text without control characters: a model's words and metadata must not drive the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(name: str) -> str:
    """A name, which may come from a stranger's file, on one line."""
    return plain(name).replace("\n", "\N{REPLACEMENT CHARACTER}")


def size(n_bytes: float) -> str:
    """Bytes in readable form, in powers of ten like file managers and model pages."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    power = next((p for p in (3, 6, 9) if n_bytes < 999.5 * 10**p), 12)
    return f"{n_bytes / 10**power:.3g} {_UNITS[power]}"


def _share(step: Progress) -> str:
    if step.stage == "compile":  # its progress is unknown
        return ""
    whole = size(step.total) if step.unit == "bytes" else f"{step.total:,} {step.unit}"
    return f": {step.done / max(1, step.total):.0%} of {whole}"


def duration(seconds: float) -> str:
    """Seconds in readable form."""
    if seconds < 0.0095:
        return f"{1000 * seconds:.1f} ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def count(n: int, what: str) -> str:
    """``1 token``, ``2,048 tokens``."""
    return f"{n:,} {what}" + "s" * (n != 1)

"""Where output goes: a person's terminal, a pipe, or a script that reads JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ..progress import Progress

__all__ = ["Terminal", "count", "duration", "plain", "size"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNWRAPPED = 10_000
_STAGES = {
    "compile": "compiling llama.wasm to machine code: some seconds, the first time only",
    "load": "loading the model",
    "prefill": "reading the prompt",
}
_UNITS = {3: "kB", 6: "MB", 9: "GB", 12: "TB"}


class Terminal:
    """Standard output and standard error of one command.

    Attributes:
        out: for what the command is asked for.
        err: for notes and errors.
        interactive: whether a person types at one end and reads at the other.
    """

    def __init__(self) -> None:
        _tolerate(sys.stdout, "replace")
        # Bytes that are no UTF-8 come through marked, so that they can be refused by name.
        _tolerate(sys.stdin, "surrogateescape")
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)
        self._status: Status | None = None
        self.interactive = self.out.is_terminal and bool(sys.stdin) and sys.stdin.isatty()

    def write(self, text: str) -> None:
        """Show a piece of an answer at once: unchanged in a pipe, harmless on a terminal."""
        self._put(plain(text) if self.out.is_terminal else text)

    @staticmethod
    def _put(text: str) -> None:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """One line on standard output."""
        self.out.print(Text(plain(text), style=style), soft_wrap=not self.out.is_terminal)

    def rows(self, rows: Mapping[str, str]) -> None:
        """Names and values in two columns."""
        self.columns([(name, plain(value)) for name, value in rows.items()])

    def columns(self, rows: Iterable[tuple[str | Text, ...]], *widths: int) -> None:
        """Columns, all but the last as wide as ``widths`` say or as they need, the last one wrapped."""
        table = Table.grid(padding=(0, 2 if not widths else 1))
        for i, cells in enumerate(rows):
            if not i:
                for width in widths or [None] * (len(cells) - 1):
                    table.add_column(width=width, no_wrap=True, style="cyan")
                table.add_column(overflow="fold")
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
        with self.out.capture() as captured:
            self.out.print(table)
        text = captured.get()
        if not self.out.is_terminal or self.out.is_dumb_terminal:  # no padding in a pipe
            text = "".join(line.rstrip() + "\n" for line in text.splitlines())
        self._put(text)

    def note(self, text: str, style: str = "yellow") -> None:
        """A remark beside the output, on standard error."""
        self.err.print(Text(plain(text), style=style), soft_wrap=not self.err.is_terminal)

    def error(self, text: str) -> None:
        """An error, on standard error."""
        message = Text.assemble(("error: ", "bold red"), plain(text))
        self.err.print(message, soft_wrap=not self.err.is_terminal)

    def json(self, value: object) -> None:
        """The machine-readable record."""
        unicode = self.out.encoding.startswith("utf")
        self._put(json.dumps(value, ensure_ascii=not unicode, indent=2) + "\n")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Say what takes its time, to a person only; gone when it is done."""
        if not (self.err.is_terminal and self.out.is_terminal):
            yield
            return
        with self.err.status(Text(plain(what))) as self._status:
            try:
                yield
            finally:
                self._status = None

    def progress(self, step: Progress) -> None:
        """Say how far it is, while :meth:`waiting`. From any thread."""
        if (status := self._status) is not None:
            status.update(Text(_STAGES[step.stage] + _share(step)))

    @property
    def tick(self) -> str:
        """A mark for what is right."""
        return "✓" if self.out.encoding.startswith("utf") else "ok"

    @property
    def cross(self) -> str:
        """A mark for what is wrong."""
        return "✗" if self.out.encoding.startswith("utf") else "FAILED"

    @staticmethod
    def mute() -> None:
        """Send what is left of the output nowhere: whoever read it is gone, or its disk is full."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNWRAPPED  # lines in a pipe are for grep
    return console


def _tolerate(stream: Any, errors: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)


def plain(text: str) -> str:
    """Text without control characters: a model's words and metadata must not drive the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of ten as file managers and model pages count."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    power = next((p for p in (3, 6, 9) if n_bytes < 999.5 * 10**p), 12)
    return f"{n_bytes / 10**power:.3g} {_UNITS[power]}"


def _share(step: Progress) -> str:
    if step.stage == "compile":  # of which nobody knows how far it is
        return ""
    whole = size(step.total) if step.unit == "bytes" else f"{step.total:,} {step.unit}"
    return f": {step.done / max(1, step.total):.0%} of {whole}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 0.0095:
        return f"{1000 * seconds:.1f} ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def count(n: int, what: str) -> str:
    """``1 token``, ``2,048 tokens``."""
    return f"{n:,} {what}" + "s" * (n != 1)

"""Results as tables to read, bounds to check, and JSON to compare."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .measure import Spread

__all__ = ["Bound", "Report", "Table", "ms", "times"]


@dataclass(frozen=True)
class Table:
    """A heading, column names and rows of text; ``note`` explains them."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def __str__(self) -> str:
        cells = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in cells
        ]
        ruled = [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
        return "\n".join([self.title, *("  " + line for line in [*ruled, self.note] if line)])


@dataclass(frozen=True)
class Bound:
    """A promise and its measurement.

    Attributes:
        promise: in words.
        measured: the number, with its unit in words beside it.
        ok: whether the promise held.
        shown: the number as text.
    """

    promise: str
    measured: float
    ok: bool
    shown: str

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'MISSED'}  {self.promise}: {self.shown}"


@dataclass
class Report:
    """All results of one run, printed as they come."""

    machine: dict[str, str]
    tables: list[Table] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def table(self, title: str, columns: list[str], rows: list[list[str]], note: str = "") -> None:
        """Add a table and print it."""
        self.tables.append(Table(title, columns, rows, note))
        print(f"{self.tables[-1]}\n", flush=True)

    def bound(self, promise: str, measured: float, ok: bool, shown: str) -> None:
        """Add a bound; all are printed together at the end."""
        self.bounds.append(Bound(promise, measured, ok, shown))

    @property
    def missed(self) -> list[Bound]:
        """The bounds that did not hold."""
        return [bound for bound in self.bounds if not bound.ok]

    def write(self, path: Path) -> None:
        """Everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def times(found: Spread) -> str:
    """A ratio with its quartiles."""
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def ms(found: Spread) -> str:
    """Seconds as milliseconds, with quartiles."""
    return f"{found.median * 1e3:.1f} ({found.low * 1e3:.1f} to {found.high * 1e3:.1f})"

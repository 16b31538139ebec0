"""Short texts and small HTML for notebooks. Whatever a model or a person said is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["brief", "escape", "grey", "prose", "rows", "said"]

_LINE = 60
_LONGEST = 20_000
"""Characters of one text that a notebook shows; what is cut off is counted."""

_TURNS = 20


def escape(text: str) -> str:
    """A text in which nothing is markup."""
    from html import escape  # 1 ms: only notebooks need it

    return escape(text)


def brief(text: str, longest: int = _LINE) -> str:
    """A text as ``repr`` shows it, cut to one line."""
    shown = repr(text[: longest + 1])
    return shown if len(shown) <= longest + 2 else f"{shown[: longest + 1]}…{shown[0]}"


def prose(text: str) -> str:
    """A text with its line breaks."""
    cut = len(text) - _LONGEST
    more = grey(f"… {cut:,} more characters") if cut > 0 else ""
    return f'<div style="white-space: pre-wrap">{escape(text[:_LONGEST])}</div>{more}'


def grey(text: str) -> str:
    """A remark."""
    return f'<div style="opacity: 0.6; font-size: 85%; white-space: pre-wrap">{escape(text[:_LONGEST])}</div>'


def rows(title: str, values: Mapping[str, object]) -> str:
    """Names and values in two columns."""
    lines = "".join(
        f'<tr><td style="text-align: left; opacity: 0.6">{escape(name)}</td>'
        f'<td style="text-align: left">{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f"<div><b>{escape(title)}</b><table>{lines}</table></div>"


def said(title: str, messages: Iterable[Mapping[str, object]]) -> str:
    """A conversation: its last turns."""
    every = list(messages)
    left_out = len(every) - _TURNS
    first = grey(f"{left_out:,} earlier messages") if left_out > 0 else ""
    turns = "".join(
        f'<div style="margin: 0.4em 0">{grey(str(message.get("role", "")))}'
        f"{prose(str(message.get('content') or ''))}</div>"
        for message in every[-_TURNS:]
    )
    return f"<div><b>{escape(title)}</b>{first}{turns or grey('nothing was said yet')}</div>"

"""What the commands look like at a terminal, drawn as the documentation shows it."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from .test_terminal import Session

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal"),
    pytest.mark.slow,
    pytest.mark.pictures,
]

WIDTH = 96


def drawn(shown: str, title: str) -> str:
    """The output of a command as an SVG picture that needs no font of another host."""
    lines = [line.rsplit("\r", 1)[-1] for line in shown.splitlines()]
    text = Text("\n").join(Text.from_ansi(line) for line in lines)
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(text)
    svg = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)


@pytest.mark.parametrize("command", ["demo", "doctor"])
def test_it_looks_good_at_a_terminal(command: str, pictures: Path) -> None:
    session = Session([command], {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)})
    try:
        assert session.status() == 0
    finally:
        session.close()
    shown = session.shown.replace(sys.executable, "python")
    svg = drawn(shown, f"llama-bridge {command}")
    (pictures / f"terminal-{command}.svg").write_text(svg, encoding="utf-8")
    words = "".join(ET.fromstring(svg).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "wasm" in words
    assert "\x1b" not in svg
    assert "url(http" not in svg
    assert max(len(Text.from_ansi(line).plain) for line in shown.splitlines()) <= WIDTH

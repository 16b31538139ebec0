"""What the commands look like at a terminal, drawn as the documentation shows it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from llama_bridge import registry

from .screens import Open

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal"),
    pytest.mark.slow,
    pytest.mark.pictures,
]

WIDTH = 96


def shown_at_a_terminal(*command: str) -> str:
    """All that a command writes to a terminal."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_bridge", *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)},
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end is closed
        while data := os.read(master, 65536):
            shown += data
    os.close(master)
    assert process.wait(120) == 0, shown
    return shown.decode().replace("\r\n", "\n")


MOVES = re.compile(r"(\x1b\[\d*[AK]|\x1b\[\?25[hl]|\r|\n)")
"""How the commands move over a terminal: up, to the line's beginning, to the next line; clearing; no cursor."""


def screen(shown: str) -> list[str]:
    """The lines that are left, with their colours, when the spinners are gone."""
    lines, y, over = [""], 0, False
    for piece in MOVES.split(shown):
        if piece == "\n":
            y += 1
            lines += [""] * (y == len(lines))
        elif piece.endswith("A"):
            y -= int(piece[2:-1] or 1)
        elif piece.endswith("K"):
            lines[y] = ""
        elif piece and piece != "\r" and not piece.startswith("\x1b[?25"):
            lines[y] = piece if over else lines[y] + piece
        over = piece == "\r" or (over and not piece)
    return lines


def drawn(lines: list[str], title: str) -> str:
    """Lines of a terminal as an SVG picture that needs no font of another host."""
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
    shown = shown_at_a_terminal(command).replace(sys.executable, "python")
    lines = screen(shown)
    svg = drawn(lines, f"llama-bridge {command}")
    (pictures / f"terminal-{command}.svg").write_text(svg, encoding="utf-8")
    words = "".join(ET.fromstring(svg).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "wasm" in words
    assert "working" not in words, "a spinner is gone when its work is done"
    assert "\x1b" not in svg
    assert "url(http" not in svg
    assert max(len(Text.from_ansi(line).plain) for line in lines) <= WIDTH


def test_a_chat_looks_good_at_a_terminal(show: Open, pictures: Path) -> None:
    best = next(state.name for state in registry.probe_all() if state.ok)
    screen = show("chat", "--backend", best, "--temperature", "0", columns=WIDTH)
    screen.prompt()
    for n, text in enumerate(("Hello! My name is Zorvane.", "What is my name?"), 1):
        screen.send(text)
        screen.wait_for(rf"(evaluated(.|\n)*){{{n}}}^>\Z")
    screen.send("/help")
    screen.wait_for(r"/undo(.|\n)*^>\Z")
    svg = drawn(screen.coloured, "llama-bridge chat")
    (pictures / "terminal-chat.svg").write_text(svg, encoding="utf-8")
    words = "".join(ET.fromstring(svg).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "> What is my name?" in words
    assert words.count("Zorvane") >= 3, "it is remembered"
    assert "\x1b" not in svg
    assert "url(http" not in svg

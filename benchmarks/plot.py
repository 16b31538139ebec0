"""``python -m benchmarks.plot OUT.svg RESULT.json...``: draws speeds as bars, with a mark at each bound."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

_PROMISE = re.compile(r"wasm (\w+) at least ([\d.]+) of the raw native loop \((.*)\)")
_WIDTH, _LEFT, _ROW, _UNIT = 780, 250, 26, 420


def bars(results: list[Path]) -> list[tuple[str, float, float]]:
    """Label, value and bound of each bar."""
    found = []
    for path in results:
        for bound in json.loads(path.read_text(encoding="utf-8"))["bounds"]:
            if match := _PROMISE.fullmatch(bound["promise"]):
                found.append((f"{match[3]}, {match[1]}", bound["measured"], float(match[2])))
    return found


def draw(found: list[tuple[str, float, float]]) -> str:
    """The picture, readable on light and dark backgrounds."""
    height = _ROW * (len(found) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="13" fill="#808080">',
        "<title>Speed of llama.wasm as a share of native llama.cpp with as many threads</title>",
    ]
    for i, (what, measured, least) in enumerate(found):
        y = _ROW * (i + 1)
        mark = _LEFT + least * _UNIT
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(what)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{measured * _UNIT:.0f}" height="18" '
            f'fill="{"#3a86c8" if "prefill" in what else "#e08a3c"}"/>',
            f'<path d="M{mark:.0f} {y - 3}v24" stroke="#808080" stroke-width="2"/>',
            f'<text x="{_LEFT + 1.1 * _UNIT:.0f}" y="{y + 14}">{measured:.2f}</text>',
        ]
    end = _ROW * (len(found) + 1)
    lines += [
        f'<path d="M{_LEFT + _UNIT} {_ROW - 6}V{end}" stroke="#808080" stroke-dasharray="4 4"/>',
        f'<text x="{_LEFT + _UNIT}" y="{end + 16}" text-anchor="middle">native = 1</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(bars([Path(name) for name in sys.argv[2:]])), "utf-8")

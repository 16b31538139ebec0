"""One story, told to the chat application wherever it runs, and pictures of how it ends: in both themes, wide and on a phone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

from tools.browser import browsers, fetch

from .visiting import DESKTOP, PHONE

__all__ = ["pictures_in_firefox", "take_pictures", "tell"]

_HERE = Path(__file__).parent
_STORY = _HERE / "story.mjs"
_QUESTIONS = [
    "A recipe for lentil soup",
    "Plan a week in Oslo",
    "What is a KV cache, and why does it make a conversation cheap?",
]


def tell(page: Page) -> None:
    """Tell it."""
    page.evaluate(_story(), _QUESTIONS)


def _story() -> str:
    """Without the comment, and as the expression that it is."""
    return _STORY.read_text().partition("\n")[2].strip().removesuffix(";")


def _views() -> Iterator[tuple[int, int, str]]:
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            yield size["width"], size["height"], scheme


def take_pictures(page: Page, folder: Path, name: str) -> None:
    """Take them, as ``NAME-WIDTH-THEME.png``. Nothing is wider than the window."""
    for width, height, scheme in _views():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.wait_for_timeout(200)
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")


def pictures_in_firefox(address: str, folder: Path, name: str) -> None:
    """Tell it to Firefox, which Playwright cannot drive as Debian has it, and take the pictures.

    Raises:
        FetchError: npm's packages cannot be had.
    """
    told = {
        "program": str(browsers.find("firefox")),
        "address": address,
        "story": _story(),
        "questions": _QUESTIONS,
        "views": [
            {
                "width": width,
                "height": height,
                "scheme": scheme,
                "path": str(folder / f"{name}-{width}-{scheme}.png"),
            }
            for width, height, scheme in _views()
        ],
    }
    command = [fetch.node(), _HERE / "firefox.mjs", fetch.node_modules(), json.dumps(told)]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr

"""Opens a page in a real browser and reports what happens in it.

puppeteer-core drives Chromium over its own protocol, and Firefox over WebDriver BiDi.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from . import fetch

__all__ = ["BROWSERS", "Message", "find", "messages"]

BROWSERS = {
    "chromium": ("chrome", ("chromium", "chromium-browser", "google-chrome")),
    "firefox": ("firefox", ("firefox-esr", "firefox")),
}
"""Puppeteer's name for each, and names of its program."""

_DRIVER = Path(__file__).with_name("drive.mjs")


@dataclass(frozen=True, slots=True)
class Message:
    """An event in the page.

    Attributes:
        kind: ``version`` (of the browser), ``console``, ``pageerror``, or a kind from the page.
        data: the event's value.
    """

    kind: str
    data: Any


def find(browser: str) -> Path | None:
    """The program of a browser of :data:`BROWSERS`, if it is installed."""
    paths = map(shutil.which, BROWSERS[browser][1])
    return next((Path(path) for path in paths if path), None)


@contextmanager
def messages(browser: str, address: str, *, seconds: float) -> Generator[Generator[Message]]:
    """Open a page and yield its events until the block ends or time is up.

    Events are what the page puts into ``globalThis.messages`` as ``{kind, data}``, and its console's output.

    Raises:
        TimeoutError: from the iterator, when time is up.
        RuntimeError: from the iterator, if the browser ended.
        FetchError: there is no such browser.
    """
    program = find(browser)
    if program is None:
        raise fetch.FetchError(f"{browser} is not installed")
    command = [fetch.node(), _DRIVER, BROWSERS[browser][0], program, address, fetch.node_modules()]
    lines: Queue[str] = Queue()
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            yield _messages(lines, time.monotonic() + seconds)
        finally:
            process.stdin.close()  # the driver closes the browser
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()


def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


def _messages(lines: Queue[str], end: float) -> Generator[Message]:
    words: list[str] = []  # from the driver itself, if it fails
    line = ""
    while True:
        try:
            line = lines.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            raise TimeoutError(f"the page took too long; it last said: {line[:300]}") from None
        if not line:
            raise RuntimeError(f"the browser ended: {' '.join(words[-10:])}")
        try:
            found = json.loads(line)
            yield Message(found["kind"], found["data"])
        except (json.JSONDecodeError, KeyError, TypeError):
            words.append(line.strip())

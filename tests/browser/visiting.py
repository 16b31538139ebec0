"""What the tests of the example page share besides fixtures: the page, screens, and a server that behaves badly."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import ViewportSize

from llama_bridge.models.source import open_model
from tools.browser.server import Handler

from .person import Person

ROOT = Path(__file__).parents[2]
EXAMPLE, TEN_LINES = ROOT / "examples" / "browser", ROOT / "examples" / "browser_ten_lines"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DEMO = open_model("demo").path
STOP_WITHIN = 300  # ms
PHONE = ViewportSize(width=390, height=844)
SMALL = ViewportSize(width=360, height=640)
DESKTOP = ViewportSize(width=1280, height=800)

Visit = Callable[..., Person]


class SpoiltHandler(Handler):
    """Sends half a file and hangs up (``?half``, of a whole file), takes its time (``?slow``, ``?slower``), or has no ranges (``?slow&whole``)."""

    def send_head(self) -> Any:
        if self.path.endswith("&whole"):
            self._ranges = False
        return super().send_head()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        query = self.path.partition("?")[2]
        if query == "half" and "Range" not in self.headers:
            self._left //= 2
            self.close_connection = True
        if query.startswith("slow"):
            piece = 1 << (13 if query == "slower" else 17)
            while self._left and (data := source.read(min(self._left, piece))):
                try:
                    outputfile.write(data)
                except OSError:
                    return
                self._left -= len(data)
                time.sleep(0.05)
        super().copyfile(source, outputfile)


class PlainHandler(Handler):
    """A server that says of a file only when it was changed, sends its front page instead of what it does not have, and may be down."""

    down = False

    def send_head(self) -> Any:
        if self.down:
            self.close_connection = True
            return None
        if not Path(self.translate_path(self.path)).exists():
            self.path = "/"
        return super().send_head()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "ETag":
            nanoseconds = int(value.strip('"').partition("-")[0], 16)
            keyword, value = "Last-Modified", self.date_time_string(nanoseconds / 1e9)
        super().send_header(keyword, value)

"""Does with the chat application what a person would, and notices whatever the browser complains about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page

__all__ = ["Chatter"]


class Chatter:
    """Someone in front of a window that shows the application.

    Args:
        ready: what has to be on the screen at first.

    Attributes:
        complaints: console errors, page errors and unhandled rejections so far.
        asked: the addresses that the page has asked.
    """

    def __init__(self, context: BrowserContext, address: str, ready: str = "#prompt") -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector(ready)

    def _note(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    # seeing

    @property
    def turns(self) -> Locator:
        return self.page.locator(".turn")

    @property
    def said(self) -> list[str]:
        """What all messages say, in order."""
        return self.page.locator(".turn .body > .words").all_inner_texts()

    @property
    def titles(self) -> list[str]:
        return self.page.locator(".talks .open").all_inner_texts()

    def until(self, what: Callable[[], object], seconds: float = 20) -> None:
        # The page's Content-Security-Policy lets no text be evaluated, so Playwright cannot wait in it.
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"waited in vain; {self.page.inner_text('body')!r}"
            self.page.wait_for_timeout(20)

    def idle(self) -> None:
        self.until(lambda: self.page.is_hidden("#stop"))

    # doing

    def say(self, words: str, *, wait: bool = True) -> None:
        self.page.wait_for_selector("#model option", state="attached")
        self.page.fill("#prompt", words)
        self.page.press("#prompt", "Enter")
        self.page.wait_for_selector(".turn")
        if wait:
            self.idle()

    def press(self, name: str, turn: int | None = None) -> None:
        """Press a button, of a message if its place is given."""
        place = self.page.locator("body") if turn is None else self.turns.nth(turn)
        if turn is not None:
            place.hover()
        place.get_by_role("button", name=name, exact=True).click()

    def choose(self, title: str, name: str) -> None:
        """Choose something in the menu of a conversation."""
        row = self.page.locator(".talks li", has_text=title)
        row.hover()
        row.locator("summary").click()
        row.get_by_role("button", name=name, exact=True).click()

"""Does with the example page what a person would, and notices whatever the browser complains about."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

__all__ = ["Person"]

_NETWORK = "Failed to load resource"


class Person:
    """Someone in front of a tab that shows the page.

    Attributes:
        complaints: console errors, page errors and unhandled rejections so far.
        network_troubles: what the browser itself logs of an answer that a test has spoilt.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.network_troubles: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("crash", lambda _: self.complaints.append("the tab crashed"))
        self.page.goto(address)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            found = self.network_troubles if message.text.startswith(_NETWORK) else self.complaints
            found.append(f"{message.text} ({message.location.get('url')})")

    # seeing

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    @property
    def status(self) -> str:
        return self.text("#status")

    @property
    def trouble(self) -> str:
        return self.text("#trouble span") if self.page.locator("#trouble span").count() else ""

    @property
    def kept(self) -> list[str]:
        return self.page.locator("#kept .name").all_inner_texts()

    @property
    def answers(self) -> list[str]:
        return self.page.locator("#talk .model .text").all_inner_texts()

    @property
    def costs(self) -> list[str]:
        return self.page.locator("#talk .cost").all_inner_texts()

    @property
    def busy(self) -> bool:
        return self.page.is_visible("#progress")

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        # The page's Content-Security-Policy lets no text be evaluated, so Playwright cannot wait in it.
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"waited in vain; {self.text('body')!r}"
            self.page.wait_for_timeout(20)

    def idle(self, seconds: float = 60) -> None:
        self.until(lambda: not self.busy, seconds)

    # doing

    def start_over(self) -> None:
        """Forget the conversation and the kept models."""
        self.idle()
        self.complaints.clear()
        self.network_troubles.clear()
        if self.page.is_enabled("#new"):
            self.press("New")
            self.idle()
        if not self.page.is_visible("#url"):
            self.page.click("summary")
        while self.kept:
            self.press("Delete")
            self.idle()
        self.page.fill("#prompt", "")

    def take_demo(self) -> None:
        self.idle()
        self.page.click("#demo")
        self.idle()

    def pick(self, path: Path) -> None:
        self.idle()
        self.page.set_input_files("#file", path)
        self.idle()

    def drop(self, url: str, name: str) -> None:
        """Drop a file with the bytes of ``url``."""
        self.idle()
        self.page.evaluate(
            """async ([url, name]) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([await (await fetch(url)).blob()], name));
                for (const type of ["dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [url, name],
        )
        self.idle()

    def get(self, url: str, *, wait: bool = True) -> None:
        self.idle()
        if not self.page.is_visible("#url"):
            self.page.click("summary")
        self.page.fill("#url", url)
        self.page.press("#url", "Enter")
        if wait:
            self.idle()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def say(self, words: str, *, wait: bool = True) -> None:
        self.idle()
        self.page.click("#prompt")
        if len(words) < 100:
            self.page.keyboard.type(words)
        else:
            self.page.keyboard.insert_text(words)
        self.page.keyboard.press("Enter")
        if wait:
            self.idle()

    @contextmanager
    def quota(self, address: str, size: int) -> Generator[None]:
        """The page may keep only so many bytes."""
        session = self.context.new_cdp_session(self.page)
        session.send("Storage.overrideQuotaForOrigin", {"origin": address, "quotaSize": size})
        yield
        session.send("Storage.overrideQuotaForOrigin", {"origin": address})

    def stop(self) -> float:
        """Click Stop; milliseconds until the page is idle again, as the page itself sees them."""
        return float(
            self.page.evaluate(
                """() => new Promise((resolve) => {
                    const start = performance.now();
                    document.getElementById("stop").click();
                    const look = () => document.getElementById("progress").hidden
                        ? resolve(performance.now() - start) : setTimeout(look, 1);
                    look();
                })"""
            )
        )

    def watch_the_page_thread(self) -> Callable[[], float]:
        """Returns a function that tells the longest gap, in ms, since this call in which the page did nothing."""
        self.page.evaluate(
            """() => {
                window.longest = 0;
                let last = performance.now();
                setInterval(() => {
                    const now = performance.now();
                    window.longest = Math.max(window.longest, now - last);
                    last = now;
                }, 5);
            }"""
        )
        return lambda: float(self.page.evaluate("() => window.longest"))

    def check(self) -> None:
        """Nothing was complained about.

        Raises:
            AssertionError: with all of it.
        """
        assert self.complaints == [], json.dumps(self.complaints, indent=1)

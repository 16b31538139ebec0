"""``llama-bridge app``: the real command, with a real Chromium as its window."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if sys.platform == "emscripten":
    pytest.skip("it starts processes", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("llama-bridge")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


class Opener:
    """Runs the command with a Chromium that nobody sees, and that Playwright drives."""

    def __init__(self, playwright: Playwright, folder: Path) -> None:
        from tools.browser import browsers

        self._playwright = playwright
        self._folder = folder
        self._program = browsers.find("chromium")
        self.conversations = folder / "conversations"
        self.words = folder / "words"  # what Chromium was told

    @property
    def address(self) -> str:
        """What the browser was led to, as its history keeps it."""
        file = re.search(r"file://(\S+)", self.words.read_text())
        assert file is not None
        found = re.search(r"url=([^\"]+)", Path(file[1]).read_text())
        assert found is not None
        return found[1]

    @contextmanager
    def __call__(self) -> Iterator[tuple[Page, Callable[[], int]]]:
        """The window's page, and a function that closes it and tells the command's exit status."""
        port = free_port()
        wrapper = self._folder / "chromium"
        wrapper.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.words}\n'
            f"exec {self._program} --no-sandbox --disable-gpu --headless"
            f' --remote-debugging-port={port} "$@"\n'
        )
        wrapper.chmod(0o755)
        command = [str(COMMAND), "app", "--conversations-dir", str(self.conversations)]
        path = f"{self._folder}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(command, env={**os.environ, "PATH": path})
        try:
            browser = self._connected(port)
            context = browser.contexts[0]
            page = context.pages[0] if context.pages else context.wait_for_event("page")
            page.set_default_timeout(40_000)
            page.wait_for_selector("#model option", state="attached")

            def close() -> int:
                browser.new_browser_cdp_session().send("Browser.close")
                return process.wait(30)

            yield page, close
        finally:
            process.terminate()
            process.wait(30)

    def _connected(self, port: int) -> Browser:
        end = time.monotonic() + 60
        while True:
            try:
                return self._playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
            except Exception:
                assert time.monotonic() < end
                time.sleep(0.2)


def test_a_window_chats_keeps_talk_and_preferences_for_the_next_and_ends_with_its_server(
    playwright: Playwright, browser: Browser, tmp_path: Path
) -> None:
    opened = Opener(playwright, tmp_path)
    with opened() as (page, close):
        assert "runs on this computer" in page.inner_text(".welcome")
        page.fill("#prompt", "My name is Zorblax.")
        page.press("#prompt", "Enter")
        page.locator(".turn:not(.writing) .foot button").nth(4).wait_for(state="attached")
        assert "Zorblax" in page.locator(".turn").nth(1).inner_text()
        page.click("#costs")
        page.get_by_role("button", name="Settings").first.click()
        page.select_option("#set-language", "de")  # the page is loaded anew
        page.wait_for_selector("#prompt[placeholder^='Nachricht']")
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", page.url)
        assert found is not None, "what the history keeps has no key in it"
        assert "#window=" not in opened.words.read_text(), "others can read command lines"
        for path in ("/v1/models", "/app/conversations", "/app/preferences"):
            link = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
            link.request("GET", path)
            assert link.getresponse().status == 401
            link.close()
        again = page.context.new_page()
        again.goto(opened.address)
        again.wait_for_selector("text=this address has been used")
        assert again.locator(".talks .open").count() == 0
        again.close()
        page.reload()
        page.wait_for_selector(".talks .open")
        assert close() == 0
    assert len(list(opened.conversations.glob("t*.json"))) == 1
    with opened() as (page, close):  # another port: for the browser another place
        assert page.locator("html").get_attribute("lang") == "de"
        assert page.locator("#costs").get_attribute("aria-pressed") == "true"
        page.get_by_role("searchbox").fill("zorblax")
        page.click(".talks .open")
        page.wait_for_selector(".turn")
        page.fill("#prompt", "What is my name?")
        page.press("#prompt", "Enter")
        page.locator(".turn:not(.writing) >> nth=3").locator(".foot button").first.wait_for(
            state="attached"
        )
        assert "Zorblax" in page.locator(".turn").nth(3).inner_text()
        assert close() == 0


@pytest.mark.pictures
def test_pictures_of_the_window(playwright: Playwright, tmp_path: Path, pictures: Path) -> None:
    from .story import take_pictures, tell

    with Opener(playwright, tmp_path)() as (page, close):
        tell(page)
        take_pictures(page, pictures, "window")
        assert close() == 0

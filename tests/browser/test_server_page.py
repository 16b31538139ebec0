"""The page at ``/``, in Chromium: a conversation that goes on, keys, Stop, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import ServerSettings, app
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.serve.serving import serving, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    yield page
    page.close()


@pytest.fixture
def troubles(page: Page) -> Iterator[list[str]]:
    """What the page complains of."""
    told: list[str] = []

    def listen(message: Any) -> None:
        if message.type == "error" and "401" not in message.text:
            told.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: told.append(str(error)))
    yield told
    page.remove_listener("console", listen)
    assert told == []


def say(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def test_a_conversation_goes_on(page: Page, troubles: list[str]) -> None:
    settings = ServerSettings(api_keys=("sk-page",))
    greedy = SamplingParams(temperature=0)
    with (
        LlamaBridge("demo", sampling=greedy) as llama,
        serving(app(llama, settings=settings)) as address,
    ):
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"http://127.0.0.1:{address.port}/")
        page.wait_for_selector("#unlock:visible")
        page.fill("#key", "sk-page")
        page.press("#key", "Enter")
        page.wait_for_selector("#unlock", state="hidden")
        assert page.locator("#model option").all_inner_texts() == ["demo"]
        say(page, "Hello! My name is Zorblax.")
        page.wait_for_selector("li:nth-child(2) .cost")
        say(page, "What is my name?")
        page.wait_for_selector("li:nth-child(4) .cost")
        assert "Zorblax" in page.locator("li").nth(3).inner_text()
        page.click("#new")
        say(page, "<img src=x onerror=alert(1)> What is my name?")
        page.wait_for_selector("li:nth-child(2) .cost")
        assert page.locator("#talk img").count() == 0
        assert "Zorblax" not in page.locator("#talk").inner_text()
        assert all(
            url.startswith((f"http://127.0.0.1:{address.port}/", "data:")) for url in requests
        )


def test_stop_ends_the_answer(page: Page, troubles: list[str]) -> None:
    words = FakeAnswer("word " * 500, token_seconds=0.005)
    with FakeLlama(words) as llama, serving(app(llama, name="fake")) as address:
        page.goto(f"http://127.0.0.1:{address.port}/")
        page.wait_for_selector("#model option", state="attached")
        say(page, "long")
        page.wait_for_selector("li.model:has-text('word')")
        page.click("#stop")
        page.wait_for_selector("#send:visible")
        until(lambda: b"requests_at_work 0.0" in address.ask("GET", "/metrics").body)
        assert "stopped" in page.locator("li").nth(1).inner_text()

"""Two windows of `llama-bridge app`, each with its server, on one folder of conversations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llama_bridge.testing.hub import HubServer

from .test_window_models import hub, window

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

__all__ = ["hub"]  # a fixture


def test_each_shows_what_the_other_does_and_nothing_is_lost(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    folder = tmp_path / "talks"
    with window(context, folder) as one, window(context, folder) as two:
        one.say("Hello! My name is Zorblax.")
        said = one.said
        two.until(lambda: two.titles == ["Hello! My name is Zorblax."])
        two.page.click(".talks .open")
        two.until(lambda: two.said == said)
        two.page.fill("#prompt", "What is my name?")
        one.page.fill("#prompt", "Who are you?")
        two.page.press("#prompt", "Enter")  # both at once: each is a version of its own
        one.page.press("#prompt", "Enter")
        one.idle()
        two.idle()
        for person in (one, two):
            versions = person.page.locator(".turner span")
            versions.wait_for(state="attached")
            assert (versions.text_content() or "").endswith("/2")
        one.choose("Hello!", "Rename")
        one.page.fill(".talks input", "Names")
        one.page.press(".talks input", "Enter")
        two.until(lambda: two.titles == ["Names"])
        one.choose("Names", "Delete")
        two.page.wait_for_selector(".toast:has-text('“Names” was deleted in another window.')")
        assert two.titles == []
        two.press("Undo")
        one.until(lambda: one.titles == ["Names"])
        two.until(lambda: len(two.said) == 4)
    with window(context, folder) as third:
        assert third.titles == ["Names"]

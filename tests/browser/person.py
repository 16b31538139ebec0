"""Does with the page without a server what a person would, and notices whatever the browser complains about."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator

from .chatting import Chatter

__all__ = ["Person"]

_NETWORK = "Failed to load resource"


class Person(Chatter):
    """Someone in front of a tab that shows the page.

    Attributes:
        network_troubles: what the browser itself logs of an answer that a test has spoilt.
    """

    def __init__(self, context: BrowserContext, address: str, ready: str = "#prompt") -> None:
        self.context = context
        self.network_troubles: list[str] = []
        super().__init__(context, address, ready)
        self.page.on("crash", lambda _: self.complaints.append("the tab crashed"))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            found = self.network_troubles if message.text.startswith(_NETWORK) else self.complaints
            found.append(f"{message.text} ({message.location.get('url')})")

    # seeing

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    @property
    def answers(self) -> list[str]:
        # not inner_text: of what is scrolled away it says nothing
        found = self.page.locator(".turn:not(.mine) .body > .words").all_text_contents()
        return [text.strip() for text in found]

    @property
    def said(self) -> list[str]:
        return [
            text.strip() for text in self.page.locator(".turn .body > .words").all_text_contents()
        ]

    @property
    def costs(self) -> list[str | None]:
        return [cost.text_content() for cost in self.page.locator(".turn .cost").all()]

    @property
    def doing(self) -> str:
        """What is done before the answer begins."""
        # at one moment: it may be gone at the next
        return " ".join(self.page.locator(".turn:last-child .doing p").all_inner_texts())

    @property
    def ending(self) -> str:
        """What the last answer says about its end, or why there is none."""
        found = self.page.locator(".turn:last-child .ending, .turn:last-child .trouble p")
        return found.inner_text() if found.count() else ""

    @property
    def model(self) -> str:
        return self.page.locator("#model").input_value()

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        super().until(what, seconds)

    def here(self) -> None:
        """Wait until Python is there."""
        self.page.wait_for_selector("#model option:not([value=''])", state="attached")

    # the dialog of models

    def models(self) -> list[str]:
        """What is here, with what the dialog says about each."""
        self.open_models()
        rows = self.page.locator(".library .models li .what").all_inner_texts()
        return [" ".join(row.split()) for row in rows]

    @property
    def kept(self) -> list[str]:
        """The names of what is here beside the demo."""
        self.open_models()
        return self.page.locator(".library .models b").all_inner_texts()[1:]

    @property
    def loaded(self) -> str:
        """The name of the loaded model."""
        self.open_models()
        return self.text(".library .loaded b")

    @property
    def job(self) -> str:
        """What the dialog is doing, and how far it is."""
        return " ".join(
            " · ".join(self.page.locator(".library .job .what").all_inner_texts()).split()
        )

    @property
    def trouble(self) -> str:
        """What went wrong there."""
        found = self.page.locator(".library .trouble p")
        return found.inner_text() if found.count() else ""

    def open_models(self) -> None:
        if not self.page.is_visible(".library"):
            self.here()
            self.page.click(".bar [aria-label='Models']")
            self.page.wait_for_selector(".library .models li")

    def close_models(self) -> None:
        if self.page.is_visible(".library"):
            self.page.keyboard.press("Escape")
            self.page.wait_for_selector(".library", state="detached")

    def settled(self) -> None:
        """Wait until the dialog has nothing to do."""
        self.page.wait_for_timeout(20)
        self.until(lambda: self.page.locator(".library .job").count() == 0)

    def pick(self, path: Path | list[Path]) -> None:
        self.open_models()
        field = self.page.locator(".library input[type=file]")
        field.evaluate("(one) => one.addEventListener('change', () => (one.title = 'seen'))")
        field.set_input_files(path)
        self.until(lambda: field.get_attribute("title"))  # the browser tells the page later
        self.settled()

    def take(self, path: Path) -> None:
        """Pick a model and leave the dialog: it is what answers from now on."""
        self.pick(path)
        assert self.trouble == ""
        self.close_models()
        assert self.model == path.name

    def drop(self, url: str, name: str) -> None:
        """Drop a file with the bytes of ``url``."""
        self.here()
        self.page.evaluate(
            """async ([url, name]) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([await (await fetch(url)).blob()], name));
                for (const type of ["dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [url, name],
        )
        self.page.wait_for_selector(".library")
        self.settled()

    def get(self, url: str, *, wait: bool = True) -> None:
        self.open_models()
        self.page.fill("#model-name", url)
        self.page.press("#model-name", "Enter")
        if wait:
            self.settled()

    def press_there(self, name: str, *, wait: bool = True) -> None:
        """Press a button of the dialog."""
        self.open_models()
        self.page.locator(".library").get_by_role("button", name=name, exact=True).click()
        if wait:
            self.settled()

    def delete(self, name: str) -> None:
        self.press_there(f"Delete {name}")
        self.page.click(".library .danger")
        self.until(lambda: name not in self.kept)

    # doing

    def start_over(self) -> None:
        """Forget the conversations and the kept models."""
        self.close_models()
        self.idle()
        rows = self.page.locator(".talks li")
        for left in reversed(range(rows.count())):
            rows.first.hover()
            rows.first.locator("summary").click()
            rows.first.get_by_role("button", name="Delete", exact=True).click()
            self.until(partial(self._are, rows, left))
        self.open_models()
        if self.kept and self.page.locator(".library .loaded b").all_inner_texts() != ["demo"]:
            self.press_there("Load demo")
        for name in self.kept:
            self.delete(name)
        self.close_models()
        if self.page.locator("#costs").get_attribute("aria-pressed") == "true":
            self.press("Costs")
        self.page.fill("#prompt", "")
        self.complaints.clear()
        self.network_troubles.clear()

    def say(self, words: str, *, wait: bool = True) -> None:
        """Ask, also before Python is there."""
        before = self._last
        self.page.click("#prompt")
        if len(words) < 100:
            self.page.keyboard.type(words)
        else:
            self.page.keyboard.insert_text(words)
        self.page.keyboard.press("Enter")
        self.until(lambda: self._last != before)
        if wait:
            self.idle()

    def _are(self, found: Locator, many: int) -> bool:
        return found.count() == many

    @property
    def _last(self) -> str | None:
        """Which message is the last."""
        return self.turns.last.get_attribute("data-id") if self.turns.count() else None

    def stop(self) -> float:
        """Click Stop; milliseconds until the page is idle again, as the page itself sees them."""
        return float(
            self.page.evaluate(
                """() => new Promise((resolve) => {
                    const start = performance.now();
                    document.getElementById("stop").click();
                    const look = () => document.getElementById("stop").hidden
                        ? resolve(performance.now() - start) : setTimeout(look, 1);
                    look();
                })"""
            )
        )

    @contextmanager
    def quota(self, address: str, size: int) -> Generator[None]:
        """The page may keep only so many bytes."""
        session = self.context.new_cdp_session(self.page)
        session.send("Storage.overrideQuotaForOrigin", {"origin": address, "quotaSize": size})
        yield
        session.send("Storage.overrideQuotaForOrigin", {"origin": address})

    @contextmanager
    def holding(self, job: str) -> Generator[Callable[[], None]]:
        """Such jobs reach the worker only once the function is called, which gives the rest of the page its turn."""
        self.page.evaluate(
            """(job) => {
                const { postMessage } = Worker.prototype;
                const held = [];
                Worker.prototype.postMessage = function (...given) {
                    if (given[0].job === job) held.push(() => postMessage.apply(this, given));
                    else postMessage.apply(this, given);
                };
                self.letGo = () => {
                    Worker.prototype.postMessage = postMessage;
                    for (const send of held.splice(0)) send();
                };
            }""",
            job,
        )

        def let_go() -> None:
            self.page.evaluate("() => self.letGo()")

        yield let_go
        let_go()

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

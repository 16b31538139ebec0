"""What is measured of the chat application in a browser. It is the same whichever host it has: a server, a window, or the page itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ["WATCH", "Arrival", "Streaming", "arrive", "ask", "heap", "stream", "times_of"]

_MINUTES = 1
_LONG = 50_000
"""Microseconds from which a task of the page is long: whoever types notices it."""

WATCH = """(question) => {
    const times = (self.times = { origin: performance.timeOrigin });
    const answers = () => document.querySelectorAll(".turn:not(.mine) .words");
    let before; // answers of a conversation that is there already
    const look = () => {
        const area = document.querySelector("#prompt");
        if (!times.interactive && area && document.querySelector("#model option")) {
            times.interactive = performance.now();
            before = answers().length;
            area.value = question;
            area.dispatchEvent(new Event("input"));
            area.form.requestSubmit();
        }
        if (!times.interactive || !answers()[before]?.textContent.trim()) return;
        times.answer = performance.now();
        watcher.disconnect();
    };
    const watcher = new MutationObserver(look);
    watcher.observe(document, { childList: true, subtree: true, characterData: true });
    look();
}"""
"""Asks a question as soon as there is a model, and notes when the answer begins."""

_ASK = """async ([words, times, each]) => {
    const area = document.querySelector("#prompt");
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
    for (let i = 0; i < times; i++) {
        if (i % each === 0) {
            document.querySelector("#new").click();
            await sleep(30);
        }
        area.value = words;
        area.dispatchEvent(new Event("input"));
        area.form.requestSubmit();
        do await sleep(2);
        while (document.querySelector("#stop").offsetParent);
    }
}"""

_FRAMES = """() => {
    self.frames = [];
    let last = performance.now();
    const look = (now) => {
        self.frames.push(now - last);
        last = now;
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Seconds since somebody opened the page.

    Attributes:
        paint: until something was seen.
        interactive: until a question could be sent.
        answer: until the answer to it began.
    """

    paint: float
    interactive: float
    answer: float


@dataclass(frozen=True, slots=True)
class Streaming:
    """The page's thread while an answer was written.

    Attributes:
        frames: milliseconds between one frame and the next.
        long_tasks: milliseconds of each task that took more than 50.
    """

    frames: list[float]
    long_tasks: list[float]


def arrive(context: BrowserContext, address: str, question: str) -> tuple[Page, Arrival]:
    """Open the page, and ask at once."""
    page = context.new_page()
    page.add_init_script(f"({WATCH})({json.dumps(question)})")
    page.goto(address)
    times = times_of(page)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return page, Arrival(paint / 1e3, times["interactive"] / 1e3, times["answer"] / 1e3)


def times_of(page: Page) -> dict[str, float]:
    """What :data:`WATCH` has noted, in milliseconds, once the answer has begun.

    Raises:
        TimeoutError: nothing came for minutes.
    """
    for _ in range(_MINUTES * 60 * 100):
        times = cast("dict[str, float]", page.evaluate("self.times"))
        if "answer" in times:
            return times
        page.wait_for_timeout(10)
    raise TimeoutError(f"no answer: {page.inner_text('body')[-500:]}")


def ask(page: Page, words: str, times: int = 1, each: int = 10) -> None:
    """Ask some times, in a new conversation after ``each``, and wait for the answers."""
    page.evaluate(_ASK, [words, times, each])


def heap(page: Page) -> int:
    """Bytes that the page's scripts hold, once the garbage is out."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = int(session.send("Runtime.getHeapUsage")["usedSize"])
    session.detach()
    return used


def stream(browser: Browser, page: Page, words: str) -> Streaming:
    """Ask for a long answer, and watch the page's thread meanwhile."""
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    page.evaluate(_FRAMES)
    ask(page, words)
    frames = cast("list[float]", page.evaluate("self.frames"))
    events: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"].get("name") == "CrRendererMain"
    }
    long_tasks = [
        event["dur"] / 1e3
        for event in events
        if event["name"].endswith("RunTask")
        and (event["pid"], event["tid"]) in mains
        and event.get("dur", 0) > _LONG
    ]
    return Streaming(frames[1:], long_tasks)

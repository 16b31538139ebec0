"""The chat application, on a server's page and in the window: how soon it answers, and whether it stays smooth and small."""

from __future__ import annotations

import gzip
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvicorn

from llama_bridge.cli.listening import listen
from llama_bridge.serve import app
from llama_bridge.serve.front_page import FILES
from llama_bridge.serve.running import configured
from llama_bridge.testing import FakeAnswer, FakeLlama
from tools.browser import browsers
from tools.browser.server import serve
from tools.browser.site import ROOT, lay_out
from tools.load.program import free_port

from .app_story import WATCH, Arrival, arrive, ask, heap, stream, times_of
from .measure import spread
from .report import Report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

__all__ = ["measure_app"]

_COMMAND = Path(sys.executable).with_name("llama-bridge")
_PAGE = Path(app.__code__.co_filename).with_name("page")
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--headless"]
_QUESTION = "Hello! My name is Zorblax."
_READING = 5
"""Seconds that somebody takes for an answer. Chromium keeps machine code some seconds after it was made."""
_LETTERS = 800
"""A second, each an event of its own: 200 tokens of four letters."""
_PARAGRAPH = (
    "A **KV cache** keeps what `attention` computed.\n\n- one\n- two\n\n```python\nx = 1\n```\n\n"
)


_Bounds = Sequence[tuple[str, str, float]]
"""Each: the visit, what of its :class:`Arrival`, and within how many seconds."""

_WORDS = {"paint": "first paint", "interactive": "interactive", "answer": "first answer"}
_OF_SERVER: _Bounds = [("first", "paint", 0.3), ("first", "interactive", 1.0)]
_OF_PAGE: _Bounds = [
    *_OF_SERVER,
    ("first", "answer", 4.5),
    ("second", "answer", 2.0),
    ("offline", "answer", 2.0),
]


def measure_app(report: Report, *, rounds: int, quick: bool) -> None:
    """Tables and bounds; nothing where there is no Chromium."""
    program = browsers.find("chromium")
    if program is None:
        print(
            "app: Chromium is not installed; on Debian: apt-get install chromium", file=sys.stderr
        )
        return
    from playwright.sync_api import (
        sync_playwright,  # a tool of tests, which the other sections do without
    )

    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS[:2])
        visits = partial(_visits, playwright, program, rounds, 0 if quick else _READING)
        with serve(_site(Path(folder))) as address:
            found = visits(address, offline=True)
        _tell_visits(report, "page without a server", found, _OF_PAGE)
        with _server() as address:
            found = visits(address)
            _tell_visits(report, "server's page", found, _OF_SERVER)
            _memory(report, browser, address, answers=20 if quick else 200)
        _window(report, playwright, program, Path(folder), rounds)
        _frames(report, browser, letters=200 if quick else 4000)
        browser.close()
    size = sum(
        len(gzip.compress((_PAGE / name).read_bytes(), mtime=0))
        for name in FILES.values()
        if name.endswith(".js")
    )
    report.bound(
        "scripts of the application at most 150 kB gzipped",
        size,
        size <= 150_000,
        f"{size / 1e3:.1f} kB",
    )


@contextmanager
def _server() -> Generator[str]:
    """``llama-bridge serve`` with the demo model; its page's address."""
    command = [str(_COMMAND), "serve", "demo", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removesuffix("v1")
        finally:
            process.terminate()


def _site(folder: Path) -> Path:
    return lay_out(folder / "site", extra=[ROOT / "examples" / "browser"], compiled=True)


def _visits(
    playwright: Playwright,
    program: Path,
    rounds: int,
    reading: float,
    address: str,
    *,
    offline: bool = False,
) -> dict[str, list[Arrival]]:
    """Arrivals by the visit; a third one is made without the network, if the page can do that.

    Each round has a profile of its own on the disk, as people's browsers have, where Chromium keeps machine code.
    """
    found: dict[str, list[Arrival]] = {"first": [], "second": []}
    if offline:
        found["offline"] = []
    for _ in range(rounds):
        with (
            TemporaryDirectory(ignore_cleanup_errors=True) as profile,
            playwright.chromium.launch_persistent_context(
                profile, executable_path=program, args=_OPTIONS[:2]
            ) as context,
        ):
            for visit, arrivals in found.items():
                context.set_offline(visit == "offline")
                page, arrival = arrive(context, address, _QUESTION)
                arrivals.append(arrival)
                page.wait_for_timeout(1e3 * reading)
                if visit == "second" and offline:
                    page.evaluate(
                        "() => navigator.serviceWorker.ready"
                    )  # it has kept all of the page
                page.close()
    return found


def _tell_visits(
    report: Report, host: str, found: dict[str, list[Arrival]], bounds: _Bounds
) -> None:
    names = ("paint", "interactive", "answer")
    rounds = len(found["first"])
    report.table(
        f"The application as a {host}, demo model, {rounds} rounds",
        ["seconds after it is opened", "first paint", "interactive", "first answer"],
        [
            [f"{visit} visit", *(_shown([getattr(one, name) for one in made]) for name in names)]
            for visit, made in found.items()
        ],
        f"A question is sent as soon as that is possible. Each page is closed {_READING} s after its answer began.",
    )
    for visit, name, limit in bounds:
        values = [getattr(one, name) for one in found[visit]]
        middle = statistics.median(values)
        words = f"{_WORDS[name]} of the {host}, {visit} visit, within {limit} s"
        report.bound(words, middle, middle <= limit, _shown(values))


def _memory(report: Report, browser: Browser, address: str, answers: int) -> None:
    """Tenths of the answers, each in conversations of ten. The first tenth warms up."""
    with browser.new_context() as context:
        page, _ = arrive(context, address, _QUESTION)
        sizes = list[float]()
        for _ in range(10):
            ask(page, _QUESTION, max(1, answers // 10))
            sizes.append(heap(page) / 1e6)
    growth = sizes[-1] - sizes[0]
    report.table(
        f"The application's memory over {answers} answers",
        ["answers", *(str(answers * (i + 1) // 10) for i in range(10))],
        [["MB of its scripts", *(f"{size:.1f}" for size in sizes)]],
    )
    report.bound(
        f"memory over {answers} answers grows by at most 1 MB",
        growth,
        growth <= 1,
        f"{growth:.2f} MB",
    )


def _window(
    report: Report, playwright: Playwright, program: Path, folder: Path, rounds: int
) -> None:
    """``llama-bridge app``, whose window is a Chromium that nobody sees."""
    port, wrapper = free_port(), folder / "chromium"
    options = " ".join([*_OPTIONS, f"--remote-debugging-port={port}"])
    wrapper.write_text(f'#!/bin/sh\nexec {program} {options} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [str(_COMMAND), "app", "--conversations-dir"]
    opened, answered = list[float](), list[float]()
    for i in range(rounds):
        whole = [*command, str(folder / f"conversations-{i}")]
        clock = time.time() * 1e3
        with subprocess.Popen(whole, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                browser = _connected(playwright, port)
                context = browser.contexts[0]
                page = context.pages[0] if context.pages else context.wait_for_event("page")
                page.wait_for_url(re.compile("^http:"), wait_until="commit")  # before: a bar
                page.evaluate(WATCH, _QUESTION)
                times = times_of(page)
                opened.append((times["origin"] - clock) / 1e3)
                answered.append(opened[-1] + times["answer"] / 1e3)
                browser.new_browser_cdp_session().send("Browser.close")
                process.wait(30)
            finally:
                process.terminate()
    report.table(
        f"llama-bridge app, demo model, {rounds} rounds",
        ["seconds after the command", "the window asks its server", "first answer"],
        [["", _shown(opened), _shown(answered)]],
        "Chromium, driven from outside, which takes its time too.",
    )
    middle = statistics.median(answered)
    report.bound("the window's first answer within 1.5 s", middle, middle <= 1.5, _shown(answered))


def _connected(playwright: Playwright, port: int) -> Browser:
    end = time.monotonic() + 60
    while True:
        try:
            return playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _frames(report: Report, browser: Browser, letters: int) -> None:
    """An answer in Markdown, written at a steady speed."""
    text = (_PARAGRAPH * (letters // len(_PARAGRAPH) + 1))[:letters]
    answers = [FakeAnswer("Hello."), FakeAnswer(text, token_seconds=1 / _LETTERS)]
    with FakeLlama(answers) as llama, _serving(llama) as address, browser.new_context() as context:
        page, _ = arrive(context, address, _QUESTION)
        page.wait_for_timeout(500)
        found = stream(browser, page, "Tell me more.")
    frames = sorted(found.frames)
    late = sum(frame > 34 for frame in frames)
    report.table(
        f"The application while {letters:,} letters of Markdown are written at 200 tokens/s",
        ["", "frames", "median, ms", "longest, ms", "later than 34 ms", "tasks over 50 ms"],
        [
            [
                "server's page",
                str(len(frames)),
                f"{statistics.median(frames):.1f}",
                f"{frames[-1]:.1f}",
                str(late),
                str(len(found.long_tasks)),
            ]
        ],
        "Tasks from a trace of the page's thread.",
    )
    worst = max(found.long_tasks, default=0.0)
    report.bound(
        "no task of the page over 50 ms at 200 tokens/s",
        worst,
        not found.long_tasks,
        f"{worst:.0f} ms",
    )


@contextmanager
def _serving(llama: FakeLlama) -> Generator[str]:
    server = uvicorn.Server(configured(app(llama, name="fake"), 1))
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join()


def _shown(values: list[float]) -> str:
    found = spread(values)
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"

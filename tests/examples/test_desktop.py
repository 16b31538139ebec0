"""The desktop examples, each driven by hand: real backends and servers for the flow, the fake for trouble.

The facts are the same for each toolkit. ``make test`` has Tk, ``make desktop`` Qt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from llama_bridge import ClosedError, LlamaBridge
from llama_bridge.serve import app
from llama_bridge.testing import FakeAnswer, FakeBackend
from tests.remote.servers import free_port
from tests.serve.serving import serving

from .conftest import EXAMPLES, OpenWindow
from .driver import Driver

pytestmark = pytest.mark.parametrize("toolkit", ["tk", "qt"], indirect=True)

SLOW = FakeAnswer("a slow answer", token_seconds=60)
LIMITS = {"desktop_chat": 150, "desktop_qt": 200}


def choose(toolkit: type[Driver], monkeypatch: pytest.MonkeyPatch, path: Path | str) -> None:
    toolkit.choose(monkeypatch, lambda: str(path))


def cached_tokens(driver: Driver) -> int:
    found = re.fullmatch(r"Done \(stop\): (\d+) tokens from the KV cache", driver.status)
    assert found is not None, driver.status
    return int(found[1])


def test_it_is_short(toolkit: type[Driver]) -> None:
    lines = (EXAMPLES / f"{toolkit.script}.py").read_text().splitlines()
    assert len(lines) < LIMITS[toolkit.script]


def test_what_was_said_is_remembered_on_every_backend(
    open_window: OpenWindow, llama_backend: str
) -> None:
    driver = open_window(llama_backend)
    assert driver.status == f"llama-bridge demo on the {llama_backend} backend"
    driver.ask_and_wait("Hello! My name is Zorblax.")
    assert driver.text.startswith("You\nHello! My name is Zorblax.\nModel\n")
    driver.ask_and_wait("What is my name?")
    assert "Zorblax" in driver.text.rpartition("Model\n")[2]
    assert cached_tokens(driver) > 10


@pytest.mark.requires_capability("session_persistence")
def test_a_conversation_is_saved_and_goes_on_in_another_window(
    toolkit: type[Driver],
    open_window: OpenWindow,
    llama_backend: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    choose(toolkit, monkeypatch, tmp_path / "chat.session")
    driver = open_window(llama_backend)
    driver.ask_and_wait("Hello! My name is Zanora.")
    said = driver.text
    driver.press_and_wait("Save")
    assert re.fullmatch(r"Saved \d+ tokens to chat\.session", driver.status)
    driver.close()

    again = open_window(llama_backend)
    again.ask_and_wait("Something else.")
    again.press_and_wait("Open")
    assert again.status.startswith("Opened ")
    assert again.text == said
    again.ask_and_wait("What is my name?")
    assert "Zanora" in again.text.rpartition("Model\n")[2]
    assert cached_tokens(again) > 10


@pytest.mark.lacks_capability("session_persistence")
def test_what_the_backend_lacks_is_grey_and_the_reason_stands_there(
    open_window: OpenWindow, llama_backend: str
) -> None:
    driver = open_window(llama_backend)
    assert driver.enabled("Send")
    assert not driver.enabled("Save")
    assert not driver.enabled("Open")
    assert driver.why.startswith("No Open, no Save: session_persistence is not ")


@pytest.mark.pictures
def test_what_the_window_looks_like(
    open_window: OpenWindow, llama_backend: str, pictures: Path
) -> None:
    driver = open_window(llama_backend)
    driver.ask_and_wait("Hello! My name is Zanora.")
    driver.ask_and_wait("What is my name?")
    path = pictures / f"{driver.script.replace('_', '-')}-{llama_backend}.png"
    driver.picture(path)
    image = pytest.importorskip("PIL.Image", reason="no Pillow: pip install pillow").open(path)
    assert len(image.getcolors(1 << 16) or range(1 << 16)) > 20, "there is nothing to be seen"


def test_text_arrives_while_it_is_generated_and_the_window_lives(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(SLOW))
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    assert driver.busy
    assert not driver.enabled("Send")
    assert not driver.enabled("Save")
    driver.key("x")
    driver.resize(600)
    driver.until(lambda: 500 < driver.width <= 600)
    driver.key("Return")  # one question at a time: it waits in the field
    assert driver.typed == "x"


@pytest.mark.parametrize("lacks", [(), "kv_continuation"])
@pytest.mark.parametrize("how", ["Stop", "Escape"])
def test_stop_ends_an_answer_at_once_and_what_was_said_stays(
    open_window: OpenWindow, how: str, lacks: str
) -> None:
    backend = FakeBackend([SLOW, "and on it goes"], lacks=lacks)
    driver = open_window(backend)
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    start = time.monotonic()
    if how == "Stop":
        driver.press("Stop")
    else:
        driver.key("Escape")
    driver.idle()
    assert time.monotonic() - start < 5
    assert driver.status.startswith("Done (cancelled): ")
    driver.ask_and_wait("go on")
    assert driver.text.endswith("and on it goes")
    assert re.search(r"(?s)hi\b.*\ba\b.*go on", backend.asked[-1].context)


@pytest.mark.parametrize("moment", ["before it begins", "in the middle"])
def test_a_question_that_is_stopped_in_prefill_can_be_sent_again(
    open_window: OpenWindow, moment: str
) -> None:
    driver = open_window(FakeBackend(prefill_token_seconds=60))
    driver.ask("hi")
    if moment == "in the middle":
        for _ in range(10):
            driver.breathe()
    assert driver.busy
    driver.press("Stop")
    driver.idle()
    assert driver.typed == "hi"
    assert driver.enabled("Send")


def test_enter_sends_and_an_empty_question_does_not(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend())
    driver.key("Return")
    assert driver.text == ""
    driver.type("hello")
    driver.key("Return")
    driver.idle()
    assert driver.text == "You\nhello\nModel\nYou said: hello"


def test_who_scrolled_up_is_left_in_peace(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend("\n" * 60))
    driver.ask_and_wait("one")
    assert driver.place == "end"
    driver.scroll_to_top()
    driver.ask_and_wait("two")
    assert driver.place == "top"


def test_an_error_is_told_and_the_question_is_not_lost(
    toolkit: type[Driver],
    open_window: OpenWindow,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "no.session").write_text("this is no session" * 10)
    choose(toolkit, monkeypatch, tmp_path / "no.session")
    broken: list[str | FakeAnswer] = [
        FakeAnswer("Well", fails_after=0),
        FakeAnswer("Well", fails_after=2),
        "Fine.",
    ]
    backend = FakeBackend(broken)
    driver = open_window(backend)
    driver.ask_and_wait("one")
    assert "Error\nthe fake failed" in driver.text
    assert driver.status == "That did not work"
    assert driver.typed == "one"
    driver.press_and_wait("Send")  # it breaks off
    assert driver.typed == ""
    said = driver.text
    driver.press_and_wait("Open")
    assert driver.text.startswith(said)
    assert driver.text.endswith("this is a text file, not a session")
    driver.ask_and_wait("two")
    assert driver.text.endswith("Fine.")
    assert re.search(r"(?s)one.*We.*two", backend.asked[-1].context)


def test_a_dialog_that_is_cancelled_changes_nothing(
    toolkit: type[Driver], open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(toolkit, monkeypatch, "")
    driver = open_window(FakeBackend())
    before = driver.status
    driver.press_and_wait("Open")
    assert (driver.status, driver.text) == (before, "")


def test_a_model_that_cannot_be_loaded_is_told(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(), "nowhere.gguf")
    assert "nowhere.gguf" in driver.text.rpartition("Error\n")[2]
    assert driver.status == "That did not work"
    for name in ("Send", "Stop", "Open", "Save"):
        assert not driver.enabled(name)


def test_closing_in_the_middle_of_an_answer_ends_it_and_the_bridge(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(SLOW))
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    start = time.monotonic()
    driver.close()
    assert time.monotonic() - start < 5
    with pytest.raises(ClosedError):
        driver.llama._sync.generate("hi")


@pytest.mark.parametrize("moment", ["prefill", "load"])
def test_it_can_be_closed_at_any_moment(
    open_window: OpenWindow, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend(prefill_token_seconds=60)
    if moment == "load":
        load, gate = backend.load, threading.Event()

        def slow_load(*args: object) -> object:
            gate.wait(30)
            return load(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(backend, "load", slow_load)
        driver = open_window(backend, wait=False)
        driver.breathe()
        threading.Timer(0.2, gate.set).start()
    else:
        driver = open_window(backend)
        driver.ask("hi")
        driver.breathe()
    driver.close()


# servers


@pytest.fixture(autouse=True)
def no_server_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_BRIDGE_URL", "LLAMA_BRIDGE_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def served() -> Iterator[LlamaBridge]:
    with LlamaBridge("demo") as llama:
        yield llama


def test_a_server_answers_and_one_that_goes_away_is_told(
    open_window: OpenWindow, served: LlamaBridge
) -> None:
    with serving(app(served)) as address:
        driver = open_window("remote", f"http://127.0.0.1:{address.port}")
        assert driver.status.startswith(f"demo at http://127.0.0.1:{address.port}")
        keeps = "session_persistence" in driver.llama.capabilities
        assert (driver.enabled("Save"), driver.why == "") == (keeps, keeps)
        driver.ask_and_wait("Hello! My name is Zorblax.")
        driver.ask_and_wait("What is my name?")
        assert "Zorblax" in driver.text.rpartition("Model\n")[2]
        before = driver.text
    driver.ask_and_wait("Are you there?")
    assert driver.text.startswith(before)
    assert "does not answer" in driver.text.rpartition("Error\n")[2]
    assert driver.typed == "Are you there?"


def test_an_address_where_nobody_answers_is_told(open_window: OpenWindow) -> None:
    driver = open_window("remote", f"http://127.0.0.1:{free_port()}")
    assert "start it, or check the address" in driver.text.rpartition("Error\n")[2]


class Silent:
    """A server that says nothing until it is woken."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.asked, self.woken = app, threading.Event(), threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked.set()
            while not self.woken.is_set():
                await anyio.sleep(0.01)
        await self.app(scope, receive, send)


def test_the_window_lives_and_can_be_closed_while_a_server_says_nothing(
    open_window: OpenWindow, served: LlamaBridge
) -> None:
    silent = Silent(app(served))
    with serving(silent) as address:
        driver = open_window("remote", f"http://127.0.0.1:{address.port}", wait=False)
        driver.until(silent.asked.is_set)
        driver.key("x")
        assert driver.typed == "x"
        assert driver.status == "Loading the model…"
        start = time.monotonic()
        driver.close()
        assert time.monotonic() - start < 5
        silent.woken.set()


def test_the_program_says_so_where_there_is_no_screen(toolkit: type[Driver]) -> None:
    script = EXAMPLES / f"{toolkit.script}.py"
    done = subprocess.run(
        [sys.executable, script],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "QT_QPA_PLATFORM": "xcb"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode
    assert "display" in done.stderr

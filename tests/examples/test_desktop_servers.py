"""examples/desktop_chat.py talks to servers: real ones, dead ones, and those that are something else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if not os.environ.get("CI"):  # there a Python without Tk is an error
    pytest.importorskip("tkinter", reason="no tkinter; on Debian: apt-get install python3-tk")

import anyio
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from llama_bridge import Capability, LlamaBridge
from llama_bridge.serve import ServerSettings, app
from llama_bridge.testing import FakeBackend
from tests.remote.servers import free_port
from tests.serve.serving import serving

from .conftest import OpenWindow
from .driver import Driver
from .pictures import take_picture

pytestmark = pytest.mark.usefixtures("tk_is_collected_here")


@pytest.fixture(autouse=True)
def no_server_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_BRIDGE_URL", "LLAMA_BRIDGE_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def served() -> Iterator[LlamaBridge]:
    """The model of all servers here."""
    with LlamaBridge("demo") as llama:
        yield llama


@pytest.fixture(scope="module")
def server(served: LlamaBridge) -> Iterator[str]:
    """``llama-bridge serve``."""
    with serving(app(served)) as address:
        yield f"127.0.0.1:{address.port}"


def at_home(open_window: OpenWindow) -> tuple[Driver, FakeBackend]:
    """A window with a conversation."""
    backend = FakeBackend()
    driver = open_window(backend)
    driver.ask_and_wait("one")
    return driver, backend


def goes_on_at_home(driver: Driver, backend: FakeBackend) -> None:
    assert driver.about == "llama-bridge demo on the fake backend"
    assert driver.text.startswith("You\none\nModel\nYou said: one")
    driver.ask_and_wait("two")
    assert driver.text.endswith("You said: two")
    assert "one" in backend.asked[-1].context


def test_a_server_answers_and_the_conversation_at_home_is_there_afterwards(
    open_window: OpenWindow, server: str
) -> None:
    driver, backend = at_home(open_window)
    driver.connect_and_wait(server)
    assert (driver.text, driver.status) == ("", "Ready")
    assert driver.about.startswith(f"demo at http://{server}")
    driver.ask_and_wait("Hello! My name is Zorblax.")
    driver.ask_and_wait("What is my name?")
    assert "Zorblax" in driver.text.rpartition("Model\n")[2]
    driver.connect_and_wait("")
    goes_on_at_home(driver, backend)


def test_enter_in_the_field_connects(open_window: OpenWindow, server: str) -> None:
    driver, _ = at_home(open_window)
    driver.window.address.insert(0, f"http://{server}/v1")
    driver.window.address.focus_force()
    driver.root.update()
    driver.window.address.event_generate("<Return>")
    driver.until(lambda: server in driver.about)


def test_what_a_server_lacks_is_grey_and_says_why(open_window: OpenWindow, server: str) -> None:
    driver, _ = at_home(open_window)
    driver.connect_and_wait(server)
    flags = driver.window.flags
    grey = flags.tag_ranges("lacking")
    names = {flags.get(*grey[i : i + 2]) for i in range(0, len(grey), 2)}
    assert {"session_persistence", "gpu_offload"} <= names
    assert not {"generate", "stream", "cancel", "chat_template"} & names
    assert not driver.enabled("Save")
    assert driver.why(Capability.ADAPTERS).startswith("adapters is not supported by the ")
    assert driver.why(Capability.STREAM).startswith("No Save, no Open: ")


def web_page() -> ASGIApp:
    return Starlette(routes=[Mount("/", HTMLResponse("<html>Welcome!</html>"))])


@pytest.mark.parametrize("kind", ["dead", "web page", "wants a key", "no such model", "no address"])
def test_the_conversation_outlives_a_server_that_is_of_no_use(
    open_window: OpenWindow, served: LlamaBridge, kind: str
) -> None:
    driver, backend = at_home(open_window)
    keys = ServerSettings(api_keys=("secret",))
    apps: dict[str, ASGIApp] = {
        "web page": web_page(),
        "wants a key": app(served, settings=keys),
        "no such model": app(served),
    }
    with serving(apps.get(kind, web_page())) as address:
        url = f"http://127.0.0.1:{address.port}"
        where = {"dead": f"127.0.0.1:{free_port()}", "no address": "ftp://host"}
        driver.connect_and_wait(where.get(kind, url + " other" * (kind == "no such model")))
    (sentence,) = driver.text.rpartition("Error\n")[2].splitlines()
    said = {
        "dead": "start it, or check the address",
        "web page": "answers with a web page",
        "wants a key": "set LLAMA_BRIDGE_API_KEY",
        "no such model": "demo",
        "no address": "no server is named",
    }
    assert said[kind] in sentence
    assert driver.status == "That did not work"
    goes_on_at_home(driver, backend)


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


def test_the_window_lives_while_a_server_says_nothing_and_stop_gives_it_up(
    open_window: OpenWindow, served: LlamaBridge
) -> None:
    driver, backend = at_home(open_window)
    silent = Silent(app(served))
    with serving(silent) as address:
        driver.connect(f"127.0.0.1:{address.port}")
        driver.until(silent.asked.is_set)
        driver.key("<Key-x>")
        assert driver.window.entry.get() == "x"
        assert driver.status.startswith("Connecting to http://127.0.0.1:")
        assert not driver.enabled("Connect")
        attempt = driver.window.attempt
        driver.press("Stop")
        assert driver.status == "Not connected"
        silent.woken.set()  # too late
        driver.until(lambda: not attempt.is_alive())
        driver.key("<BackSpace>")
        goes_on_at_home(driver, backend)


def test_a_window_can_be_closed_while_a_server_says_nothing(
    open_window: OpenWindow, served: LlamaBridge
) -> None:
    driver, _ = at_home(open_window)
    silent = Silent(app(served))
    with serving(silent) as address:
        driver.connect(f"127.0.0.1:{address.port}")
        driver.until(silent.asked.is_set)
        attempt, start = driver.window.attempt, time.monotonic()
        driver.close()
        assert time.monotonic() - start < 5
        assert driver.gone
        silent.woken.set()
        attempt.join(10)


def test_a_server_that_goes_away_is_told_and_home_is_still_there(
    open_window: OpenWindow, served: LlamaBridge
) -> None:
    driver, backend = at_home(open_window)
    with serving(app(served)) as address:
        driver.connect_and_wait(f"127.0.0.1:{address.port}")
        driver.ask_and_wait("Hello!")
        before = driver.text
    driver.ask_and_wait("Are you there?")
    assert driver.text.startswith(before)
    assert "does not answer" in driver.text.rpartition("Error\n")[2]
    driver.connect_and_wait("")
    goes_on_at_home(driver, backend)


def test_a_window_without_a_model_can_ask_a_server(open_window: OpenWindow, server: str) -> None:
    driver = open_window(FakeBackend(), "nowhere.gguf")
    assert driver.status == "To load a model, use Model…"
    driver.connect_and_wait("")
    assert "no model" in driver.text.rpartition("Error\n")[2]
    driver.connect_and_wait(server)
    driver.ask_and_wait("Hello!")
    assert driver.status.startswith("Done (stop): ")


@pytest.mark.pictures
def test_what_it_looks_like_on_a_server(
    open_window: OpenWindow, server: str, pictures: Path
) -> None:
    driver = open_window("wasm")
    driver.connect_and_wait(server)
    driver.ask_and_wait("Hello! My name is Zanora.")
    driver.why(Capability.SESSION_PERSISTENCE)
    take_picture(driver, pictures / "desktop-server.png")

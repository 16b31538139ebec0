"""The remote backend in pages of another server, in Chromium and Firefox."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import Browser

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import ServerSettings, app
from tests.remote.servers import Handler, Heard, free_port, llama_server, scripted
from tests.remote.test_misbehaving import MODELS, chunk, says, talking
from tests.serve.serving import serving
from tools.browser import browsers
from tools.browser.server import CSP, serve

from .programmer import Programmer

pytestmark = pytest.mark.slow

GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=40)
SOON = 0.1
"""Seconds after which a server has heard that its answer is not wanted any more."""

BEGIN = """
import asyncio, json, time
from llama_bridge import AnswerCutOff, AsyncLlamaBridge, BridgeError, LlamaBridge, SamplingParams
from llama_bridge_remote import RemoteBackend
GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=40)

def failure(work):
    try:
        return repr(work())
    except BridgeError as error:
        return f"{type(error).__name__}: {error}"
"""
TALK = """
with LlamaBridge(url, backend="remote", sampling=GREEDY) as llama:
    texts = [llama.generate("Hello! My name is Zorblax.").text]
    second = llama.generate_continue("What is my name?")
    texts += [second.text, llama.chat([{"role": "user", "content": "Hello!"}]).text]
    texts.append("".join(llama.generate_stream("One more?")))
    work = llama.session("work")
    texts += [work.generate_continue("My name is Ada.").text, work.generate_continue("What is my name?").text]
    work.rewind(1)
    texts.append(work.generate_continue("And now?").text)
    goes_on = second.usage.cached_tokens > 20 and work.messages[-1]["content"] == texts[-1]
    told = {"texts": texts, "goes on": goes_on, "where": llama.where}
"""
"""A program for pages and desktops."""


@pytest.fixture(scope="module")
def bridge_url() -> Iterator[str]:
    """``llama-bridge serve``, which lets pages ask."""
    open_to_pages = ServerSettings(cors_origins=("*",))
    with (
        LlamaBridge("demo", backend="native", n_parallel=4) as llama,
        serving(app(llama, settings=open_to_pages)) as address,
    ):
        yield f"http://127.0.0.1:{address.port}"


@pytest.fixture(scope="module")
def page_address(site: Path) -> Iterator[str]:
    """A page that may connect to all servers of this machine."""
    (site / "program.html").write_text(
        '<!doctype html><title>A program</title><script type="module" src="program.mjs"></script>'
    )
    (site / "program.mjs").write_text(
        """globalThis.messages = [];
        const worker = new Worker("python.mjs", { type: "module" });
        worker.onmessage = ({ data }) => messages.push({ kind: "told", data });
        worker.onerror = (error) => messages.push({ kind: "told", data: error.message });
        worker.postMessage(await (await fetch("program.py")).text());"""
    )
    allowed = CSP + "; connect-src 'self' http://127.0.0.1:*"
    with serve(site, csp=allowed) as address:
        yield address


@pytest.fixture(scope="module")
def programmer(page_address: str, browser: Browser) -> Iterator[Programmer]:
    with browser.new_context() as context:
        yield Programmer(context, page_address)


def program(code: str, **values: object) -> str:
    """A program that tells what ``told`` comes to."""
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return f"{BEGIN}{given}{code}\njson.dumps(told)"


def run(programmer: Programmer, code: str, **values: object) -> Any:
    return read(programmer.run(program(code, **values)))


def run_in_firefox(site: Path, address: str, code: str, **values: object) -> Any:
    (site / "program.py").write_text(program(code, **values))
    with browsers.messages("firefox", f"{address}program.html", seconds=240) as happened:
        return read(next(str(one.data) for one in happened if one.kind == "told"))


def read(told: str) -> Any:
    assert told.startswith(("{", "[", '"')), told
    return json.loads(told)


def on_a_desktop(code: str, **values: object) -> Any:
    names: dict[str, Any] = {}
    exec(program(code, **values), names)
    return names["told"]


class Listening:
    """Answers one request with nothing or with words without end, and knows when the client has left."""

    def __init__(self, *, speaks: bool) -> None:
        self.left = 0.0
        self._speaks = speaks

    def __call__(self, _: Heard, handler: Handler) -> None:
        handler.begin_stream()
        if self._speaks:
            handler.event(chunk("word "))
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            self.left = time.time()

    def took(self, since: float) -> float:
        """Seconds until it knew."""
        end = time.monotonic() + 5
        while not self.left and time.monotonic() < end:
            time.sleep(0.01)
        return self.left - since


# Chromium


def test_a_page_talks_with_our_server_as_a_desktop_does(
    programmer: Programmer, bridge_url: str
) -> None:
    told = run(programmer, TALK, url=bridge_url)
    assert told == on_a_desktop(TALK, url=bridge_url)
    assert "Zorblax" in told["texts"][1]
    assert "Ada" in told["texts"][5]
    assert told["goes on"]


def test_a_page_talks_with_llama_server_as_a_desktop_does(
    programmer: Programmer, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp, llama-server as a package")
    code = TALK.partition("    work =")[0] + '    told = {"texts": texts, "where": llama.where}\n'
    with llama_server(tmp_path) as server:
        told = run(programmer, code, url=server.url)
        assert told == on_a_desktop(code, url=server.url)
    assert "Zorblax" in told["texts"][1]
    assert told["where"].endswith("(llama-server)")


def test_tasks_of_a_page_go_on_while_a_server_answers(
    programmer: Programmer, bridge_url: str
) -> None:
    told = run(
        programmer,
        """
gaps = []

async def tick():
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.01)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now

async with asyncio.timeout(30):  # the first call of each loads the model
    llama = AsyncLlamaBridge(url, backend="remote", sampling=GREEDY)
    first = await asyncio.gather(llama.generate("Hello!"), llama.chat([{"role": "user", "content": "Hello!"}]))
    ticking = asyncio.create_task(tick())
    streamed = [text async for text in llama.generate_stream("Hello! My name is Zorblax.")]
    second = await llama.generate_continue("What is my name?")
    both = await asyncio.gather(*(llama.session(n).generate_continue(f"My name is {n}.") for n in ("Ada", "Bob")))
    ticking.cancel()
    told = {"first": [one.text for one in first], "pieces": len(streamed), "second": second.text, "both": [one.finish_reason for one in both], "gap": max(gaps)}
""",
        url=bridge_url,
    )
    assert told["first"][0] == told["first"][1]
    assert told["pieces"] > 2
    assert "Zorblax" in told["second"]
    assert told["both"] == ["stop", "stop"]
    assert told["gap"] < 1


CANCEL = """
llama = LlamaBridge(url, backend="remote")
at = []

def cancel():
    at.append(time.time())
    (llama if of == "the bridge" else stream).cancel()

stream = llama.generate_stream("x")
asyncio.get_event_loop().call_later(0.5, cancel)
reason = stream.result.finish_reason
"""


@pytest.mark.parametrize("speaks", [False, True], ids=["before its first word", "while it speaks"])
@pytest.mark.parametrize("of", ["the bridge", "the stream"])
def test_a_server_soon_hears_that_an_answer_is_not_wanted(
    programmer: Programmer, speaks: bool, of: str
) -> None:
    listening = Listening(speaks=speaks)
    with scripted(talking(listening), open_to_pages=True) as script:
        code = f"{CANCEL}\ntold = [reason, at[0], time.time()]"
        reason, at, back = run(programmer, code, url=script.url, of=of)
        assert reason == "cancelled"
        assert back - at < SOON
        assert listening.took(at) < SOON


def test_a_task_that_is_cancelled_ends_its_answer(programmer: Programmer) -> None:
    listening = Listening(speaks=True)
    with scripted(talking(listening), open_to_pages=True) as script:
        at, back = run(
            programmer,
            """
llama = await AsyncLlamaBridge(url, backend="remote")
task = asyncio.create_task(llama.generate("x"))
await asyncio.sleep(0.5)
at = time.time()
task.cancel()
try:
    await task
except asyncio.CancelledError:
    told = [at, time.time()]
""",
            url=script.url,
        )
        assert back - at < SOON
        assert listening.took(at) < SOON


def breaks_off(_: Heard, handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.event(chunk("Once upon "))
    handler.event(chunk("a time"))
    time.sleep(0.2)  # or the browser takes nothing of it
    handler.close_connection = True


def stops(_: Heard, handler: Handler) -> None:
    handler.begin_stream()
    handler.event(chunk("Once upon "))
    handler.event(chunk("a time"))


@pytest.mark.parametrize("answer", [breaks_off, stops])
def test_an_answer_that_breaks_off_tells_what_had_come(
    programmer: Programmer, answer: Callable[[Heard, Handler], None]
) -> None:
    with scripted(talking(answer), open_to_pages=True) as script:
        code = """
llama = LlamaBridge(url, backend="remote")
try:
    told = [llama.generate("x").text]
except AnswerCutOff as error:
    told = [error.text, str(error)]
"""
        text, why = run(programmer, code, url=script.url)
        assert text == "Once upon a time"
        assert "broke off after 16 characters" in why


FAILS = """
told = failure(lambda: LlamaBridge(url, backend=RemoteBackend(api_key="sk-very-secret-7", timeout=20)).generate("x"))
"""


def check_failures(ask: Callable[[str], str], page: str, bridge_url: str) -> None:
    """What goes wrong is told as what it is, with a way out."""
    gone = ask(f"http://127.0.0.1:{free_port()}")
    with scripted(talking(says("hi"))) as closed:
        refused = ask(closed.url)
    for told in (gone, refused):  # a page cannot tell which it is
        assert told.startswith("BackendUnavailable: ")
        assert f"--cors-origin {page.rstrip('/')}" in told
        assert "does not answer, or does not let this page ask" in told
    with scripted(lambda _, handler: handler.raw(b"<!doctype html>"), open_to_pages=True) as other:
        told = ask(other.url)
        assert told.startswith("ModelLoadError: ")
        assert "web page" in told
    wrong = {"error": {"message": "wrong key", "code": "invalid_api_key"}}
    with scripted(lambda _, handler: handler.json(wrong, 401), open_to_pages=True) as other:
        told = ask(other.url)
        assert told.startswith("AccessDenied: ")
        assert "LLAMA_BRIDGE_API_KEY" in told
        assert other.heard[0].headers["authorization"] == "Bearer sk-very-secret-7"
    check_redirect(ask)
    assert "sk-very-secret-7" not in f"{gone}{refused}{told}"
    assert "stop, fresh" in ask(bridge_url)


def check_redirect(ask: Callable[[str], str]) -> None:
    """The key goes to its own server alone."""
    with scripted(lambda _, handler: handler.json(MODELS), open_to_pages=True) as thief:

        def sends_on(_: Heard, handler: Handler) -> None:
            handler.raw(b"", 307, Location=f"{thief.url}/v1/models")

        with scripted(sends_on, open_to_pages=True) as other:
            told = ask(other.url)
        assert told.startswith("ModelLoadError: ")
        assert "sends us on" in told
        assert all("authorization" not in heard.headers for heard in thief.heard)


def test_failures_are_told_as_what_they_are(
    programmer: Programmer, page_address: str, bridge_url: str
) -> None:
    check_failures(lambda url: str(run(programmer, FAILS, url=url)), page_address, bridge_url)


# where the browser cannot suspend Python: here because JavaScript has called it

NOT_SUSPENDED = """
from pyodide.ffi import can_run_sync, create_proxy, to_js

def without_suspending(work):
    def call(*_):
        assert not can_run_sync()
        found.append(work())
    found = []
    to_js([None]).forEach(create_proxy(call))
    return found[0]
"""


def test_without_suspending_an_answer_comes_as_a_whole(
    programmer: Programmer, bridge_url: str
) -> None:
    lines = "".join(f"    {line}\n" for line in TALK.strip().splitlines())
    code = f"{NOT_SUSPENDED}\ndef talk():\n{lines}    return told\ntold = without_suspending(talk)"
    assert run(programmer, code, url=bridge_url) == on_a_desktop(TALK, url=bridge_url)


def test_without_suspending_failures_are_told_too(
    programmer: Programmer, page_address: str, bridge_url: str
) -> None:
    fails = FAILS.strip().replace("failure(", "without_suspending(lambda: failure(") + ")"
    code = f"{NOT_SUSPENDED}\n{fails}"
    check_failures(lambda url: str(run(programmer, code, url=url)), page_address, bridge_url)


def test_without_suspending_what_was_given_up_is_not_sent(programmer: Programmer) -> None:
    with scripted(talking(says("hi")), open_to_pages=True) as script:
        code = f"""{NOT_SUSPENDED}
from llama_bridge_remote.address import Address
from llama_bridge_remote.client import Client, Line

line = Line()
line.give_up()
told = [without_suspending(lambda: failure(lambda: Client(Address(url)).post("/v1/rerank", {{}}, line)))]"""
        (told,) = run(programmer, code, url=script.url)
        assert told == "NoAnswer: the request was given up"
        assert script.heard == []


def test_a_page_is_not_blocked(programmer: Programmer, bridge_url: str) -> None:
    told = programmer.page.evaluate(
        """async (code) => {
            const { loadPyodide } = await import("./pyodide/pyodide.mjs");
            const { llama_bridge } = await (await fetch("wheels.json")).json();
            const packages = llama_bridge.map((path) => new URL(path, location).href);
            return (await loadPyodide({ packages })).runPython(code);
        }""",
        program(FAILS, url=bridge_url),
    )
    assert read(told).startswith("BackendUnavailable: ")
    assert "run Python in a worker" in told


# Firefox


def test_firefox_talks_and_stops_as_a_desktop_does(
    site: Path, page_address: str, bridge_url: str, missing: Callable[[str], None]
) -> None:
    if browsers.find("firefox") is None:
        missing("Firefox is not installed; on Debian: apt-get install firefox-esr")
    listening = Listening(speaks=True)
    with scripted(talking(listening), open_to_pages=True) as script:
        code = f"{TALK}\nurl = slow\n{CANCEL}\ntold = [told, reason, at[0], time.time()]"
        told, reason, at, back = run_in_firefox(
            site, page_address, code, url=bridge_url, slow=script.url, of="the bridge"
        )
        assert told == on_a_desktop(TALK, url=bridge_url)
        assert reason == "cancelled"
        assert back - at < SOON
        assert listening.took(at) < SOON

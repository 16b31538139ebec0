"""Models of the hub in a page, by name. In Chromium, from a hub on this machine."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import Browser

from llama_bridge.testing.hub import HubServer
from tools.browser.server import CSP, serve
from tools.split_model import split_model

from .programmer import Programmer
from .visiting import DEMO

pytestmark = pytest.mark.slow

NEXT = DEMO.read_bytes().replace(b"llama-bridge demo", b"llama-bridge next", 1)

BEGIN = """
import asyncio
from uuid import uuid4
from llama_bridge import BridgeError, LlamaBridge
from llama_bridge_wasm.store import ModelStore
store, said = ModelStore(uuid4().hex, {hub!r}), []

async def fails(name):
    try:
        await store.download(name)
        said.append("fine")
    except BridgeError as error:
        said.append(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.fixture(scope="module")
def one_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer() as hub:
        parts = split_model(DEMO, tmp_path_factory.mktemp("parts") / "split-Q4_K_M", 2)
        hub.add("org/repo", {"chat-Q8_0.gguf": DEMO, "notes.txt": b"x", "chat-Q2_K.gguf": b"GGUF"})
        hub.add("org/parts", {path.name: path for path in parts})
        hub.add("org/odd", {"my 1#a%20b.gguf": DEMO})
        hub.add("org/closed", {"a.gguf": b"GGUF"}, token="secret", gated=True)
        yield hub


@pytest.fixture
def hub(one_hub: HubServer) -> HubServer:
    """The hub, with nothing asked and nothing wrong."""
    one_hub.faults.clear()
    one_hub.asked.clear()
    return one_hub


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The address of another server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Strict) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def programmer(
    one_hub: HubServer, other: str, site: Path, browser: Browser
) -> Iterator[Programmer]:
    """Someone with a page that may connect to both."""
    allowed = CSP + f"; connect-src 'self' {one_hub.url} {one_hub.files_url} {other}"
    with serve(site, csp=allowed) as address, browser.new_context() as context:
        yield Programmer(context, address)


def run(programmer: Programmer, hub: HubServer, code: str) -> list[str]:
    told = programmer.run(BEGIN.format(hub=hub.url) + code + '\n"|".join(map(str, said))')
    assert not told.startswith("Traceback"), told
    return told.split("|")


class Strict(BaseHTTPRequestHandler):
    """Another server: any page may read its files, but ask no more, and of the answers' headers they see the fewest.

    A path says what else it allows. The first answer about each breaks off.
    """

    protocol_version = "HTTP/1.1"
    broken: ClassVar[set[str]] = set()

    def do_OPTIONS(self) -> None:
        self.send_response(204)
        if "asks" in self.path:
            self.send_header("Access-Control-Allow-Headers", "range, if-range")
        self.end_headers()

    def do_GET(self) -> None:
        """A file, or the rest of it, whatever If-Range says."""
        start, breaks = 0, self.path not in self.broken
        changed = "changes" in self.path and not breaks
        data = NEXT if changed else DEMO.read_bytes()
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", f'"{changed}"')
        self.send_header("Last-Modified", f"Thu, 0{changed + 1} Jan 2026 00:00:00 GMT")
        if "sees" in self.path:
            self.send_header("Access-Control-Expose-Headers", "*")
        self.end_headers()
        self.wfile.write(data[start : 1_000_000 if breaks else None])
        self.wfile.flush()
        if breaks:
            time.sleep(0.5)  # or the browser takes nothing of it
            self.close_connection = True
            self.broken.add(self.path)

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@pytest.mark.parametrize(
    "allowed", ["", "sees", "asks", "asks-sees", "changes", "asks-sees-changes"]
)
def test_a_download_goes_on_or_starts_over_whatever_another_server_allows(
    programmer: Programmer, hub: HubServer, other: str, allowed: str
) -> None:
    said = run(
        programmer,
        hub,
        f"""
name = "{other}/{allowed}.gguf"
await fails(name)
said.append([part.size for part in await store.unfinished()])
said.append((await store.download(name)).sha256)
""",
    )
    now = NEXT if "changes" in allowed else DEMO.read_bytes()
    broke, size, sha256 = said
    assert broke.startswith("DownloadError: ")
    assert (size, sha256) == ("[1000000]", hashlib.sha256(now).hexdigest())


def test_a_name_is_fetched_checked_and_kept(programmer: Programmer, hub: HubServer) -> None:
    said = run(
        programmer,
        hub,
        """
model = await store.download("hf:org/repo")
said += [model.name, model.size]
async with store.open(model.sha256) as source:
    with LlamaBridge(source, n_ctx=256) as llama:
        said.append(llama.generate("Hello! My name is Zorvane.", temperature=0).text)
said.append(await store.download("org/repo:Q8_0") == model)
parts = await store.download("https://huggingface.co/org/parts")
said += [parts.name, len(parts.parts)]
await store.delete(parts.sha256)
await fails("hf:org/repo:Q5_K_M")
await fails("hf:org/nothing")
await fails("hf:org/closed")
await fails("hf:no repo at all")
""",
    )
    assert said[:2] == ["chat-Q8_0.gguf", str(DEMO.stat().st_size)]
    assert "Zorvane" in said[2]
    assert said[4:6] == ["split-Q4_K_M.gguf", "2"]
    assert said[6].startswith("ModelNotFound: ")
    assert "chat-Q8_0.gguf" in said[6]
    assert said[7].startswith("AccessDenied: ")  # the hub does not tell strangers what there is
    assert said[8].startswith("AccessDenied: ")
    assert said[9].startswith("InvalidInput: ")


def test_what_is_not_what_the_hub_promised_is_not_kept(
    programmer: Programmer, hub: HubServer
) -> None:
    hub.fail("corrupt", path="*.gguf", after=1_000_000)
    said = run(
        programmer,
        hub,
        """
await fails("hf:org/repo")
said += [await store.models(), await store.unfinished()]
await fails("hf:org/repo")
""",
    )
    assert said[0].startswith("DigestMismatch: ")
    assert said[1:] == ["[]", "[]", "fine"]


def test_a_download_that_was_stopped_goes_on_and_is_checked(
    programmer: Programmer, hub: HubServer
) -> None:
    hub.fail("stall", path="*.gguf", after=1_000_000)
    said = run(
        programmer,
        hub,
        """
steps = []
task = asyncio.ensure_future(store.download("hf:org/repo", steps.append))
while not steps or steps[-1].done < 900_000:
    await asyncio.sleep(0.05)
task.cancel()
await asyncio.wait([task])
[part] = await store.unfinished()
said += [0 < part.size < part.total, "#sha256=" in part.url]
await fails(part.url)
said += [len(await store.models()), await store.unfinished()]
""",
    )
    assert said == ["True", "True", "fine", "1", "[]"]
    assert any("range" in asked.headers for asked in hub.asked)


def test_half_a_digest_is_refused_and_a_name_is_shown_as_it_is(
    programmer: Programmer, hub: HubServer
) -> None:
    address = hub.address("org/odd", "my 1#a%20b.gguf")
    said = run(
        programmer,
        hub,
        f"""
for end in ("12", "0" * 63, "0" * 65, "0" * 64 + "&x"):
    await fails("{address}#sha256=" + end)
await fails("models/x.gguf#sha256")
await fails("hf:org/repo#sha256=" + "0" * 64)
await fails("ollama:llama3.2:1b")
said += [await store.models(), await store.unfinished()]
said += [(await store.download(each)).name for each in ("hf:org/odd", "{address}#top")]
await fails("\\ud800.gguf")
""",
    )
    assert [each[:14] for each in said[:5]] == ["InvalidInput: "] * 5
    assert said[5].startswith("DigestMismatch: ")
    assert said[6].startswith("ModelNotFound: ")
    assert "a page cannot see" in said[6]
    assert said[7:11] == ["[]", "[]", *["my 1#a%20b.gguf"] * 2]
    assert said[11].startswith("ModelNotFound: ")


def test_a_server_that_sends_nothing_more_is_left(programmer: Programmer, hub: HubServer) -> None:
    hub.fail("stall", path="*.gguf", after=1_000_000)
    said = run(
        programmer,
        hub,
        """
from llama_bridge_wasm.store import patience
patience.SECONDS, before = 1.0, patience.SECONDS
await fails("hf:org/repo")
patience.SECONDS = before
said += [part.size for part in await store.unfinished()]
await fails("hf:org/repo")
""",
    )
    assert said[0].startswith("DownloadError: ")
    assert "has sent nothing" in said[0]
    assert said[1:] == ["1000000", "fine"]


def test_a_refusal_is_told_as_on_a_desktop(programmer: Programmer, hub: HubServer) -> None:
    address = hub.address("org/repo", "chat-Q8_0.gguf")
    for status in (401, 429):
        hub.fail("status", path="/plain/*", status=status, headers={"Retry-After": "7"}, times=2)
        said = run(programmer, hub, f'await fails("{address}")\nsaid.append(await store.models())')
        assert said[0].startswith(("AccessDenied: ", "RateLimited: "))
        assert said[1] == "[]"
        hub.faults.clear()
    assert "7 s" in said[0]

"""examples/browser in Chromium, used as a person would rather not: what is missing, broken, too large."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import Browser, BrowserContext, Playwright, Route

from tools.browser import browsers
from tools.browser.server import serve

from .person import Person
from .programmer import Programmer
from .visiting import ARGUMENTS, DEMO, EXAMPLE, PlainHandler, Visit

pytestmark = pytest.mark.slow


def poorer(context: BrowserContext, code: str) -> None:
    """Make the browser one that lacks something: ``code`` runs first in the page's worker."""

    headers = {
        "Content-Type": "text/javascript",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def answer(route: Route) -> None:
        body = f"{code}\n{(EXAMPLE / 'worker.mjs').read_text()}"
        route.fulfill(body=body, headers=headers)

    context.route("**/worker.mjs", answer)


def test_without_webassembly_the_page_says_so(context: BrowserContext, visit: Visit) -> None:
    poorer(context, "delete self.WebAssembly;")
    person = visit()
    person.until(lambda: person.page.locator(".missing").count())
    told = person.text(".missing")
    assert told.startswith(
        "This page cannot start: this browser has no WebAssembly, or it is switched off."
    )
    assert "Chrome 137" in told
    assert person.page.is_disabled("#send")
    person.press("Try again")  # and says it again
    person.until(lambda: "Chrome 137" in person.text(".notes"))


@pytest.mark.parametrize("memory", [None, b"nonsense", gzip.compress(bytes(40 << 20), 1)])
def test_python_starts_in_full_where_its_memory_cannot_be_read(
    context: BrowserContext, visit: Visit, memory: bytes | None
) -> None:
    status, body = (404, b"") if memory is None else (200, memory)
    context.route("**/started-*.bin", lambda route: route.fulfill(status=status, body=body))
    told: list[str] = []
    context.on("console", lambda message: told.append(message.text))
    person = visit()
    person.say("My name is Zorblax.")
    assert "Zorblax" in person.answers[0]
    assert any(text.startswith("Python starts in full: ") for text in told)


HTML = {"content_type": "text/html", "body": "<!doctype html><title>Home</title>"}
GONE: dict[str, Any] = {"status": 404, "body": ""}


@pytest.mark.parametrize(
    ("path", "sent", "why"),
    [
        ("chat.py", HTML, "the server sends a web page instead"),
        ("wheels.json", {"body": '{"llama_bridge": ["whe'}, ""),
        ("pyodide/llama_bridge-", GONE, "the server answers with status 404"),
        ("pyodide/llama_bridge-", {"body": "nonsense"}, ""),
        ("pyodide/pyodide.asm.wasm", GONE, ""),
        ("pyodide/pyodide.asm.wasm", HTML, ""),
        (
            "pyodide/pyodide.asm.wasm",
            {"body": b"\0asm\1\0\0\0\1\2", "content_type": "application/wasm"},
            "",
        ),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    context: BrowserContext, visit: Visit, path: str, sent: dict[str, Any], why: str
) -> None:
    where = f"**/{path}*"
    context.route(where, lambda route: route.fulfill(**sent))
    person = visit()
    person.page.wait_for_selector(f".missing:has-text('This page cannot start: {path}')")
    assert why in person.text(".missing")
    context.unroute(where)
    person.press("Try again")
    person.here()
    assert person.page.locator(".missing").count() == 0


def test_a_server_that_does_not_know_what_wasm_is_will_do(
    context: BrowserContext, visit: Visit, site: Path
) -> None:
    body = (site / "pyodide" / "pyodide.asm.wasm").read_bytes()
    context.route("**/pyodide.asm.wasm", lambda route: route.fulfill(body=body))
    visit().here()


def test_a_page_whose_script_does_not_come_says_so(context: BrowserContext, address: str) -> None:
    context.route("**/page.js", lambda route: route.fulfill(**GONE))
    page = context.new_page()
    page.goto(address)
    told = page.locator(".late")
    assert not told.is_visible()
    told.evaluate("(one) => one.getAnimations().forEach((wait) => wait.finish())")
    assert "a file of this page is missing on its server" in told.inner_text()
    assert told.is_visible()


def test_a_start_that_takes_long_is_told(context: BrowserContext, visit: Visit) -> None:
    held: list[Route] = []
    context.route("**/started-*.bin", lambda route: held.append(route))
    context.clock.install()
    person = visit()
    person.until(lambda: held)
    note = person.page.locator(".notes:has-text('This takes long: ')")
    assert note.count() == 0
    context.clock.fast_forward(21_000)
    note.wait_for()
    held[0].continue_()
    note.wait_for(state="detached")
    person.here()


def test_at_an_address_with_http_it_works_with_what_browsers_allow_there(
    playwright: Playwright, address: str
) -> None:
    """No storage, no locks, no service worker, one thread."""
    names = [*ARGUMENTS, "--host-resolver-rules=MAP llama.test 127.0.0.1"]
    program = browsers.find("chromium")
    with playwright.chromium.launch(executable_path=program, args=names) as chromium:
        person = Person(chromium.new_context(), address.replace("127.0.0.1", "llama.test"))
        assert not person.page.evaluate("() => isSecureContext")
        person.say("My name is Zorblax.")
        assert "Zorblax" in person.answers[0]
        person.open_models()
        assert "this browser keeps no files for this page: its address" in person.text(".library")
        person.pick(DEMO)
        assert person.trouble == ""
        person.close_models()
        person.say("Hello!")
        assert person.model == DEMO.name
        assert person.answers[1]


def test_half_a_deploy_spoils_nothing_that_was_kept(
    context: BrowserContext, visit: Visit, site: Path, tmp_path: Path
) -> None:
    class Server(PlainHandler):
        pass

    for path in site.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name in ("wheels.json", "chat.py", "pyodide"):
        (tmp_path / name).unlink()
    (tmp_path / "pyodide").mkdir()
    for path in (site / "pyodide").iterdir():
        (tmp_path / "pyodide" / path.name).symlink_to(path)
    wheels = json.loads((site / "wheels.json").read_text())
    code = (site / "chat.py").read_text()

    def deploy(version: int) -> None:
        memory, files = wheels["started"]
        now = [memory, f"pyodide/llama_bridge-{version:016x}.bin" if version else files]
        (tmp_path / "wheels.json").write_text(json.dumps(wheels | {"started": now}))
        (tmp_path / "chat.py").write_text(f'{code}\njs.console.log("version {version}")\n')
        for name in ("wheels.json", "chat.py"):
            os.utime(tmp_path / name, (1e9 + version * 10, 1e9 + version * 10))

    told: list[str] = []
    context.on("console", lambda message: told.append(message.text))

    def starts(version: int) -> None:
        person.until(lambda: f"version {version}" in told)
        person.here()
        told.clear()

    with serve(tmp_path, handler=Server) as address:
        deploy(0)
        person = visit(address)
        starts(0)
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        deploy(1)  # but for the file that its list names
        person.page.reload()
        why = "This page cannot start: pyodide/llama_bridge-0000000000000001.bin: the server sends a web page instead."
        person.page.wait_for_selector(f".missing:has-text('{why}')")
        Server.down = True
        person.page.reload()
        starts(0)
        Server.down = False
        (tmp_path / "pyodide" / "llama_bridge-0000000000000001.bin").symlink_to(
            site / wheels["started"][1]
        )
        person.page.reload()
        starts(1)
        kept = """async () => Boolean(await (await caches.open("llama-bridge")).match("wheels.json").then((found) => found.text()
            .then((text) => text.includes("-0000000000000001.bin"))))"""
        person.until(lambda: person.page.evaluate(kept))
        Server.down = True
        person.page.reload()
        starts(1)


def test_a_cache_that_cannot_be_read_keeps_nobody_from_the_page(
    context: BrowserContext, visit: Visit, site: Path, tmp_path: Path
) -> None:
    for path in site.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "offline.js").unlink()
    broken = "self.onactivate = () => { caches.open = async () => { throw new DOMException('', 'UnknownError'); }; };"
    (tmp_path / "offline.js").write_text((site / "offline.js").read_text() + broken)
    with serve(tmp_path) as address:
        person = visit(address)
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        person.page.reload()
        assert person.page.evaluate("() => Boolean(navigator.serviceWorker.controller)")
        person.here()


def test_two_pages_draw_different_numbers_and_have_the_times_of_their_computers(
    browser: Browser, address: str
) -> None:
    told: list[str] = []
    code = (EXAMPLE / "chat.py").read_text()
    code += "\nimport os, random, tempfile, time, uuid"
    code += "\ndrawn = [random.random(), os.urandom(9).hex(), uuid.uuid4(), next(tempfile._get_candidate_names())]"
    code += "\nahead = time.localtime().tm_gmtoff"
    code += '\njs.console.log(f"drawn {ahead} {" ".join(map(str, drawn))}")\n'
    for zone in ("Asia/Tokyo", "Africa/Lagos"):
        with browser.new_context(timezone_id=zone) as context:
            context.on("console", lambda message: told.append(message.text))
            context.route("**/chat.py", lambda route: route.fulfill(body=code))
            Person(context, address).until(lambda: told and told[-1].startswith("drawn"))
            told.append("")
    first, second = (one.split()[1:] for one in told if one.startswith("drawn"))
    assert (first[0], second[0]) == ("32400", "3600")
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_without_a_feature_that_llama_wasm_needs_the_page_says_so(
    context: BrowserContext, visit: Visit
) -> None:
    poorer(
        context,
        """WebAssembly.Module = new Proxy(WebAssembly.Module, {
            construct(kind, [code]) {
                if (code.byteLength > 3e6) throw new WebAssembly.CompileError("invalid simd opcode 0x114");
                return new kind(code);
            },
        });""",
    )
    person = visit()
    person.say("Hello!")
    assert person.ending.startswith("backend 'wasm' is not available")
    assert "relaxed SIMD and exceptions: Chrome 137 and Firefox 145" in person.ending


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            """StorageManager.prototype.getDirectory = async () => {
                throw new DOMException("not in a private window", "SecurityError");
            };""",
            "not in a private window",
        ),
        (
            "delete StorageManager.prototype.getDirectory;",
            "it has no file system for pages, or that is switched off",
        ),
    ],
    ids=["refused", "switched off"],
)
def test_where_nothing_can_be_kept_the_page_says_so_and_works(
    context: BrowserContext, visit: Visit, code: str, told: str
) -> None:
    poorer(context, code)
    person = visit()
    person.open_models()
    why = f"this browser keeps no files for this page: {told}"
    assert why in person.text(".library")
    assert "0 kB in models. model store" in person.text(".library")
    assert "it is used until this page is closed" in person.text(".dropping")
    person.pick(DEMO)
    assert person.trouble == ""
    assert f"model store: {why}" in person.models()[1]
    person.close_models()
    assert person.model == DEMO.name
    person.say("Hello!")
    assert person.answers[0]


def test_a_browser_that_refuses_locks_runs_the_page(context: BrowserContext, visit: Visit) -> None:
    """Firefox does so where it keeps no data of sites."""
    refused = """LockManager.prototype.request = async () => {
        throw new DOMException("request() is not allowed in this context", "SecurityError");
    };"""
    context.add_init_script(refused)
    poorer(context, refused)
    person = visit()
    person.say("My name is Zorblax.")
    assert "Zorblax" in person.answers[0]


@pytest.mark.parametrize(
    "end",
    ["self.close()", "setTimeout(() => { throw new Error('out of memory'); })"],
    ids=["ended", "an error"],
)
def test_when_the_worker_dies_what_was_written_stays_and_the_next_question_is_answered(
    context: BrowserContext, visit: Visit, end: str
) -> None:
    poorer(context, f"new BroadcastChannel('end').onmessage = () => {{ {end}; }};")
    person = visit()
    person.say("My name is Zorvane.")
    first = person.answers[0]
    person.page.evaluate("() => { new BroadcastChannel('end').postMessage(1); }")
    person.page.wait_for_timeout(500)
    person.say("What is my name?")
    assert person.answers[0] == first
    assert "Zorvane" in person.answers[1]
    person.complaints.clear()  # the browser tells of the error too


def test_a_worker_that_dies_in_an_answer_is_told_and_what_was_written_stays(
    context: BrowserContext, visit: Visit, site: Path, slow: Path
) -> None:
    poorer(
        context,
        """let left = 10;
        const told = self.postMessage;
        self.postMessage = (message) => {
            told.call(self, message);
            if (message.event === "text" && --left < 0) self.close();
        };""",
    )
    with serve(site, isolated=False) as address:  # there a worker can end between two tokens
        _dies_in_an_answer(visit(address), context, slow)


def _dies_in_an_answer(person: Person, context: BrowserContext, slow: Path) -> None:
    person.pick(slow)
    person.close_models()
    person.say("Hello")
    assert len(person.answers[-1]) > 20
    assert person.ending.startswith("Python in this page has ended: the browser has stopped it.")
    assert person.model == slow.name
    context.unroute("**/worker.mjs")
    person.press("Try again")
    person.until(lambda: len(person.answers[-1]) > 200)
    person.stop()


def test_a_file_that_is_no_gguf_is_refused_and_the_model_stays(guest: Person) -> None:
    guest.say("Hello!")
    guest.drop("index.html", "notes.gguf")
    assert guest.trouble.startswith("notes.gguf: this is a web page, not a GGUF")
    guest.get("models/page.gguf")
    assert guest.trouble.startswith("page.gguf: this is a web page, not a GGUF")
    assert guest.kept == []
    guest.close_models()
    guest.say("Hello!")
    assert len(guest.answers) == 2
    assert guest.model == "demo"


def test_a_file_that_changes_once_it_is_chosen_is_told_and_the_model_stays(
    guest: Person, tmp_path: Path
) -> None:
    file = tmp_path / "changing.gguf"
    file.write_bytes(DEMO.read_bytes())
    guest.open_models()
    with guest.holding("add") as let_go:
        guest.page.set_input_files(".library input[type=file]", file)
        guest.until(lambda: guest.job)
        os.utime(file, (1, 1))
        let_go()
        guest.settled()
    why = "cannot be read: it was changed, moved or deleted after it was chosen: choose it again"
    assert guest.trouble == f"changing.gguf: {why}"
    guest.pick(file)
    guest.until(lambda: guest.loaded == "changing.gguf")
    assert guest.trouble == ""
    guest.close_models()
    assert guest.model == "changing.gguf"


def test_a_model_that_the_server_does_not_have(guest: Person) -> None:
    guest.get("models/nowhere.gguf")
    assert guest.trouble.endswith("models/nowhere.gguf: the server has no such file (status 404)")
    for other in ("https://example.org/model.gguf", "hf:org/repo"):
        guest.get(other)
        assert guest.trouble.startswith(
            "This page may only connect to its own server, http://127.0.0.1"
        )


def test_half_a_model_is_refused(guest: Person) -> None:
    guest.get("models/cut.gguf")
    assert guest.trouble.startswith("cut.gguf: truncated GGUF: ")
    assert "download or copy it again" in guest.trouble
    assert guest.kept == []


def test_a_download_that_breaks_goes_on_with_the_next_try(guest: Person) -> None:
    guest.get("models/tiny.gguf?half")
    assert guest.trouble.startswith("tiny.gguf: the connection broke")
    assert guest.trouble.endswith("MB are kept, and the next try continues from there")
    assert guest.kept == ["tiny.gguf"]
    guest.press_there("Go on with tiny.gguf")
    assert guest.loaded == "tiny.gguf"
    assert guest.kept == ["tiny.gguf"]


def test_a_server_without_ranges_starts_over_and_the_page_says_so(guest: Person) -> None:
    guest.get("models/tiny.gguf?slow&whole", wait=False)
    guest.until(lambda: re.search(r"Fetching .* [1-9][\d.]* MB of", guest.job))
    guest.page.click(".library .job button")
    guest.settled()
    guest.press_there("Go on with tiny.gguf", wait=False)
    guest.until(lambda: "starts over: the server cannot send only the rest" in guest.job)
    guest.settled()
    assert guest.loaded == "tiny.gguf"
    assert guest.kept == ["tiny.gguf"]


def test_a_model_beyond_the_quota_is_used_but_not_kept(
    guest: Person, address: str, tiny: Path
) -> None:
    with guest.quota(address, 3_000_000):
        guest.pick(tiny)
        assert guest.loaded == tiny.name
        said = guest.models()[1]
        assert f"{tiny.name}: keeping it takes " in said
        assert "MB left for this page: delete a kept model" in said
        guest.get("models/tiny.gguf")
        assert guest.trouble.startswith("tiny.gguf: keeping it takes ")
    guest.close_models()
    guest.say("Hello", wait=False)
    guest.until(lambda: guest.answers and guest.answers[0])
    guest.stop()


def test_a_quota_that_ends_in_the_middle_of_a_download_keeps_what_has_arrived(
    guest: Person, address: str
) -> None:
    guest.get("models/tiny.gguf?slow", wait=False)
    guest.until(lambda: re.search(r"Fetching .* [1-9][\d.]* MB of", guest.job))
    with guest.quota(address, 1_000):
        guest.settled()
        needed = re.match(r"tiny.gguf: keeping it takes ([\d.]+) MB", guest.trouble)
        assert needed is not None, guest.trouble
        assert float(needed[1]) > 1, "all of the rest, not only the next piece"
        guest.press_there("Go on with tiny.gguf")
        assert guest.trouble.startswith("tiny.gguf: keeping it takes ")
    guest.press_there("Go on with tiny.gguf", wait=False)
    guest.until(lambda: "continues after" in guest.job)
    guest.settled()
    assert guest.kept == ["tiny.gguf"]
    guest.check()


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    guest: Person, tiny: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.gguf"
    large.write_bytes(tiny.read_bytes())
    os.truncate(large, 5 << 30)  # sparse: it takes no room on the disk
    guest.pick(large)
    assert guest.trouble.startswith("large.gguf: its weights of 51")
    assert guest.kept == []
    guest.close_models()
    guest.say("Hello!")
    assert guest.answers[0]


def test_a_second_tab_shares_the_models_but_not_a_download(guest: Person, address: str) -> None:
    guest.get("models/demo-copy.gguf")
    guest.get("models/tiny.gguf?slower", wait=False)
    guest.until(lambda: guest.job.startswith("Fetching"))
    second = Person(guest.context, address)
    second.get("models/tiny.gguf?slower")
    assert second.trouble.startswith("tiny.gguf: another tab of this page has it open")
    second.press_there("Load demo-copy.gguf")
    second.close_models()
    second.say("My name is Zorvane.")
    assert "Zorvane" in second.answers[0]
    second.check()
    second.page.close()
    guest.page.click(".library .job button")
    guest.settled()


def test_a_model_that_another_tab_removes_is_told_and_another_one_answers(
    guest: Person, address: str
) -> None:
    guest.get("models/demo-copy.gguf")
    guest.close_models()
    guest.say("My name is Zorvane.")
    second = Person(guest.context, address)
    second.here()
    assert second.model == "demo-copy.gguf"
    second.open_models()
    guest.press_there("Load demo")
    guest.delete("demo-copy.gguf")
    guest.close_models()
    second.press_there("Load demo-copy.gguf")
    assert second.trouble == "demo-copy.gguf is not here any more. Choose a model."
    assert second.kept == []
    second.close_models()
    second.say("What is my name?")
    assert "Zorvane" in second.answers[1]
    assert second.model == "demo"
    second.check()
    second.page.close()


def test_a_tab_that_has_not_heard_of_it_goes_on_with_another_model(
    guest: Person, address: str
) -> None:
    guest.get("models/demo-copy.gguf")
    guest.close_models()
    second = Person(guest.context, address)
    second.here()
    assert second.model == "demo-copy.gguf"
    guest.press_there("Load demo")
    guest.delete("demo-copy.gguf")
    guest.close_models()
    second.say("My name is Zorvane.")
    assert "Zorvane" in second.answers[0]
    assert second.model == "demo"
    assert "demo-copy.gguf is not here: this conversation goes on with demo." in second.text(
        ".toast"
    )
    second.check()
    second.page.close()


def test_what_goes_wrong_is_a_typed_error_in_python(programmer: Programmer, address: str) -> None:
    code = f"""
import js
from llama_bridge import InvalidInput, ModelNotFound, InvalidModel
from llama_bridge_wasm.store.model_store import *
from llama_bridge_wasm.page import new, to_js
for path in ("a//b", "../x", "/x", "x/", "", ".", "a\\\\b", None):
    try:
        ModelStore(path)
    except InvalidInput as error:
        assert f"path={{path!r}}: give" in str(error)
    else:
        raise AssertionError(path)
await ModelStore("deeper/in").models()
store = ModelStore("elsewhere")
url = {address!r} + "models/"
said = []
async def fails(work):
    try:
        await work
        said.append("fine")
    except StoreError as error:
        said.append(f"{{type(error).__name__}} {{vars(error)}}")
    except (ModelNotFound, InvalidModel) as error:
        said.append(type(error).__name__)
async def opened(sha256):
    async with store.open(sha256) as source:
        with source.open() as file:
            assert file.read(4) == b"GGUF"
for sha256 in ("../x", "", "0" * 63, "Z" * 64, "0" * 64 + "\\n", None, b"0" * 64):
    for work in (store.delete(sha256), opened(sha256)):
        try:
            await work
        except InvalidInput as error:
            assert f"sha256={{sha256!r}}: give" in str(error)
        else:
            raise AssertionError(sha256)
await fails(store.download(url + "tiny.gguf?half"))
[part] = await store.unfinished()
said.append(f"{{part.name}} {{part.size < part.total}}")
await fails(store.discard(part.url))
said.append(str(await store.unfinished()))
await fails(store.download(url + "nowhere.gguf"))
await fails(store.download(url + "cut.gguf"))
steps = []
model = await store.download(url + "demo-copy.gguf", steps.append)
assert steps[-1].done == steps[-1].total == model.size
again = await store.download(url + "demo-copy.gguf")
assert [again] == await store.models()
await fails(opened(model.sha256))
await fails(opened("0" * 64))
await fails(store.add(new(js.Blob, to_js(["nothing"])), "nothing.gguf"))
root = await js.navigator.storage.getDirectory()
for name in ("elsewhere", "models"):
    root = await root.getDirectoryHandle(name)
held = await (await root.getFileHandle(model.sha256 + ".gguf")).createSyncAccessHandle()
await fails(opened(model.sha256))
await fails(store.delete(model.sha256))
held.close()
await fails(store.delete(model.sha256))
await fails(store.delete(model.sha256))
said.append(str(await store.models()))
"\\n".join(said)
"""
    said = programmer.run(code).splitlines()
    assert said[0].startswith("DownloadError {'path': 'tiny.gguf', 'reason': 'the connection broke")
    assert said[1:6] == ["tiny.gguf True", "fine", "[]", "ModelNotFound", "InvalidModel"]
    assert said[6:9] == ["fine", "ModelNotFound", "InvalidModel"]
    assert said[9].startswith("ModelBusy {'path': 'demo-copy.gguf'")
    assert said[10].startswith("ModelBusy ")
    assert said[11:] == ["fine", "fine", "[]"]


def test_models_are_listed_while_another_tab_deletes_some(programmer: Programmer) -> None:
    """The list failed, and with it every job of a page: it waited for ever."""
    code = """
import asyncio
import js
from llama_bridge_wasm.store.model_store import *
from llama_bridge_wasm.page import to_js
store = ModelStore("listed")
await store.models()
root = await js.navigator.storage.getDirectory()
for name in ("listed", "models"):
    root = await root.getDirectoryHandle(name)
create = to_js({"create": True}, dict_converter=js.Object.fromEntries)
names = ["%064x.gguf" % i for i in range(8)]
async def come_and_go():
    for _ in range(20):
        for name in names:
            await root.getFileHandle(name, create)
        for name in names:
            await root.removeEntry(name)
async def look():
    return [len(await store.models()) for _ in range(60)]
_, seen = await asyncio.gather(come_and_go(), look())
str(max(seen) > 0)
"""
    assert programmer.run(code) == "True"

"""examples/browser in Chromium, used as a person would, and as a person would rather not."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Playwright,
    Route,
    ViewportSize,
    sync_playwright,
)

from llama_bridge.models.source import open_model
from tools.browser import browsers, fetch
from tools.browser.server import Handler, serve
from tools.browser.site import lay_out
from tools.random_model import TINY, cached_model

from .person import Person

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE, TEN_LINES = ROOT / "examples" / "browser", ROOT / "examples" / "browser_ten_lines"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DEMO = open_model("demo").path
STOP_WITHIN = 300  # ms
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PHONE = ViewportSize(width=390, height=844)
SMALL = ViewportSize(width=360, height=640)
DESKTOP = ViewportSize(width=1280, height=800)


class SpoiltHandler(Handler):
    """Sends half a file and hangs up (``?half``, of a whole file), or takes its time (``?slow``, ``?slower``)."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        query = self.path.partition("?")[2]
        if query == "half" and "Range" not in self.headers:
            self._left //= 2
            self.close_connection = True
        if query in ("slow", "slower"):
            piece = 1 << (17 if query == "slow" else 13)
            while self._left and (data := source.read(min(self._left, piece))):
                try:
                    outputfile.write(data)
                except OSError:
                    return
                self._left -= len(data)
                time.sleep(0.05)
        super().copyfile(source, outputfile)


@pytest.fixture(scope="session")
def tiny() -> Path:
    return cached_model(**TINY)


@pytest.fixture(scope="session")
def slow() -> Path:
    """A prompt of some thousand tokens keeps it busy for seconds."""
    shape = {"n_layer": 8, "n_embd": 512, "n_head": 8, "n_head_kv": 4, "n_ff": 2048}
    return cached_model(vocab="llama-spm", quantization="q8_0", **shape)


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny: Path, missing: Callable[[str], None]
) -> Path:
    folder = tmp_path_factory.mktemp("site")
    try:
        lay_out(folder, extra=[EXAMPLE, Path(__file__).with_name("python.mjs")])
    except fetch.FetchError as error:
        missing(str(error))
    models = folder / "models"
    models.mkdir()
    whole = tiny.read_bytes()
    (models / "tiny.gguf").write_bytes(whole)
    (models / "demo-copy.gguf").write_bytes(DEMO.read_bytes())
    (models / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (models / "page.gguf").write_text("<!doctype html><title>Not found</title>")
    return folder


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with serve(site, handler=SpoiltHandler) as found:
        yield found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="session")
def browser(playwright: Playwright, missing: Callable[[str], None]) -> Iterator[Browser]:
    program = browsers.find("chromium")
    if program is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium")

    browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=60_000)
    yield browser
    browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    context = browser.new_context(viewport=DESKTOP)
    yield context
    context.close()


Visit = Callable[..., Person]


@pytest.fixture
def visit(context: BrowserContext, address: str) -> Iterator[Visit]:
    people: list[Person] = []

    def come(where: str = address) -> Person:
        people.append(Person(context, where))
        people[-1].idle()
        return people[-1]

    yield come
    for person in people:
        person.check()


@pytest.fixture
def person(visit: Visit) -> Person:
    return visit()


# as a person would


def test_two_turns_with_the_demo_model_and_why_the_second_was_fresh(person: Person) -> None:
    assert person.status == "Choose a model"
    assert person.page.is_disabled("#send")
    person.take_demo()
    assert person.text("#about") == "llama-bridge demo on the wasm backend"
    assert person.status.startswith("Ready, loaded in ")
    person.say("My name is Zorvane.")
    person.say("What is my name?")
    first, second = person.answers
    assert "Zorvane" in first
    assert "Zorvane" not in second
    pattern = r"Fresh \(stop\): (\d+) cached \+ (\d+) evaluated tokens, \d+ new at [\d,]+ tokens/s"
    costs = [re.fullmatch(pattern, cost) for cost in person.costs]
    cached = [int(cost[1]) for cost in costs if cost]
    assert len(cached) == 2
    # Both begin with BOS, the user's sign and "My" or "What".
    assert cached[0] == 0 < cached[1] < 5
    assert person.page.locator("#talk .why").all_inner_texts() == [
        "Why fresh: this backend cannot continue a conversation (kv_continuation): "
        "the prompt was answered without the earlier turns"
    ]
    assert person.page.locator("#said").text_content() == second  # heard as well as seen
    assert person.network_troubles == []


def test_what_the_backend_lacks_stands_there_with_the_reason(person: Person) -> None:
    person.take_demo()
    assert person.page.locator("#lacks li").all_inner_texts() == [
        "Nothing can be saved or opened: it lacks session_persistence",
        "Every question stands alone: it lacks kv_continuation",
    ]
    reason = (
        "session_persistence is not supported by the wasm backend "
        "(native has it, but a page cannot run it)"
    )
    for name in ("Open…", "Save…"):
        button = person.page.get_by_role("button", name=name)
        assert button.get_attribute("aria-disabled") == "true"
        assert button.get_attribute("aria-description") == reason
        button.press("Enter")
        assert person.status == reason


def test_new_forgets_the_conversation(person: Person) -> None:
    person.take_demo()
    person.say("Hello!")
    person.press("New")
    person.idle()
    assert person.status == "A new conversation"
    assert person.answers == []
    person.say("Hello!")
    assert person.page.locator("#talk .why").count() == 0  # nothing to continue


@pytest.mark.parametrize("isolated", [True, False])
def test_stop_works_at_once_in_prefill_and_in_decode(
    visit: Visit, site: Path, slow: Path, isolated: bool
) -> None:
    with serve(site, isolated=isolated) as address:
        person = visit(address)
        person.pick(slow)
        several = re.search(r", \d+ threads$", person.text("#about")) is not None
        assert several is (isolated and (os.cpu_count() or 1) > 1)
        prompt = "one two three " * 800
        for moment in (0, 0.5, 1.5):
            person.say(prompt, wait=False)
            person.page.wait_for_timeout(1000 * moment)
            assert person.stop() < STOP_WITHIN
            assert person.status == "Stopped"
        assert all("Fresh (cancelled): 0 cached + " in cost for cost in person.costs)

        person.say("Hello", wait=False)
        person.until(lambda: len(person.answers[-1]) > 20)
        before = person.answers[-1]
        assert person.stop() < STOP_WITHIN
        assert person.answers[-1].startswith(before)
        assert "0 cached + 2 evaluated tokens" in person.costs[-1]

        person.say("Hello", wait=False)
        person.until(lambda: len(person.answers[-1]) > 20)
        person.page.keyboard.press("Escape")
        person.idle(1)
        assert person.status == "Stopped"


def test_progress_of_the_prefill_is_shown_and_the_page_lives(person: Person, slow: Path) -> None:
    person.pick(slow)
    longest_gap = person.watch_the_page_thread()
    person.say("one two three " * 400, wait=False)
    person.until(lambda: re.fullmatch(r"Reading the prompt: [\d,]+ of 1,201 tokens", person.status))
    assert 0 < float(person.page.locator("#progress").evaluate("(bar) => bar.value")) < 1
    person.page.fill("#prompt", "typed meanwhile")
    person.until(lambda: len(person.answers[-1]) > 20)
    assert person.status == "Answering… Esc stops"
    person.stop()
    assert person.page.input_value("#prompt") == "typed meanwhile"
    assert longest_gap() < 250  # it shares two busy cores with the model


def test_a_second_model_is_dropped_in_and_both_are_kept(person: Person, tiny: Path) -> None:
    person.pick(tiny)
    assert person.text("#about") == "random llama llama-spm 0 on the wasm backend"
    person.drop("models/demo-copy.gguf", "dropped.gguf")
    assert person.text("#about") == "llama-bridge demo on the wasm backend"
    assert person.trouble == ""
    assert sorted(person.kept) == sorted([tiny.name, "dropped.gguf"])
    person.say("Hello!")
    assert person.answers[0]
    person.press(f"Delete {tiny.name}")
    person.idle()
    assert person.kept == ["dropped.gguf"]
    person.say("Hello!")  # what is deleted on the disk and what is loaded are two things
    assert person.answers[1]


def test_a_kept_model_is_there_after_a_reload_and_without_a_network(
    person: Person, context: BrowserContext
) -> None:
    person.get("models/demo-copy.gguf")
    assert person.status.startswith("Ready, loaded in ")
    person.page.reload()
    person.idle()
    assert person.kept == ["demo-copy.gguf"]
    context.set_offline(True)
    person.press("Use demo-copy.gguf")
    person.idle()
    person.say("My name is Zorvane.")
    assert "Zorvane" in person.answers[0]
    person.get("models/tiny.gguf")
    assert person.trouble.startswith("DownloadError: tiny.gguf: the server did not answer")
    assert "is this page offline?" in person.trouble
    person.say("Hello!")
    assert person.answers[1]


def test_a_second_visit_needs_no_server(visit: Visit, site: Path) -> None:
    with serve(site) as address:
        person = visit(address)
        person.get("models/demo-copy.gguf")
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
    person.page.reload()
    person.idle()
    person.press("Use demo-copy.gguf")
    person.idle()
    person.say("My name is Zorvane.")
    assert "Zorvane" in person.answers[0]


def test_a_download_can_be_stopped_and_goes_on_from_there(person: Person, site: Path) -> None:
    size = (site / "models" / "tiny.gguf").stat().st_size
    person.get("models/tiny.gguf?slow", wait=False)
    person.until(lambda: re.match(r"Downloading: [1-9][\d.]* MB of", person.status))
    assert person.stop() < STOP_WITHIN
    assert person.status == "Stopped"
    assert person.kept == ["tiny.gguf"]
    assert f" of {size / 1e6:.1f} MB" in person.text("#kept")
    person.page.reload()
    person.idle()
    person.press("Resume")
    person.until(lambda: "; continues after " in person.status)
    person.idle()
    assert person.status.startswith("Ready, loaded in ")
    assert person.page.get_by_role("button", name="Resume").count() == 0


def test_everything_can_be_reached_by_keyboard_in_a_sensible_order(person: Person) -> None:
    person.take_demo()
    person.page.focus("summary")
    reached = []
    for _ in range(10):
        person.page.keyboard.press("Tab")
        reached.append(
            person.page.evaluate(
                "() => document.activeElement.id || document.activeElement.innerText"
            )
        )
    models, chat = ["demo", "file", "url", "Get"], ["new", "open", "save", "talk", "prompt", "send"]
    assert reached == models + chat


@pytest.mark.pictures
def test_nothing_is_cut_off_at_any_width_in_dark_and_light(person: Person, pictures: Path) -> None:
    page = person.page

    def look(moment: str) -> None:
        for size, scheme in itertools.product([PHONE, SMALL, DESKTOP], SCHEMES):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            page.screenshot(path=pictures / f"{size['width']}-{scheme}-{moment}.png")
            wide = "() => document.documentElement.scrollWidth - innerWidth"
            assert page.evaluate(wide) <= 0
            for part in ("#send", "#prompt", "#status", "summary"):
                box = page.locator(part).bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= size["width"]
                assert box["y"] + box["height"] <= size["height"]

    look("start")
    page.set_viewport_size(PHONE)
    person.drop("models/demo-copy.gguf", "a-rather-long-name-of-a-model-Q4_K_M-00001-of-00001.gguf")
    assert not page.is_visible("#demo")  # on a phone the models make room for the conversation
    person.say("My name is Zorvane.")
    person.say("What is my name?")
    look("chat")
    page.click("summary")
    look("models")
    person.get("models/page.gguf")
    look("trouble")


def test_the_second_example_says_what_the_readme_says(context: BrowserContext, site: Path) -> None:
    program = re.search(r"runPythonAsync\(`\n(.*)`\)", (TEN_LINES / "worker.mjs").read_text(), re.S)
    assert program is not None
    for page in ("README.md", "docs/index.md"):
        assert program[1] in (ROOT / page).read_text()
    assert sum(len(path.read_text().splitlines()) for path in TEN_LINES.iterdir()) < 40
    shutil.copytree(TEN_LINES, site / "ten")
    for name in ("pyodide", "wheels", "wheels.json"):
        (site / "ten" / name).symlink_to(site / name)
    with serve(site / "ten") as address:
        person = Person(context, address)
        person.until(lambda: "keeps no sessions" in person.text("pre"))
        first, second, third = person.text("pre").splitlines()
        assert "Zorblax" in first
        assert "Zorblax" not in second
        assert third == "the wasm backend keeps no sessions"
        person.check()


# as a person would rather not


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
    assert person.status == "Python could not be started"
    reason = "This browser cannot run the page: this browser has no WebAssembly"
    assert person.trouble.startswith(reason)
    assert "Chrome 137" in person.trouble


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
    person.take_demo()
    assert person.trouble.startswith("BackendUnavailable: backend 'wasm' is not available")
    assert "relaxed SIMD and exceptions: Chrome 137 and Firefox 145" in person.trouble
    assert person.status == "That did not work"


def test_where_nothing_can_be_kept_the_page_says_so_and_works(
    context: BrowserContext, visit: Visit, tiny: Path
) -> None:
    poorer(
        context,
        """StorageManager.prototype.getDirectory = async () => {
            throw new DOMException("not in a private window", "SecurityError");
        };""",
    )
    person = visit()
    why = "this browser keeps no files for this page: not in a private window"
    assert why in person.text("#space")
    person.pick(DEMO)
    assert person.trouble == f"StoreUnavailable: model store: {why}"
    assert person.status.endswith(", but not kept")
    person.say("Hello!")
    assert person.answers[0]


def test_a_file_that_is_no_gguf_is_refused_and_the_model_stays(person: Person) -> None:
    person.take_demo()
    person.say("Hello!")
    person.drop("index.html", "notes.gguf")
    assert person.trouble.startswith("InvalidModel: notes.gguf: this is a web page, not a GGUF")
    assert person.status == "That did not work"
    person.get("models/page.gguf")
    assert person.trouble.startswith("InvalidModel: page.gguf: this is a web page, not a GGUF")
    assert person.kept == []
    person.say("Hello!")
    assert len(person.answers) == 2
    assert person.trouble == ""


def test_a_model_that_the_server_does_not_have(person: Person) -> None:
    person.get("models/nowhere.gguf")
    assert person.trouble.startswith("ModelNotFound: ")
    assert person.trouble.endswith("models/nowhere.gguf: the server has no such file (status 404)")
    person.get("https://example.org/model.gguf")
    assert person.trouble.startswith(
        "Another server: this page may only connect to http://127.0.0.1"
    )


def test_half_a_model_is_refused(person: Person) -> None:
    person.get("models/cut.gguf")
    assert person.trouble.startswith("InvalidModel: cut.gguf: truncated GGUF: ")
    assert "download or copy it again" in person.trouble
    assert person.kept == []


def test_a_download_that_breaks_goes_on_with_the_next_try(person: Person) -> None:
    person.get("models/tiny.gguf?half")
    assert person.trouble.startswith("DownloadError: tiny.gguf: the connection broke")
    assert person.trouble.endswith("MB are kept, and the next try continues from there")
    assert person.kept == ["tiny.gguf"]
    person.press("Resume")
    person.idle()
    assert person.status.startswith("Ready, loaded in ")
    assert person.kept == ["tiny.gguf"]


def test_a_server_without_ranges_starts_over_and_the_page_says_so(visit: Visit, site: Path) -> None:
    with serve(site, ranges=False, handler=SpoiltHandler) as address:
        person = visit(address)
        person.get("models/tiny.gguf?slow", wait=False)
        person.until(lambda: re.match(r"Downloading: [1-9][\d.]* MB of", person.status))
        person.stop()
        person.press("Resume")
        person.until(lambda: "; starts over: the server cannot send only the rest" in person.status)
        person.idle()
        assert person.status.startswith("Ready, loaded in ")
        assert person.kept == ["tiny.gguf"]


def test_a_model_beyond_the_quota_is_used_but_not_kept(
    person: Person, context: BrowserContext, address: str, tiny: Path
) -> None:
    quota = {"origin": address, "quotaSize": 3_000_000}
    context.new_cdp_session(person.page).send("Storage.overrideQuotaForOrigin", quota)
    person.pick(tiny)
    assert person.trouble.startswith(f"StoreFull: {tiny.name}: keeping it takes ")
    assert "MB left for this page: delete a kept model" in person.trouble
    assert person.status.endswith(", but not kept")
    assert person.kept == []
    person.get("models/tiny.gguf")
    assert person.trouble.startswith("StoreFull: tiny.gguf: keeping it takes ")
    assert person.kept == []
    person.say("Hello", wait=False)
    person.until(lambda: person.answers and person.answers[0])
    person.stop()


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    person: Person, tiny: Path, tmp_path: Path
) -> None:
    person.take_demo()
    large = tmp_path / "large.gguf"
    large.write_bytes(tiny.read_bytes())
    os.truncate(large, 5 << 30)  # sparse: it takes no room on the disk
    person.pick(large)
    assert person.trouble.startswith("OutOfMemory: large.gguf: its weights of 51")
    assert person.kept == []
    person.say("Hello!")
    assert person.answers[0]


def test_a_second_tab_shares_the_models_but_not_a_download(person: Person, visit: Visit) -> None:
    person.get("models/demo-copy.gguf")
    person.get("models/tiny.gguf?slower", wait=False)
    person.until(lambda: person.status.startswith("Downloading: "))
    second = visit()
    second.get("models/tiny.gguf?slower")
    assert second.trouble.startswith("ModelBusy: tiny.gguf: another tab of this page has it open")
    second.press("Use demo-copy.gguf")
    second.idle()
    second.say("My name is Zorvane.")
    assert "Zorvane" in second.answers[0]
    assert person.stop() < STOP_WITHIN
    assert person.status == "Stopped"


def test_what_goes_wrong_is_a_typed_error_in_python(person: Person, address: str) -> None:
    code = f"""
import js
from llama_bridge import ModelNotFound, InvalidModel
from llama_bridge_wasm.store.model_store import *
from llama_bridge_wasm.page import new, to_js
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
    said = str(person.python(code)).splitlines()
    assert said[0].startswith("DownloadError {'path': 'tiny.gguf', 'reason': 'the connection broke")
    assert said[1:6] == ["tiny.gguf True", "fine", "[]", "ModelNotFound", "InvalidModel"]
    assert said[6:9] == ["fine", "ModelNotFound", "InvalidModel"]
    assert said[9].startswith("ModelBusy {'path': 'demo-copy.gguf'")
    assert said[10].startswith("ModelBusy ")
    assert said[11:] == ["fine", "fine", "[]"]

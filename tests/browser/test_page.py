"""examples/browser in Chromium, used as a person would."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Literal

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import BrowserContext, Route

from tools.browser.server import serve
from tools.split_model import split_model

from .person import Person
from .visiting import DEMO, DESKTOP, PHONE, ROOT, SMALL, STOP_WITHIN, TEN_LINES, Visit

pytestmark = pytest.mark.slow

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COST = re.compile(
    r"(\d+) cached \+ (\d+) evaluated tokens, \d+ new · [\d,]+ tokens/s · \d+% of the context"
)


def test_two_turns_with_the_demo_model_and_the_second_remembers_the_first(person: Person) -> None:
    person.say("My name is Zorblax.")  # at once: Python is not there yet, and no model was chosen
    person.say("What is my name?")
    assert person.model == "demo"
    first, second = person.answers
    assert "Zorblax" in first
    assert "Zorblax" in second
    costs = [COST.fullmatch(cost or "") for cost in person.costs]
    cached, evaluated = zip(*((int(cost[1]), int(cost[2])) for cost in costs if cost), strict=True)
    assert cached[0] == 0
    assert cached[1] > evaluated[1] > 0, "only the new turn is evaluated"
    person.say("one two three " * 2000)
    assert re.match(r"This does not fit the context: ", person.ending)
    assert person.answers[:2] == [first, second]
    person.say("Thanks!")
    assert len(person.answers) == 3
    assert person.answers[2]
    assert person.network_troubles == []


def test_it_can_be_used_before_python_is_there(context: BrowserContext, visit: Visit) -> None:
    held: list[Route] = []
    context.route("**/chat.py", lambda route: held.append(route))
    person = visit()
    shown = person.page.evaluate("() => performance.getEntriesByName('first-paint')[0].startTime")
    assert shown < 1000  # some 100 on an idle machine
    person.say("Hello!", wait=False)
    person.until(lambda: person.doing == "Starting Python")
    person.press("Stop")
    person.until(lambda: person.ending == "Stopped.")
    held[0].continue_()
    person.say("My name is Zorblax.")
    assert "Zorblax" in person.answers[0]


def test_a_new_chat_knows_nothing_of_the_other_and_what_is_deleted_is_gone(guest: Person) -> None:
    guest.say("My name is Zorblax.")
    guest.press("New chat")
    guest.say("What is my name?")
    assert "Zorblax" not in guest.answers[0]
    guest.choose("My name is Zorblax.", "Delete")
    guest.until(lambda: len(guest.titles) == 1)
    kept = guest.page.evaluate(
        """() => new Promise((resolve) => {
            indexedDB.open("llama-bridge").onsuccess = ({ target }) => {
                target.result.transaction("talks").objectStore("talks").getAll().onsuccess = (found) =>
                    resolve(JSON.stringify([found.target.result, { ...localStorage, ...sessionStorage }]));
            };
        })"""
    )
    assert "What is my name?" in kept
    assert "Zorblax" not in kept


def test_a_reload_keeps_the_talk_and_goes_on_with_the_same_model(guest: Person) -> None:
    guest.get("models/demo-copy.gguf")
    guest.close_models()
    guest.say("My name is Zorblax.")
    assert guest.model == "demo-copy.gguf"
    cost = guest.page.locator(".cost").first
    assert not cost.is_visible()
    guest.press("Costs")
    assert COST.fullmatch(cost.inner_text())
    guest.page.fill("#prompt", "half typed")
    guest.page.wait_for_timeout(700)
    guest.page.reload()
    guest.here()
    assert guest.model == "demo-copy.gguf"
    assert "Zorblax" in guest.answers[0]
    assert guest.page.input_value("#prompt") == "half typed"
    guest.page.fill("#prompt", "")
    guest.say("What is my name?")
    assert "Zorblax" in guest.answers[1]
    assert cost.is_visible()
    guest.press("Costs")
    assert not cost.is_visible()


def test_a_split_model_is_taken_whole_and_a_missing_part_is_named(
    guest: Person, tmp_path: Path
) -> None:
    first, second, third = split_model(DEMO, tmp_path / "chat", 3)
    guest.pick([third, first])
    assert f"Missing: {second.name}." in guest.trouble
    assert guest.kept == []
    guest.pick([third, first, second])
    guest.until(lambda: guest.loaded == "chat.gguf")
    assert guest.kept == ["chat.gguf"]
    guest.close_models()
    guest.say("My name is Zorblax.")
    guest.page.reload()  # it is kept
    guest.here()
    guest.say("What is my name?")
    assert "Zorblax" in guest.answers[1]
    assert guest.model == "chat.gguf"


def test_after_a_reload_a_model_that_is_not_kept_is_asked_for_by_name(
    guest: Person, address: str
) -> None:
    # Room for the conversation, but not for the model.
    used = guest.page.evaluate(
        """async () => {
            await navigator.serviceWorker.ready;
            return (await navigator.storage.estimate()).usage;
        }"""
    )
    with guest.quota(address, used + 1_000_000):
        guest.pick(DEMO)
        assert "keeping it takes" in guest.models()[1]
        guest.close_models()
        guest.say("My name is Zorblax.")
        assert guest.model == DEMO.name
        guest.page.reload()
        guest.here()
    assert "Zorblax" in guest.answers[0]
    told = guest.text(".toast")
    assert told.startswith(f"{DEMO.name} is not here: this conversation goes on with demo.")
    guest.say("What is my name?")
    assert "Zorblax" in guest.answers[1]


def test_a_reload_at_a_bad_moment_loses_nothing_that_was_seen(guest: Person, slow: Path) -> None:
    guest.take(slow)
    prompt = ("one two three " * 400).strip()
    guest.say(prompt, wait=False)
    guest.until(lambda: guest.doing.startswith("Reading"))
    guest.page.reload()
    guest.page.wait_for_selector(".turn")
    assert guest.said[0] == prompt
    assert guest.ending == "Interrupted before the end."

    guest.say("Hello", wait=False)  # before Python is there, and the model is loaded for it
    guest.until(lambda: guest.answers and len(guest.answers[-1]) > 20)
    before = guest.answers[-1]
    guest.page.wait_for_timeout(800)
    guest.page.reload()  # in the middle of the answer
    guest.page.wait_for_selector(".turn")
    assert guest.answers[-1].startswith(before[:20])
    assert guest.ending == "Interrupted before the end."
    # A model that brings the tab down is not loaded again by itself.
    assert guest.page.locator(".mark").count() == 0
    guest.open_models()
    assert guest.page.locator(".library .mark").count() == 0


def test_where_nothing_can_be_stored_a_talk_lasts_as_long_as_the_tab(
    context: BrowserContext, visit: Visit
) -> None:
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage", "indexedDB"])
            Object.defineProperty(self, name, { get() { throw new DOMException("off", "SecurityError"); } });"""
    )
    person = visit()
    assert "This browser keeps nothing for this page" in person.text(".notes")
    person.say("My name is Zorblax.")
    person.say("What is my name?")
    assert "Zorblax" in person.answers[1]


def test_stop_works_at_once_in_prefill_and_in_decode(guest: Person, slow: Path) -> None:
    _stop_anywhere(guest, slow, (0, 0.5, 1.5))
    guest.open_models()
    several = re.search(r"computes with \d+ threads", guest.text(".library .about")) is not None
    assert several is ((os.cpu_count() or 1) > 1)


def test_it_stops_as_soon_where_the_page_has_one_thread(
    visit: Visit, site: Path, slow: Path
) -> None:
    with serve(site, isolated=False) as address:
        person = visit(address)
        _stop_anywhere(person, slow, (0.5,))
        person.open_models()
        assert "computes with one thread" in person.text(".library .about")


def _stop_anywhere(person: Person, slow: Path, moments: tuple[float, ...]) -> None:
    person.take(slow)
    prompt = "one two three " * 800
    for moment in moments:
        person.say(prompt, wait=False)
        person.page.wait_for_timeout(1000 * moment)
        assert person.stop() < STOP_WITHIN
        person.until(lambda: person.ending == "Stopped.")
        assert person.answers == [""]  # the next question takes its place

    person.say("Hello", wait=False)
    person.until(lambda: len(person.answers[-1]) > 20)
    before = person.answers[-1]
    assert person.stop() < STOP_WITHIN
    assert person.answers[-1].startswith(before)
    assert (person.costs[-1] or "").startswith("0 cached + 2 evaluated tokens")
    person.until(lambda: person.ending == "Stopped.")

    person.say("Hello", wait=False)
    person.until(lambda: len(person.answers[-1]) > 20)
    person.page.keyboard.press("Escape")
    person.idle()
    person.until(lambda: person.ending == "Stopped.")


def test_progress_of_the_prefill_is_shown_and_the_page_lives(guest: Person, slow: Path) -> None:
    guest.take(slow)
    longest_gap = guest.watch_the_page_thread()
    guest.say("one two three " * 400, wait=False)
    guest.until(lambda: re.fullmatch(r"Reading: [\d,]+ of 1,201", guest.doing))
    assert 0 < float(guest.page.locator(".doing progress").evaluate("(bar) => bar.value")) < 1
    guest.page.fill("#prompt", "typed meanwhile")
    guest.until(lambda: len(guest.answers[-1]) > 20)
    assert guest.doing == ""
    guest.stop()
    assert guest.page.input_value("#prompt") == "typed meanwhile"
    assert longest_gap() < 250  # it shares two busy cores with the model


def test_two_conversations_at_once_wait_for_each_other(guest: Person, slow: Path) -> None:
    guest.take(slow)
    guest.say("Hello", wait=False)
    guest.until(lambda: guest.answers and len(guest.answers[-1]) > 20)
    guest.press("New chat")
    guest.say("Hello again", wait=False)
    guest.until(lambda: guest.doing == "Waiting for another answer")
    guest.press("Stop")  # not the other
    guest.until(lambda: guest.ending == "Stopped.")
    guest.page.locator(".talks .open", has_text="Hello").last.click()
    guest.until(lambda: guest.page.is_visible("#stop"))
    guest.stop()
    assert len(guest.answers[0]) > 20


def test_a_second_model_is_dropped_in_and_both_are_kept(guest: Person, tiny: Path) -> None:
    guest.pick(tiny)
    assert guest.text(".library .about").startswith("In use\n")
    assert "runs on the wasm backend" in guest.text(".library .about")
    guest.close_models()
    guest.drop("models/demo-copy.gguf", "dropped.gguf")
    assert guest.trouble == ""
    assert sorted(guest.kept) == sorted([tiny.name, "dropped.gguf"])
    guest.delete(tiny.name)
    assert guest.kept == ["dropped.gguf"]
    guest.close_models()
    assert guest.model == "dropped.gguf"
    guest.say("Hello!")
    assert guest.answers[0]


def test_a_kept_model_is_there_after_a_reload_and_without_a_network(guest: Person) -> None:
    guest.get("models/demo-copy.gguf")
    guest.close_models()
    guest.page.reload()
    guest.here()
    assert guest.kept == ["demo-copy.gguf"]
    guest.context.set_offline(True)
    guest.press_there("Load demo-copy.gguf")
    guest.close_models()
    guest.say("My name is Zorblax.")
    assert "Zorblax" in guest.answers[0]
    guest.get("models/tiny.gguf")
    assert guest.trouble.startswith("tiny.gguf: the server did not answer")
    assert "is this page offline?" in guest.trouble
    guest.close_models()
    guest.say("Hello!")
    assert guest.answers[1]
    guest.context.set_offline(False)


def test_a_second_visit_needs_no_server(visit: Visit, site: Path) -> None:
    with serve(site) as address:
        person = visit(address)
        person.get("models/demo-copy.gguf")
        person.close_models()
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        person.say("My name is Zorblax.")
    person.page.reload()
    person.say("What is my name?")
    assert person.model == "demo-copy.gguf"
    assert "Zorblax" in person.answers[0]
    assert "Zorblax" in person.answers[1]


def test_what_replaces_a_file_named_by_its_digest_is_kept_and_the_old_one_is_forgotten(
    visit: Visit, context: BrowserContext
) -> None:
    person = visit()
    page = person.page
    page.evaluate("async () => { await navigator.serviceWorker.ready; }")
    page.reload()  # now what it fetches comes through the service worker
    names = """async () => {
        const cache = await caches.open("llama-bridge");
        return (await cache.keys()).map(({ url }) => url.split("/").at(-1)).filter((name) => name.endsWith(".bin"));
    }"""
    before = sorted(page.evaluate(names))
    assert [name.partition("-")[0] for name in before] == ["llama_bridge", "started"]
    old = f"pyodide/{before[1][:-20]}0123456789abcdef.bin"
    page.evaluate(
        """async ([old, now]) => {
            const cache = await caches.open("llama-bridge");
            await cache.put(old, new Response("of the last deploy"));
            await cache.delete(now);
            await (await fetch(now)).arrayBuffer();
        }""",
        [old, f"pyodide/{before[1]}"],
    )
    person.until(lambda: sorted(page.evaluate(names)) == before)
    context.set_offline(True)
    size = "async (path) => (await (await fetch(path)).arrayBuffer()).byteLength"
    assert page.evaluate(size, f"pyodide/{before[1]}") > 1e6
    context.set_offline(False)


def test_python_is_read_and_not_started(visit: Visit, context: BrowserContext) -> None:
    asked: list[str] = []
    told: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: told.append(message.text))
    person = visit()
    person.say("My name is Zorblax.")
    assert "Zorblax" in person.answers[0]
    assert any("/started-" in url for url in asked)
    assert not [url for url in asked if url.endswith(".whl")]
    assert told == []


def test_a_download_can_be_stopped_and_goes_on_from_there(guest: Person, site: Path) -> None:
    size = (site / "models" / "tiny.gguf").stat().st_size
    guest.get("models/tiny.gguf?slow", wait=False)
    guest.until(lambda: re.search(r"Fetching .*tiny[^ ]* [1-9][\d.]* MB of", guest.job))
    guest.page.click(".library .job button")
    guest.settled()
    assert guest.kept == ["tiny.gguf"]
    assert f" of {size / 1e6:.1f} MB have arrived" in guest.models()[1]
    guest.page.reload()
    guest.open_models()
    guest.page.click(".library [aria-label='Go on with tiny.gguf']")
    guest.until(lambda: "continues after " in guest.job)
    guest.settled()
    assert guest.loaded == "tiny.gguf"
    assert guest.page.get_by_role("button", name="Go on").count() == 0


@pytest.mark.pictures
def test_nothing_is_cut_off_at_any_width_in_dark_and_light(person: Person, pictures: Path) -> None:
    page = person.page

    def look(moment: str, *parts: str) -> None:
        for size, scheme in itertools.product([PHONE, SMALL, DESKTOP], SCHEMES):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            page.screenshot(path=pictures / f"{size['width']}-{scheme}-{moment}.png")
            wide = "() => document.documentElement.scrollWidth - innerWidth"
            assert page.evaluate(wide) <= 0
            for part in parts:
                box = page.locator(part).first.bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= size["width"]
                assert box["y"] + box["height"] <= size["height"]

    chat = ("#prompt", "#model", "#costs")
    person.here()
    look("start", *chat)
    page.set_viewport_size(PHONE)
    person.drop("models/demo-copy.gguf", "a-rather-long-name-of-a-model-Q4_K_M-00001-of-00001.gguf")
    person.close_models()
    person.say("My name is Zorvane.")
    person.say("What is my name?")
    look("chat", *chat)
    person.get("models/page.gguf")
    assert person.trouble
    look("models", ".library .head", ".library .trouble")


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
        person = Person(context, address, ready="pre")
        person.until(lambda: len(person.text("pre").splitlines()) == 2)
        assert all("Zorblax" in answer for answer in person.text("pre").splitlines())
        person.check()

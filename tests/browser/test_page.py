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

from playwright.sync_api import BrowserContext

from tools.browser.server import serve

from .person import Person
from .visiting import DEMO, DESKTOP, PHONE, ROOT, SMALL, STOP_WITHIN, TEN_LINES, Visit

pytestmark = pytest.mark.slow

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COST = re.compile(r"(\d+) cached \+ (\d+) evaluated tokens, \d+ new at [\d,]+ tokens/s")


def test_two_turns_with_the_demo_model_and_the_second_remembers_the_first(person: Person) -> None:
    assert person.status == "Choose a model"
    assert person.page.is_disabled("#send")
    person.take_demo()
    assert person.text("#about") == "llama-bridge demo on the wasm backend"
    assert person.status.startswith("Ready, loaded in ")
    person.say("My name is Zorblax.")
    person.say("What is my name?")
    first, second = person.answers
    assert "Zorblax" in first
    assert "Zorblax" in second
    costs = [COST.fullmatch(cost) for cost in person.costs]
    cached, evaluated = zip(*((int(cost[1]), int(cost[2])) for cost in costs if cost), strict=True)
    assert cached[0] == 0
    assert cached[1] > evaluated[1] > 0, "only the new turn is evaluated"
    assert person.page.locator("#said").text_content() == second  # heard as well as seen
    person.say("one two three " * 2000)
    assert re.match(r"Too long: [\d,]+ tokens do not fit the context of [\d,]+: ", person.trouble)
    assert person.answers == [first, second]
    assert person.page.input_value("#prompt").startswith("one two three")
    person.page.fill("#prompt", "")
    person.say("Thanks!")
    assert len(person.answers) == 3
    assert person.network_troubles == []


def test_new_forgets_the_conversation(guest: Person) -> None:
    guest.take_demo()
    guest.say("My name is Zorblax.")
    guest.press("New")
    guest.idle()
    assert guest.status == "A new conversation"
    assert guest.answers == []
    assert "Zorblax" not in str(
        guest.page.evaluate("() => ({ ...localStorage, ...sessionStorage })")
    )
    guest.say("What is my name?")
    assert "Zorblax" not in guest.answers[0]


def test_a_reload_keeps_the_talk_and_takes_the_same_model_again(guest: Person) -> None:
    guest.take_demo()
    guest.say("My name is Zorblax.")
    cost = guest.page.locator("#talk .cost").first
    assert not cost.is_visible()
    guest.press("Costs")
    assert COST.fullmatch(cost.inner_text())
    guest.page.fill("#prompt", "half typed")
    guest.page.reload()
    guest.idle()
    assert "Zorblax" in guest.answers[0]
    assert guest.page.input_value("#prompt") == "half typed"
    assert guest.text("#about") == "llama-bridge demo on the wasm backend"
    guest.page.fill("#prompt", "")
    guest.say("What is my name?")
    assert "Zorblax" in guest.answers[1]
    assert cost.is_visible()
    guest.press("Costs")
    assert not cost.is_visible()


def test_after_a_reload_a_model_that_is_not_kept_is_asked_for_by_name(
    guest: Person, address: str
) -> None:
    with guest.quota(address, 1_000_000):
        guest.pick(DEMO)
        assert guest.kept == []
        guest.say("My name is Zorblax.")
        guest.page.reload()
        guest.idle()
    assert "Zorblax" in guest.answers[0]
    assert guest.status == "To go on, load llama-bridge demo again, or another model"
    assert guest.page.is_disabled("#send")
    guest.take_demo()
    guest.say("What is my name?")
    assert "Zorblax" in guest.answers[1]


def test_a_reload_at_a_bad_moment_loses_nothing_that_was_seen(guest: Person, slow: Path) -> None:
    guest.pick(slow)
    prompt = ("one two three " * 400).strip()
    guest.say(prompt, wait=False)
    guest.page.wait_for_timeout(300)
    guest.page.reload()  # while it reads the question
    guest.idle()
    assert guest.answers == []
    assert guest.page.input_value("#prompt") == prompt

    guest.page.fill("#prompt", "")
    guest.press(f"Use {slow.name}")
    guest.say("Hello", wait=False)
    guest.until(lambda: guest.answers and len(guest.answers[0]) > 20)
    before = guest.answers[0]
    guest.page.reload()  # in the middle of the answer
    assert guest.answers[0].startswith(before[:20])
    assert guest.page.locator("#talk .end").all_inner_texts() == ["Stopped"]

    guest.until(lambda: guest.status.startswith("Loading"))  # by itself, because it is kept
    guest.page.reload()  # as if the model had brought the tab down: then it is not tried again
    guest.idle()
    assert guest.status == "To go on, choose a model"
    assert len(guest.answers) == 1


def test_where_nothing_can_be_stored_a_talk_lasts_as_long_as_the_tab(
    context: BrowserContext, visit: Visit
) -> None:
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(self, name, { get() { throw new DOMException("off", "SecurityError"); } });"""
    )
    person = visit()
    person.take_demo()
    person.say("My name is Zorblax.")
    person.say("What is my name?")
    assert "Zorblax" in person.answers[1]


def test_stop_works_at_once_in_prefill_and_in_decode(guest: Person, slow: Path) -> None:
    _stop_anywhere(guest, slow, (0, 0.5, 1.5))
    several = re.search(r", \d+ threads$", guest.text("#about")) is not None
    assert several is ((os.cpu_count() or 1) > 1)


def test_it_stops_as_soon_where_the_page_has_one_thread(
    visit: Visit, site: Path, slow: Path
) -> None:
    with serve(site, isolated=False) as address:
        person = visit(address)
        _stop_anywhere(person, slow, (0.5,))
        assert " threads" not in person.text("#about")


def _stop_anywhere(person: Person, slow: Path, moments: tuple[float, ...]) -> None:
    person.pick(slow)
    prompt = "one two three " * 800
    for moment in moments:
        person.say(prompt, wait=False)
        person.page.wait_for_timeout(1000 * moment)
        assert person.stop() < STOP_WITHIN
        assert person.status == "Stopped"
        assert person.answers == []  # and the question can be asked again
        assert person.page.input_value("#prompt") == prompt.strip()
        person.page.fill("#prompt", "")

    person.say("Hello", wait=False)
    person.until(lambda: len(person.answers[-1]) > 20)
    before = person.answers[-1]
    assert person.stop() < STOP_WITHIN
    assert person.answers[-1].startswith(before)
    assert "0 cached + 2 evaluated tokens" in person.costs[-1]
    assert person.page.locator("#talk .end").all_inner_texts() == ["Stopped"]

    person.say("Hello", wait=False)
    person.until(lambda: len(person.answers[-1]) > 20)
    person.page.keyboard.press("Escape")
    person.idle(1)
    assert person.status == "Stopped"


def test_progress_of_the_prefill_is_shown_and_the_page_lives(guest: Person, slow: Path) -> None:
    guest.pick(slow)
    longest_gap = guest.watch_the_page_thread()
    guest.say("one two three " * 400, wait=False)
    guest.until(lambda: re.fullmatch(r"Reading the prompt: [\d,]+ of 1,201 tokens", guest.status))
    assert 0 < float(guest.page.locator("#progress").evaluate("(bar) => bar.value")) < 1
    guest.page.fill("#prompt", "typed meanwhile")
    guest.until(lambda: len(guest.answers[-1]) > 20)
    assert guest.status == "Answering… Esc stops"
    guest.stop()
    assert guest.page.input_value("#prompt") == "typed meanwhile"
    assert longest_gap() < 250  # it shares two busy cores with the model


def test_a_second_model_is_dropped_in_and_both_are_kept(guest: Person, tiny: Path) -> None:
    guest.pick(tiny)
    assert guest.text("#about") == "random llama llama-spm 0 on the wasm backend"
    guest.drop("models/demo-copy.gguf", "dropped.gguf")
    assert guest.text("#about") == "llama-bridge demo on the wasm backend"
    assert guest.trouble == ""
    assert sorted(guest.kept) == sorted([tiny.name, "dropped.gguf"])
    guest.say("Hello!")
    assert guest.answers[0]
    guest.press(f"Delete {tiny.name}")
    guest.idle()
    assert guest.kept == ["dropped.gguf"]
    guest.say("Hello!")  # what is deleted on the disk and what is loaded are two things
    assert guest.answers[1]


def test_a_kept_model_is_there_after_a_reload_and_without_a_network(
    guest: Person,
) -> None:
    guest.get("models/demo-copy.gguf")
    assert guest.status.startswith("Ready, loaded in ")
    guest.say("Hello! My name is Zorblax.")
    guest.page.reload()
    guest.idle()
    assert guest.kept == ["demo-copy.gguf"]
    assert guest.status.startswith("Ready, loaded in ")  # to go on with the talk
    guest.press("New")
    guest.idle()
    guest.page.reload()
    guest.idle()
    assert guest.status == "Choose a model"  # there is none
    guest.context.set_offline(True)
    guest.press("Use demo-copy.gguf")
    guest.idle()
    guest.say("My name is Zorblax.")
    assert "Zorblax" in guest.answers[0]
    guest.get("models/tiny.gguf")
    assert guest.trouble.startswith("DownloadError: tiny.gguf: the server did not answer")
    assert "is this page offline?" in guest.trouble
    guest.say("Hello!")
    assert guest.answers[1]
    guest.context.set_offline(False)


def test_a_second_visit_needs_no_server(visit: Visit, site: Path) -> None:
    with serve(site) as address:
        person = visit(address)
        person.get("models/demo-copy.gguf")
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        person.say("My name is Zorblax.")
    person.page.reload()
    person.idle()
    person.say("What is my name?")
    assert "Zorblax" in person.answers[0]
    assert "Zorblax" in person.answers[1]


def test_a_download_can_be_stopped_and_goes_on_from_there(guest: Person, site: Path) -> None:
    size = (site / "models" / "tiny.gguf").stat().st_size
    guest.get("models/tiny.gguf?slow", wait=False)
    guest.until(lambda: re.match(r"Downloading: [1-9][\d.]* MB of", guest.status))
    assert guest.stop() < STOP_WITHIN
    assert guest.status == "Stopped"
    assert guest.kept == ["tiny.gguf"]
    assert f" of {size / 1e6:.1f} MB" in guest.text("#kept")
    guest.page.reload()
    guest.idle()
    guest.press("Resume")
    guest.until(lambda: "; continues after " in guest.status)
    guest.idle()
    assert guest.status.startswith("Ready, loaded in ")
    assert guest.page.get_by_role("button", name="Resume").count() == 0


def test_everything_can_be_reached_by_keyboard_in_a_sensible_order(guest: Person) -> None:
    guest.take_demo()
    guest.page.focus("summary")
    reached = []
    for _ in range(9):
        guest.page.keyboard.press("Tab")
        reached.append(
            guest.page.evaluate(
                "() => document.activeElement.id || document.activeElement.innerText"
            )
        )
    models, chat = ["demo", "file", "url", "Get"], ["new", "costs", "talk", "prompt", "send"]
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
        person.until(lambda: len(person.text("pre").splitlines()) == 2)
        assert all("Zorblax" in answer for answer in person.text("pre").splitlines())
        person.check()

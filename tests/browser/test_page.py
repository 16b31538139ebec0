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
from .visiting import DESKTOP, PHONE, ROOT, SMALL, STOP_WITHIN, TEN_LINES, Visit

pytestmark = pytest.mark.slow

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


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

"""Which model answers on examples/browser, when choices, loads, questions and conversations cross each other."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from .person import Person
from .visiting import DEMO

pytestmark = pytest.mark.slow


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A file that is no model."""
    path = tmp_path / "broken.gguf"
    path.write_text("<!doctype html>")
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The demo model under another name."""
    path = tmp_path / "other.gguf"
    path.write_bytes(DEMO.read_bytes())
    return path


def begin(guest: Person, *paths: Path) -> None:
    """Choose files as models, and leave the dialog while they are on their way."""
    guest.open_models()
    guest.page.set_input_files(".library input[type=file]", paths)
    guest.until(lambda: guest.job)
    guest.close_models()


def at_rest(guest: Person) -> None:
    """Wait until all loads have ended."""
    guest.open_models()
    guest.settled()
    guest.close_models()


def test_what_is_chosen_while_another_model_loads_answers(guest: Person, other: Path) -> None:
    guest.take(other)
    with guest.holding("use") as let_go:
        guest.press_there("Load demo", wait=False)
        guest.until(lambda: guest.job)
        guest.close_models()
        guest.page.select_option("#model", other.name)
        let_go()
        guest.until(lambda: guest.loaded == "demo")
        at_rest(guest)
    assert guest.model == other.name
    guest.say("Hello!")
    assert guest.loaded == other.name


def test_the_list_of_models_stays_as_long_as_it_says_the_same(guest: Person, other: Path) -> None:
    """Somebody may have it open: an option that is replaced closes it."""
    first = guest.page.query_selector("#model option")
    assert first
    guest.say("Hello!")  # after it, it is known what the model can do
    guest.open_models()
    guest.close_models()
    assert guest.page.evaluate("(option) => option.isConnected", first)
    guest.take(other)
    assert other.stem in guest.page.inner_text("#model")


def test_of_two_loads_the_one_that_was_begun_last_counts_if_it_works(
    guest: Person, other: Path, broken: Path
) -> None:
    with guest.holding("add") as let_go:
        begin(guest, other)
        begin(guest, broken)
        let_go()
        told = f".toast:has-text('{other.name} is loaded.')"
        guest.page.wait_for_selector(told)
        assert not guest.page.is_visible(".library"), "it comes up for nobody who has closed it"
        at_rest(guest)
    assert guest.model == other.name


def test_a_question_waits_for_the_model_that_was_just_chosen(guest: Person, tiny: Path) -> None:
    with guest.holding("add") as let_go:
        begin(guest, tiny)
        guest.say("My name is Zorblax.", wait=False)
        guest.until(lambda: guest.doing == f"Loading {tiny.name}")
        let_go()
        guest.until(lambda: guest.answers and guest.answers[-1])
    guest.stop()
    assert guest.model == tiny.name
    assert "Zorblax" not in guest.answers[0], "which the demo model would have said"


def test_a_question_that_waits_for_its_model_can_be_stopped(guest: Person, other: Path) -> None:
    with guest.holding("add"):
        begin(guest, other)
        guest.say("Hello!", wait=False)
        guest.until(lambda: guest.doing == f"Loading {other.name}")
        guest.stop()
        assert guest.ending == "Stopped."
    at_rest(guest)
    assert guest.model == other.name


def test_the_conversation_in_which_a_model_was_chosen_has_it(guest: Person, other: Path) -> None:
    guest.say("The first.")
    guest.press("New chat")
    guest.say("The second.")
    with guest.holding("add") as let_go:
        begin(guest, other)
        guest.page.click(".talks .open:text('The first.')")
        guest.until(lambda: guest.said[0] == "The first.")
        let_go()
        at_rest(guest)
    assert guest.model == "demo"
    guest.page.click(".talks .open:text('The second.')")
    guest.until(lambda: guest.said[0] == "The second.")
    assert guest.model == other.name


def test_a_new_conversation_takes_the_model_that_is_on_its_way(guest: Person, other: Path) -> None:
    guest.say("The first.")
    with guest.holding("add") as let_go:
        begin(guest, other)
        guest.press("New chat")
        guest.say("My name is Zorblax.", wait=False)
        guest.until(lambda: guest.doing == f"Loading {other.name}")
        let_go()
        guest.idle()
    assert guest.model == other.name
    guest.page.click(".talks .open:text('The first.')")
    guest.until(lambda: guest.said[0] == "The first.")
    assert guest.model == other.name


def test_a_file_that_is_no_model_is_told_beside_one_that_is(
    guest: Person, other: Path, broken: Path
) -> None:
    guest.pick([broken, other])
    guest.until(lambda: guest.loaded == other.name)
    guest.settled()
    assert guest.trouble.startswith("broken.gguf: this is a web page")
    assert "other.gguf is loaded" in guest.text(".library .said")
    guest.close_models()
    assert guest.model == other.name


def test_a_model_that_another_tab_has_deleted_is_told_by_its_name_and_another_answers(
    guest: Person, address: str, other: Path
) -> None:
    guest.take(other)
    guest.press_there("Load demo")
    guest.close_models()
    guest.page.select_option("#model", other.name)  # it would be loaded with the next question
    second = Person(guest.context, address)
    second.delete(other.name)
    second.page.close()
    guest.say("My name is Zorblax.")
    assert "Zorblax" in guest.answers[-1]
    guest.page.locator(f".toast:has-text('{other.name} is not here')").wait_for()
    assert guest.model == "demo"


def test_a_model_that_cannot_be_kept_now_is_chosen_all_the_same(guest: Person, other: Path) -> None:
    name = hashlib.sha256(f"file:{other.name}:{other.stat().st_size}".encode()).hexdigest()[:32]
    guest.page.evaluate(
        """async (name) => {
            let folder = await navigator.storage.getDirectory();
            for (const part of ["llama-bridge", "parts"]) folder = await folder.getDirectoryHandle(part);
            const file = await folder.getFileHandle(name, { create: true });
            self.held = await file.createWritable(); // as another tab that copies it
        }""",
        f"{name}.part",
    )
    guest.take(other)
    assert "another tab of this page has it open" in guest.models()[1]
    guest.close_models()
    guest.say("My name is Zorblax.")
    assert "Zorblax" in guest.answers[0]
    guest.page.evaluate("async () => await self.held.abort()")


def test_a_button_that_is_held_while_the_list_comes_anew_is_pressed(
    guest: Person, other: Path, broken: Path
) -> None:
    """The row was drawn again, and the click was lost."""
    guest.take(other)
    guest.open_models()
    button = guest.page.get_by_role("button", name="Load demo", exact=True)
    button.hover()
    guest.page.mouse.down()
    guest.pick(broken)
    assert guest.trouble
    button.hover()  # what is told above has moved it
    guest.page.mouse.up()
    guest.until(lambda: guest.loaded == "demo")
    guest.close_models()


def test_the_dialog_opens_again_as_soon_as_it_is_closed(guest: Person) -> None:
    guest.open_models()
    guest.page.evaluate(
        """() => {
            for (const button of [".library .head button", ".bar [aria-label='Models']"])
                document.querySelector(button).click();
        }"""
    )
    guest.page.wait_for_timeout(200)
    assert guest.page.locator("dialog[open]").count() == 1
    assert guest.models()
    guest.close_models()

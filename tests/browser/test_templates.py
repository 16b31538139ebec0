"""Models whose chat template never ends, raises, or says too much: in a page without a server, and in a window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_bridge.testing.hub import HubServer
from tests.gguf_editing import edited_model

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)

from .person import Person
from .test_window_models import hub, window

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

__all__ = ["hub"]  # a fixture
pytestmark = pytest.mark.slow

AGAIN = "{% for i in range(99999) %}"
DOUBLED = "{% set it = namespace(s='x') %}{% for i in range(NUMBER) %}{% set it.s = it.s + it.s %}{% endfor %}{{ it.s }}"
TOO_MUCH = "the chat template needs more time or memory than any should"
TEMPLATES = {
    "forever": (AGAIN * 3 + "{% endfor %}" * 3, TOO_MUCH),
    "gigabyte": (DOUBLED.replace("NUMBER", "30"), TOO_MUCH),
    "ten-megabytes": (DOUBLED.replace("NUMBER", "23"), TOO_MUCH),
    "raises": ("{{ raise_exception('only on Mondays') }}", "only on Mondays"),
    "nothing": ("{# nothing #}", ""),
}


def made(folder: Path, name: str) -> Path:
    return edited_model(folder / f"{name}.gguf", {"tokenizer.chat_template": TEMPLATES[name][0]})


def test_in_a_page_each_fails_with_a_sentence_and_another_model_answers(
    guest: Person, tmp_path: Path
) -> None:
    for name, (_, why) in TEMPLATES.items():
        guest.take(made(tmp_path, name))
        guest.say("Hello!")
        assert why in guest.ending
    guest.press_there("Load demo")
    guest.close_models()
    guest.say("Hello! My name is Zorblax.")
    assert "Zorblax" in guest.answers[-1]


def test_in_a_window_too(context: BrowserContext, hub: HubServer, tmp_path: Path) -> None:
    with window(context, tmp_path / "talks") as person:
        page = person.page
        for name, (_, why) in TEMPLATES.items():
            person.press("Models")
            page.set_input_files(".library input[type=file]", made(tmp_path, name))
            page.wait_for_selector(f".said:has-text('{name} is here')")
            person.press(f"Load {name}")
            page.wait_for_selector(f".models .loaded:has-text('{name}')")
            page.keyboard.press("Escape")
            person.say("Hello!")
            told = page.locator(".turn:last-child .ending, .turn:last-child .trouble p")
            assert why in " ".join(told.all_inner_texts())
        page.select_option("#model", label="demo")
        page.wait_for_selector("dialog", state="detached")
        person.say("Hello! My name is Zorblax.")
        assert "Zorblax" in person.said[-1]

"""What the application says of the model in use, of session files, and of going on somewhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llama_bridge import LlamaBridge
from llama_bridge.serve import app
from llama_bridge.testing import FakeLlama
from llama_bridge.testing.hub import HubServer
from tests.serve.serving import serving

from .test_window_models import GREEDY, hub, window

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from .chatting import Chatter

__all__ = ["hub"]  # a fixture

OTHER = "http://127.0.0.1:9/other"


def settings(person: Chatter) -> Page:
    person.page.locator("header").get_by_role("button", name="Settings").click()
    person.page.wait_for_selector("dialog.settings .field")
    return person.page


def test_the_page_of_a_server_says_what_the_model_can_do_and_why_it_cannot_do_the_rest(
    context: BrowserContext,
) -> None:
    from .chatting import Chatter

    with LlamaBridge("demo", backend="wasm") as llama, serving(app(llama)) as address:
        person = Chatter(context, f"http://127.0.0.1:{address.port}/")
        person.page.wait_for_selector("#model option", state="attached")
        page = settings(person)
        page.wait_for_selector(".about:has-text('runs on the wasm backend')")
        lacks = page.locator(".flags .lacks", has_text="Save sessions as files")
        assert "the native backend can" in lacks.inner_text()
        assert page.locator(".flags .has", has_text="Write text").count() == 1
        struck = "() => [...document.querySelectorAll('.flags *')].filter((one) => getComputedStyle(one).textDecorationLine === 'line-through').length"
        assert page.evaluate(struck) == 0
        assert person.complaints == []


def test_a_session_file_is_verified_before_it_is_loaded(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    with LlamaBridge("demo", backend="native", sampling=GREEDY) as llama:
        llama.generate("Hello! My name is Zorblax.", max_tokens=8)
        llama.session_save(tmp_path / "good.session")
    with LlamaBridge("demo", backend="native", type_k="f32") as llama:
        llama.generate("Hello!", max_tokens=8)
        llama.session_save(tmp_path / "other.session")
    (tmp_path / "cut.session").write_bytes((tmp_path / "good.session").read_bytes()[:-50])
    with window(context, tmp_path / "talks") as person:
        person.say("Hello!")
        person.choose("Hello!", "Session…")
        page = person.page
        picker = page.get_by_label("Verify a session…")
        picker.set_input_files(tmp_path / "good.session")
        page.wait_for_selector(".said:has-text('good.session can go on here')")
        assert "its KV cache fits them" in page.inner_text(".said")
        picker.set_input_files(tmp_path / "other.session")
        page.wait_for_selector(
            ".trouble:has-text('context.kv_type_k is f32 in the file and f16 here')"
        )
        picker.set_input_files(tmp_path / "cut.session")
        page.wait_for_selector(".trouble:has-text('cut.session: ')")
        assert len(person.titles) == 1, "nothing was loaded"


def test_a_conversation_goes_to_another_server_by_a_file_and_a_link_and_nothing_is_asked_there(
    context: BrowserContext, tmp_path: Path
) -> None:
    from .chatting import Chatter

    with FakeLlama() as llama, serving(app(llama, name="fake")) as address:
        person = Chatter(context, f"http://127.0.0.1:{address.port}/")
        person.say("Hello!")
        page = settings(person)
        box = page.get_by_label("Another server")
        box.fill("javascript:alert(1)")
        assert box.get_attribute("aria-invalid") == "true"
        page.keyboard.press("Escape")
        person.choose("Hello!", "Session…")
        assert page.locator(".steps a").count() == 0
        assert "with its address in the settings" in page.inner_text(".steps").lower()
        page.keyboard.press("Escape")
        settings(person).get_by_label("Another server").fill(OTHER)
        page.keyboard.press("Escape")
        page.reload()
        page.wait_for_selector(".turn")
        person.choose("Hello!", "Session…")
        link = page.get_by_role("link", name=f"Open {OTHER}")
        assert link.get_attribute("href") == OTHER
        assert link.get_attribute("rel") == "noopener noreferrer"
        with page.expect_download() as waiting:
            person.press("Save the messages")
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        page.wait_for_selector(".said:has-text('Hello.json is saved.')")
        page.keyboard.press("Escape")
        assert json.loads(file.read_text())["conversation"]["title"] == "Hello!"
        given = page.locator(".sidebar input[type=file]")
        given.set_input_files(file)
        person.until(lambda: person.titles == ["Hello!", "Hello!"])
        session = tmp_path / "talk.session"
        session.write_bytes(b"ggsq" * 99)
        given.set_input_files(session)
        page.wait_for_selector(".toast:has-text('talk.session is a session file')")
        assert not [url for url in person.asked if url.startswith("http://127.0.0.1:9/")]
        assert person.complaints == []

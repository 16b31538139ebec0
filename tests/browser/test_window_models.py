"""Models and sessions in a window: its real server, a real hub on this machine, and somebody in front of Chromium."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.hub import transfer
from llama_bridge.models.source import open_model
from llama_bridge.serve import ServerSettings
from llama_bridge.serve.app import application
from llama_bridge.serve.current_model import CurrentModel
from llama_bridge.serve.entrance import Entrance
from llama_bridge.serve.served import Served
from llama_bridge.testing.hub import HubServer
from tests.hub.conftest import keep_compiled, real
from tests.serve.serving import serving
from tools.split_model import split_model

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from .chatting import Chatter

KEY = "k" * 24
GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    keep_compiled(tmp_path / "caches")
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    with HubServer() as server:
        for name, value in (server.environment(tmp_path) | {"HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        server.add("org/repo", {"a-Q4_K_M.gguf": real("aaaa"), "a-Q8_0.gguf": real("bbbb")})
        yield server


@contextmanager
def window(context: BrowserContext, folder: Path) -> Generator[Chatter]:
    """A window with the demo model on native."""
    from .chatting import Chatter

    def arguments(name: str, untrusted: bool) -> dict[str, Any]:
        backend = "auto" if untrusted else "native"
        return {
            "backend": backend,
            "untrusted": untrusted,
            "params": ModelParams(),
            "sampling": GREEDY,
        }

    with LlamaBridge("demo", backend="native", sampling=GREEDY) as llama:
        models = CurrentModel(Served("demo", AsyncLlamaBridge.of(llama)), arguments)
        settings = ServerSettings(api_keys=(KEY,))
        made = application(models, settings, None, folder, Entrance("word"))
        with serving(made) as address:
            person = Chatter(context, f"http://127.0.0.1:{address.port}/#window=word")
            person.page.wait_for_selector("#model option", state="attached")
            yield person
            assert person.complaints == []
            person.page.close()


def row(person: Chatter, name: str) -> Any:
    return person.page.locator(".models li", has_text=name)


def get(person: Chatter, name: str) -> None:
    person.page.get_by_label("Name, address or path").fill(name)
    person.page.get_by_role("button", name="Get", exact=True).click()


def test_a_model_is_fetched_loaded_asked_and_removed(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    with window(context, tmp_path / "talks") as person:
        page = person.page
        person.press("Models")
        assert (
            "Q8_0 · llama · in the package · fits with all 1,024 tokens"
            in row(person, "demo").inner_text()
        )
        get(person, "hf:org/nothing")
        page.wait_for_selector(".trouble:has-text('there is no such repository')")
        get(person, "hf:org/repo")
        page.wait_for_selector(".said:has-text('a-Q4_K_M is here.')")
        person.press("Load a-Q4_K_M")
        page.wait_for_selector(".models .loaded:has-text('a-Q4_K_M')")
        page.wait_for_selector(".about:has-text('a-Q4_K_M runs on the native backend.')")
        page.keyboard.press("Escape")
        chosen = page.locator("#model option:checked")
        person.until(lambda: chosen.inner_text() == "a-Q4_K_M")
        person.say("Hello! My name is Zorblax.")
        assert "Zorblax" in person.said[1]
        page.select_option(
            "#model", label="demo"
        )  # it is loaded again, and the conversation goes on with it
        page.wait_for_selector("dialog", state="detached")
        person.say("What is my name?")
        assert "Zorblax" in person.said[3]
        person.press("Models")
        person.press("Delete a-Q4_K_M")
        assert "It frees 2.6 MB" in page.inner_text(".trouble")
        page.locator(".trouble").get_by_role("button", name="Delete").click()
        row(person, "a-Q4_K_M").wait_for(state="detached")


def test_a_conversation_goes_on_when_its_model_is_removed_in_another_tab(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    with window(context, tmp_path / "talks") as person:
        page = person.page
        person.press("Models")
        get(person, "hf:org/repo")
        page.wait_for_selector(".said:has-text('a-Q4_K_M is here.')")
        person.press("Load a-Q4_K_M")
        page.wait_for_selector(".models .loaded:has-text('a-Q4_K_M')")
        page.keyboard.press("Escape")
        person.say("Hello! My name is Zorblax.")
        other = context.new_page()
        key = page.evaluate("() => history.state.key")
        other.add_init_script(
            f"history.replaceState({{ key: {key!r} }}, '');"
        )  # as in a copied tab
        other.goto(page.url)
        other.click(".bar [aria-label='Models']")
        other.get_by_role("button", name="Load demo", exact=True).click()
        other.wait_for_selector(".models .loaded:has-text('demo')")
        other.get_by_role("button", name="Delete a-Q4_K_M", exact=True).click()
        other.locator(".trouble").get_by_role("button", name="Delete").click()
        other.locator(".models li", has_text="a-Q4_K_M").wait_for(state="detached")
        person.say("What is my name?")
        assert "Zorblax" in person.said[3]
        told = "hf:org/repo/a-Q4_K_M.gguf is not here: this conversation goes on with demo."
        assert told in page.inner_text(".toast")
        assert page.locator("#model option").all_inner_texts() == ["demo"]
        other.close()


def test_a_download_is_stopped_and_goes_on(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    for path in ("/plain/*", "/blob/*"):
        hub.fail("slow", path=path, seconds=0.3, times=None)
    with window(context, tmp_path / "talks") as person:
        page = person.page
        person.press("Models")
        get(person, "hf:org/repo")
        page.wait_for_selector(".job:has-text('Fetching') .facts:has-text(' of 2.6 MB')")
        page.locator(".job").get_by_role("button", name="Stop").click()
        page.wait_for_selector(".job", state="detached")
        page.wait_for_selector(".part:has-text('have arrived')")
        assert page.locator(".trouble").count() == 0
        hub.faults.clear()
        person.press("Go on with hf:org/repo")
        page.wait_for_selector(".said:has-text('a-Q4_K_M is here.')")
        assert page.locator(".part").count() == 0
        assert hub.downloads()[-1].headers["range"].startswith("bytes=")


def test_a_file_is_dropped_and_a_model_is_opened_in_a_sandbox(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "dropped.gguf"
    path.write_bytes(real("cccc"))
    (tmp_path / "page.gguf").write_text("<!doctype html>" + "x" * 600)
    with window(context, tmp_path / "talks") as person:
        page = person.page
        person.press("Models")
        picker = page.locator("dialog input[type=file]")
        picker.set_input_files(tmp_path / "page.gguf")
        page.wait_for_selector(".trouble:has-text('page.gguf: this is a web page')")
        picker.set_input_files(path)
        page.wait_for_selector(".said:has-text('dropped is here.')")
        row(person, "dropped").get_by_role("button", name="in a sandbox").click()
        page.wait_for_selector(".models .loaded:has-text('dropped')", timeout=60_000)
        page.wait_for_selector(".about:has-text('dropped runs on the wasm backend, in a sandbox')")
        assert "the native backend can" not in page.inner_text(".flags .has >> nth=0")
        lacks = page.locator(".flags .lacks", has_text="Save sessions as files").inner_text()
        assert "would run it without a sandbox" in lacks
        page.keyboard.press("Escape")
        person.say("Hello! My name is Zorblax.")
        assert "Zorblax" in person.said[1]


def test_a_split_model_is_taken_whole_and_a_missing_part_is_named(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    parts = split_model(open_model("demo").path, tmp_path / "chat", 3)
    with window(context, tmp_path / "talks") as person:
        page = person.page
        page.locator(".composer input[type=file]").set_input_files([parts[2], parts[0]])
        page.wait_for_selector(".trouble:has-text('Missing: chat-00002-of-00003.gguf.')")
        assert row(person, "chat").count() == 0
        page.locator("dialog input[type=file]").set_input_files([parts[2], parts[0], parts[1]])
        page.wait_for_selector(".said:has-text('chat-00001-of-00003 is here.')")
        assert row(person, "chat").count() == 1
        person.press("Load chat-00001-of-00003")
        page.wait_for_selector(".models .loaded:has-text('chat-00001-of-00003')")
        page.keyboard.press("Escape")
        person.say("Hello! My name is Zorblax.")
        assert "Zorblax" in person.said[1]


def test_of_several_files_that_are_no_models_each_is_told(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    """Only the last was."""
    with window(context, tmp_path / "talks") as person:
        names = [f"m{i}.gguf" for i in range(3)]
        person.press("Models")
        handle = person.page.evaluate_handle("() => new DataTransfer()")
        for name in names:
            handle.evaluate("(all, name) => all.items.add(new File(['no model'], name))", name)
        person.page.dispatch_event("#prompt", "drop", {"dataTransfer": handle})
        person.until(lambda: person.page.locator(".library .trouble").count() == 3)
        told = " ".join(person.page.locator(".library .trouble").all_inner_texts())
        assert all(name in told for name in names)
        person.until(lambda: person.page.locator(".library .job").count() == 0)


def test_a_session_goes_to_another_window_and_nothing_is_read_again(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    with window(context, tmp_path / "one") as person:
        person.say("Hello! My name is Zorblax.")
        said = person.said
        person.choose("Hello!", "Session…")
        person.page.wait_for_selector("dialog:has-text('are in the KV cache')")
        with person.page.expect_download() as waiting:
            person.press("Save as a file")
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        assert file.name == "Hello-My-name-is-Zorblax.session"
        person.page.wait_for_selector(".said:has-text('is saved')")
        person.page.screenshot(path=tmp_path / "session.png")
    with window(context, tmp_path / "two") as person:
        (tmp_path / "broken.session").write_bytes(file.read_bytes()[:-50])
        picker = person.page.locator(".sidebar input[type=file]")
        picker.set_input_files(tmp_path / "broken.session")
        person.page.wait_for_selector(".trouble:has-text('broken.session: ')")
        person.page.keyboard.press("Escape")
        picker.set_input_files(file)
        person.until(lambda: person.said == said)
        assert person.titles == ["Hello! My name is Zorblax."]
        person.say("What is my name?")
        assert "Zorblax" in person.said[3]
        person.press("Costs")
        cached, evaluated = (
            person.page.locator(".cost").inner_text().split(" evaluated")[0].split(" cached + ")
        )
        assert int(cached) > 20
        assert int(evaluated) < 20, "only the new question"


def test_the_dialogs_hold_in_both_themes_at_both_sizes(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    from tools.browser import fetch

    axe = (fetch.node_modules() / "axe-core" / "axe.min.js").read_text()
    look = "async () => (await axe.run()).violations.map((one) => [one.id, one.nodes.map((n) => n.html)])"
    with window(context, tmp_path / "talks") as person:
        page = person.page
        page.evaluate(axe)
        person.say("Hello!")
        for name in ("models", "session"):
            if name == "models":
                person.press("Models")
                page.wait_for_selector(".flags li")
            else:
                person.choose("Hello!", "Session…")
                page.wait_for_selector("dialog:has-text('are in the KV cache')")
            for width in (390, 1180):
                page.set_viewport_size({"width": width, "height": 844})
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                    assert page.evaluate(look) == []
                    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
                    box = page.locator("dialog").bounding_box()
                    assert box is not None
                    assert box["x"] >= 0
                    assert box["x"] + box["width"] <= width
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog", state="detached")

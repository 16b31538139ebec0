"""The chat application at ``/`` of a server, in Chromium, used as a person would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import ServerSettings, app
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.serve.serving import Address, serving, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

    from llama_bridge.testing import Asked

    from .chatting import Chatter

    Come = Callable[..., Chatter]

EXPLAINED = """A **KV cache** keeps what attention has computed for each token. The next token then costs one step, not the whole text again.

```python
def generate(tokens: list[int], cache: Cache) -> int:
    new = tokens[cache.length :]  # what was said before is not read again
    return cache.decode(new).argmax()
```

| Context | Memory | Next token |
|---|--:|--:|
| 2,048 | 256 MB | 18 ms |
| 8,192 | 1.0 GB | 21 ms |

> A conversation that goes on is cheap; one that begins anew is not.
"""
MARKDOWN = """Some **bold** words.

```python
def f():
    return "a < b"
```

| a | b |
|---|--:|
| 1 | 2 |
"""


class Answers:
    """Answers by what was asked, and each time in another way."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> str | FakeAnswer:
        self.asked.append(asked)
        if "long" in asked.prompt:
            return FakeAnswer("word " * 2000, token_seconds=0.002)
        if "Markdown" in asked.prompt:
            return MARKDOWN
        if "KV cache" in asked.prompt:
            return EXPLAINED
        if "JSON" in asked.prompt:
            # The last token comes late: all of it is on the screen before it is known to be whole.
            return FakeAnswer('{"name": "Zorblax", "age": 7}', token_seconds=0.03)
        return f"Answer {len(self.asked)}."


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def address(answers: Answers) -> Iterator[Address]:
    with FakeLlama(answers) as llama, serving(app(llama, name="fake")) as found:
        yield found


@pytest.fixture
def come(context: BrowserContext, address: Address) -> Iterator[Come]:
    """Opens a window of a browser that has never been here."""
    from .chatting import Chatter

    chatters: list[Chatter] = []

    def open_it(port: int = address.port) -> Chatter:
        chatters.append(Chatter(context, f"http://127.0.0.1:{port}/"))
        return chatters[-1]

    yield open_it
    for chatter in chatters:
        assert chatter.complaints == []
        assert all(url.startswith(("http://127.0.0.1:", "blob:")) for url in chatter.asked)


@pytest.fixture
def chatter(come: Come) -> Chatter:
    return come()


def test_a_conversation_goes_on_and_a_reload_keeps_it(come: Come) -> None:
    settings = ServerSettings(api_keys=("sk-page",))
    greedy = SamplingParams(temperature=0)
    with (
        LlamaBridge("demo", sampling=greedy) as llama,
        serving(app(llama, settings=settings)) as address,
    ):
        person = come(address.port)
        person.page.fill("#key", "sk-page")
        person.page.press("#key", "Enter")
        person.say("Hello! My name is Zorblax.")
        person.page.reload()
        person.page.wait_for_selector(".turn")
        assert person.titles == ["Hello! My name is Zorblax."]
        person.say("What is my name?")
        assert "Zorblax" in person.said[3]
        person.press("Costs")
        first, second = person.page.locator(".cost").all_inner_texts()
        assert first.startswith("0 cached + ")
        assert not second.startswith("0 cached + ")
        assert second.endswith("% of the context")
        person.press("New chat")
        person.say("What is my name?")
        assert "Zorblax" not in person.said[1]


def test_an_answer_is_shown_while_it_is_written_and_stop_ends_it(
    chatter: Chatter, address: Address
) -> None:
    chatter.say("a long one", wait=False)
    chatter.until(lambda: len(chatter.said) == 2 and chatter.said[1].count("word") > 20)
    seen = chatter.said[1]
    chatter.press("Stop")
    chatter.idle()
    until(lambda: b"requests_at_work 0.0" in address.ask("GET", "/metrics").body)
    assert chatter.said[1].startswith(seen)
    assert chatter.said[1].count("word") < 2000
    assert chatter.turns.nth(1).locator(".ending").inner_text() == "Stopped."
    chatter.say("And now?")
    assert chatter.said[2] == "And now?"


def test_markdown_code_and_json_are_shown_as_what_they_are(
    context: BrowserContext, chatter: Chatter
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    chatter.say("Markdown")
    answer = chatter.turns.nth(1)
    assert answer.locator("strong").inner_text() == "bold"
    assert answer.locator(".hljs-keyword").all_inner_texts() == ["def", "return"]
    assert answer.locator("td >> nth=1").get_attribute("align") == "right"
    answer.get_by_role("button", name="Copy this code").click()
    answer.locator(".copy.done").wait_for()
    read = "async () => await navigator.clipboard.readText()"
    assert chatter.page.evaluate(read) == 'def f():\n    return "a < b"'
    chatter.press("Copy", 1)
    answer.locator(".copies.done").wait_for()
    assert chatter.page.evaluate(read) == MARKDOWN
    chatter.say("JSON")
    code = chatter.turns.nth(3).locator("pre").inner_text()
    assert code == '{\n  "name": "Zorblax",\n  "age": 7\n}'


def test_an_edited_question_and_another_answer_are_branches_and_none_is_lost(
    chatter: Chatter, answers: Answers
) -> None:
    chatter.say("First")
    chatter.say("Second")
    before = chatter.said
    chatter.press("Answer again", 3)
    chatter.idle()
    again = chatter.said
    assert again[:3] == before[:3]
    assert again[3] != before[3]
    assert chatter.turns.nth(3).locator(".turner").inner_text() == "2/2"
    chatter.press("Earlier version", 3)
    assert chatter.said == before
    chatter.press("Edit", 0)
    chatter.page.get_by_role("textbox", name="Edit").fill("Other")
    chatter.page.keyboard.press("Enter")
    chatter.idle()
    assert chatter.said[0] == "Other"
    assert len(chatter.said) == 2
    assert "First" not in answers.asked[-1].context
    chatter.press("Earlier version", 0)
    assert chatter.said[0] == "First"
    assert len(chatter.said) == 4
    chatter.page.reload()
    chatter.page.wait_for_selector(".turn")
    assert chatter.said[0] == "First"
    chatter.press("Later version", 0)
    assert chatter.said[0] == "Other"


def test_what_is_deleted_can_be_taken_back(chatter: Chatter) -> None:
    chatter.say("First")
    chatter.say("Second")
    before = chatter.said
    chatter.press("Delete", 2)
    assert chatter.said == before[:2]
    chatter.press("Undo")
    chatter.until(lambda: chatter.said == before)
    chatter.choose("First", "Delete")
    chatter.until(lambda: chatter.titles == [])
    chatter.press("Undo")
    chatter.until(lambda: chatter.said == before)
    chatter.until(lambda: chatter.titles == ["First"])


def test_conversations_are_listed_found_renamed_and_go_on_in_a_new_one(chatter: Chatter) -> None:
    chatter.say("About llamas")
    chatter.press("New chat")
    chatter.say("About bridges")
    assert chatter.titles == ["About bridges", "About llamas"]
    chatter.choose("About llamas", "Rename")
    chatter.page.keyboard.insert_text("Animals")
    chatter.page.keyboard.press("Enter")
    chatter.until(lambda: sorted(chatter.titles) == ["About bridges", "Animals"])
    chatter.page.get_by_role("searchbox").fill("llamas")  # what was said in it
    chatter.until(lambda: chatter.titles == ["Animals"])
    chatter.page.click(".talks .open")
    chatter.until(lambda: chatter.said[0] == "About llamas")
    chatter.page.get_by_role("searchbox").fill("")
    chatter.press("Go on from here in a new chat", 1)
    chatter.until(lambda: chatter.titles.count("Animals") == 2)
    chatter.say("More")
    assert chatter.said[0] == "About llamas"
    assert len(chatter.said) == 4


def test_a_conversation_is_exported_and_read_again(chatter: Chatter, tmp_path: Path) -> None:
    chatter.say("First")
    said = chatter.said
    texts = {}
    for name in ("Markdown", "JSON"):
        with chatter.page.expect_download() as waiting:
            chatter.choose("First", f"Export as {name}")
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        texts[name] = path.read_text()
    assert texts["Markdown"] == f"# First\n\n**You**\n\nFirst\n\n**Model**\n\n{said[1]}\n"
    chatter.choose("First", "Delete")
    picker = chatter.page.locator(".sidebar input[type=file]")
    picker.set_input_files(tmp_path / "First.json")
    chatter.until(lambda: chatter.said == said)
    (tmp_path / "other.json").write_text('{"conversation": {}}')
    picker.set_input_files(tmp_path / "other.json")
    chatter.page.wait_for_selector(".toast:has-text('other.json is no conversation')")
    broken = json.loads(texts["JSON"])
    message = next(iter(broken["conversation"]["messages"].values()))
    message["parent"] = message["id"]  # a circle
    (tmp_path / "circle.json").write_text(json.dumps(broken))
    picker.set_input_files(tmp_path / "circle.json")
    chatter.page.wait_for_selector(".toast:has-text('circle.json is no conversation')")
    assert len(chatter.titles) == 1


def test_settings_and_files_go_along_with_the_question(
    chatter: Chatter, answers: Answers, tmp_path: Path
) -> None:
    chatter.page.get_by_role("button", name="Settings").first.click()
    chatter.page.get_by_label("System prompt").fill("Speak like a llama.")
    chatter.page.get_by_label("Longest answer, in tokens").fill("3")
    chatter.page.keyboard.press("Escape")
    (tmp_path / "notes.txt").write_text("the moon is ```green```")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\x00\xff")
    picker = chatter.page.locator(".composer input[type=file]")
    picker.set_input_files([tmp_path / "notes.txt", tmp_path / "photo.png"])
    chatter.page.wait_for_selector(".toast:has-text('photo.png is no text')")
    chatter.say("What is the moon?")
    context = answers.asked[-1].context
    assert "Speak like a llama." in context
    assert "notes.txt:\n\n````\nthe moon is ```green```\n````\n\nWhat is the moon?" in context
    assert chatter.said[1] == "Ans"
    assert "as many tokens as it may" in chatter.turns.nth(1).locator(".ending").inner_text()
    chatter.page.reload()
    chatter.page.wait_for_selector(".turn")
    assert chatter.turns.nth(0).locator(".file summary").inner_text() == "notes.txt"


def test_what_is_written_and_attached_stays_with_its_conversation(
    chatter: Chatter, tmp_path: Path
) -> None:
    chips = chatter.page.locator(".composer .chip")
    picker = chatter.page.locator(".composer input[type=file]")
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_text(name)
    chatter.say("One")
    chatter.page.fill("#prompt", "And this?")
    picker.set_input_files(tmp_path / "first.txt")
    chatter.until(lambda: chips.all_inner_texts() == ["first.txt"])
    chatter.page.click("#new")
    chatter.until(lambda: chips.count() == 0)
    assert chatter.page.input_value("#prompt") == ""
    chatter.page.fill("#prompt", "Something new")
    picker.set_input_files(tmp_path / "second.txt")
    chatter.until(lambda: chips.all_inner_texts() == ["second.txt"])
    chatter.page.click(".talks .open")
    chatter.until(lambda: chips.all_inner_texts() == ["first.txt"])
    assert chatter.page.input_value("#prompt") == "And this?"
    chatter.page.reload()
    chatter.until(lambda: chips.all_inner_texts() == ["first.txt"])
    chatter.press("Leave out first.txt")
    chatter.page.click("#new")
    chatter.page.fill("#prompt", "Something else")
    picker.set_input_files(tmp_path / "second.txt")
    chatter.until(lambda: chips.all_inner_texts() == ["second.txt"])
    chatter.page.click(".talks .open")
    chatter.until(lambda: chips.count() == 0)
    chatter.page.click("#new")  # it was begun, and not sent
    chatter.until(lambda: chips.all_inner_texts() == ["second.txt"])
    chatter.say("Something else")
    assert chatter.titles == ["Something else", "One"]
    assert chips.count() == 0


def test_nothing_is_lost_when_the_page_or_the_server_goes_away(come: Come) -> None:
    with FakeLlama(Answers()) as llama, serving(app(llama, name="fake")) as address:
        person = come(address.port)
        person.say("First")
        person.page.fill("#prompt", "half typed")
        person.page.wait_for_timeout(700)
        person.page.reload()
        person.page.wait_for_selector(".turn")
        assert person.page.input_value("#prompt") == "half typed"
        person.say("a long one", wait=False)
        person.until(lambda: person.said[-1].count("word") > 20)
        person.page.wait_for_timeout(800)
        person.page.reload()
        person.page.wait_for_selector(".turn")
        assert person.said[-1].count("word") > 20
        assert person.turns.last.locator(".ending").inner_text() == "Interrupted before the end."
    person.say("Are you there?")
    assert "cannot be reached" in person.turns.last.locator(".trouble").inner_text()
    assert person.said[0] == "First"
    assert person.said[-2] == "Are you there?"


def test_a_server_that_has_forgotten_its_answers_is_told_all_again(come: Come) -> None:
    settings = ServerSettings(max_responses=1)
    answers = Answers()
    with FakeLlama(answers) as llama, serving(app(llama, name="f", settings=settings)) as address:
        person = come(address.port)
        person.say("First")
        address.openai().responses.create(model="f", input="somebody else")
        person.say("Second")
        assert len(person.said) == 4
        assert "First" in answers.asked[-1].context


def test_it_says_that_the_context_is_almost_full_before_it_is(come: Come) -> None:
    with FakeLlama(Answers(), n_ctx=512) as llama, serving(app(llama, name="f")) as address:
        person = come(address.port)
        person.say("First")
        assert person.page.inner_text(".notes") == ""
        person.say("x" * 400)
        person.until(
            lambda: "of the context. Soon nothing more will fit" in person.page.inner_text(".notes")
        )
        said = person.said
        person.say("y" * 400)
        assert "This does not fit the context" in person.turns.last.locator(".trouble").inner_text()
        assert person.said[:4] == said
        assert person.said[4] == "y" * 400


def test_two_windows_lose_nothing_of_each_other(come: Come) -> None:
    one = come()
    one.say("First")
    two = come()
    two.page.wait_for_selector(".turn")
    one.say("From one")
    two.until(lambda: len(two.page.locator(".talks .open").all()) == 1)
    two.say("From two")
    one.page.reload()
    one.page.wait_for_selector(".turn")
    texts = one.page.evaluate(
        """() => new Promise((resolve) => {
            indexedDB.open("llama-bridge").onsuccess = ({ target }) => {
                target.result.transaction("talks").objectStore("talks").getAll().onsuccess = (found) =>
                    resolve(Object.values(found.target.result[0].messages).map(({ text }) => text));
            };
        })"""
    )
    assert {"First", "From one", "From two"} <= set(texts)
    assert len(texts) == 6


def test_a_window_opens_while_another_changes_conversations(come: Come) -> None:
    """It heard of a change before it had its conversations: an error, and the change was not shown."""
    one = come()
    one.say("First")
    one.page.evaluate(
        """() => {
            const channel = new BroadcastChannel("llama-bridge");
            setInterval(() => channel.postMessage("some other"), 0);
        }"""
    )
    for _ in range(3):
        two = come()
        two.page.wait_for_selector(".turn")


def talk_file(folder: Path, texts: list[str], title: str = "Read") -> Path:
    """A conversation as a file: questions and answers in turn."""
    roles = ("user", "assistant")
    messages = {
        f"m{i}": {
            "id": f"m{i}",
            "parent": f"m{i - 1}" if i else None,
            "role": roles[i % 2],
            "text": text,
            "created": i,
        }
        for i, text in enumerate(texts)
    }
    talk = {"title": title, "messages": messages, "leaf": f"m{len(texts) - 1}"}
    form = {"format": "llama-bridge-conversation", "version": 1, "conversation": talk}
    path = folder / "talk.json"
    path.write_text(json.dumps(form))
    return path


@pytest.mark.parametrize("bypass", [False, True], ids=["CSP", "no CSP"])
def test_nothing_that_a_hostile_model_writes_runs_or_loads(
    browser: Browser, address: Address, tmp_path: Path, bypass: bool
) -> None:
    from .chatting import Chatter
    from .hostile import HOSTILE, LOADS_OR_RUNS, MORE

    vectors = [*HOSTILE, *MORE]
    assert len(vectors) > 100
    with browser.new_context(bypass_csp=bypass) as context:
        chatter = Chatter(context, f"http://127.0.0.1:{address.port}/")
        page = chatter.page
        page.evaluate("() => { self.pwned = () => { self.harmed = true; }; }")
        before = len(chatter.asked)
        texts = [text for vector in vectors for text in (vector, vector)]
        file = talk_file(tmp_path, texts, title="<img src=x onerror=pwned()>")
        page.locator(".sidebar input[type=file]").set_input_files(file)
        page.wait_for_selector(".turn")
        for _ in range(len(texts) // 20):
            page.locator(".scroll").evaluate("(place) => { place.scrollTop = 0; }")
            page.wait_for_timeout(30)
            if chatter.turns.count() == len(texts):
                break
        assert chatter.turns.count() == len(texts)
        words = page.locator(".turn .words")
        assert words.locator(LOADS_OR_RUNS.replace("svg", ":not(button) > svg")).count() == 0
        for link in words.locator("a[href]").all():
            assert (link.get_attribute("href") or "").startswith("https://")
        handlers = """() => [...document.querySelectorAll(".thread *")].flatMap((element) =>
            element.getAttributeNames().filter((name) => name.startsWith("on") || name === "style"))"""
        assert page.evaluate(handlers) == []
        page.wait_for_timeout(200)
        assert page.evaluate("() => self.harmed") is None
        assert chatter.asked[before:] == []
        assert chatter.complaints == []


def test_a_conversation_of_two_thousand_messages_is_smooth(
    chatter: Chatter, tmp_path: Path
) -> None:
    file = talk_file(tmp_path, [f"{i}\n\n{MARKDOWN}" for i in range(2000)])
    chatter.page.locator(".sidebar input[type=file]").set_input_files(file)
    chatter.until(lambda: chatter.said and chatter.said[-1].startswith("1999"))
    chatter.page.reload()
    chatter.page.wait_for_selector(".turn")
    assert len(chatter.said) < 100
    chatter.page.locator(".scroll").evaluate("(place) => { place.scrollTop = 0; }")
    chatter.until(lambda: 40 < len(chatter.said) < 200)
    assert chatter.said[-1].startswith("1999")
    took = chatter.page.evaluate(
        """() => new Promise((resolve) => {
            const place = document.querySelector(".scroll");
            place.scrollTop = place.scrollHeight;
            let last = performance.now(), longest = 0, left = 60;
            const look = (now) => {
                longest = Math.max(longest, now - last);
                last = now;
                place.scrollTop -= 50;
                left-- ? requestAnimationFrame(look) : resolve(longest);
            };
            requestAnimationFrame(look);
        })"""
    )
    assert took < 500  # some 30 on an idle machine


def test_everybody_can_use_it_at_any_width_in_dark_and_light(
    browser: Browser, address: Address
) -> None:
    from tools.browser import fetch

    from .chatting import Chatter

    axe = (fetch.node_modules() / "axe-core" / "axe.min.js").read_text()
    look = "async () => (await axe.run()).violations.map((one) => [one.id, one.nodes.map((n) => n.html)])"
    schemes: tuple[Literal["dark", "light"], ...] = ("dark", "light")
    for scheme, locale in zip(schemes, ("en", "de"), strict=True):
        with browser.new_context(color_scheme=scheme, locale=locale) as context:
            chatter = Chatter(context, f"http://127.0.0.1:{address.port}/")
            page = chatter.page
            page.evaluate(axe)
            page.wait_for_selector("#model option", state="attached")
            assert page.evaluate(look) == []
            chatter.say("Markdown")
            page.click("#costs")
            assert page.evaluate(look) == []
            page.click(".bar [aria-label='Einstellungen'], .bar [aria-label='Settings']")
            assert page.evaluate(look) == []
            page.keyboard.press("Escape")
            for width in (390, 1280):
                page.set_viewport_size({"width": width, "height": 844})
                for direction in ("ltr", "rtl"):
                    page.evaluate(
                        "(direction) => { document.documentElement.dir = direction; }", direction
                    )
                    wide = page.evaluate("() => document.documentElement.scrollWidth")
                    assert wide <= width
                    for part in ("#prompt", "#send", "#model", ".turn .code"):
                        box = page.locator(part).bounding_box()
                        assert box is not None
                        assert box["x"] >= 0
                        assert box["x"] + box["width"] <= width
            assert chatter.complaints == []


def test_all_can_be_done_by_keyboard(chatter: Chatter) -> None:
    chatter.say("First")
    page = chatter.page
    page.keyboard.press("Tab")  # the button that sends is off while there is nothing to send
    page.focus("#new")
    names = []
    for _ in range(14):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "() => { const it = document.activeElement; return it.ariaLabel || it.innerText || it.className || it.id; }"
            )
        )
    assert names[:5] == ["Search", "First", "More for First", "Import", "Settings"]
    assert names[5:8] == ["Model", "Costs", "Settings"]
    assert names[8:] == ["Conversation", "Copy", "Edit", "Delete", "Copy", "Answer again"]


@pytest.mark.pictures
def test_pictures_for_the_documentation(browser: Browser, address: Address, pictures: Path) -> None:
    from .story import take_pictures, tell

    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{address.port}/")
        tell(page)
        take_pictures(page, pictures, "app")


@pytest.mark.slow
@pytest.mark.pictures
def test_pictures_in_firefox(
    address: Address, pictures: Path, missing: Callable[[str], None]
) -> None:
    from tools.browser import browsers, fetch

    from .story import pictures_in_firefox

    if browsers.find("firefox") is None:
        missing("Firefox is not installed; on Debian: apt-get install firefox-esr")
    try:
        pictures_in_firefox(f"http://127.0.0.1:{address.port}/", pictures, "firefox")
    except fetch.FetchError as error:
        missing(str(error))

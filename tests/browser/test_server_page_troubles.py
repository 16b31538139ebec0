"""The chat application as a person would rather not use it: tabs in each other's way, strange servers, damaged conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.serve import ServerSettings, app
from llama_bridge.serve.app import application
from llama_bridge.serve.entrance import Entrance
from llama_bridge.serve.front_page import FILES
from llama_bridge.serve.served import OneModel
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.remote.servers import Handler, Heard, scripted
from tests.serve.serving import Address, serving

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

    from llama_bridge.testing import Asked

    from .chatting import Chatter

    Come = Callable[..., Chatter]

PAGE = Path(__file__).parents[2] / "bridge" / "llama_bridge" / "serve" / "page"
KEPT = """() => new Promise((resolve) => {
    indexedDB.open("llama-bridge").onsuccess = ({ target }) => {
        target.result.transaction("talks").objectStore("talks").getAll().onsuccess = (found) =>
            resolve(found.target.result);
    };
})"""
KEEP = """(talks) => new Promise((resolve) => {
    indexedDB.open("llama-bridge").onsuccess = ({ target }) => {
        const change = target.result.transaction(["heads", "talks"], "readwrite");
        for (const talk of talks) {
            change.objectStore("heads").put({ id: talk.id, title: talk.title, changed: talk.changed });
            change.objectStore("talks").put(talk);
        }
        change.oncomplete = () => resolve();
    };
})"""


def answer(asked: Asked) -> FakeAnswer | str:
    if "slowly" in asked.prompt:
        return FakeAnswer("word " * 30 + "end", token_seconds=0.01)
    return f"Answer to {asked.prompt}."


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with FakeLlama(answer) as llama, serving(app(llama, name=("fake", "other"))) as found:
        yield found


@pytest.fixture
def come(context: BrowserContext, address: Address) -> Iterator[Come]:
    """Opens a tab of a browser that has never been here."""
    from .chatting import Chatter

    chatters: list[Chatter] = []

    def open_it(port: int = address.port, rest: str = "") -> Chatter:
        chatters.append(Chatter(context, f"http://127.0.0.1:{port}/{rest}"))
        return chatters[-1]

    yield open_it
    for chatter in chatters:
        assert chatter.complaints == []


def again(chatter: Chatter) -> None:
    """Load the page anew."""
    chatter.page.wait_for_timeout(100)  # what is written takes a moment
    chatter.page.reload()
    chatter.page.wait_for_selector("#model option", state="attached")


def talk_of(messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "t" + "0" * 24, "title": "Given", "changed": 7, "messages": messages, **fields}


def message(id_: str, parent: Any = None, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"id": id_, "parent": parent, "role": role, "text": id_, "created": 1, **fields}


def take(chatter: Chatter, folder: Path, talk: Any) -> None:
    file = folder / "talk.json"
    form = {"format": "llama-bridge-conversation", "version": 1, "conversation": talk}
    file.write_text(json.dumps(form))
    chatter.page.locator(".sidebar input[type=file]").set_input_files(file)


# what one person does in one or two tabs


def test_what_was_taken_back_stays(come: Come) -> None:
    """It was deleted again with the next change that was kept."""
    chatter = come()
    chatter.say("First")
    chatter.say("Second")
    before = chatter.said
    chatter.press("Delete", 2)
    chatter.press("Undo")
    chatter.until(lambda: chatter.said == before)
    again(chatter)
    chatter.until(lambda: chatter.said == before)


def test_what_was_said_since_a_deletion_stays_when_it_is_taken_back(come: Come) -> None:
    chatter = come()
    chatter.say("First")
    chatter.say("Second")
    before = chatter.said
    chatter.press("Delete", 2)
    chatter.say("Third")
    chatter.press("Undo")
    chatter.until(lambda: chatter.said == before)
    again(chatter)
    chatter.press("Later version", 2)
    assert chatter.said[2:] == ["Third", "Answer to Third."]


def test_another_tab_does_not_cut_an_answer_at_what_it_saw_of_it(come: Come) -> None:
    one, two = come(), come()
    one.say("slowly", wait=False)
    two.until(lambda: two.titles == ["slowly"])
    two.page.click(".talks .open")
    two.until(lambda: two.said and "word" in two.said[-1])
    one.idle()
    two.until(lambda: two.said[-1].endswith("end"))
    two.say("From two")
    again(one)
    one.until(lambda: len(one.said) == 4)
    one.until(lambda: one.said[1].endswith("end"))


def test_tabs_that_answer_at_once_keep_both_answers(come: Come) -> None:
    one, two = come(), come()
    one.say("First")
    two.until(lambda: two.titles == ["First"])
    two.page.click(".talks .open")
    two.until(lambda: len(two.said) == 2)
    for chatter in (one, two):
        chatter.say("slowly", wait=False)
    for chatter in (one, two):
        chatter.idle()
    again(one)
    one.until(lambda: len(one.said) == 4)
    one.until(lambda: one.turns.nth(2).locator(".turner").text_content() == "2/2")
    one.until(lambda: one.said[3].endswith("end"))
    one.press("Earlier version", 2)
    assert one.said[3].endswith("end")


def test_what_is_deleted_in_one_tab_does_not_come_back_from_another(come: Come) -> None:
    one, two = come(), come()
    one.say("First")
    two.until(lambda: two.titles == ["First"])
    two.page.click(".talks .open")
    two.until(lambda: len(two.said) == 2)
    two.say("slowly", wait=False)
    one.until(lambda: len(one.page.evaluate(KEPT)[0]["messages"]) == 4)
    one.choose("First", "Delete")
    two.until(lambda: two.said == [])
    two.say("Second")
    again(one)
    one.until(lambda: one.titles == ["Second"])
    two.press("New chat")
    again(two)
    two.until(lambda: two.titles == ["Second"])


def test_a_message_deleted_in_another_tab_is_gone_here(come: Come) -> None:
    one, two = come(), come()
    one.say("First")
    one.say("Second")
    two.until(lambda: two.titles == ["First"])
    two.page.click(".talks .open")
    two.until(lambda: len(two.said) == 4)
    one.press("Delete", 2)
    two.until(lambda: len(two.said) == 2)
    two.say("Third")
    again(one)
    one.until(lambda: one.said[2:] == ["Third", "Answer to Third."])


def test_what_was_said_under_a_message_keeps_it(come: Come) -> None:
    """Deleted in one tab while another asked on below it: the whole conversation could not be shown any more."""
    one, two = come(), come()
    one.say("First")
    one.say("Second")
    two.until(lambda: two.titles == ["First"])
    two.page.click(".talks .open")
    two.until(lambda: len(two.said) == 4)
    # Neither has heard of the other when it acts.
    late = "() => { BroadcastChannel.prototype.postMessage = () => {}; }"
    for chatter in (one, two):
        chatter.page.evaluate(late)
    one.press("Delete", 2)
    one.until(lambda: len(one.said) == 2)
    two.say("Third")
    again(one)
    one.until(lambda: one.said[::2] == ["First", "Second", "Third"])


def test_a_name_is_typed_whole_while_another_tab_answers(come: Come) -> None:
    """Each piece of the answer laid the list out anew, with the half of the name."""
    one, two = come(), come()
    one.say("First")
    two.until(lambda: two.titles == ["First"])
    one.press("New chat")
    one.say("slowly", wait=False)
    two.choose("First", "Rename")
    for letter in "Long name":
        two.page.keyboard.type(letter)
        two.page.wait_for_timeout(150)
    two.page.keyboard.press("Enter")
    two.until(lambda: sorted(two.titles) == ["Long name", "slowly"])
    one.idle()


def test_a_conversation_goes_on_with_its_own_model_after_a_reload(come: Come) -> None:
    chatter = come()
    chatter.page.select_option("#model", "other")
    chatter.say("First")
    chatter.press("New chat")
    chatter.page.select_option("#model", "fake")
    chatter.say("Second")
    chatter.page.click(".talks .open >> text=First")
    chatter.until(lambda: chatter.page.input_value("#model") == "other")
    again(chatter)
    chatter.until(lambda: chatter.page.input_value("#model") == "other")


def test_a_title_ends_with_no_half_of_a_letter(come: Come) -> None:
    chatter = come()
    chatter.say("x" * 58 + "🦙🦙🦙")
    assert chatter.titles == ["x" * 58 + "🦙…"]


def test_a_dialog_that_was_left_is_gone(come: Come) -> None:
    settings = ServerSettings(api_keys=("sk-page",))
    with FakeLlama(answer) as llama, serving(app(llama, name="f", settings=settings)) as address:
        chatter = come(address.port)
        chatter.page.wait_for_selector("#key")
        chatter.page.keyboard.press("Escape")
        chatter.until(lambda: chatter.page.locator("dialog").count() == 0)
        again_asked = chatter.page
        again_asked.reload()
        for key in ("wrong", "ключ", "sk-page"):
            chatter.page.fill("#key", key)
            chatter.page.press("#key", "Enter")
            if key != "sk-page":
                chatter.until(lambda: chatter.page.input_value("#key") == "")
        chatter.say("First")
        assert chatter.said[1] == "Answer to First."


# what is damaged or hostile

ODD: list[Any] = [5, "x", [5], {"a": 1}, [None], True]


def test_a_hostile_file_is_refused(come: Come, tmp_path: Path) -> None:
    """Some broke the page, and each reload of it."""
    chatter = come()
    fields = ("files", "calls", "reasoning", "state", "trouble", "model")
    hostile = [
        *(
            talk_of({"a": message("a") | {field: odd}})
            for field in fields
            for odd in (5, [5], {"a": 1})
        ),
        talk_of({"m": message("m", "constructor")}),
        talk_of({"m": message("constructor")}),
        talk_of({"__proto__": message("__proto__")}),
        talk_of({"m": message("m", "toString", "assistant")}, leaf="constructor"),
        talk_of({"a": message("a", "b"), "b": message("b", "a")}),
        talk_of({str(i): message("m", "m" if i else None) for i in range(60)}),
        *ODD,
        None,
    ]
    for talk in hostile:
        take(chatter, tmp_path, talk)
        chatter.page.wait_for_selector(".toast:has-text('is no conversation')")
        chatter.page.click(".toast .icon")
    assert chatter.titles == []


def test_settings_of_a_file_are_only_settings(come: Come, tmp_path: Path) -> None:
    chatter = come()
    sampling = {"temperature": "hot", "stream": False, "input": "Else", "seed": 3, "top_p": None}
    title = "<img src=x onerror=alert(1)>" * 4000
    messages = {"a": message("a"), "b": message("b", "a", "assistant")}
    take(chatter, tmp_path, talk_of(messages, sampling=sampling, title=title, leaf="toString"))
    chatter.until(lambda: chatter.said == ["a", "b"])
    chatter.say("First")
    assert chatter.said[-1] == "Answer to First."
    assert chatter.page.evaluate(KEPT)[0]["sampling"] == {"seed": 3}
    assert chatter.titles == [title[:200]]


def test_ten_thousand_versions_of_an_answer_are_taken(come: Come, tmp_path: Path) -> None:
    chatter = come()
    messages = {"q": message("q")}
    messages |= {f"a{i}": message(f"a{i}", "q", "assistant") for i in range(10_000)}
    deep = {"m0": message("m0")}
    deep |= {f"m{i}": message(f"m{i}", f"m{i - 1}") for i in range(1, 10_000)}
    take(chatter, tmp_path, talk_of(messages, leaf="a7"))
    chatter.until(lambda: chatter.said == ["q", "a7"])
    assert chatter.turns.nth(1).locator(".turner").inner_text() == "8/10000"
    take(chatter, tmp_path, talk_of(dict(reversed(deep.items())), leaf="m9999"))
    chatter.until(lambda: chatter.said[-1] == "m9999")


def test_a_thousand_quotes_in_each_other_do_not_end_the_tab(come: Come, tmp_path: Path) -> None:
    """Nor does each reload of the page, which shows them again."""
    chatter = come()
    text = "\n".join(">" * (i % 500) + " x" for i in range(2000))
    answers = {"q": message("q"), "a": message("a", "q", "assistant", state="done")}
    answers["a"]["text"] = text
    take(chatter, tmp_path, talk_of(answers, leaf="a"))
    chatter.until(lambda: chatter.turns.count() == 2)
    again(chatter)
    chatter.until(lambda: chatter.turns.count() == 2)
    chatter.page.click("#new")
    chatter.say("First")
    assert chatter.said == ["First", "Answer to First."]


def test_damaged_conversations_do_not_keep_the_page_from_working(come: Come) -> None:
    chatter = come()
    chatter.say("First")
    whole = chatter.page.evaluate(KEPT)[0]
    damaged: list[Any] = [
        {"id": f"t{i:024x}", "title": odd, "messages": odd} for i, odd in enumerate(ODD)
    ]
    damaged.append({"id": "t" + "f" * 24})
    damaged.append(
        {**whole, "leaf": "nowhere", "gone": 5, "sampling": 7, "system": {}, "draft": []}
    )
    chatter.page.evaluate(KEEP, damaged)
    again(chatter)
    chatter.until(lambda: chatter.said[0] == "First")
    for i in range(len(damaged)):
        chatter.page.locator(".talks .open").nth(i).click()
        chatter.page.wait_for_timeout(20)
    chatter.page.click("#new")
    chatter.say("Second")
    chatter.page.get_by_role("searchbox").fill("Second")
    chatter.until(lambda: chatter.titles == ["Second"])


# strange servers


def strange(
    events: Callable[[Handler], None], models: bytes = b""
) -> Callable[[Heard, Handler], None]:
    """A server that has the page, and answers each question in this way."""

    def every(heard: Heard, handler: Handler) -> None:
        if heard.path in FILES:
            kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
            name = FILES[heard.path]
            handler.raw(
                (PAGE / name).read_bytes(), 200, kinds.get(name.split(".")[-1], "text/html")
            )
        elif heard.path == "/v1/models":
            handler.raw(models or b'{"data": [{"id": "m"}]}', 200, "application/json")
        else:
            events(handler)

    return every


def stream_of(*events: Any) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.begin_stream()
        for event in events:
            handler.event(event)

    return answer


DELTA = {"type": "response.output_text.delta", "delta": "So far"}


def test_an_answer_that_makes_no_sense_is_told_and_the_conversation_goes_on(come: Come) -> None:
    """It could neither be stopped nor asked again."""
    answers: list[Callable[[Handler], None]] = [
        stream_of(DELTA, "null"),
        stream_of(DELTA, "{"),
        stream_of(DELTA, {}),
        stream_of(DELTA, {"type": "response.completed", "response": None}),
        stream_of(DELTA, {"type": "response.output_item.done"}),
        lambda handler: handler.raw(b"<!doctype html><title>Welcome</title>"),
        lambda handler: handler.json({"object": "response"}),
    ]
    n = len(answers)
    with scripted(strange(lambda handler: answers.pop()(handler))) as script:
        chatter = come(script.port)
        chatter.say("First")
        for left in range(len(answers), -1, -1):
            chatter.idle()
            assert "does not understand" in chatter.turns.last.locator(".trouble").inner_text()
            assert len(answers) == left
            if left:
                chatter.press("Try again")
                chatter.until(partial(lambda before: len(answers) < before, left))
        assert chatter.said[1] == "So far"
        assert chatter.turns.last.locator(".turner").inner_text() == f"{n}/{n}"


def test_models_that_are_none_are_told(come: Come) -> None:
    for models in (b"<!doctype html>", b"null", b"{}", b'{"data": 5}', b'{"data": [null]}'):
        with scripted(strange(stream_of(), models)) as script:
            chatter = come(script.port)
            chatter.page.wait_for_selector("text=does not understand")
            chatter.page.close()


# a window, whose server keeps the conversations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def window(come: Come, folder: Path) -> Iterator[Callable[[], Chatter]]:
    """Opens a window as the command does."""
    settings = ServerSettings(api_keys=("sk-window",))
    with FakeLlama(answer) as llama:
        models = OneModel(AsyncLlamaBridge.of(llama), ("fake",))
        words = iter(["one", "two", "three"])
        made = application(models, settings, None, folder, Entrance("one", "two", "three"))
        with serving(made) as address:
            yield lambda: come(address.port, f"#window={next(words)}")


def test_what_arrives_late_overwrites_nothing(window: Callable[[], Chatter], folder: Path) -> None:
    """The beginning of an answer was kept last, and the rest was gone."""
    chatter = window()
    slow = """() => {
        const ask = self.fetch;
        let n = 0;
        self.fetch = async (path, how) => {
            if (how?.method === "PUT") await new Promise((go) => setTimeout(go, n++ ? 0 : 1500));
            return ask(path, how);
        };
    }"""
    chatter.page.evaluate(slow)
    chatter.say("slowly")

    def text() -> str:
        found = [json.loads(path.read_text()) for path in folder.glob("t*.json")]
        return "".join(one["text"] for talk in found for one in talk["messages"].values())

    chatter.until(lambda: text().endswith("end"))
    chatter.page.wait_for_timeout(1600)
    assert text().endswith("end")


def test_a_conversation_that_cannot_be_kept_is_told(
    window: Callable[[], Chatter], folder: Path
) -> None:
    folder.write_text("no folder")
    chatter = window()
    chatter.say("First")
    chatter.page.wait_for_selector(f".toast:has-text('cannot be kept in {folder}')")
    assert chatter.said[1] == "Answer to First."
    chatter.complaints.clear()


def test_a_list_of_models_that_comes_late_does_not_undo_a_newer_one(
    come: Come, context: BrowserContext
) -> None:
    asked: list[Route] = []

    def models(route: Route, *names: str) -> None:
        route.fulfill(json={"object": "list", "data": [{"id": name} for name in names]})

    def on_models(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=500)
        elif len(asked) == 3:
            models(route, "fake", "other")

    context.route("**/v1/models", on_models)
    chatter = come()
    chatter.press("Try again")
    chatter.until(lambda: len(asked) == 2)
    chatter.press("Try again")
    chatter.until(lambda: chatter.page.input_value("#model") == "fake")
    models(asked[1], "other")
    chatter.page.wait_for_timeout(200)
    assert chatter.page.input_value("#model") == "fake"
    assert chatter.page.locator("#model option").all_inner_texts() == ["fake", "other"]


def test_after_one_read_that_failed_the_conversation_is_kept_again(
    window: Callable[[], Chatter], folder: Path
) -> None:
    """Nothing of it was ever written again, and nobody was told: a network that changes breaks what is on its way."""
    chatter = window()
    chatter.say("First")
    broken: list[str] = []

    def once(route: Route) -> None:
        if broken or route.request.method != "GET":
            route.continue_()
        else:
            broken.append(route.request.url)
            route.abort("connectionreset")

    chatter.page.route("**/app/conversations/t*", once)
    chatter.say("Second")
    chatter.until(lambda: broken)
    chatter.say("Third")
    chatter.until(lambda: "Third" in "".join(path.read_text() for path in folder.glob("t*.json")))


def test_a_conversation_of_long_answers_opens_at_its_end(come: Come, tmp_path: Path) -> None:
    """It laid out forty of them at once, however long they were."""
    chatter = come()
    long = "\n\n".join(f"*Paragraph* {i}" for i in range(7000))
    roles = ["user", "assistant"]
    messages = {
        f"m{i}": message(f"m{i}", f"m{i - 1}" if i else None, roles[i % 2], state="done")
        | ({"text": long} if i % 2 else {})
        for i in range(40)
    }
    take(chatter, tmp_path, talk_of(messages, leaf="m39"))
    chatter.until(lambda: chatter.turns.count() > 1)
    chatter.page.wait_for_timeout(300)
    assert chatter.turns.count() < 12


# what a browser does not have, or keeps for itself

SILENT = "IDBFactory.prototype.open = () => ({})"
FULL = (
    "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError') }"
)
DEAF = "delete window.BroadcastChannel"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (DEAF, ""),
        (SILENT, "This browser keeps nothing for this page"),
        (FULL, "This browser cannot keep or read what was said (QuotaExceededError). Export"),
    ],
    ids=["no tab hears another", "a storage that never answers", "a full storage"],
)
def test_whatever_the_storage_does_questions_are_answered(
    come: Come, context: BrowserContext, broken: str, told: str
) -> None:
    """Of the first two, no model was ever found; of the third, only the browser's own words were told."""
    context.add_init_script(broken)
    chatter = come()
    chatter.say("First")
    chatter.until(lambda: chatter.said == ["First", "Answer to First."])
    chatter.until(lambda: told in chatter.page.inner_text("body"))


def test_of_a_thousand_conversations_the_newest_are_listed_and_all_are_found(come: Come) -> None:
    """Each answer laid out all of them again: with five thousand, that took two seconds."""
    chatter = come()
    chatter.page.evaluate(KEEP, [
        talk_of({"m": message("m", text=f"hello {i}")}, leaf="m", title=f"Talk {i}", changed=1 + i)
        | {"id": f"t{i:024x}"}
        for i in range(1000)
    ])  # fmt: skip
    again(chatter)
    chatter.until(lambda: len(chatter.titles) == 200)
    assert chatter.titles[0] == "Talk 999"
    chatter.press("Show older conversations: 800")
    chatter.until(lambda: len(chatter.titles) == 400)
    assert chatter.page.evaluate("() => document.activeElement.textContent") == "Talk 799"
    chatter.page.fill(".sidebar [type=search]", "hello 77")
    chatter.until(lambda: len(chatter.titles) == 11)

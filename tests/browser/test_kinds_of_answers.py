"""Reasoning, calls of tools and structured answers, each shown as what it is: a real server, and a model that gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import app
from llama_bridge.testing import FakeAnswer, FakeLlama
from llama_bridge.testing.fake.model import write_fake_model
from tests.serve.serving import Address, serving

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

    from llama_bridge.testing import Asked

    from .chatting import Chatter

TOOL = {
    "type": "function",
    "name": "special_function",
    "parameters": {"type": "object", "properties": {"arg1": {"type": "integer"}}},
}
CALL = '<tool_call>\n{"name": "special_function", "arguments": {"arg1": 1}}\n</tool_call>'


def answer(asked: Asked) -> str | FakeAnswer:
    if "call" in asked.prompt:
        return f"<think>\nA tool will know.\n</think>\n\n{CALL}"
    thoughts = "First I *think*. " * 20
    return FakeAnswer(f"<think>\n{thoughts}\n</think>\n\nThen I speak.", token_seconds=0.004)


@pytest.fixture
def reasoner(tmp_path: Path) -> Iterator[Address]:
    """A model with the chat template of one that thinks first and calls tools."""
    from tests.chat.families import FAMILIES
    from tests.chat.test_families import source

    family = FAMILIES["Qwen 3"]
    path = tmp_path / "fake.gguf"
    write_fake_model(path, template=source(family), controls=("<s>", family.end))
    with FakeLlama(answer, model=path) as llama, serving(app(llama, name="thinks")) as address:
        yield address


def opened(context: BrowserContext, address: Address) -> Chatter:
    from .chatting import Chatter

    return Chatter(context, f"http://127.0.0.1:{address.port}/")


def asks_with(person: Chatter, fields: dict[str, Any]) -> None:
    """What is asked gets these fields: the application has no settings for them."""

    def ask(route: Route) -> None:
        route.continue_(post_data=json.dumps((route.request.post_data_json or {}) | fields))

    person.page.route("**/v1/responses", ask)


def test_reasoning_is_shown_while_it_comes_and_folded_when_it_is_over(
    context: BrowserContext, reasoner: Address
) -> None:
    person = opened(context, reasoner)
    person.say("Why?", wait=False)
    summary = person.page.locator(".thoughts summary")
    summary.wait_for()
    assert summary.inner_text() == "Thinking…"
    person.idle()
    assert summary.inner_text() == "Reasoning"
    assert person.said[1] == "Then I speak."
    thoughts = person.page.locator(".thoughts .words")
    assert not thoughts.is_visible()
    summary.click()
    assert thoughts.locator("em").first.inner_text() == "think"
    person.page.reload()
    person.page.wait_for_selector(".thoughts")
    assert not person.page.locator(".thoughts .words").is_visible()
    assert person.complaints == []


def test_a_call_of_a_tool_is_shown_with_its_name_and_arguments(
    context: BrowserContext, reasoner: Address
) -> None:
    person = opened(context, reasoner)
    asks_with(person, {"tools": [TOOL]})
    person.say("Please call it.")
    turn = person.turns.nth(1)
    assert turn.locator(".call").inner_text() == "Calls special_function"
    assert json.loads(turn.locator(".extras pre").inner_text()) == {"arg1": 1}
    assert turn.locator(".body > .words").inner_text() == ""
    person.page.reload()
    person.page.wait_for_selector(".turn")
    assert person.turns.nth(1).locator(".call").inner_text() == "Calls special_function"
    assert person.complaints == []


def test_an_answer_that_has_to_fit_a_schema_is_shown_as_json(context: BrowserContext) -> None:
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    greedy = SamplingParams(temperature=0)
    with LlamaBridge("demo", sampling=greedy) as llama, serving(app(llama)) as address:
        person = opened(context, address)
        asks_with(person, {"text": form})
        person.say("Is it?")
        shown = person.turns.nth(1).locator("pre").inner_text()
        assert isinstance(json.loads(shown)["yes"], bool)
        assert shown.startswith("{\n  ")
        assert person.complaints == []

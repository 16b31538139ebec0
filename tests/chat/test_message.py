"""Messages cannot be changed, and are JSON all the same."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from llama_bridge import InvalidInput, LlamaBridge, Message
from llama_bridge.chat.message import check_messages
from llama_bridge.testing import FakeLlama

HELLO = Message(role="user", content="Hello!")


def test_a_message_is_a_dictionary_and_json() -> None:
    assert HELLO == {"role": "user", "content": "Hello!"}
    assert json.loads(json.dumps([HELLO])) == [HELLO]
    assert {**HELLO, "content": "x"} == {"role": "user", "content": "x"}
    for again in (copy.copy(HELLO), copy.deepcopy(HELLO), pickle.loads(pickle.dumps(HELLO))):
        assert again == HELLO
        assert isinstance(again, Message)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.__setitem__("content", "x"),
        lambda m: m.__delitem__("content"),
        lambda m: m.update(content="x"),
        lambda m: m.clear(),
        lambda m: m.pop("content"),
        lambda m: m.popitem(),
        lambda m: m.setdefault("x", "y"),
        lambda m: m.__ior__({"content": "x"}),
        lambda m: setattr(m, "content", "x"),
    ],
)
def test_no_change_gets_through(change: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        change(HELLO)
    assert HELLO == {"role": "user", "content": "Hello!"}


def test_what_is_done_to_the_messages_of_a_session_does_not_reach_it() -> None:
    with FakeLlama() as llama:
        llama.generate("one")
        before = llama.session().messages
        with pytest.raises(TypeError, match="dict"):
            llama.session().messages[0]["content"] = "two"
        llama.session().messages.clear()
        assert llama.session().messages == before
        branch = llama.session().fork()
        llama.generate_continue("more")
        assert branch.messages == before


def test_what_the_caller_keeps_of_a_list_is_not_what_the_model_was_told(llama: LlamaBridge) -> None:
    mine = [{"role": "user", "content": "Hello!"}]
    prompt = llama.apply_chat_template(mine)
    mine[0]["content"] = "Goodbye!"
    assert "Hello!" in str(prompt)


@pytest.mark.parametrize(
    "bad", [[], ["x"], [{"role": "user"}], [{"role": 1, "content": "x"}], "text", b"x", 5, {}]
)
def test_messages_are_checked(bad: list[object]) -> None:
    with pytest.raises(InvalidInput, match="messages"):
        check_messages(bad)  # type: ignore[arg-type]

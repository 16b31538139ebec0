"""Real templates render here as llama-server renders them, whatever a chat has in it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llama_bridge import TemplateError
from llama_bridge.chat.template import ChatTemplate
from llama_bridge.models.source import open_model

xllamacpp = pytest.importorskip("xllamacpp", reason="needs xllamacpp, llama-server as a package")

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a place",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "which"},
                    "days": {"type": "integer"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "run",
            "description": "Run Python",
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string"}},
                "required": ["code"],
            },
        },
    },
]
USER = {"role": "user", "content": 'Weather in Zürich? 你好 🌦 "quoted" \\ <b>'}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Rain."}
THOUGHT = {"role": "assistant", "content": "Rain.", "reasoning_content": "It is November."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {
                "name": "get_weather",
                "arguments": json.dumps({"city": 'Zürich "H"', "days": 2}, ensure_ascii=False),
            },
        }
    ],
}
RESULT = {
    "role": "tool",
    "tool_call_id": "call00001",
    "name": "get_weather",
    "content": '{"t": 12}',
}
MORE = {"role": "user", "content": "And tomorrow?"}
PARTS = {
    "role": "user",
    "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
}
CHATS: dict[str, dict[str, Any]] = {
    "one turn": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER]},
    "turns": {"messages": [SYSTEM, USER, ANSWER, MORE]},
    "reasoning": {"messages": [USER, THOUGHT, MORE]},
    "parts": {"messages": [PARTS]},
    "tools": {"messages": [SYSTEM, USER], "tools": TOOLS},
    "a result": {"messages": [SYSTEM, USER, CALL, RESULT], "tools": TOOLS},
    "a result without tools": {"messages": [USER, CALL, RESULT, ANSWER, MORE]},
}
DATES = ("strftime_now", "date_string", "datetime")


@contextmanager
def server(template: str) -> Iterator[Any]:
    """llama-server with the demo model and another template."""
    params = xllamacpp.CommonParams()
    params.model.path = str(open_model("demo").path)
    params.n_ctx, params.n_parallel, params.port = 256, 1, 0
    params.cpuparams.n_threads = 1
    params.use_jinja, params.warmup, params.chat_template = True, False, template
    yield xllamacpp.Server(params)


def rendered_there(there: Any, chat: dict[str, Any]) -> str | None:
    """What llama-server makes of a chat; None if it refuses."""
    request = urllib.request.Request(
        f"{there.listening_address}/apply-template",
        json.dumps(chat).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["prompt"])
    except urllib.error.HTTPError:
        return None


def rendered_here(template: ChatTemplate, chat: dict[str, Any]) -> str | None:
    request = {**chat, "tools": chat.get("tools", [])}
    try:
        return template._guest.prompt(request)
    except TemplateError:
        return None


def names() -> list[str]:
    from tools.random_model.templates import templates

    return list(templates())


FEW = (
    "Qwen-Qwen2.5-7B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "openai-gpt-oss-120b",
    "google-gemma-2-2b-it",
    "mistralai-Mistral-Nemo-Instruct-2407",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in names()]
)
def test_a_real_template_renders_as_in_llama_server(name: str) -> None:
    from tools.random_model.templates import templates

    source = templates()[name]
    template = ChatTemplate(source, bos="<s>", eos="<|endoftext|>")
    wrong: dict[str, Any] = {}
    rendered = 0
    with server(source) as there:
        for what, chat in CHATS.items():
            theirs, ours = rendered_there(there, chat), rendered_here(template, chat)
            if theirs is not None and ours is not None:
                rendered += 1
                theirs, ours = theirs.removeprefix("<s>"), ours.removeprefix("<s>")
            if theirs != ours:
                wrong[what] = theirs, ours
    assert not wrong
    assert rendered >= 3

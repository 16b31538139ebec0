"""Ollama's and vLLM's documented answers; see recorded.py for what they are."""

from __future__ import annotations

from typing import Any

import pytest

from llama_bridge import (
    Capability,
    ContextOverflow,
    EngineError,
    InvalidInput,
    LlamaBridge,
    ModelLoadError,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

from .recorded import ollama, vllm
from .servers import scripted

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
HI = [{"role": "user", "content": "Hi"}]


def test_ollama() -> None:
    with scripted(ollama) as script:
        with pytest.raises(InvalidInput, match=r"give model= one of llama3\.2:latest, qwen3:8b"):
            LlamaBridge(script.url, backend="remote")
        with LlamaBridge(script.url, model="llama3.2:latest", backend="remote") as llama:
            able = llama.capabilities
            assert Capability.TOOLS | Capability.JSON_SCHEMA | Capability.CHAT_TEMPLATE in able
            assert not able & (Capability.EMBEDDINGS | Capability.KV_CONTINUATION)
            answer = llama.generate("Hi")
            assert answer.text == "Hello! How can I help?"
            assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (26, 8)
            called = llama.chat(HI, tools=[WEATHER])
            assert called.finish_reason == "tool_calls"
            (call,) = called.tool_calls
            assert (call.id, call.name, call.arguments) == ("call_x1", "weather", {"city": "Oslo"})
            messages = [*HI, called.message, call.result("sunny")]
            assert llama.chat(messages).text == "Hello! How can I help?"
            sent = script.heard[-1].body["messages"]
            assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
            assert sent[2]["tool_call_id"] == "call_x1"
            with pytest.raises(InvalidInput, match="top_k"):
                llama.generate("Hi", top_k=3)
            with pytest.raises(EngineError, match="does not follow"):
                llama.generate("Hi", json_schema={"type": "object", "required": ["other"]})
            with pytest.raises(EngineError):
                llama.generate("Hi", chat=False)


def test_vllm() -> None:
    with scripted(vllm) as script, LlamaBridge(script.url, backend="remote") as llama:
        assert Capability.TOOLS | Capability.JSON_SCHEMA in llama.capabilities
        answer = llama.chat(HI)
        assert (answer.text, answer.reasoning) == ("Hello there", "The user greets.")
        assert answer.message["reasoning_content"] == "The user greets."
        assert (answer.usage.cached_tokens, answer.usage.evaluated_tokens) == (32, 8)
        kinds = [type(event) for event in llama.chat_stream(HI)]
        assert kinds == [ReasoningDelta, ReasoningDelta, TextDelta, TextDelta]
        plain = llama.generate("Hi")
        assert (plain.text, plain.reasoning) == ("Hello there", "The user greets.")
        stream = llama.chat_stream(HI, tools=[WEATHER], tool_choice="required")
        events = list(stream)
        assert all(isinstance(event, ToolCallDelta) for event in events)
        (call,) = stream.result.tool_calls
        assert (call.name, call.arguments) == ("weather", {"city": "Oslo"})
        llama.generate("Hi", top_k=3, min_p=0.2)
        assert (script.heard[-1].body["top_k"], script.heard[-1].body["min_p"]) == (3, 0.2)
        with pytest.raises(ContextOverflow) as caught:
            llama.generate("long " * 5000)
        assert (caught.value.n_ctx, caught.value.needed) == (4096, 5132)
        with pytest.raises(EngineError, match="ignored tool_choice"):
            llama.chat(HI, tools=[WEATHER, _other()], tool_choice="other")


def _other() -> dict[str, Any]:
    return {"type": "function", "function": {**WEATHER["function"], "name": "other"}}


def test_a_context_that_is_too_small_is_refused_at_load() -> None:
    with scripted(vllm) as script, pytest.raises(ModelLoadError, match="holds 4096 tokens"):
        LlamaBridge(script.url, backend="remote", n_ctx=8192)

"""Answers of servers that cannot run here, as their documentation shows them.

Nobody recorded them from a running server: they were written from the documentation of Ollama (OpenAI compatibility,
streaming with tool calls) and of vLLM (its OpenAI-compatible server, reasoning outputs, tool calling), in November 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .servers import Handler, Heard

__all__ = ["ollama", "vllm"]


def _chunk(model: str, fingerprint: str | None, delta: Any, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1764000000}
    named = {} if fingerprint is None else {"system_fingerprint": fingerprint}
    return {**made, "model": model, **named, "choices": [choice]}


def ollama(heard: Heard, handler: Handler) -> None:
    """Ollama: several models; an empty content in each chunk; whole calls; tool_choice and unknown settings ignored."""
    model = "llama3.2:latest"
    if heard.path == "/v1/models":
        record = {"object": "model", "created": 1764000000, "owned_by": "library"}
        handler.json(
            {"object": "list", "data": [{"id": model, **record}, {"id": "qwen3:8b", **record}]}
        )
        return
    if heard.path == "/v1/embeddings":
        message = "this model does not support embeddings"
        error = {"message": message, "type": "api_error", "param": None, "code": None}
        handler.json({"error": error}, 500)
        return
    if heard.path != "/v1/chat/completions":
        handler.raw(b"404 page not found", 404, "text/plain")
        return
    assert heard.body["model"] == model

    def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
        given = {"role": "assistant", "content": "", **delta}
        handler.event(_chunk(model, "fp_ollama", given, finish))

    handler.begin_stream()
    if "tools" in heard.body:
        function = {"name": "find_lost_umbrella", "arguments": '{"colour":"red"}'}
        if heard.body["tools"][0]["function"]["name"] == "weather":
            function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
        chunk(
            {
                "tool_calls": [
                    {"id": "call_x1", "index": 0, "type": "function", "function": function}
                ]
            }
        )
        chunk({}, "tool_calls")
    elif "response_format" in heard.body:
        for text in ('{"found"', ': "umbrella-17"', "}"):
            chunk({"content": text})
        chunk({}, "stop")
    elif heard.body.get("max_tokens") == 1:
        chunk({"content": "Hi"}, "length")
    else:
        for text in ("Hello", "!", " How can I help?"):
            chunk({"content": text})
        chunk({}, "stop")
    if heard.body.get("stream_options"):
        usage = {"prompt_tokens": 26, "completion_tokens": 8, "total_tokens": 34}
        handler.event({**_chunk(model, "fp_ollama", {}, None), "choices": [], "usage": usage})
    handler.event("[DONE]")


def vllm(heard: Heard, handler: Handler) -> None:
    """vLLM: max_model_len; thoughts apart, a role in the first chunk; calls in pieces; cached tokens; extra settings."""
    model = "Qwen/Qwen3-8B"
    answers: dict[str, Callable[[], Any]] = {
        "/v1/models": lambda: {
            "object": "list",
            "data": [
                {
                    "id": model,
                    "object": "model",
                    "created": 1764000000,
                    "owned_by": "vllm",
                    "root": model,
                    "parent": None,
                    "max_model_len": 4096,
                    "permission": [],
                }
            ],
        }
    }
    if heard.path in answers:
        handler.json(answers[heard.path]())
        return
    if heard.path != "/v1/chat/completions":
        handler.json({"detail": "Not Found"}, 404)
        return
    body = heard.body
    if len(str(body["messages"])) > 20000:
        message = (
            "This model's maximum context length is 4096 tokens. However, you requested 5132 tokens (4620 in the "
            "messages, 512 in the completion). Please reduce the length of the messages or completion."
        )
        error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
        handler.json({"error": error}, 400)
        return
    handler.begin_stream()

    def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
        made = _chunk(model, None, delta, finish)
        made["choices"][0] |= {"logprobs": None, "token_ids": None}
        handler.event(made)

    chunk({"role": "assistant", "content": ""})
    if "tools" in body:
        tool = body["tools"][0]["function"]
        name = next(iter(tool["parameters"]["properties"]))
        function = {"name": tool["name"], "arguments": ""}
        chunk(
            {
                "tool_calls": [
                    {"id": "chatcmpl-tool-9", "type": "function", "index": 0, "function": function}
                ]
            }
        )
        for piece in ("{", f'"{name}": ', '"Oslo"', "}"):
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        chunk({"content": ""}, "tool_calls")
    elif "response_format" in body:
        chunk({"content": '{"found": "umbrella-17"}'})
        chunk({"content": ""}, "stop")
    else:
        for text in ("The user ", "greets."):
            chunk({"reasoning": text})
        for text in ("Hello", " there"):
            chunk({"content": text})
        chunk({"content": ""}, "length" if body.get("max_tokens") == 1 else "stop")
    if body.get("stream_options"):
        usage = {
            "prompt_tokens": 40,
            "total_tokens": 52,
            "completion_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 32},
        }
        handler.event({**_chunk(model, None, {}, None), "choices": [], "usage": usage})
    handler.event("[DONE]")

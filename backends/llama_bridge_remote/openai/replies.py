"""Reads the events of an answer: of /v1/chat/completions, /v1/completions and /v1/responses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from llama_bridge.errors import EngineError
from llama_bridge.generation import Fallback, FinishReason, Generation, Mode, TokenLogprob, Usage

from ..answer import Reply
from ..events import as_object
from ..token_logprobs import read_logprobs
from .shape import Shape
from .spoken import spoken_call, spoken_text, spoken_thought

__all__ = ["Asked", "ChatReply", "CompletionReply", "ResponseReply"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer says of itself, as far as that is known before it comes.

    Attributes:
        mode, fallback, seed: as in :class:`llama_bridge.Generation`.
        spoken: whether words, thoughts and calls are told apart in its text.
        shape: what it must look like, if the server may have ignored that; or None.
        stops: texts that end it.
        tool: what must be called: a tool's name, ``"required"`` for any, or "".
        one_call: whether there may be one call at most.
        logprobs: how many of the best tokens to report at each place, or None.
    """

    mode: Mode
    fallback: Fallback | None
    seed: int
    spoken: bool = False
    shape: Shape | None = None
    stops: tuple[str, ...] = ()
    tool: str = ""
    one_call: bool = False
    logprobs: int | None = None


class _OpenAIReply(Reply):
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.finish: str | None = None
        self.usage: Mapping[str, Any] = {}
        self.reasoning: list[str] = []
        self._pieces = 0
        self._logprobs: list[TokenLogprob] = []
        self._called: list[str] = []
        self._began = time.perf_counter()
        self._first = self._last = 0.0

    @property
    def enough(self) -> bool:
        """Whether the answer has ended, even if nothing more comes."""
        return self.finish is not None

    def mark(self) -> int:
        """How many pieces came."""
        return self._pieces

    def word(self, text: str) -> str:
        """Words of the answer, as the text that a reader gets."""
        self._count()
        return spoken_text(text) if self.asked.spoken else text

    def thought(self, text: str) -> str:
        """What it thought."""
        self._count()
        self.reasoning.append(text)
        return spoken_thought(text) if self.asked.spoken else ""

    def called(self, index: int, id_: str, name: str, arguments: str) -> str:
        """A part of a call."""
        self._count()
        if not self.asked.spoken:
            raise EngineError(
                "the server answers with the call of a tool, though it was given none"
            )
        if name:
            self._called.append(name)
        return spoken_call(index, id_, name, arguments)

    def probable(self, given: object) -> None:
        """How probable some tokens of the answer were."""
        if self.asked.logprobs is not None:
            self._logprobs += read_logprobs(given, self.asked.logprobs)

    def _check(self, text: str, finish: FinishReason) -> None:
        """Refuse an answer for which the server ignored what it was asked.

        Raises:
            EngineError.
        """
        asked = self.asked
        if asked.shape is not None and finish == "stop":
            asked.shape.check(text)
        ignored = [stop for stop in asked.stops if not asked.spoken and stop in text]
        if ignored:
            raise EngineError(f"the server ignored stop: its answer has {ignored[0]!r} in it")
        if asked.tool and finish == "stop":
            named = asked.tool in self._called if asked.tool != "required" else bool(self._called)
            if not named:
                raise EngineError(
                    f"the server ignored tool_choice: it called {', '.join(self._called) or 'nothing'}"
                )
        if asked.one_call and len(self._called) > 1:
            raise EngineError("the server ignored parallel_tool_calls=False: it made several calls")

    def _count(self) -> None:
        self._pieces += 1
        self._last = time.perf_counter()
        self._first = self._first or self._last

    def generation(self, text: str, mark: int | None) -> Generation:
        """See :meth:`Reply.generation`. Of a cut answer the server tells no cost: its pieces are counted."""
        finish: FinishReason = "cancelled"
        if mark is None:
            finish = _finish(self.finish)
            self._check(text, finish)
        usage = self.usage
        details = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
        guessed = as_object(usage.get("completion_tokens_details"))
        accepted = _count(guessed, "accepted_prediction_tokens")
        prompt = _count(usage, "prompt_tokens", "input_tokens")
        cached = min(prompt, _count(details, "cached_tokens"))
        completion = _count(usage, "completion_tokens", "output_tokens")
        return Generation(
            text=text,
            finish_reason=finish,
            mode=self.asked.mode,
            usage=Usage(
                prompt_tokens=prompt,
                cached_tokens=cached,
                evaluated_tokens=prompt - cached,
                completion_tokens=completion or (self._pieces if mark is None else mark),
                prompt_seconds=max(0.0, self._first - self._began) if self._first else 0.0,
                completion_seconds=self._last - self._first,
                drafted_tokens=accepted + _count(guessed, "rejected_prediction_tokens"),
                accepted_tokens=accepted,
            ),
            fallback=self.asked.fallback,
            seed=self.asked.seed,
            reasoning="" if self.asked.spoken else "".join(self.reasoning),
            logprobs=None if self.asked.logprobs is None else tuple(self._logprobs),
        )

    def choice_of(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What an event tells of the answer, after what it tells of its cost; None if it has no more."""
        if isinstance(usage := event.get("usage"), dict):
            self.usage = cast("dict[str, Any]", usage)
        choice = _choice(event)
        if choice is None:
            self.whole = self.finish is not None and bool(self.usage)
        else:
            self.probable(as_object(choice.get("logprobs")).get("content"))
        return choice


def _count(facts: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value: object = facts.get(name)
        if isinstance(value, int) and value >= 0:
            return value
    return 0


def _text(words: object) -> str:
    if not isinstance(words, str):
        raise EngineError(f"the server's answer has words that are no text: {str(words)[:80]}")
    return words


def _finish(reason: str | None) -> FinishReason:
    if reason == "length":
        return "length"
    if reason in ("stop", "tool_calls", "function_call", "eos", "end_turn"):
        return "stop"
    raise EngineError(f"the server ended the answer with {reason!r}")


def _choice(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    first = cast("list[object]", choices)[0]
    if not isinstance(first, dict):
        raise EngineError("the server's answer has a choice that is none")
    return cast("dict[str, Any]", first)


class ChatReply(_OpenAIReply):
    """An answer of /v1/chat/completions."""

    def hear(self, event: Mapping[str, Any]) -> str:
        """See :meth:`Reply.hear`."""
        choice = self.choice_of(event)
        if choice is None:
            return ""
        found: object = choice.get("delta") or {}
        delta = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        out: list[str] = []
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            out.append(self.thought(_text(thought)))
        if word := delta.get("content"):
            out.append(self.word(_text(word)))
        calls: object = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise EngineError("the server's answer has calls that are none")
        for i, call in enumerate(map(as_object, cast("list[object]", calls))):
            function = as_object(call.get("function"))
            index = call.get("index")
            out.append(
                self.called(
                    index if isinstance(index, int) and 0 <= index < 1000 else i,
                    str(call.get("id") or ""),
                    str(function.get("name") or ""),
                    str(function.get("arguments") or ""),
                )
            )
        if reason := choice.get("finish_reason"):
            self.finish = str(reason)
        return "".join(out)


class CompletionReply(_OpenAIReply):
    """An answer of /v1/completions."""

    def hear(self, event: Mapping[str, Any]) -> str:
        """See :meth:`Reply.hear`."""
        choice = self.choice_of(event)
        if choice is None:
            return ""
        if reason := choice.get("finish_reason"):
            self.finish = str(reason)
        text = choice.get("text")
        return self.word(text) if isinstance(text, str) and text else ""


class ResponseReply(_OpenAIReply):
    """An answer of /v1/responses.

    Attributes:
        id: what the server calls it; empty until it is whole.
    """

    id = ""

    def hear(self, event: Mapping[str, Any]) -> str:
        """See :meth:`Reply.hear`."""
        match event.get("type"):
            case "response.output_text.delta":
                return self.word(_text(event.get("delta") or ""))
            case "response.output_text.done":
                self.probable(event.get("logprobs"))
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                return self.thought(_text(event.get("delta") or ""))
            case "response.completed" | "response.incomplete":
                response = as_object(event.get("response"))
                self.usage = as_object(response.get("usage"))
                self.id = str(response.get("id") or "")
                self.finish = "stop" if event["type"] == "response.completed" else "length"
                self.whole = True
            case "response.failed":
                response = as_object(event.get("response"))
                error = as_object(response.get("error"))
                raise EngineError(f"the server failed: {str(error.get('message') or '')[:500]}")
            case "error":
                raise EngineError(f"the server failed: {str(event.get('message') or '')[:500]}")
            case _:
                pass
        return ""

"""What a generation returns: the text, how it ended, what it cost."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal

from .markup import brief, grey, prose

__all__ = [
    "Fallback",
    "FinishReason",
    "Generation",
    "Mode",
    "TokenLogprob",
    "ToolCall",
    "Usage",
]

FinishReason = Literal["stop", "length", "cancelled", "tool_calls"]


class Mode(enum.Enum):
    """Whether an answer continued the session in the KV cache."""

    FRESH = "fresh"
    CONTINUED = "continued"


class Fallback(enum.Enum):
    """Why a ``generate_continue`` ran like ``generate``. ``str()`` gives the reason as a sentence."""

    NO_SESSION = "there was no conversation to continue: the prompt started one"
    """Nothing was said before, as is normal for a first turn. There is no warning."""
    UNSUPPORTED = (
        "this backend cannot continue a conversation (kv_continuation): "
        "the prompt was answered without the earlier turns"
    )
    """The answer knows nothing of the earlier turns. A FallbackWarning says so too, once per bridge."""

    FAILOVER = (
        "the server of this conversation does not answer any more: it goes on with another backend, "
        "where what was said was evaluated again"
    )
    """The answer is based on the whole conversation. A FallbackWarning says so too, once."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Usage:
    """The measured cost of one generation.

    Attributes:
        prompt_tokens: all tokens that the answer is based on.
        cached_tokens: those of them that were in the KV cache already. With ``Capability.PREFIX_CACHE`` a fresh
            prompt can have some too.
        evaluated_tokens: those of them that were evaluated now.
        completion_tokens: tokens of the answer, including the one that ends it, and those that a grammar left no
            choice about, which were not drawn.
        prompt_seconds: wall time of the prefill.
        completion_seconds: wall time from the first drawn token to the last, without the time that the reader of
            a stream took between two texts.
        drafted_tokens: tokens that were guessed with ``speculate``, and those that a grammar left no choice about.
        accepted_tokens: those of them that became part of the answer.
    """

    prompt_tokens: int
    cached_tokens: int
    evaluated_tokens: int
    completion_tokens: int
    prompt_seconds: float
    completion_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding; 0 if nothing was generated."""
        return (
            self.completion_tokens / self.completion_seconds if self.completion_seconds > 0 else 0.0
        )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How probable a token was, in the model's own distribution: before any sampler, bias or grammar.

    Attributes:
        token: its id.
        text: its text; U+FFFD stands for part of a character. Control tokens are spelled.
        data: its bytes.
        logprob: natural logarithm of its probability.
        top: the most probable tokens at its place, best first, as many as ``logprobs=`` asked for.
    """

    token: int
    text: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for.

    Attributes:
        id: names this call; its result refers to it as ``tool_call_id``.
        name: the tool.
        arguments: by name; they validate against the tool's schema.
    """

    id: str
    name: str
    arguments: dict[str, Any] = field(hash=False)

    def result(self, content: str) -> dict[str, Any]:
        """The message that tells the model what the tool gave."""
        return {"role": "tool", "tool_call_id": self.id, "name": self.name, "content": content}


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """One answer. ``str()`` gives its text, ``repr()`` and a notebook's form its beginning and what it cost.

    Attributes:
        text: the answer, without control tokens and without the stop string.
        finish_reason: ``"stop"`` if the model ended the answer or a stop string came, ``"length"`` if ``max_tokens``
            or the context is used up, ``"cancelled"``, or ``"tool_calls"`` if it ended with calls of tools.
        mode: fresh or continued.
        usage: the measured cost.
        fallback: why a ``generate_continue`` ran fresh, or None.
        seed: the seed that was used. With it, the same call gives the same text.
        parsed: with ``json_schema=``, the value, or an instance of the class that was given; None if the answer did not
            end with ``"stop"``.
        logprobs: with ``logprobs=``, one for each token of the answer, the one that ends it too; otherwise None.
        reasoning: with ``chat``, what the model thought before it answered, where it marks that; otherwise empty.
        tool_calls: with ``chat``, the tools that it wants called.
    """

    text: str
    finish_reason: FinishReason
    mode: Mode
    usage: Usage
    fallback: Fallback | None = None
    seed: int = field(default=0, compare=False)
    parsed: Any = field(default=None, hash=False)
    logprobs: tuple[TokenLogprob, ...] | None = None

    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        parts = [brief(self.text), self.finish_reason, self.mode.value]
        parts.append(f"{self.usage.completion_tokens:,} tokens")
        if self.tool_calls:
            parts.append(f"calls of {brief(', '.join(call.name for call in self.tool_calls))}")
        return f"Generation({', '.join(parts)})"

    def _repr_html_(self) -> str:
        usage, notes = self.usage, [self.finish_reason, self.mode.value]
        notes.append(f"{usage.cached_tokens:,} cached + {usage.evaluated_tokens:,} evaluated")
        notes.append(f"{usage.completion_tokens:,} generated")
        if usage.tokens_per_second:
            notes.append(f"{usage.tokens_per_second:,.0f} tokens/s")
        thought = grey(self.reasoning) if self.reasoning else ""
        text = prose(self.text) if self.text or not self.tool_calls else ""
        calls = "".join(prose(f"{call.name}({call.arguments})") for call in self.tool_calls)
        why = "" if self.fallback is not Fallback.UNSUPPORTED else grey(str(self.fallback))
        return f"<div>{thought}{text}{calls}{grey(' · '.join(notes))}{why}</div>"

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message in OpenAI's shape, to append to the messages of a chat."""
        import json  # 2 ms: only calls need it

        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["content"] = self.text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": json.dumps(call.arguments, ensure_ascii=False),
                    },
                }
                for call in self.tool_calls
            ]
        return message

"""Chats without a conversation of their own: a list of messages in, the next message out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from .chat.message import Message, check_messages
from .checks import check_flag, check_stops, shown
from .errors import InvalidInput
from .generation import Generation
from .grammar import JsonSchema
from .params import SamplingParams, SamplingSettings
from .progress import OnProgress

if TYPE_CHECKING:
    from .chat.form import ChatWish
    from .chat.stream import ChatStream
    from .chat.tools import ToolChoice, ToolLike

__all__ = ["ChatCall", "Chatting"]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A call of :meth:`Chatting.chat`, checked as far as no model is needed for it.

    Attributes:
        messages: what was said.
        wish: tools and how they may be used.
        stops: texts that end the answer.
        json_schema, grammar, logprobs, sampling, on_progress, settings: as they were given.
    """

    messages: tuple[Message, ...]
    wish: ChatWish
    stops: tuple[str, ...]
    json_schema: JsonSchema | None
    grammar: str | None
    logprobs: int | None
    sampling: SamplingParams | None
    on_progress: OnProgress | None
    settings: SamplingSettings


class Chatting(ABC):
    """The calls of a chat."""

    def chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: ToolChoice = "auto",
        parallel_tool_calls: bool | None = None,
        reasoning: bool = True,
        stop: str | Sequence[str] = (),
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Generation:
        """Answer the last of some messages. What was said before comes from the list alone.

        With ``Capability.PREFIX_CACHE`` only what is new since the last call is evaluated. Append ``.message`` of the
        answer to the list, then the results of its calls or what the user says next.

        Args:
            messages: in OpenAI's shape: ``{"role": "user", "content": "..."}``; ``content`` may be a list of parts of
                text; ``tool_calls``, ``tool_call_id``, ``name`` and ``reasoning_content`` have the meaning they have
                there. What they spell never becomes a control token.
            tools: what the model may call: ``{"type": "function", "function": {...}}``, or Python functions, whose
                signature and docstring become the schema. They are never called here.
            tool_choice: ``"auto"``, ``"none"``, ``"required"``, or the name of the tool that must be called.
            parallel_tool_calls: whether the model may ask for several calls at once; None where its template can.
            reasoning: False asks a model that can choose not to think before it answers.
            stop: strings that end the answer. They are not part of it.
            json_schema, grammar, logprobs: as in ``generate``; a shape excludes tools, and the model does not think.
            sampling, on_progress, settings: as in ``generate``.

        Returns:
            The answer with its ``text``, its ``reasoning`` apart from it, and its ``tool_calls``, whose arguments
            validate against the tools' schemas. ``finish_reason`` is ``"tool_calls"`` if there are any.

        Raises:
            UnsupportedCapability: the model has no chat template.
            InvalidInput: a message, a tool or a setting cannot be used; names it. Nothing was evaluated.
            InvalidToolCall: the model called a tool with arguments that its schema refuses.
            ContextOverflow, TemplateError, EngineError, ClosedError.
        """
        return self._chat(
            _checked(
                messages,
                tools,
                tool_choice,
                parallel_tool_calls,
                reasoning,
                stop,
                json_schema,
                grammar,
                logprobs,
                sampling,
                on_progress,
                settings,
            )
        ).result

    def chat_stream(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: ToolChoice = "auto",
        parallel_tool_calls: bool | None = None,
        reasoning: bool = True,
        stop: str | Sequence[str] = (),
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> ChatStream:
        """Like :meth:`chat`, but text, reasoning and calls arrive while they are generated, as events.

        Each is a :class:`TextDelta`, a :class:`ReasoningDelta` or a :class:`ToolCallDelta`. ``.result`` is the whole
        answer.
        """
        return self._chat(
            _checked(
                messages,
                tools,
                tool_choice,
                parallel_tool_calls,
                reasoning,
                stop,
                json_schema,
                grammar,
                logprobs,
                sampling,
                on_progress,
                settings,
            )
        )

    @abstractmethod
    def _chat(self, call: ChatCall) -> ChatStream:
        """Start an answer."""


def _checked(
    messages: Sequence[Mapping[str, object]],
    tools: Sequence[ToolLike] | None,
    tool_choice: ToolChoice,
    parallel: bool | None,
    reasoning: bool,
    stop: str | Sequence[str],
    json_schema: JsonSchema | None,
    grammar: str | None,
    logprobs: int | None,
    sampling: SamplingParams | None,
    on_progress: OnProgress | None,
    settings: SamplingSettings,
) -> ChatCall:
    """Check what needs no model.

    Raises:
        InvalidInput: names the argument.
    """
    from .chat.form import ChatWish  # 10 ms with what reads answers
    from .chat.tools import check_tool_choice, check_tools

    said = tuple(check_messages(messages))
    checked = check_tools(tools)
    choice = check_tool_choice(tool_choice, checked)
    if parallel is not None and not isinstance(parallel, bool):
        raise InvalidInput(f"parallel_tool_calls={shown(parallel)}: give True, False or None")
    shaped = json_schema is not None or grammar is not None
    if shaped and checked and choice != "none":
        raise InvalidInput(
            "tools and json_schema or grammar exclude each other: give tool_choice='none', or ask twice"
        )
    stops = check_stops(stop)
    if stops and checked and choice not in ("auto", "none"):
        raise InvalidInput(
            "stop cannot be used with a tool_choice that asks for a call: leave it out"
        )
    wish = ChatWish(checked, choice, parallel, check_flag("reasoning", reasoning), shaped)
    return ChatCall(
        said, wish, stops, json_schema, grammar, logprobs, sampling, on_progress, settings
    )

"""What the runtimes for servers with OpenAI's interface share: chats, raw texts, embeddings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from llama_bridge.capabilities import Capability
from llama_bridge.chat.form import ChatPrompt, ChatWish, PlainReader, ToolForm
from llama_bridge.chat.message import Message
from llama_bridge.chat.tools import Tool
from llama_bridge.errors import (
    InvalidInput,
    UnsupportedCapability,
)
from llama_bridge.generation import Fallback, Generation, Mode
from llama_bridge.prompt import Prompt
from llama_bridge.request import Request

from ..answer import Question
from ..remote_runtime import Kept, new_seed
from ..vector_calls import VectorCalls
from .fields import as_messages, tool_fields
from .replies import Asked, ChatReply, CompletionReply
from .shape import Shape
from .spoken import ServerPrompt, SpokenReader

__all__ = ["OpenAIRuntime"]


class OpenAIRuntime(VectorCalls):
    """Answers over a server with OpenAI's interface, which renders chats itself."""

    limit: ClassVar[str] = "max_tokens"
    """The name of the field for ``max_tokens`` in a chat."""

    # what differs

    @abstractmethod
    def settings(self, request: Request, seed: int, limit: str) -> dict[str, Any]:
        """How tokens are drawn, as fields.

        Raises:
            InvalidInput: the server has no such setting.
        """

    @abstractmethod
    def shaped(self, request: Request) -> dict[str, Any]:
        """The fields that say what the answer must look like.

        Raises:
            InvalidInput: the server cannot be told.
        """

    def probabilities(self, request: Request) -> dict[str, Any]:
        """The fields of a chat that ask how probable each token was."""
        return {}

    def checked_shape(self, request: Request) -> Shape | None:
        """What is checked of the answer, as the server may have ignored it."""
        return None

    # chats

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Runtime.ask`. The server renders."""
        self._check_open()
        prompt = ServerPrompt((), tuple(messages), wish)
        reader = PlainReader() if wish.shaped else SpokenReader()
        return ChatPrompt(prompt, reader, tools="template" if wish.tools else None)

    @property
    def tool_form(self) -> ToolForm | None:
        """See :attr:`Runtime.tool_form`."""
        return "template" if Capability.TOOLS in self.capabilities else None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """See :meth:`Runtime.render`.

        Raises:
            UnsupportedCapability: always.
        """
        why = "the server renders chats itself, and shows nothing of it: call chat()"
        raise UnsupportedCapability(Capability.CHAT_TEMPLATE, self.backend, (), why)

    def question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """See :meth:`RemoteRuntime.question`."""
        if isinstance(request.prompt, ServerPrompt):
            return self.chat_question(request, request.prompt, headers, again=kept.again)
        if request.chat:
            if kept.raw:
                raise InvalidInput(
                    "the conversation is raw text so far, and this server's chats are apart from that: pass chat=False, "
                    "or start afresh"
                )
            return self.turn_question(request, kept, headers)
        return self.raw_question(request, kept, headers)

    def asked(self, request: Request, kept: Kept, *, spoken: bool = False) -> Asked:
        """What the answer will say of itself."""
        goes_on = kept.again or (request.continues and kept.begun)
        fresh = Fallback.NO_SESSION if request.continues else request.fallback
        wish = request.prompt.wish if isinstance(request.prompt, ServerPrompt) else ChatWish()
        choice = wish.choice.name if isinstance(wish.choice, Tool) else wish.choice
        return Asked(
            Mode.CONTINUED if goes_on else Mode.FRESH,
            None if goes_on else request.fallback if request.told else fresh,
            new_seed(request.sampling),
            spoken,
            self.checked_shape(request),
            request.stop,
            "" if choice in ("auto", "none") else choice,
            wish.parallel is False,
            request.logprobs,
        )

    def chat_question(
        self,
        request: Request,
        prompt: ServerPrompt,
        headers: Mapping[str, str],
        *,
        again: bool = False,
    ) -> Question:
        """A chat whose messages are given. Answered again, its answer is plain text."""
        wish = prompt.wish
        if again and wish.tools:
            raise InvalidInput(
                "the last answer may call tools, and this server shows nothing of how it spells a call: "
                "call chat() with its messages again"
            )
        asked = self.asked(request, Kept(again=again), spoken=not (wish.shaped or again))
        body = self._chat_body(request, prompt.messages, asked.seed) | tool_fields(wish)
        if not wish.reasoning:
            body["reasoning_effort"] = "none"
        return self._chat(request, body, asked, prompt.messages, headers, Kept())

    def turn_question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """A user's turn."""
        said = self.said(request, kept)
        asked = self.asked(request, kept)
        body = self._chat_body(request, said, asked.seed)
        return self._chat(request, body, asked, said, headers, kept)

    def said(self, request: Request, kept: Kept) -> tuple[Message, ...]:
        """The messages up to this turn's."""
        before = kept.messages
        if not before and request.system is not None:
            before = (Message(role="system", content=request.system),)
        return (*before, Message(role="user", content=str(request.prompt)))

    def _chat_body(
        self, request: Request, messages: Sequence[Message], seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": as_messages(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.stop:
            body["stop"] = list(request.stop)
        body |= self.settings(request, seed, self.limit) | self.shaped(request)
        return body | self.probabilities(request)

    def _chat(
        self,
        request: Request,
        body: Mapping[str, Any],
        asked: Asked,
        said: tuple[Message, ...],
        headers: Mapping[str, str],
        before: Kept,
    ) -> Question:
        commit = self.committing(request, before, said, lambda _: "")
        return Question("/v1/chat/completions", body, ChatReply(asked), headers, commit)

    def committing(
        self,
        request: Request,
        before: Kept,
        said: tuple[Message, ...],
        id_of: Callable[[bool], str],
    ) -> Callable[[Generation | None, int | None], None]:
        """Makes an answer a part of its conversation.

        Args:
            request: what was asked.
            before: the conversation before this turn.
            said: the messages before the answer.
            id_of: what the server calls the answer, if it is whole.
        """

        def commit(generation: Generation | None, cut_at: int | None) -> None:
            if generation is None or (cut_at is not None and not generation.text):
                return
            if request.reads is not None:
                cut = generation.finish_reason != "stop"
                answer = Message(request.reads(generation.text, cut))
            else:
                answer = Message(role="assistant", content=generation.text)
            after = before.then(request, (*said, answer), response=id_of(cut_at is None))
            self.keep(request.session, after)

        return commit

    # raw text

    def raw_question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """Raw text, which may go on from other raw text."""
        if kept.messages:
            raise InvalidInput(
                "the conversation is a chat so far, and this server takes raw text apart from that: leave out "
                "chat=False, or start afresh"
            )
        prompt = Prompt.of(request.prompt or "")
        if any(piece.control for piece in prompt.pieces):
            raise InvalidInput(
                "prompt has control tokens, which this server takes from nobody: give text, or messages to chat()"
            )
        text = kept.raw + str(prompt)
        asked = self.asked(request, kept)
        body: dict[str, Any] = {
            "model": self.name,
            "prompt": text,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.stop:
            body["stop"] = list(request.stop)
        body |= self.settings(request, asked.seed, "max_tokens") | self.shaped(request)
        if request.logprobs is not None:
            body["logprobs"] = request.logprobs

        def commit(generation: Generation | None, cut_at: int | None) -> None:
            if generation is None or (cut_at is not None and not generation.text):
                return
            self.keep(request.session, kept.then(request, raw=text + generation.text))

        return Question("/v1/completions", body, CompletionReply(asked), headers, commit)

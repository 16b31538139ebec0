"""What the runtimes for servers with OpenAI's interface share: chats, raw texts, embeddings."""

from __future__ import annotations

import array
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

from llama_bridge.capabilities import Capability
from llama_bridge.chat.form import ChatPrompt, ChatWish, PlainReader, ToolForm
from llama_bridge.chat.message import Message
from llama_bridge.errors import (
    BridgeError,
    Cancelled,
    EngineError,
    InvalidInput,
    UnsupportedCapability,
)
from llama_bridge.generation import Fallback, Generation, Mode
from llama_bridge.progress import OnProgress, Progress
from llama_bridge.prompt import Prompt
from llama_bridge.request import Request
from llama_bridge.vectors import Vectors

from ..answer import Question
from ..client import Line, NotJson, Refused
from ..remote_runtime import Kept, RemoteRuntime, new_seed
from .fields import as_messages, tool_fields
from .replies import Asked, ChatReply, CompletionReply
from .shape import Shape
from .spoken import ServerPrompt, SpokenReader

__all__ = ["OpenAIRuntime"]

_AT_ONCE = 64
"""Texts of one request for vectors."""


class OpenAIRuntime(RemoteRuntime):
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
            return self.chat_question(request, request.prompt, headers)
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
        goes_on = request.continues and kept.begun
        fresh = Fallback.NO_SESSION if request.continues else request.fallback
        return Asked(
            Mode.CONTINUED if goes_on else Mode.FRESH,
            None if goes_on or request.told else fresh,
            new_seed(request.sampling),
            spoken,
            self.checked_shape(request),
        )

    def chat_question(
        self, request: Request, prompt: ServerPrompt, headers: Mapping[str, str]
    ) -> Question:
        """A chat whose messages are given."""
        wish = prompt.wish
        asked = self.asked(request, Kept(), spoken=not wish.shaped)
        body = self._chat_body(request, prompt.messages, asked.seed) | tool_fields(wish)
        if not wish.reasoning:
            body["reasoning_effort"] = "none"
        return self._chat(request, body, asked, prompt.messages, headers)

    def turn_question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """A user's turn."""
        said = self.said(request, kept)
        asked = self.asked(request, kept)
        return self._chat(request, self._chat_body(request, said, asked.seed), asked, said, headers)

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
        return body | self.settings(request, seed, self.limit) | self.shaped(request)

    def _chat(
        self,
        request: Request,
        body: Mapping[str, Any],
        asked: Asked,
        said: tuple[Message, ...],
        headers: Mapping[str, str],
    ) -> Question:
        commit = self.committing(request, said, lambda _: "")
        return Question("/v1/chat/completions", body, ChatReply(asked), headers, commit)

    def committing(
        self, request: Request, said: tuple[Message, ...], id_of: Callable[[bool], str]
    ) -> Callable[[Generation | None, int | None], None]:
        """Makes an answer a part of its conversation.

        Args:
            request: what was asked.
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
            self.keep(
                request.session,
                Kept(
                    messages=(*said, answer),
                    response=id_of(cut_at is None),
                    sampling=request.sampling,
                ),
            )

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

        def commit(generation: Generation | None, cut_at: int | None) -> None:
            if generation is None or (cut_at is not None and not generation.text):
                return
            raw = Kept(raw=text + generation.text, sampling=request.sampling)
            self.keep(request.session, raw)

        return Question("/v1/completions", body, CompletionReply(asked), headers, commit)

    # vectors

    def embed(
        self, texts: Sequence[str], *, truncate: bool, on_progress: OnProgress | None
    ) -> Vectors:
        """See :meth:`Runtime.embed`. The server may have scaled the vectors to the length 1."""
        if Capability.EMBEDDINGS not in self.capabilities:
            raise UnsupportedCapability(Capability.EMBEDDINGS, self.backend)
        self._check_no_cut(truncate)
        data, size = bytearray(), 0

        def ask(part: Sequence[str]) -> None:
            nonlocal size
            body = {"model": self.name, "input": list(part), "encoding_format": "float"}
            for vector in _vectors(self.posted("/v1/embeddings", body), len(part)):
                size = size or len(vector)
                if len(vector) != size or not size:
                    raise EngineError("the server's vectors are not of one length")
                data.extend(vector.tobytes())

        self.in_parts(texts, ask, on_progress)
        if not size:
            raise InvalidInput("text is empty: give at least one")
        return Vectors(data, size)

    def _check_no_cut(self, truncate: bool) -> None:
        if truncate:
            raise InvalidInput("truncate=True: this server cuts nothing: cut the texts yourself")

    def in_parts(
        self,
        texts: Sequence[str],
        ask: Callable[[Sequence[str]], None],
        on_progress: OnProgress | None,
    ) -> None:
        """Ask for some texts at a time, and tell how many are done."""
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            try:
                ask(part)
            except BridgeError as error:
                named = getattr(error, "text", "")
                if start and isinstance(named, str) and named.startswith("text["):
                    raise EngineError(f"of the texts from text[{start}] on: {error}") from error
                raise
            if on_progress is not None:
                on_progress(Progress("embed", start + len(part), len(texts), "texts"))

    def posted(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server answers; :meth:`cancel` ends the wait.

        Raises:
            Cancelled, BridgeError.
        """
        self._check_open()
        line = Line()
        with self.under_way(line):
            try:
                return self.client.post(path, body, line)
            except Refused as refused:
                raise self.client.error_of(refused.refusal, self.name) from refused
            except EngineError as error:
                self._check_open()
                if line.given_up.is_set():
                    raise Cancelled("cancelled before all was computed") from error
                raise


def _vectors(answer: Any, n: int) -> list[array.array[float]]:
    found: dict[int, array.array[float]] = {}
    with suppress(TypeError, ValueError, KeyError, AttributeError):
        for i, one in enumerate(cast("Sequence[dict[str, Any]]", answer["data"])):
            found[int(one.get("index", i))] = array.array("f", one["embedding"])
    if sorted(found) != list(range(n)):
        raise NotJson("the server's answer to /v1/embeddings has not one vector for each text")
    return [found[i] for i in range(n)]

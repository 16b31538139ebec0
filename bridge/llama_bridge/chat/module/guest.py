"""One chat template in chat.wasm: messages in, a prompt out; an answer in, its parts out. Thread-safe."""

from __future__ import annotations

import calendar
import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import BridgeError, EngineError, TemplateError
from .host import Host, InstanceLost, new_host

__all__ = ["ChatGuest", "Parsed", "ParsedCall", "Reader", "Rendered"]

_SECONDS = 0.5
"""For a call, and more for long conversations. Real templates take milliseconds."""
_BYTES_PER_SECOND = 2 << 20
_MOST_MEMORY = 64 << 20
"""An instance that has grown further is thrown away after the call: memory never shrinks."""
_LONGEST_ERROR = 500
_RAISED = "Jinja Exception: "
_WAY_OUT = "choose another model, or pass chat=False for raw text"
_BOUNDS = "the chat template needs more time or memory than any should"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template makes of messages.

    Attributes:
        prompt: the text for the model.
        generation_prompt: its end, which begins the answer.
        grammar: a GBNF grammar that the answer follows, or empty.
        grammar_lazy: whether the grammar begins only at a trigger.
        triggers: pairs of a kind (``"word"``, ``"token"``, ``"pattern"``, ``"pattern_full"``) and a value.
        stops: texts that end the answer, in addition to the model's tokens.
        tokens: texts that are one token each where the model has them so, and matter to the reader.
        thinking: what begins and what ends the model's reasoning; empty if the template knows no reasoning.
        format: the name of the answer's form.
        reader: reads an answer to this prompt.
    """

    prompt: str
    generation_prompt: str
    grammar: str
    grammar_lazy: bool
    triggers: tuple[tuple[str, str], ...]
    stops: tuple[str, ...]
    tokens: tuple[str, ...]
    thinking: tuple[str, ...]
    format: str
    reader: Reader


@dataclass(slots=True)
class ParsedCall:
    """A tool call as far as it was read; its arguments are JSON text, possibly cut."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Parsed:
    """An answer as far as it was read."""

    content: str = ""
    reasoning: str = ""
    calls: list[ParsedCall] = field(default_factory=list[ParsedCall])


class ChatGuest:
    """A template in an instance of chat.wasm. A call that traps costs the instance; the next one makes a new one.

    Args:
        source: the template, in Jinja.
        bos, eos: the tokens that it may name.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        opened = {"template": source, "bos_token": bos, "eos_token": eos}
        self._template = _encoded(opened)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._host: Host | None = None
        self._caps: dict[str, bool] = {}
        self.serial = 0
        """Of the instance: parsers are known to one instance only."""

    @property
    def caps(self) -> Mapping[str, bool]:
        """What llama.cpp found out about the template: ``supports_tools`` and others.

        Raises:
            TemplateError: it cannot be parsed.
        """
        with self._mine():
            self._opened()
            return self._caps

    def prompt(self, request: Mapping[str, Any]) -> str:
        """Render messages, without a reader for the answer.

        Args:
            request: as ``lb_chat_render`` takes it.

        Raises:
            TemplateError: the template is broken, takes too long, or refuses these messages.
        """
        return str(self._render({**request, "parse": False})["prompt"])

    def render(self, request: Mapping[str, Any]) -> Rendered:
        """Render messages for an answer that will be read.

        Raises:
            TemplateError: as above.
        """
        given = {**request, "now": _now(), "parse": True}
        with self._mine():
            made = self._render_here(given)
            reader = Reader(self, given, self.serial, int(made["parser"]))
        return Rendered(
            prompt=made["prompt"],
            generation_prompt=made["generation_prompt"],
            grammar=made["grammar"],
            grammar_lazy=made["grammar_lazy"],
            triggers=tuple((each["kind"], each["value"]) for each in made["triggers"]),
            stops=tuple(made["stops"]),
            tokens=tuple(made["tokens"]),
            thinking=tuple(made["thinking"]),
            format=made["format"],
            reader=reader,
        )

    # inside

    def _mine(self) -> threading.Lock:
        """The lock. In a fork the parent's may be held for ever, and its instance is left alone."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
            self._left_behind, self._host = self._host, None
        return self._lock

    def _render(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._mine():
            return self._render_here({**request, "now": _now()})

    def _render_here(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("lb_chat_render", _encoded(request))

    def _opened(self) -> Host:
        """An instance with the template in it."""
        if self._host is not None:
            return self._host
        self.serial += 1
        host = new_host()
        try:
            answer = self._ask(host, "lb_chat_open", self._template)
        except BaseException:
            host.close()
            raise
        self._caps = dict(answer["caps"])
        self._host = host
        return host

    def _call(self, name: str, argument: bytes) -> dict[str, Any]:
        host = self._opened()
        try:
            return self._ask(host, name, argument)
        except EngineError:
            self._drop()
            raise
        finally:
            if self._host is host and host.memory_size > _MOST_MEMORY:
                self._drop()

    def _drop(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close()

    def _ask(self, host: Host, name: str, argument: bytes) -> dict[str, Any]:
        seconds = _SECONDS + len(argument) / _BYTES_PER_SECOND
        try:
            data = host.call(name, argument, seconds)
        except InstanceLost as error:
            if self._host is host:
                self._drop()
            raise _lost(str(error), name) from error
        try:
            answer: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise EngineError(
                f"chat.wasm answered with something else than JSON: {error}"
            ) from error
        if "error" in answer:
            raise _refused(str(answer.get("kind")), str(answer["error"]))
        return answer

    def _read(self, reader: Reader, text: str, partial: bool) -> dict[str, Any]:
        with self._mine():
            self._opened()
            if reader.serial != self.serial:  # the instance that knew the parser is gone
                made = self._render_here(reader.request)
                reader.serial, reader.parser = self.serial, int(made["parser"])
                text = reader.text + text
                reader.parsed = Parsed()
            asked = {"parser": reader.parser, "text": text, "partial": partial}
            return self._call("lb_chat_parse", _encoded(asked))

    def _forget(self, reader: Reader) -> None:
        with self._mine():
            if self._host is not None and reader.serial == self.serial:
                try:
                    self._host.release(reader.parser)
                except InstanceLost:
                    self._drop()


class _Unreadable(TemplateError):
    """Reading the answer ended the instance: so would reading more of it."""


class Reader:
    """Reads one answer as it comes.

    Attributes:
        text: what was read.
        parsed: what it says so far.
    """

    def __init__(
        self, guest: ChatGuest, request: Mapping[str, Any], serial: int, parser: int
    ) -> None:
        self.request = request
        self.serial = serial
        self.parser = parser
        self.text = ""
        self.parsed = Parsed()
        self._unreadable: _Unreadable | None = None
        self._guest = guest

    def read(self, text: str, *, partial: bool) -> Parsed:
        """Read on.

        Args:
            text: what comes next.
            partial: whether more may come.

        Raises:
            TemplateError: the answer is not in the form that the template asks for.
        """
        try:
            if self._unreadable is not None:
                raise self._unreadable
            answer = self._guest._read(self, text, partial)  # pyright: ignore[reportPrivateUsage]
        except _Unreadable as error:
            self._unreadable = error
            raise
        finally:
            self.text += text  # whatever came of it: what follows may make sense of it
        old = self.parsed
        calls = [
            ParsedCall(
                each["id"],
                each["name"],
                _changed(old.calls[i].arguments if i < len(old.calls) else "", each["arguments"]),
            )
            for i, each in enumerate(answer["calls"])
        ]
        self.parsed = Parsed(
            _changed(old.content, answer["content"]),
            _changed(old.reasoning, answer["reasoning"]),
            calls,
        )
        return self.parsed

    def anew(self) -> Reader:
        """A reader of another answer to the same prompt."""
        return Reader(self._guest, self.request, 0, 0)

    def close(self) -> None:
        """Forget the parser."""
        self._guest._forget(self)  # pyright: ignore[reportPrivateUsage]


def _encoded(argument: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(argument, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # half of a character
        raise TemplateError(f"the chat template or the messages are no Unicode: {error}") from error


def _changed(before: str, change: Sequence[Any]) -> str:
    adds, text = change
    return before + text if adds else str(text)


def _now() -> int:
    """Seconds as a clock on the wall shows them: the guest knows no zone."""
    return calendar.timegm(time.localtime())


def _lost(why: str, name: str) -> BridgeError:
    if name == "lb_chat_parse":
        return _Unreadable(f"the answer needs more time or memory to read than any should: {why}")
    return TemplateError(f"{_BOUNDS}: {why}; {_WAY_OUT}")


def _refused(kind: str, why: str) -> BridgeError:
    if kind == "bounds":
        return TemplateError(f"{_BOUNDS}; {_WAY_OUT}")
    if kind == "argument":
        return EngineError(f"chat.wasm does not accept its argument: {why}")
    if _RAISED in why:
        said = why.rpartition(_RAISED)[2].strip()
        return TemplateError(f"the chat template refused the messages: {said[:_LONGEST_ERROR]}")
    plain = re.sub(r"\s+", " ", why.rpartition("Error: ")[2]).strip()
    return TemplateError(f"the model's chat template failed: {plain[:_LONGEST_ERROR]}; {_WAY_OUT}")

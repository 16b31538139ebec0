"""What a chat remembers: the backend's sessions where it has them, otherwise the messages."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..chat.message import Message, check_messages
from ..checks import check_count, check_name, check_path, shown
from ..errors import InvalidInput, NoSession, PathLike, SessionCorrupt
from ..files.format import read_session_head
from ..files.manifest import read_conversation
from ..files.replacing import replace_file
from ..generation import Generation
from ..json_text import read_json
from ..prompt import Prompt
from ..session import Session
from .streaming import Texts, TextsAndThoughts
from .terminal import count, size

__all__ = ["MAIN", "Remembered", "remembered"]

MAIN = "main"
"""The name of the first conversation."""

_MOST = 64 << 20
"""Bytes of a file of messages. A context of a million tokens has some 4 MB of text."""


def remembered(llama: LlamaBridge) -> Remembered:
    """What fits this backend."""
    sessions = Capability.KV_CONTINUATION in llama.capabilities
    return _InSessions(llama) if sessions else _AsMessages(llama)


class Remembered(ABC):
    """The conversations of a chat, one of which is the current one.

    Attributes:
        able: what the commands of a chat can rely on.
        system_waits: whether a new system message is only used by the next conversation.
    """

    able: Capability
    system_waits: bool

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the current conversation."""

    @property
    @abstractmethod
    def messages(self) -> Sequence[Message]:
        """What was said in it, without the system message."""

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Its tokens."""

    @abstractmethod
    def ask(self, text: str) -> Texts:
        """Answer a message."""

    @abstractmethod
    def ask_again(self) -> Texts:
        """Answer the last message again, in place of the answer."""

    @abstractmethod
    def answered(self, answer: Generation) -> None:
        """Take note of a whole answer; one that failed is never heard of."""

    @abstractmethod
    def undo(self, turns: int) -> None:
        """Forget the last turns."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was said."""

    @abstractmethod
    def fork(self, name: str | None) -> None:
        """Go on in a copy."""

    @abstractmethod
    def names(self) -> dict[str, int]:
        """How many messages each conversation has."""

    @abstractmethod
    def switch(self, name: str) -> None:
        """Go on with another one of :meth:`names`."""

    @abstractmethod
    def save(self, path: PathLike) -> str:
        """Write the conversation to a file; what was written, for people."""

    @abstractmethod
    def load(self, path: PathLike) -> str:
        """Go on with a saved conversation; what was read, for people."""


class _InSessions(Remembered):
    """Sessions of the backend, which keeps their KV caches."""

    system_waits = True

    def __init__(self, llama: LlamaBridge) -> None:
        self._llama = llama
        self._session = llama.session()
        self.able = llama.capabilities

    @property
    def name(self) -> str:
        return self._session.name or MAIN

    @property
    def messages(self) -> Sequence[Message]:
        return self._session.messages

    @property
    def n_tokens(self) -> int:
        return len(self._session.tokens)

    def ask(self, text: str) -> Texts:
        return self._session.generate_continue_stream(text)

    def ask_again(self) -> Texts:
        return self._session.regenerate_stream()

    def answered(self, answer: Generation) -> None:
        pass

    def undo(self, turns: int) -> None:
        self._session.rewind(turns)

    def reset(self) -> None:
        self._session.reset()

    def fork(self, name: str | None) -> None:
        self._session = self._session.fork(name)

    def names(self) -> dict[str, int]:
        names = [MAIN, *self._llama.sessions()]
        return {name: len(self._named(name).messages) for name in names}

    def switch(self, name: str) -> None:
        self._session = self._named(name)

    def _named(self, name: str) -> Session:
        return self._llama.session(None if name == MAIN else name)

    def save(self, path: PathLike) -> str:
        info = self._session.save(path)
        return f"{count(info.n_tokens, 'token')}, {size(info.n_bytes)}"

    def load(self, path: PathLike) -> str:
        info = self._session.load(path)
        return f"{count(info.n_tokens, 'token')}, {count(len(info.messages), 'message')}"


class _AsMessages(Remembered):
    """Lists of messages, read anew for each answer. What they have in common with the KV cache is not evaluated again."""

    system_waits = False

    def __init__(self, llama: LlamaBridge) -> None:
        self._llama = llama
        self.able = llama.capabilities | Capability.SESSION_TOOLS | Capability.SESSION_PERSISTENCE
        self._name = MAIN
        self._said: dict[str, list[Message]] = {MAIN: []}
        self._asked: list[Message] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def messages(self) -> Sequence[Message]:
        return self._said[self._name]

    @property
    def n_tokens(self) -> int:
        if not self.messages:
            return 0
        whole: str | Prompt = _text_of(self.messages)
        if self._is_chat:
            whole = self._llama.apply_chat_template(
                [*self._system(), *self.messages], add_generation_prompt=False
            )
        return len(self._llama.tokenize(whole))

    def ask(self, text: str) -> Texts:
        return self._answer([*self.messages, Message(role="user", content=text)])

    def ask_again(self) -> Texts:
        if not self.messages:
            raise InvalidInput("there is nothing to answer again yet")
        return self._answer(self._said[self._name][:-1])

    def _answer(self, messages: list[Message]) -> Texts:
        self._asked = messages
        if self._is_chat:
            return TextsAndThoughts(self._llama.chat_stream([*self._system(), *messages]))
        return self._llama.generate_stream(_text_of(messages))

    @property
    def _is_chat(self) -> bool:
        return Capability.CHAT_TEMPLATE in self._llama.capabilities

    def _system(self) -> list[Message]:
        system = self._llama.system
        return [] if system is None else [Message(role="system", content=system)]

    def answered(self, answer: Generation) -> None:
        if answer.text or answer.reasoning or answer.finish_reason != "cancelled":
            self._said[self._name] = [*self._asked, Message(answer.message)]

    def undo(self, turns: int) -> None:
        there = len(self.messages) // 2
        if check_count("turns", turns, least=1) > there:
            raise InvalidInput(f"turns={shown(turns)}: there are only {there} to undo")
        del self._said[self._name][-2 * turns :]

    def reset(self) -> None:
        self._said[self._name] = []
        self._llama.session_reset()  # the KV cache forgets it too

    def fork(self, name: str | None) -> None:
        if name is None:
            name = next(
                each for i in itertools.count(1) if (each := f"{self._name}-{i}") not in self._said
            )
        elif check_name(name) in self._said:
            raise InvalidInput(f"there is already a conversation {name}: give another name")
        self._said[name] = list(self.messages)
        self._name = name

    def names(self) -> dict[str, int]:
        return {name: len(messages) for name, messages in self._said.items()}

    def switch(self, name: str) -> None:
        self._name = name

    def save(self, path: PathLike) -> str:
        if not self.messages:
            raise NoSession("there is no conversation to save: say something first")
        whole = [*self._system(), *self.messages]
        text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
        n_bytes = replace_file(path, lambda file: file.write(text.encode()))
        return f"{count(len(self.messages), 'message')}, {size(n_bytes)} of JSON"

    def load(self, path: PathLike) -> str:
        try:
            messages = list(read_conversation(path, read_session_head(path)).messages)
        except SessionCorrupt as error:
            if error.found != "json":
                raise
            messages = _read(path)
        system = messages.pop(0)["content"] if messages[:1] and _is_system(messages[0]) else None
        roles = [message["role"] for message in messages]
        if roles != ["user", "assistant"] * (len(roles) // 2):
            raise SessionCorrupt(path, "its messages are not questions and answers in turn")
        if system is not None:
            self._llama.system = system
        self._said[self._name] = messages
        return count(len(messages), "message")


def _text_of(messages: Sequence[Message]) -> str:
    """What a model without a chat template continues."""
    return "".join(message["content"] for message in messages)


def _is_system(message: Message) -> bool:
    return bool(message["role"] == "system")


def _read(path: PathLike) -> list[Message]:
    """The messages in a JSON file.

    Raises:
        SessionCorrupt: there is something else in it.
    """
    try:
        with open(check_path("path", path), encoding="utf-8") as file:
            text = file.read(_MOST + 1)
        if len(text) > _MOST:
            raise ValueError(f"it is longer than {size(_MOST)}")
        return check_messages(read_json(text))
    except (OSError, ValueError) as error:
        raise SessionCorrupt(path, f"this JSON file holds no conversation: {error}") from error

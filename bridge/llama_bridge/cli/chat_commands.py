"""The commands of a chat: what begins with a slash."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from ..capabilities import Capability, capability_names
from ..params import SamplingParams, SamplingSettings, override
from .remembered import MAIN
from .streaming import cost
from .talk import Talk
from .terminal import count, size

__all__ = ["COMMANDS", "obey", "offers"]

_NOTHING = Capability(0)
_FILE = "FILE"
_SETTINGS = tuple(asdict(SamplingParams()))
_WORDS = {"none": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the chat.

    Attributes:
        call: carries it out, with the text after its name.
        argument: what the help calls that text, in brackets if it is optional.
        what: what the command does, briefly.
        needs: what the backend must be able to do.
    """

    call: Callable[[Talk, str], None]
    argument: str
    what: str
    needs: Capability = _NOTHING


def obey(talk: Talk, text: str) -> bool:
    """Carry out a command. False to leave.

    Raises:
        BridgeError: it cannot be carried out.
    """
    name, rest = [*text.split(None, 1), ""][:2]
    if name in ("/quit", "/exit"):
        return False
    command = COMMANDS.get(name)
    if command is None:
        talk.fail(f"no command {name}: /help lists them, //text sends /text to the model")
    elif command.argument in (_FILE, "TEXT") and not rest:
        talk.fail(f"give a {command.argument.lower()}: {name} {command.argument}")
    else:
        if command.needs not in talk.past.able:
            talk.llama.requires(command.needs)
        command.call(talk, rest)
    return True


def offers(talk: Talk, name: str) -> Sequence[str] | None:
    """Words that may follow a command; None for a path."""
    command = COMMANDS.get(name)
    if command is not None and command.argument == _FILE:
        return None
    if name == "/set":
        return _SETTINGS
    if name == "/switch":
        return list(talk.past.names())
    return ()


def _save(talk: Talk, path: str) -> None:
    path = _unquoted(path)
    question = f"{os.path.basename(path)} exists: overwrite?"
    if os.path.isfile(os.path.expanduser(path)) and not talk.confirm(question):
        talk.terminal.line(f"not saved; /save! {path} overwrites it without asking")
        return
    _save_anyway(talk, path)


def _save_anyway(talk: Talk, path: str) -> None:
    path = _unquoted(path)
    talk.terminal.line(f"saved {path}: {talk.past.save(path)}")


def _load(talk: Talk, path: str) -> None:
    path = _unquoted(path)
    talk.terminal.line(f"loaded {path}: {talk.past.load(path)}")
    _recall(talk)


def _recall(talk: Talk) -> None:
    """Show a person the end of the conversation."""
    if talk.terminal.interactive:
        for message in talk.past.messages[-2:]:
            talk.terminal.line(f"{message['role']}: {message['content']}", "dim")


def _regenerate(talk: Talk, _: str) -> None:
    talk.answer(talk.past.ask_again)


def _undo(talk: Talk, turns: str) -> None:
    n = _value(turns or "1")
    talk.past.undo(n)
    left = count(len(talk.past.messages), "message")
    talk.terminal.line(f"undid {count(n, 'turn')}; {left} left")
    _recall(talk)


def _reset(talk: Talk, _: str) -> None:
    talk.past.reset()
    talk.terminal.line("forgotten; the next question starts a new conversation")


def _fork(talk: Talk, name: str) -> None:
    before = talk.past.name
    if name == MAIN:
        talk.fail(f"there is already a conversation {MAIN}: give another name")
        return
    talk.past.fork(name or None)
    talk.terminal.line(f"this is {talk.past.name}, a copy of {before}; /switch {before} goes back")


def _switch(talk: Talk, name: str) -> None:
    conversations = talk.past.names()
    if not name:
        talk.terminal.rows(
            {
                ("* " if each == talk.past.name else "  ") + each: count(n, "message")
                for each, n in conversations.items()
            }
        )
    elif name not in conversations:
        talk.fail(f"no conversation {name}; choose from: {', '.join(conversations)}")
    else:
        talk.past.switch(name)
        talk.terminal.line(f"this is {name}: {count(conversations[name], 'message')}")
        _recall(talk)


def _system(talk: Talk, text: str) -> None:
    talk.llama.system = None if text == "-" else text
    waits = talk.past.system_waits and talk.past.n_tokens > 0
    when = "from the next conversation on: /reset starts one" if waits else "from now on"
    talk.terminal.line(f"{'no system message' if text == '-' else 'set'}, {when}")


def _set(talk: Talk, text: str) -> None:
    name, _, value = text.replace("=", " ", 1).partition(" ")
    name = name.replace("-", "_")
    if name and value.strip():
        settings = cast(SamplingSettings, {name: _value(value.strip())})
        talk.llama.sampling = override(talk.llama.sampling, settings)
    elif name and name not in _SETTINGS:
        override(talk.llama.sampling, cast(SamplingSettings, {name: None}))  # says which there are
    now = asdict(talk.llama.sampling)
    chosen = {name: now[name]} if name else now
    talk.terminal.rows({each: str(value).lower() for each, value in chosen.items()})


def _value(text: str) -> Any:
    """A number, None, or true or false, from typed text; anything else is left for the receiver to refuse."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _stats(talk: Talk, _: str) -> None:
    llama, past = talk.llama, talk.past
    rows = {
        "model": llama.where or f"{llama.model.name} ({size(llama.model.header.file_size)})",
        "backend": llama.backend,
        "can": ", ".join(capability_names(llama.capabilities)),
        "conversation": f"{past.name}: {count(len(past.messages), 'message')}",
    }
    if Capability.TOKENS in llama.capabilities:
        rows["backend"] += f" ({llama.info.version})"
        rows["context"] = f"{past.n_tokens:,} of {llama.info.n_ctx:,} tokens used"
    if llama.system is not None:
        rows["system"] = llama.system
    if talk.last is not None:
        rows["last answer"] = cost(talk.last.usage)
    talk.terminal.rows(rows)


def _help(talk: Talk, _: str) -> None:
    able, backend = talk.past.able, talk.llama.backend
    rows = {
        f"{name} {command.argument}".strip(): command.what
        + ("" if command.needs in able else f" (not with {backend})")
        for name, command in COMMANDS.items()
    }
    rows["/quit"] = "leave; so does Ctrl-D"
    rows["//text"] = "send /text to the model"
    if talk.terminal.interactive:
        rows["Alt-Enter"] = "start a new line; so does Enter after a backslash"
        rows["Ctrl-C"] = "stop the answer, keep the conversation; at the prompt, clear the line"
    talk.terminal.rows(rows)


COMMANDS = {
    "/save": Command(
        _save, _FILE, "write the conversation to a file", Capability.SESSION_PERSISTENCE
    ),
    "/save!": Command(
        _save_anyway,
        _FILE,
        "the same, but overwrite without asking",
        Capability.SESSION_PERSISTENCE,
    ),
    "/load": Command(_load, _FILE, "continue a saved conversation", Capability.SESSION_PERSISTENCE),
    "/regenerate": Command(
        _regenerate, "", "answer the last question again", Capability.SESSION_TOOLS
    ),
    "/undo": Command(
        _undo, "[N]", "undo the last question and answer, or the last N", Capability.SESSION_TOOLS
    ),
    "/reset": Command(_reset, "", "forget the conversation"),
    "/fork": Command(
        _fork, "[NAME]", "continue in a copy of the conversation", Capability.SESSION_TOOLS
    ),
    "/switch": Command(
        _switch, "[NAME]", "switch to another conversation, or list them", Capability.SESSION_TOOLS
    ),
    "/system": Command(
        _system, "TEXT", "set the system message; - removes it", Capability.CHAT_TEMPLATE
    ),
    "/set": Command(_set, "[NAME VALUE]", "set how answers are drawn, or show it"),
    "/stats": Command(_stats, "", "model, context and the cost of the last answer"),
    "/help": Command(_help, "", "this list"),
}


def _unquoted(path: str) -> str:
    """A path as typed, without quotes around it: people paste them with paths that have spaces."""
    if path[:1] in ("'", '"'):
        with contextlib.suppress(ValueError):
            return " ".join(shlex.split(path))
    return path

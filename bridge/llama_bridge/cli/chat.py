"""``llama-bridge chat``: a conversation at the terminal, or line by line through a pipe."""

from __future__ import annotations

import functools
import sys
from typing import Any, Protocol

import click

from ..errors import BridgeError
from ..models.source import DEMO
from .chat_commands import COMMANDS, obey, offers
from .failures import describe
from .logs import verbose
from .options import BEST, adapter_option, load, loading_options, sampling_options, untrusted_option
from .remembered import MAIN
from .talk import Talk
from .terminal import Terminal

__all__ = ["chat"]

_INTERRUPTED = 130


@click.command
@click.argument("model", default=DEMO)
@click.option("--system", metavar="TEXT", help="System message at the start of the conversation.")
@click.option("--history/--no-history", default=True, help="Keep what you type for later chats.")
@loading_options(BEST)
@untrusted_option
@adapter_option
@sampling_options
@verbose
@click.pass_context
def chat(
    context: click.Context,
    /,
    model: str,
    system: str | None,
    history: bool,
    **options: Any,
) -> None:
    """Talk to MODEL, a GGUF file or hf:org/repo, or to the demo model.

    /help lists the commands. Enter sends; Alt-Enter, or Enter after a backslash, starts a new line. Ctrl-C stops an
    answer and keeps the conversation; at the prompt it clears the line, and Ctrl-D leaves. In a pipe each line is a
    turn, and the exit status is 1 if one of them failed.
    """
    terminal: Terminal = context.obj
    with load(terminal, model, system=system, speculate=True, **options) as llama:
        source: _Source = _Pipe()
        talk = Talk(llama, terminal, source.confirm)
        if terminal.interactive:
            source = _line_editor(talk, history=history)
            talk.confirm = source.confirm
        talk.greet()
        while (text := source.read(_prompt(talk))) is not None:
            if not _take(talk, text):
                break
            if talk.interrupted and not terminal.interactive:
                sys.exit(_INTERRUPTED)
    sys.exit(1 if talk.failed and not terminal.interactive else 0)


class _Source(Protocol):
    """Where messages come from."""

    def read(self, prompt: str) -> str | None:
        """A message or command; None at the end."""
        ...

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question."""
        ...


class _Pipe:
    """Lines from standard input, where there is nobody to ask."""

    def read(self, prompt: str) -> str | None:
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None

    def confirm(self, question: str) -> bool:
        return True


def _line_editor(talk: Talk, *, history: bool) -> _Source:
    # 75 ms with prompt_toolkit: only a person at a terminal needs it
    from .history import history_file
    from .line_editor import LineEditor

    return LineEditor(
        [*COMMANDS, "/quit"],
        functools.partial(offers, talk),
        history_file() if history else None,
        lambda: talk.terminal.note("Ctrl-D leaves, and so does Ctrl-C again", "dim"),
    )


def _prompt(talk: Talk) -> str:
    return "> " if talk.past.name == MAIN else f"{talk.past.name}> "


def _take(talk: Talk, text: str) -> bool:
    """Handle a message or a command. False to leave."""
    if not text.strip():
        return True
    first = text.strip()
    try:
        if first.startswith("//"):
            talk.say(text.replace("//", "/", 1))
        elif first.startswith("/"):
            stays = obey(talk, first)
            if stays and talk.terminal.interactive:
                talk.terminal.line()
            return stays
        else:
            talk.say(text.rstrip("\n"))
    except BridgeError as error:
        talk.fail(describe(error))
        if talk.terminal.interactive:
            talk.terminal.line()
    return True

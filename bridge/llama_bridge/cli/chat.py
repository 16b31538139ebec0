"""``llama-bridge chat``: a conversation at the terminal, or line by line through a pipe."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from ..bridge import LlamaBridge
from ..capabilities import Capability, capability_names
from ..errors import BridgeError
from ..generation import Generation
from ..models.source import DEMO
from .failures import describe
from .logs import verbose
from .options import BEST, load, loading_options, sampling_options
from .streaming import cost, ending, stream_answer
from .terminal import Terminal, count, size

__all__ = ["chat"]

_PROMPT = "> "


@click.command
@click.argument("model", default=DEMO)
@click.option("--system", metavar="TEXT", help="System message at the start of the conversation.")
@loading_options(BEST)
@sampling_options
@verbose
@click.pass_context
def chat(context: click.Context, /, model: str, system: str | None, **options: Any) -> None:
    """Talk to MODEL, a GGUF file; by default to the demo model.

    Ctrl-C stops an answer and keeps the conversation; at the empty prompt, Ctrl-C or Ctrl-D leaves. /help
    lists the commands. In a pipe each line is a turn, and the exit status is 1 if one of them failed.
    """
    terminal: Terminal = context.obj
    with load(terminal, model, system=system, **options) as llama:
        conversation = _Chat(llama, terminal)
        conversation.greet()
        for line in _lines(terminal):
            if not conversation.take(line):
                break
        failed = conversation.failed
    sys.exit(1 if failed and not terminal.interactive else 0)


def _lines(terminal: Terminal) -> Iterator[str]:
    if not terminal.interactive:
        yield from (line.rstrip("\r\n") for line in sys.stdin or ())
        return
    buffer = _line_editor()
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            terminal.write("\n")
            return
        except KeyboardInterrupt:
            terminal.write("\n")
            if not buffer():
                return


def _line_editor() -> Callable[[], str]:
    """Editing and history for input(), where there are; returns what tells the line being typed."""
    try:
        import readline
    except ImportError:  # Windows: its console edits lines by itself
        return lambda: ""
    readline.set_auto_history(True)
    return readline.get_line_buffer


class _Chat:
    """One conversation: lines in, answers and remarks out.

    Attributes:
        failed: whether a turn or command failed.
    """

    def __init__(self, llama: LlamaBridge, terminal: Terminal) -> None:
        self._llama = llama
        self._terminal = terminal
        self._last: Generation | None = None
        self.failed = False
        self._commands: dict[str, tuple[Callable[[str], None], str, str]] = {
            "/save": (self._save, "PATH", "write the conversation to a file"),
            "/load": (self._load, "PATH", "go on with a saved conversation"),
            "/reset": (self._reset, "", "forget the conversation"),
            "/stats": (self._stats, "", "model, context and the cost of the last answer"),
            "/help": (self._help, "", "this list"),
        }

    def greet(self) -> None:
        """Say whom one talks to, and what to know before the first question."""
        llama, note = self._llama, self._terminal.note
        if self._terminal.interactive:
            about = f"{llama.model.name} on {llama.backend}, context {llama.info.n_ctx:,} tokens"
            note(f"{about}. /help lists the commands, Ctrl-D leaves.", "dim")
        if Capability.KV_CONTINUATION not in llama.capabilities:
            note(
                f"The {llama.backend} backend cannot continue a conversation: "
                "each question is answered without the earlier ones."
            )
        if Capability.CHAT_TEMPLATE not in llama.capabilities:
            note("This model has no chat template: it continues your text instead of answering it.")

    def take(self, line: str) -> bool:
        """One line: a command or a turn. False to leave."""
        text = line.strip()
        if not text:
            return True
        try:
            if text.startswith("/") and not text.startswith("//"):
                stays = self._command(*text.partition(" ")[::2])
                if self._terminal.interactive and stays:
                    self._terminal.line()
                return stays
            self._turn(line[line.index("/") + 1 :] if text.startswith("//") else line)
        except BridgeError as error:
            self._fail(describe(error))
        return True

    def _fail(self, message: str) -> None:
        self.failed = True
        self._terminal.error(message)

    def _turn(self, text: str) -> None:
        llama, terminal = self._llama, self._terminal
        try:
            text.encode()
        except UnicodeEncodeError:
            self._fail("that line is not UTF-8 text")
            return

        try:
            self._last = stream_answer(
                llama, terminal, lambda: llama.generate_continue_stream(text)
            )
        finally:
            terminal.write("\n")
        self._status(self._last)

    def _status(self, generation: Generation) -> None:
        why = ending(generation, self._llama.sampling.max_tokens)
        if self._terminal.interactive:
            self._terminal.note((f"[{why}] " if why else "") + cost(generation.usage) + "\n", "dim")
        elif why:
            self._terminal.note(f"note: {why}")

    # commands

    def _command(self, name: str, rest: str) -> bool:
        if name in ("/quit", "/exit"):
            return False
        if name not in self._commands:
            self._fail(f"no command {name}: /help lists them, //text says /text to the model")
            return True
        call, argument, _ = self._commands[name]
        if argument and not rest.strip():
            self._fail(f"give a path: {name} {argument}")
        else:
            call(_unquoted(rest.strip()))
        return True

    def _save(self, path: str) -> None:
        info = self._llama.session_save(path)
        self._terminal.line(f"saved {path}: {count(info.n_tokens, 'token')}, {size(info.n_bytes)}")

    def _load(self, path: str) -> None:
        info = self._llama.session_load(path)
        said = count(len(info.messages), "message")
        self._terminal.line(f"loaded {path}: {count(info.n_tokens, 'token')}, {said}")
        if self._terminal.interactive:
            for message in info.messages[-2:]:
                self._terminal.line(f"{message['role']}: {message['content']}", "dim")

    def _reset(self, _: str) -> None:
        self._llama.session_reset()
        self._terminal.line("forgotten; the next question starts a new conversation")

    def _stats(self, _: str) -> None:
        llama = self._llama
        held = len(llama.session().tokens)
        rows = {
            "model": f"{llama.model.name} ({size(llama.model.header.file_size)})",
            "backend": f"{llama.backend} ({llama.info.version})",
            "can": ", ".join(capability_names(llama.capabilities)),
            "context": f"{held:,} of {llama.info.n_ctx:,} tokens used",
            "conversation": count(len(llama.session().messages), "message"),
        }
        if self._last is not None:
            rows["last answer"] = f"{self._last.mode.value}: {cost(self._last.usage)}"
        self._terminal.rows(rows)

    def _help(self, _: str) -> None:
        rows = {f"{name} {arg}".strip(): what for name, (_, arg, what) in self._commands.items()}
        rows["/quit"] = "leave; so do Ctrl-D and, at the empty prompt, Ctrl-C"
        rows["Ctrl-C"] = "stop the answer, keep the conversation"
        rows["//text"] = "say /text to the model"
        self._terminal.rows(rows)


def _unquoted(path: str) -> str:
    """A path as typed; in quotes, as people paste one with spaces, without them."""
    if path[:1] in ("'", '"'):
        with contextlib.suppress(ValueError):
            return " ".join(shlex.split(path))
    return path

"""The line editor of the chat: multi-line messages, typed or pasted, with history and completion."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from .history import KeptHistory

__all__ = ["LineEditor", "Offers"]

Offers = Callable[[str], Sequence[str] | None]
"""Words that may follow a command; None for a path."""


class LineEditor:
    """Reads what a person types.

    Args:
        commands: commands to complete.
        offers: what may follow a command.
        history: file that keeps what was typed, or None to keep it only during this chat.
        leaving: says how to leave; called after Ctrl-C at the empty prompt.
    """

    def __init__(
        self,
        commands: Sequence[str],
        offers: Offers,
        history: Path | None,
        leaving: Callable[[], None],
    ) -> None:
        self._leaving = leaving
        self._warned = False
        self._output = _output()
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=self._keys(),
            history=InMemoryHistory() if history is None else KeptHistory(history),
            completer=_Completer(commands, offers),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            enable_suspend=True,
            output=self._output,
        )

    def read(self, prompt: str) -> str | None:
        """A message or command; None at the end.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice at the empty prompt.
        """
        self._warned = False
        while True:
            try:
                return self._session.prompt(prompt, prompt_continuation=" " * len(prompt))
            except EOFError:
                return None
            except KeyboardInterrupt:
                if self._warned:
                    raise
                self._warned = True
                self._leaving()

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; anything but yes is a no."""
        asking: PromptSession[str] = PromptSession(output=self._output)
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            return asking.prompt(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        return False

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        here = has_focus(DEFAULT_BUFFER)  # not while the history is searched

        @keys.add("enter", filter=here)
        def send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            document = buffer.document
            if document.is_cursor_at_the_end_of_line and document.char_before_cursor == "\\":
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=here)
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c", filter=here)
        @keys.add("<sigint>", filter=here)
        def clear(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.text:
                self._warned = False
                buffer.save_to_undo_stack()  # Ctrl-_ brings it back
                buffer.document = Document()
            else:
                event.app.exit(exception=KeyboardInterrupt)

        del send, new_line, clear  # the bindings have them
        return keys


def _output() -> Output:
    output = create_output()
    if isinstance(output, Vt100_Output):
        # Only menus need the cursor position, and there are none. The terminal's reply can look like typed text.
        output.enable_cpr = False
    return output


class _Completer(Completer):
    """Completes commands and what follows them."""

    def __init__(self, commands: Sequence[str], offers: Offers) -> None:
        self._commands = commands
        self._offers = offers

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Called on Tab."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, typed = text.partition(" ")
        if not space:
            yield from _words(self._commands, name)
        elif (words := self._offers(name)) is not None:
            yield from _words(words, typed)
        else:
            yield from _paths(typed.lstrip().lstrip("'\""))


def _words(words: Sequence[str], typed: str) -> Iterable[Completion]:
    for word in words:
        if word.startswith(typed):
            yield Completion(word, start_position=-len(typed))


def _paths(typed: str) -> Iterable[Completion]:
    folder, begin = os.path.split(typed)
    with contextlib.suppress(OSError, ValueError), os.scandir(_folder(folder)) as entries:
        found = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
        for name in found:
            if name.startswith(begin) and (begin or not name.startswith(".")):
                yield Completion(name, start_position=-len(begin))


def _folder(typed: str) -> str:
    return os.path.expanduser(typed) or "."

"""Checks of what callers pass, before any work: texts, prompts, stop strings, paths."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, SupportsIndex, TypeVar

from .errors import InvalidInput, PathLike
from .prompt import Piece, Prompt
from .session_name import MAX_FILE_NAME, file_name

__all__ = [
    "NotCopied",
    "check_callback",
    "check_count",
    "check_flag",
    "check_name",
    "check_path",
    "check_pieces",
    "check_prompt",
    "check_stops",
    "check_text",
    "check_texts",
    "full_path",
    "shown",
]

F = TypeVar("F", bound=Callable[..., object])


class NotCopied:
    """Base of classes that own an engine or a lock: a copy would close the original."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise InvalidInput(
            f"a {type(self).__name__} cannot be copied or pickled: create a new one where you need it"
        )


def shown(value: object) -> str:
    """A value as short text for a message, whatever it is."""
    try:
        text = repr(value)
    except Exception as error:  # an integer with thousands of digits, or a caller's class
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_count(name: str, value: int, *, least: int = 0) -> int:
    """Return a whole number of at least ``least``, or raise an InvalidInput that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={shown(value)}: give a whole number of at least {least}")
    return value


def check_callback(name: str, value: F | None) -> F | None:
    """Return a callable or None, or raise an InvalidInput that names it."""
    if value is not None and not callable(value):
        raise InvalidInput(f"{name}={shown(value)}: give a function, or None")
    if inspect.iscoroutinefunction(value):
        raise InvalidInput(
            f"{name}={shown(value)}: nobody awaits it; give a plain function, without async"
        )
    return value


def check_flag(name: str, value: bool) -> bool:
    """Return True or False, or raise an InvalidInput that names it."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}={shown(value)}: give True or False")
    return value


def check_name(name: str) -> str:
    """Return the name of a session, or raise InvalidInput. Any text will do that fits into a file name."""
    if not check_text("name", name):
        raise InvalidInput("name is empty: give one, or None")
    if len(name) > MAX_FILE_NAME or len(file_name(name)) > MAX_FILE_NAME:
        raise InvalidInput(f"name={name[:20]!r}... is too long for a file name: give a shorter one")
    return name


def check_text(name: str, text: object) -> str:
    """Return a string that can be encoded as UTF-8, or raise an InvalidInput that names it."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} contains a lone surrogate, which is not text: {error}"
        ) from error
    return text


def check_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return a list of strings, or raise an InvalidInput that names the wrong one by its index."""
    if not isinstance(texts, Sequence) or isinstance(texts, str | bytes | bytearray | memoryview):
        raise InvalidInput(f"{name}={shown(texts)}: give a list of strings")
    return [check_text(f"{name}[{i}]", text) for i, text in enumerate(texts)]


def check_prompt(prompt: str | Prompt | None, chat: bool) -> str | Prompt:
    """Return a prompt that is not empty, or raise InvalidInput."""
    if not isinstance(prompt, Prompt):
        prompt = check_text("prompt", prompt)
    elif chat:
        raise InvalidInput("the chat template was already applied to prompt: leave out chat=True")
    else:
        check_pieces("prompt", prompt)
    if not str(prompt) or (chat and not str(prompt).strip()):
        raise InvalidInput("prompt is empty: give some text")
    return prompt


def check_pieces(name: str, prompt: Prompt) -> Prompt:
    """Return a prompt whose pieces are valid, or raise an InvalidInput that names it."""
    if not isinstance(prompt.pieces, tuple):
        raise InvalidInput(f"{name}: pieces={shown(prompt.pieces)}: give a tuple of Piece")
    for piece in prompt.pieces:
        if not isinstance(piece, Piece):
            raise InvalidInput(f"{name}: pieces contains {shown(piece)}: give a tuple of Piece")
        check_text(f"{name}: a piece's text", piece.text)
        check_flag(f"{name}: a piece's control", piece.control)
    return prompt


def check_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Return the stop strings as a tuple, or raise InvalidInput if one is empty."""
    if not isinstance(stop, str | Sequence):
        raise InvalidInput(f"stop={shown(stop)}: give a string or a list of strings")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not check_text("stop", text):
            raise InvalidInput(
                "stop contains an empty string, which would end every answer at once"
            )
    return stops


def check_path(name: str, path: PathLike) -> Path:
    """Return a path that the operating system can use, with ``~`` expanded, or raise InvalidInput."""
    try:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(text, str):
            raise TypeError("give a str or pathlib.Path")
        if not text or "\0" in text:
            raise ValueError("it is empty or contains a NUL")
        os.fsencode(text)
        return Path(text).expanduser()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{name}={shown(path)} is not a path: {error}") from error


def full_path(name: str, path: PathLike) -> Path:
    """Like :func:`check_path`, but absolute: it names the same file wherever it is read."""
    checked = check_path(name, path)
    try:
        return Path(os.path.abspath(checked))
    except OSError as error:
        why = "the path is relative, and the current folder is gone"
        raise InvalidInput(f"{name}={shown(path)}: {why}") from error

"""Checks of what callers give, before any work: texts, prompts, stop strings, paths."""

from __future__ import annotations

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
    "full_path",
    "shown",
]

F = TypeVar("F", bound=Callable[..., object])


class NotCopied:
    """Base of what owns an engine or a lock: a copy of it would close the original."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise InvalidInput(
            f"a {type(self).__name__} cannot be copied or pickled: make a new one where it is needed"
        )


def shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    try:
        text = repr(value)
    except Exception as error:  # an integer of thousands of digits, or somebody's own class
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_count(name: str, value: int, *, least: int = 0) -> int:
    """A whole number of at least so much, or InvalidInput that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={shown(value)}: give a whole number of at least {least}")
    return value


def check_callback(name: str, value: F | None) -> F | None:
    """Something that can be called, or None; else InvalidInput that names it."""
    if value is not None and not callable(value):
        raise InvalidInput(f"{name}={shown(value)}: give a function, or None")
    return value


def check_flag(name: str, value: bool) -> bool:
    """True or False, or InvalidInput that names it."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}={shown(value)}: give True or False")
    return value


def check_name(name: str) -> str:
    """The name of a session, or InvalidInput. It may hold anything, as far as a file can be named after it."""
    if not check_text("name", name):
        raise InvalidInput("name is empty: give one, or None")
    if len(name) > MAX_FILE_NAME or len(file_name(name)) > MAX_FILE_NAME:
        raise InvalidInput(f"name={name[:20]!r}... is too long for a file's: give a shorter one")
    return name


def check_text(name: str, text: object) -> str:
    """A string that can be UTF-8, or InvalidInput that names it."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} holds a lone surrogate, which is no text: {error}") from error
    return text


def check_prompt(prompt: str | Prompt | None, chat: bool) -> str | Prompt:
    """A prompt with something in it, or InvalidInput."""
    if not isinstance(prompt, Prompt):
        prompt = check_text("prompt", prompt)
    elif chat:
        raise InvalidInput("prompt has been through a chat template already: leave chat=True out")
    else:
        check_pieces("prompt", prompt)
    if not str(prompt) or (chat and not str(prompt).strip()):
        raise InvalidInput("prompt is empty: give some text")
    return prompt


def check_pieces(name: str, prompt: Prompt) -> Prompt:
    """A prompt whose pieces are what they should be, or InvalidInput that names it."""
    if not isinstance(prompt.pieces, tuple):
        raise InvalidInput(f"{name}: pieces={shown(prompt.pieces)}: give a tuple of Piece")
    for piece in prompt.pieces:
        if not isinstance(piece, Piece):
            raise InvalidInput(f"{name}: pieces holds {shown(piece)}: give a tuple of Piece")
        check_text(f"{name}: a piece's text", piece.text)
        check_flag(f"{name}: a piece's control", piece.control)
    return prompt


def check_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple, none of them empty."""
    if not isinstance(stop, str | Sequence):
        raise InvalidInput(f"stop={shown(stop)}: give a string or a list of strings")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not check_text("stop", text):
            raise InvalidInput("stop holds an empty string, which would end every answer at once")
    return stops


def check_path(name: str, path: PathLike) -> Path:
    """A path that the operating system can be asked about, with ``~`` expanded, or InvalidInput."""
    try:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError("bytes; give a str or pathlib.Path")
        if not text or "\0" in text:
            raise ValueError("empty, or with a NUL in it")
        os.fsencode(text)
        return Path(text).expanduser()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{name}={shown(path)} is no path: {error}") from error


def full_path(name: str, path: PathLike) -> Path:
    """The same as an absolute path, which says which file it was wherever it is read."""
    checked = check_path(name, path)
    try:
        return Path(os.path.abspath(checked))
    except OSError as error:
        why = "a relative path, and the current folder is gone"
        raise InvalidInput(f"{name}={shown(path)}: {why}") from error

"""Has llama.cpp check that all weights are finite, once for each file, and says which tensor's are not."""

from __future__ import annotations

import re

from llama_bridge.errors import InvalidModel
from llama_bridge.file_notes import FileNotes
from llama_bridge.models.finite import about_tensor
from llama_bridge.models.source import ModelFile

from .library import LoggedErrors

__all__ = ["known_finite", "not_finite", "remember_finite"]

_LARGE = 64 << 20
"""Bytes: smaller files are checked each time, which takes less than to look whether they were."""
_YES = "yes"
_notes = FileNotes("finite", "finite")


def known_finite(file: ModelFile) -> bool:
    """Whether the check can be left out: it was done before, and no file has changed since."""
    if file.header.file_size < _LARGE:
        return False
    return all(_notes.read(part.path) == _YES for part in file.files)


def remember_finite(file: ModelFile) -> None:
    """Note that all weights were found to be finite."""
    if file.header.file_size < _LARGE:
        return
    try:
        unchanged = file.is_unchanged
    except OSError:
        unchanged = False
    if unchanged:
        for part in file.files:
            _notes.write(part.path, _YES)


def not_finite(file: ModelFile, errors: LoggedErrors) -> InvalidModel | None:
    """The error for a failed load, if that was the check."""
    found = re.search("tensor '(.{1,63}?)' has invalid data", str(errors))
    return None if found is None else InvalidModel(file.path, about_tensor(file, found[1]))

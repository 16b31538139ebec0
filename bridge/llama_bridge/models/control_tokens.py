"""The control tokens of a vocabulary, as the model's file lists them."""

from __future__ import annotations

import struct
from array import array

from .gguf import ArrayRef
from .source import ModelFile

__all__ = ["control_texts", "looks_like_control"]

_UNKNOWN, _CONTROL = 2, 3  # llama.cpp's LLAMA_TOKEN_TYPE_*: what only a template may spell
_INT32, _STRING = 5, 8
_FILL_IN = frozenset(
    f"{begin}{word}{end}".encode()
    for begin, words, end in [
        ("<", "PRE SUF MID PAD REPO EOT reponame", ">"),
        ("▁<", "PRE SUF MID", ">"),
        ("<fim_", "prefix suffix middle pad", ">"),
        ("<fim-", "prefix suffix middle pad repo", ">"),
        ("[", "PAD EOT EOS", "]"),
    ]
    for word in words.split()
)
"""What llama.cpp takes for control tokens by their text, whatever type the file gives them."""


def looks_like_control(word: bytes) -> bool:
    """Whether a token is written like a control token: ``<|user|>``, ``<｜User｜>``, ``<|channel>``.

    Many files say that such tokens are words of the user's, and llama.cpp then reads them in any text.
    """
    return len(word) > 3 and word.startswith((b"<|", "<｜".encode())) and word.endswith(b">")


def control_texts(model: ModelFile) -> frozenset[str]:
    """The texts of all control tokens; empty if the file lists none. About 40 ms for 150,000 tokens."""
    kinds = _read(model, "tokenizer.ggml.token_type", _INT32)
    words = _read(model, "tokenizer.ggml.tokens", _STRING)
    types = array("i")
    types.frombytes(kinds[: len(kinds) // 4 * 4])
    found: set[str] = set()
    unpack_from, at = struct.Struct("<Q").unpack_from, 0
    for token, kind in enumerate(types):
        if at >= len(words):
            break
        (size,) = unpack_from(words, at)
        at += 8 + size
        word = words[at - size : at].partition(b"\0")[0]  # where llama.cpp ends it
        if kind in (_UNKNOWN, _CONTROL) or word in _FILL_IN or looks_like_control(word):
            found.add(word.decode("utf-8", "replace") or f"[EMPTY_{token}]")  # as llama.cpp does
    return frozenset(found)


def _read(model: ModelFile, key: str, element_type: int) -> bytes:
    value = model.header.metadata.get(key)
    if (
        isinstance(value, list) and element_type == _INT32
    ):  # a short one, which was read with the header
        return array("i", [int(number) for number in value]).tobytes()
    if not isinstance(value, ArrayRef) or value.element_type != element_type:
        return b""
    parts: list[bytes] = []
    left = value.end - value.start
    with model.open() as file:
        file.seek(value.start)
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)

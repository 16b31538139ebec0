"""Checks what llama.cpp takes for granted in a vocabulary and would end the process over."""

from __future__ import annotations

from collections import Counter

from ..errors import InvalidModel
from .arrays import read_strings
from .source import ModelFile

__all__ = ["check_words"]

_TOKENS = "tokenizer.ggml.tokens"
_NONE = ("none", "no_vocab")


def check_words(model: ModelFile) -> None:
    """Refuse a vocabulary that would crash llama.cpp. Takes about 60 ms for 150,000 words.

    Raises:
        InvalidModel: two tokens have the same text, or the tokenizer does not fit the words.
    """
    kind = model.header.text("tokenizer.ggml.model")
    if kind in _NONE:
        raise InvalidModel(
            model.path, f"its tokenizer is {kind!r}: it has no words to read or write"
        )
    words = _read(model)
    if len(set(words)) < len(words):
        (twice, _), *_ = Counter(words).most_common(1)
        text = twice.decode("utf-8", "replace")
        raise InvalidModel(model.path, f"two tokens in its vocabulary have the same text: {text!r}")
    if wrong := _wrong_for(kind, model, words):
        raise InvalidModel(model.path, f"its tokenizer is {kind!r}, but {wrong}")


def _wrong_for(kind: str, model: ModelFile, words: list[bytes]) -> str:
    """Why this kind of tokenizer cannot work with these words; empty if it can."""
    if kind == "rwkv":
        if not all(
            word[:1] + word[-1:] in (b"''", b'""') or word[:2] in (b"b'", b'b"')
            for word in words
            if word
        ):
            return "its words are not quoted like RWKV's"
    elif kind == "llama":
        known = set(words)
        if not all(b"<0x%02X>" % i in known or bytes([i]) in known for i in range(1, 256)):
            return "it has no tokens for single bytes"
    elif kind == "bert" and not any(word.startswith("▁".encode()) for word in words):
        return "none of its words begins like BERT's"
    return ""


def _read(model: ModelFile) -> list[bytes]:
    """The texts of all tokens that are not empty, each up to a NUL, where llama.cpp ends them."""
    texts = (
        word.partition(b"\0")[0] if 0 in word else word for word in read_strings(model, _TOKENS)
    )
    return [text for text in texts if text]

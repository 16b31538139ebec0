"""Checks what llama.cpp takes for granted in a tokenizer and would end the process over.

Each rule is one of ``llama-vocab.cpp``: an assertion, or an exception thrown while a text is tokenised, which nothing
catches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from ..errors import InvalidModel
from .arrays import read_integers, read_strings
from .charsmap import wrong_charsmap
from .gguf import GgufHeader
from .source import ModelFile

__all__ = ["check_tokenizer"]

_AT = "tokenizer.ggml."
_NONE = ("none", "no_vocab")
_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE
_SPECIAL: dict[str, tuple[int | None, int | None, int | None]] = {
    "bert": (101, None, 102),
    "gemma4": (None, None, None),
    "gpt2": (11, 11, None),
    "hybriddna": (11, 11, None),
    "llama": (1, 2, None),
    "t5": (None, 1, None),
    "whitespace": (11, 11, None),
}
"""Begin, end and separator of each kind of tokenizer, where the file does not name them."""
_BPE = ("gpt2", "hybriddna", "whitespace")
_ADDS_BEGIN = ("bert", "gemma4", "llama")
_ADDS_END = ("t5",)
_TRIES = ("plamo2", "rwkv", "t5")
_LONG_IN_TRIE = 512
"""Bytes. A trie is as deep as its longest word and built by recursion; real ones have at most 128."""
_LONG = 64
_MAX_SQUARES = 1 << 28
"""Sum of the squares of the lengths of all long words, in bytes: what llama.cpp makes of odd characters. Real: 3 million."""
_MAX_CUBES = 1 << 30
"""Sum of the cubes of all lengths: plamo2 takes so many steps for its table of suffixes, 5 s. 100,000 real words: 50 million."""


def check_tokenizer(model: ModelFile) -> None:
    """Refuse a tokenizer that would crash llama.cpp. Takes about 45 ms for 150,000 words.

    Raises:
        InvalidModel: two tokens have the same text, or the tokenizer does not fit its words; the reason names the key.
    """
    for wrong in _wrong(model):
        raise InvalidModel(model.path, wrong)


def _wrong(model: ModelFile) -> Generator[str]:
    header = model.header
    kind = header.text(f"{_AT}model")
    if kind in _NONE:
        yield f"{_AT}model is {kind!r}: it has no words to read or write"
    words = read_strings(model, f"{_AT}tokens")
    if not words:
        yield f"{_AT}tokens is empty: it has no words to read or write"
    known = set(words)
    if len(known) < len(words) or b"" in known or 0 in b"".join(words):
        words = _as_read(words)
        known = set(words)
        if len(known) < len(words):
            (twice, _), *_ = Counter(words).most_common(1)
            yield f"{_AT}tokens: two tokens have the same text: {twice.decode('utf-8', 'replace')!r}"
    yield from _wrong_lengths(kind, words)
    yield from _wrong_special(header, kind, len(words))
    if wrong := _wrong_for(kind, model, known):
        yield f"{_AT}model is {kind!r}, but {wrong}"
    if kind == "t5":
        yield from wrong_charsmap(model)


def _as_read(words: list[bytes]) -> list[bytes]:
    """The texts as llama.cpp has them: up to a NUL, and none is empty."""
    texts = (word.partition(b"\0")[0] if 0 in word else word for word in words)
    return [text or b"[EMPTY_%d]" % i for i, text in enumerate(texts)]


def _wrong_lengths(kind: str, words: Sequence[bytes]) -> Generator[str]:
    long = [n for n in map(len, words) if n > _LONG]
    if kind in _TRIES and max(long, default=0) > _LONG_IN_TRIE:
        yield f"{_AT}tokens: a token is {max(long):,} bytes long, more than {_LONG_IN_TRIE}"
    if kind == "plamo2" and sum(len(word) ** 3 for word in words) > _MAX_CUBES:
        yield f"{_AT}tokens: {len(long):,} tokens are longer than {_LONG} bytes: too many for the suffixes of plamo2"
    if sum(n * n for n in long) > _MAX_SQUARES:
        yield f"{_AT}tokens: {len(long):,} tokens are longer than {_LONG} bytes, up to {max(long):,}: not a vocabulary"


def _wrong_special(header: GgufHeader, kind: str, n_words: int) -> Generator[str]:
    """Tokens that the tokenizer adds to a text, but that are not there."""
    if kind not in _SPECIAL:
        return
    begin, end, separator = (
        _special(header, name, default, n_words)
        for name, default in zip(("bos", "eos", "seperator"), _SPECIAL[kind], strict=True)
    )
    few = n_words <= 11 and kind in _BPE  # no default is there, and some pre-tokenizers add it
    adds_begin = kind == "bert" or _flag(header, "add_bos_token", few or kind in _ADDS_BEGIN)
    adds_end = kind != "bert" and _flag(header, "add_eos_token", few or kind in _ADDS_END)
    for name, token, adds in (
        ("bos", begin, adds_begin or kind == "gemma4"),
        ("eos", end, adds_end),
        ("seperator", separator, kind == "bert"),
    ):
        if adds and token is None:
            yield (
                f"{_AT}{name}_token_id is not one of {n_words:,} tokens, but its tokenizer {kind!r} adds it to each text"
            )


def _special(header: GgufHeader, name: str, default: int | None, n_words: int) -> int | None:
    """The token that llama.cpp takes: the file's, else the default, if they are there."""
    found = header.metadata.get(f"{_AT}{name}_token_id")
    for token in (found, default):
        if isinstance(token, int) and 0 <= token < n_words:
            return token
    return None


def _flag(header: GgufHeader, name: str, default: bool) -> bool:
    found = header.metadata.get(f"{_AT}{name}")
    return found if isinstance(found, bool) else default


def _wrong_for(kind: str, model: ModelFile, known: set[bytes]) -> str:
    """Why this kind of tokenizer cannot work with these words; empty if it can."""
    if kind in _BPE and kind != "whitespace" and _pre(model) == "whitespace":
        return f"{_AT}pre is 'whitespace', which leaves spaces in its words"
    if kind == "rwkv":
        begins = {_unescaped(word)[:1] for word in known}
        single = {text for text in map(_unescaped, known) if len(text) <= 1}
        if b"" in single or not begins <= single:
            return "it has no tokens for single bytes"
    elif kind == "llama":
        if not all(b"<0x%02X>" % i in known or bytes([i]) in known for i in range(256)):
            return "it has no tokens for single bytes"
    elif kind == "bert":
        if not any(word.startswith("▁".encode()) for word in known):
            return "none of its words begins like BERT's"
        if _BYTE in read_integers(model, f"{_AT}token_type"):
            return f"{_AT}token_type has tokens for single bytes, which that has not"
    return ""


def _pre(model: ModelFile) -> str:
    return model.header.text(f"{_AT}pre")


_ESCAPES = {ord("t"): 9, ord("n"): 10, ord("r"): 13}


def _unescaped(word: bytes) -> bytes:
    """The bytes that a word of RWKV stands for, as ``llama_unescape_rwkv_token`` reads it."""
    if b"\\" not in word:
        return word
    text, i = bytearray(), 0
    while i < len(word):
        byte = word[i]
        i += 1
        if byte == 0x5C:
            if i == len(word):
                break
            byte = word[i]
            i += 1
            if byte == ord("x"):
                digits = word[i : i + 2]
                i += 2
                if len(digits) < 2:
                    break
                high, low = (c - 87 if c >= 97 else c - 48 for c in digits)
                byte = (16 * high + low) % 256
            else:
                byte = _ESCAPES.get(byte, byte)
        text.append(byte)
    return bytes(text)

"""How many tokens a text has at least, without tokenising it: that takes llama.cpp a second per megabyte.

Each token stands for some bytes of the text, at most as many as the longest one can. So a text of n bytes has at least
n / longest tokens, if no byte vanishes. What can vanish, in llama.cpp:

- white space beside some control tokens (``LSTRIP``, ``RSTRIP``) of a few models: there it is not counted.
- bytes for which a byte-level vocabulary has no token, such as control characters with Falcon: not counted.
- what a merge makes, if that is not a token; no vocabulary should be like that. There the bound is 0.
- anything, with a tokenizer that normalises (``bert``, ``t5``, ``whitespace``). There it is 0 too.
"""

from __future__ import annotations

from ..errors import BridgeError
from .arrays import read_integers, read_strings
from .source import ModelFile

__all__ = ["LeastTokens"]

_NORMAL = 1  # LLAMA_TOKEN_TYPE_NORMAL
_SPACE = b" \t\n\v\f\r"  # C's isspace
_OWN = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = [byte for byte in range(256) if byte not in _OWN]
_CHARACTERS = {i: chr(i) for i in _OWN} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
"""The character that stands for each byte in a byte-level vocabulary (``bytes_to_unicode`` of GPT-2)."""
_NO_SPACE = str.maketrans("", "", "".join(_CHARACTERS[byte] for byte in _SPACE))
_NOT_BYTES = frozenset(("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"))
"""Pre-tokenizers whose vocabulary is not of bytes, although their model is called ``gpt2``."""
_STRIPS = ("phi-3", "phi3", "modern-bert", "modernbert", "jina", "nomic")
"""Parts of the names of models and pre-tokenizers that have such tokens (``llama-vocab.cpp``), in small letters."""


class LeastTokens:
    """The bound for one model. Its vocabulary is read when a text is first asked about: 0.3 s for 150,000 tokens."""

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self._known: tuple[int, bytes] | None = None

    def of(self, text: str) -> int:
        """At least so many tokens; 0 if nothing is known about this model's tokenizer."""
        if self._known is None:
            self._known = _look(self._model)
        longest, uncounted = self._known
        if longest == 0:
            return 0
        return -(-len(text.encode().translate(None, uncounted)) // longest)


def _look(model: ModelFile) -> tuple[int, bytes]:
    """The most counted bytes that one token stands for, 0 if that is not known; and the bytes that are not counted."""
    kind, pre = (model.header.text(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind not in ("llama", "gpt2") or pre in _NOT_BYTES:
        return 0, b""
    names = pre, *map(model.header.text, ("general.name", "general.architecture"))
    strips = any(part in name.lower() for part in _STRIPS for name in names)
    gone = _SPACE if strips else b""
    try:
        words = read_strings(model, "tokenizer.ggml.tokens")
        if kind == "llama":  # no text of a token is shorter than what it stands for
            return max(map(len, words), default=0), gone
        kinds = read_integers(model, "tokenizer.ggml.token_type")
        merges = read_strings(model, "tokenizer.ggml.merges")
    except (BridgeError, OSError):  # a page can open a kept model only while it is loaded
        return 0, b""
    known = set(words)
    if not known.issuperset(merge[:1] + merge[1:].replace(b" ", b"", 1) for merge in merges):
        return 0, b""
    unknown = (byte for byte, character in _CHARACTERS.items() if character.encode() not in known)
    longest = 0
    for i, word in enumerate(words):
        if len(word) > longest:  # otherwise it is not the longest, however it is counted
            normal = i < len(kinds) and kinds[i] == _NORMAL
            longest = max(longest, _count(word, strips) if normal else len(word))
    return longest, gone + bytes(unknown)


def _count(word: bytes, strips: bool) -> int:
    """Bytes that a token of a byte-level vocabulary stands for, without white space if some of it vanishes."""
    try:
        text = word.decode()
        return len(text.translate(_NO_SPACE) if strips else text)
    except UnicodeDecodeError:
        return len(word)

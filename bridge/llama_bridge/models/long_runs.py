"""Runs of characters in a text that a model's pre-tokenizer would recurse over, told before it does.

llama.cpp cuts a text into words before it looks for tokens. For some vocabularies it does that with ``std::regex``, which
recurses once for each character of a word: some 400 bytes of stack each. Words are short; but a run of letters without a
break, base64 say, is one word. Cut anywhere, it could give other tokens: so nothing is cut here. The longest run decides
how much stack the call is given, and one that is too long for any is refused.

Which characters break a word depends on the pre-tokenizer. What is measured here is never shorter than a word of any of
them (``llm_tokenizer_bpe`` in ``llama-vocab.cpp``): stretches without white space or the marks at which all of them stop;
stretches without letters, digits and white space; and white space.
"""

from __future__ import annotations

import re

from ..errors import InvalidInput
from .gguf import GgufHeader

__all__ = ["MAX_RUN", "longest_run"]

MAX_RUN = 1 << 16
"""Characters. A word of so many needs some 25 MB of stack."""
_SHORT = 48
"""Characters that any stack has room for."""

_OTHER_TOKENIZERS = frozenset(("llama", "bert", "t5", "rwkv", "plamo2", "gemma4"))
"""They have no pre-tokenizer, or one without expressions."""
_WITHOUT_REGEX = frozenset(
    [
        "a.x-4.0",
        "chatglm-bpe",
        "codeshell",
        "command-r",
        "dbrx",
        "deepseek-r1-qwen",
        "exaone",
        "exaone4",
        "f2llmv2",
        "falcon-h1",
        "falcon3",
        "gemma4",
        "gigachat",
        "glm4",
        "glm5",
        "gpt-2",
        "granite-docling",
        "granite-embed-multi-311m",
        "grok-2",
        "hunyuan",
        "jais",
        "jina-de",
        "jina-es",
        "jina-v1-en",
        "jina-v2-code",
        "jina-v2-de",
        "jina-v2-es",
        "jina-v5-nano",
        "kimi-k2",
        "kormo",
        "laguna",
        "lfm2",
        "llama-bpe",
        "llama-v3",
        "llama3",
        "megrez",
        "mellum",
        "mellum2",
        "midm-2.0",
        "minerva-7b",
        "modern-bert",
        "mpt",
        "olmo",
        "phi-2",
        "pixtral",
        "qwen2",
        "qwen35",
        "refact",
        "roberta-bpe",
        "sarvam-moe",
        "smaug-bpe",
        "smollm",
        "solar-open",
        "stablelm2",
        "starcoder",
        "trillion",
    ]
)
"""Pre-tokenizers that llama.cpp has code of its own for, or whose other expressions match a few characters each."""

_SPACE = r" \t\n\r\f\v"
_LETTERS = r"0-9A-Za-zÀ-ÖØ-öø-ɏА-яЁёא-תء-غ\u0e01-\u0e2eぁ-ゖァ-ヺ一-龥가-힣"
_RUNS = tuple(
    re.compile(f"[{characters}]{{{_SHORT},}}+")
    for characters in (f"^{_SPACE}.,!?()|", f"^{_SPACE}{_LETTERS}", r"\s")
)
_WORDS_AND_SPACES = re.compile(f"[^\\t\\n\\r\\f\\v.,!?()|]{{{_SHORT},}}+")
_NOT_SPACE = re.compile(f"[^{_SPACE}]{{{_SHORT},}}+")
_SLOW = {
    "superbpe": re.compile(r"\d{1024,}+"),
    "deepseek-llm": re.compile(r"\s{8192,}+"),
}
"""What some begin anew at each character of, so that their time grows with the square: minutes, and nothing can end them."""
_MORE = {"exaone-moe": (_WORDS_AND_SPACES,), "whitespace": (_NOT_SPACE,)}
"""Pre-tokenizers whose words are longer than what is measured for all."""


def longest_run(text: str, header: GgufHeader) -> int:
    """Characters of the longest run that this model's pre-tokenizer may recurse over; 0 where none is worth mentioning.

    Raises:
        InvalidInput: one is longer than it can take: than :data:`MAX_RUN`, or less.
    """
    pre = header.text("tokenizer.ggml.pre")
    if (
        len(text) < _SHORT
        or header.text("tokenizer.ggml.model") in _OTHER_TOKENIZERS
        or pre in _WITHOUT_REGEX
    ):
        return 0
    if (slow := _SLOW.get(pre)) and (found := slow.search(text)):
        raise _refusal(text, found, pre)
    longest = 0
    for run in (*_RUNS, *_MORE.get(pre, ())):
        for found in run.finditer(text):
            longest = max(longest, found.end() - found.start())
            if longest > MAX_RUN:
                raise _refusal(text, found, pre)
    return longest


def _refusal(text: str, found: re.Match[str], pre: str) -> InvalidInput:
    start = found.start()
    return InvalidInput(
        f"text holds {found.end() - start:,} characters without a break, from {text[start : start + 20]!r} at "
        f"{start:,}: too many for the tokenizer of this model ({pre or 'default'}). "
        "Put spaces, marks or line breaks into it, or leave it out"
    )

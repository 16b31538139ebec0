"""Finds long runs of characters that a model's pre-tokenizer would recurse over, before it does.

llama.cpp splits a text into words before it looks for tokens. For some vocabularies it uses ``std::regex``, which
recurses once per character of a word and takes about 400 bytes of stack each time. Words are short, but a run without a
break, such as base64, is one word. Splitting it could change the tokens, so nothing is split here. The longest run
decides how much stack the call gets, and a run that is too long for any stack is refused.

Which characters break a word depends on the pre-tokenizer. The runs measured here are never shorter than a word of any
of them (``llm_tokenizer_bpe`` in ``llama-vocab.cpp``): runs without white space or the marks at which all of them stop,
runs without letters, digits and white space, and runs of white space.
"""

from __future__ import annotations

import re

from ..errors import InvalidInput
from .gguf import GgufHeader

__all__ = ["MAX_RUN", "longest_run"]

MAX_RUN = 1 << 16
"""Characters. A word of this length needs about 25 MB of stack."""
_SHORT = 48
"""Characters that fit on any stack."""

_OTHER_TOKENIZERS = frozenset(("llama", "bert", "t5", "rwkv", "plamo2", "gemma4"))
"""They have no pre-tokenizer, or one without regular expressions."""
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
"""Pre-tokenizers that llama.cpp implements in code, or whose other expressions match only a few characters each."""

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
"""Runs that some restart at every character: the time grows with the square, to minutes, and cannot be cancelled."""
_MORE = {"exaone-moe": (_WORDS_AND_SPACES,), "whitespace": (_NOT_SPACE,)}
"""Pre-tokenizers whose words are longer than the runs measured for all."""


def longest_run(text: str, header: GgufHeader) -> int:
    """Length of the longest run that this model's pre-tokenizer may recurse over; 0 if all are short.

    Raises:
        InvalidInput: a run is too long: longer than :data:`MAX_RUN`, or less for some pre-tokenizers.
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
        f"text has {found.end() - start:,} characters without a break, from {text[start : start + 20]!r} at "
        f"{start:,}: too many for this model's tokenizer ({pre or 'default'}). "
        "Insert spaces, punctuation or line breaks, or leave it out"
    )

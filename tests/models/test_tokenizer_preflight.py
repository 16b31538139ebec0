"""Tokenizers that would end the process while a model is loaded, or at a text, are refused by their key."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from llama_bridge import InvalidModel
from llama_bridge.models.source import open_model
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from tests.gguf_editing import Array, Gguf, edited_model
from tests.pace import idle_seconds

Edit = Callable[[Gguf], None]
U8, U32, I32, BOOL, STRING, ARRAY = 0, 4, 5, 7, 8, 9
AT = "tokenizer.ggml."


def words(kind: str, texts: list[bytes], **more: tuple[int, object]) -> Edit:
    """Another tokenizer, of these words."""

    def edit(model: Gguf) -> None:
        for key in [key for key in model.metadata if key.startswith(AT)]:
            del model.metadata[key]
        model.set(f"{AT}model", kind.encode(), STRING)
        model.set(f"{AT}tokens", Array(STRING, texts), ARRAY)
        for name, (type_, value) in more.items():
            model.set(AT + name, value, type_)

    return edit


def texts(*more: bytes, count: int = 120) -> list[bytes]:
    return [b"\xe2\x96\x81w%d" % i for i in range(count - len(more))] + list(more)


BYTES = [b"<0x%02X>" % i for i in range(256)]
RWKV = [
    b"<s>",
    *(repr(bytes([i]))[2:-1].encode() for i in range(256)),
    b"hello",
    b"\\xe2\\x96\\x81",
]


def charsmap(units: list[int], replacements: bytes = b"a\0") -> tuple[int, Array]:
    packed = struct.pack(f"<I{len(units)}I", 4 * len(units), *units)
    return ARRAY, Array(U8, list(packed + replacements))


def of_t5(**more: tuple[int, object]) -> Edit:
    return words("t5", [b"<pad>", b"</s>", b"<unk>", *texts()], **more)


_LEADS_TO_BYTE_7 = [0] * 256
"""From the root with the byte 97 to unit 96, which has the text that unit 58 names."""
_LEADS_TO_BYTE_7[0] = 1 << 10
_LEADS_TO_BYTE_7[96] = 97 | 256 | (96 ^ 58) << 10
_LEADS_TO_BYTE_7[58] = 1 << 31 | 7

WRONG: dict[str, tuple[Edit, str]] = {
    "no words": (words("gpt2", []), "tokens is empty"),
    "an empty word that llama.cpp names as another": (
        words("gpt2", [*texts(), b"", b"[EMPTY_120]"]),
        "same text",
    ),
    "bytes in BERT": (
        words("bert", texts(), token_type=(ARRAY, Array(I32, [1] * 119 + [6]))),
        "token_type has tokens for single bytes",
    ),
    "BERT without a beginning": (
        words("bert", texts(count=101), seperator_token_id=(U32, 1)),
        "bos_token_id is not one of 101",
    ),
    "BERT without a separator": (
        words("bert", texts(count=102), bos_token_id=(U32, 1)),
        "seperator_token_id",
    ),
    "T5 that begins with nothing": (
        of_t5(add_bos_token=(BOOL, True)),
        "bos_token_id",
    ),
    "T5 without an end": (words("t5", [b"x"]), "eos_token_id"),
    "a vocabulary smaller than its special tokens": (words("gpt2", texts(count=11)), "bos_token"),
    "SentencePiece without a zero byte": (
        words("llama", BYTES[1:]),
        "no tokens for single bytes",
    ),
    "words split where only another tokenizer splits": (
        words("gpt2", texts(), pre=(STRING, b"whitespace")),
        "leaves spaces in its words",
    ),
    "RWKV without a byte": (
        words("rwkv", [word for word in RWKV if word != b"h"]),
        "no tokens for single bytes",
    ),
    "RWKV with an empty word": (words("rwkv", [*RWKV, b"\\"]), "no tokens for single bytes"),
    "a word as deep as the stack": (
        words("t5", [b"<pad>", b"</s>", b"<unk>", b"x" * 5000]),
        "5,000 bytes long",
    ),
    "words that plamo2 would take minutes for": (
        words("plamo2", [*BYTES, *(b"%d" % i + b"x" * 500 for i in range(20))]),
        "20 tokens are longer than 64 bytes: too many for the suffixes",
    ),
    "words of gigabytes": (
        words("gpt2", [b"%d" % i + b"\xff" * 4000 for i in range(40)]),
        "40 tokens are longer than 64 bytes",
    ),
    "a charsmap of nothing": (
        of_t5(precompiled_charsmap=(ARRAY, Array(U8, [1]))),
        "precompiled_charsmap has 1 bytes",
    ),
    "a charsmap that ends before it begins": (
        of_t5(precompiled_charsmap=(ARRAY, Array(U8, [255] * 8))),
        "its trie claims",
    ),
    "a root outside": (
        of_t5(precompiled_charsmap=charsmap([256 << 10] + [0] * 255)),
        "out of its own bounds",
    ),
    "a step outside": (
        of_t5(precompiled_charsmap=charsmap([0] * 97 + [97 | 256 << 10] + [0] * 158)),
        "out of its own bounds",
    ),
    "a text after the last": (
        of_t5(precompiled_charsmap=charsmap(_LEADS_TO_BYTE_7, b"\0")),
        "out of its own bounds",
    ),
    "a text without an end": (
        of_t5(precompiled_charsmap=charsmap([0] * 256, b"ab")),
        "in the middle of a text",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_tokenizer_that_would_end_the_process_is_refused(case: str, tmp_path: Path) -> None:
    edit, says = WRONG[case]
    model = open_model(edited_model(tmp_path / "m.gguf", edit=edit))
    with pytest.raises(InvalidModel, match=says):
        check_tokenizer(model)


RIGHT: dict[str, Edit] = {
    "RWKV's own": words("rwkv", RWKV),
    "SentencePiece with plain bytes": words(
        "llama", [b"<0x00>", *(bytes([i]) for i in range(1, 256))]
    ),
    "padding": words("gpt2", [*texts(), *(b"[PAD%d]" % i for i in range(100)), b"", b""]),
    "T5 without a charsmap": of_t5(),
    "T5 with a small one": of_t5(precompiled_charsmap=charsmap(_LEADS_TO_BYTE_7, b"abcdefgh\0")),
    "special tokens that are not there, and not needed": words(
        "gpt2", texts(), eos_token_id=(U32, 4_000_000), mask_token_id=(U32, 2**32 - 1)
    ),
    "words that are not UTF-8": words("gpt2", [*texts(), b"\xff", b"\xc3"]),
    "a vocabulary of its own begin and end": words(
        "gpt2", texts(count=5), bos_token_id=(U32, 1), eos_token_id=(U32, 2)
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_odd_tokenizers_that_are_right_pass(case: str, tmp_path: Path) -> None:
    check_tokenizer(open_model(edited_model(tmp_path / "m.gguf", edit=RIGHT[case])))


def test_every_vocabulary_of_llama_cpp_passes_in_its_time() -> None:
    from tools.random_model.vocabularies import vocabulary_files  # numpy: not in a page

    files = vocabulary_files()
    assert len(files) > 15
    for path in files.values():
        model = open_model(path)
        seconds = idle_seconds(partial(check_tokenizer, model), times=1)
        # Measured 0.3 s for a million words.
        assert seconds < 0.05 + 1e-6 * model.header.n_vocab, path.name

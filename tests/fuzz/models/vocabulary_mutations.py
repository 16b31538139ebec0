"""What is done to a model's tokenizer."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.fuzz.models.document import ARRAY, BOOL, STRING, UINT32, Document
from tests.fuzz.models.keys import PRE_TOKENIZERS, TOKENIZER_KEYS, TOKENIZERS
from tests.gguf_editing import Array

__all__ = ["CHANGES"]

_AT = "tokenizer.ggml."
_ODD = (
    b"", b"a", b"\xff", b"\xc3", b"\xe2\x96", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0", b"a\0b", b"<s>", b"x" * 5000,
    b"[EMPTY_7]", b"[EMPTY_300]", b"<0x0A>", b"<0xZZ>", b"<0x>", b"<0x", b"\xe2\x96\x81", b"\xe2\x96\x81" * 300, b" ",
    b"\n", b"<|eot_id|>", b"<|endoftext|>", b"<|end|>", b"<unk>", b"''", b"'\\x", b"b'\\xzz'", b"'a\\", b"<byte", b"[UNK]",
)  # fmt: skip


def _array(document: Document, name: str) -> Array:
    array = document.array(_AT + name)
    if array is None or not array.items:
        raise LookupError
    return array


def _words(document: Document, draw: random.Random) -> str:
    items = _array(document, "tokens").items
    n = draw.choice((1, 1, 20))
    for _ in range(n):
        items[draw.randrange(len(items))] = draw.choice((*_ODD, draw.choice(items)))
    return f"{n} odd words"


def _all_words(document: Document, draw: random.Random) -> str:
    """Every word of one kind."""
    array = _array(document, "tokens")
    how = draw.choice(("shuffled", "empty", "numbers", "long", "bytes", "quoted", "escaped"))
    n = len(array.items)
    if how == "shuffled":
        draw.shuffle(array.items)
    elif how == "empty":
        array.items = [b""] * n
    elif how == "numbers":
        array.items = [str(i).encode() for i in range(n)]
    elif how == "long":
        array.items = [b"%d" % i + b"y" * 2000 for i in range(n)]
    elif how == "quoted":
        array.items = [b"'%s'" % word for word in array.items]
    elif how == "escaped":
        array.items = [b"'%s\\x%02x'" % (word, i % 256) for i, word in enumerate(array.items)]
    else:
        array.items = [draw.randbytes(draw.choice((1, 2, 3, 4))) for _ in range(n)]
    return f"words {how}"


def _length(document: Document, draw: random.Random) -> str:
    pair = draw.choice(
        [p for p in document.pairs if p.key.startswith(_AT.encode()) and p.kind == ARRAY]
    )
    items = pair.value.items
    count = draw.choice(
        (0, 1, 2, 10, 11, 12, len(items) - 1, len(items) // 2, len(items) + 1, len(items) + 500)
    )
    filler = items[-1] if items else 1
    more = [
        filler + b"%d" % i if isinstance(filler, bytes) else filler
        for i in range(count - len(items))
    ]
    pair.value.items = items[:count] + more
    return f"{pair.key.decode()} of {count}"


def _vocabulary(document: Document, draw: random.Random) -> str:
    """All lists of another length."""
    count = len(_array(document, "tokens").items)
    new = draw.choice((0, 1, 2, 3, 4, 11, 12, 100, 101, 104, count - 1, count // 2))
    for pair in document.pairs:
        if isinstance(pair.value, Array) and len(pair.value.items) == count:
            pair.value.items = pair.value.items[:new]
    document.set(f"{document.architecture}.vocab_size", UINT32, new)
    if draw.random() < 0.7:
        for row in document.rows:
            if len(row.shape) == 2 and row.shape[1] == count and new:
                row.shape[1] = new
                row.refill()
    return f"vocabulary of {new}"


def _token_types(document: Document, draw: random.Random) -> str:
    items = _array(document, "token_type").items
    n = draw.choice((1, 5, len(items)))
    kinds = draw.choice(
        ((0, 1, 2, 3, 4, 5, 6, 7, -1, 2**31 - 1), (6,), (1,), (3,), (4,), (2,), (5,))
    )
    for _ in range(n):
        items[draw.randrange(len(items))] = draw.choice(kinds)
    return f"{n} token types of {kinds}"


def _scores(document: Document, draw: random.Random) -> str:
    items = _array(document, "scores").items
    odd = draw.choice((0.0, -1e30, 1e30, float("nan"), float("inf"), float("-inf")))
    n = draw.choice((1, 5, 3 * len(items)))
    for _ in range(n):
        items[draw.randrange(len(items))] = odd
    return f"{n} scores of {odd}"


def _merges(document: Document, draw: random.Random) -> str:
    array = _array(document, "merges")
    odd = (
        b"",
        b" ",
        b"a",
        b"a ",
        b" a",
        b"a  b",
        b"a b c",
        b"\xff \xff",
        b"\0 \0",
        b"x" * 9000 + b" y",
        b"a b",
        b"b a",
    )
    how = draw.choice(
        ("odd", "cyclic", "reversed", "none", "twice", "of words", "of nothing known")
    )
    if how == "odd":
        for _ in range(draw.choice((1, 10))):
            array.items[draw.randrange(len(array.items))] = draw.choice(odd)
    elif how == "cyclic":
        array.items = [b"a b", b"ab a", b"b ab", b"ba ba", b"a ba", *array.items]
    elif how == "reversed":
        array.items.reverse()
    elif how == "none":
        array.items = []
    elif how == "twice":
        array.items *= 2
    elif how == "of words":
        words = _array(document, "tokens").items
        array.items = [draw.choice(words) + b" " + draw.choice(words) for _ in range(300)]
    else:
        array.items = [b"H e", b"He l", b"Hel l", b"Hell o", b"l o", b"lo \xc4\xa0", *array.items]
    return f"merges {how}"


def _charsmap(document: Document, draw: random.Random) -> str:
    """The normaliser of UGM: a double-array trie, then texts."""
    size = draw.choice((0, 4, 8, 64, 2**31, 2**32 - 4))
    how = draw.randrange(4)
    old = document.array(_AT + "precompiled_charsmap")
    items: list[int]
    if how == 0 and old is not None and len(old.items) > 8:
        items = list(old.items)
        for _ in range(draw.choice((1, 8, 500))):
            items[draw.randrange(len(items))] = draw.randrange(256)
    elif how == 1:
        items = list(struct.pack("<I", size) + draw.randbytes(size % 256) + b"a\0")
    elif how == 2:
        items = list(struct.pack("<I", 64) + b"\xff" * 64 + b"abc")
    else:
        items = [0] * draw.choice((0, 1, 3, 4, 5, 100))
    document.set(_AT + "precompiled_charsmap", ARRAY, Array(draw.choice((0, 0, 0, 1)), items))
    return f"charsmap {how} of {len(items)}"


def _tokenizer(document: Document, draw: random.Random) -> str:
    name = draw.choice(TOKENIZERS)
    document.set(_AT + "model", STRING, name.encode())
    return f"tokenizer {name!r}"


def _pre(document: Document, draw: random.Random) -> str:
    name = draw.choice((*PRE_TOKENIZERS, "default", "nonsense", ""))
    document.set(_AT + "pre", STRING, name.encode())
    return f"pre-tokenizer {name!r}"


def _special(document: Document, draw: random.Random) -> str:
    name = draw.choice([key for key in TOKENIZER_KEYS if key.endswith("_token_id")])
    count = len(_array(document, "tokens").items)
    value = draw.choice(
        (0, 1, count - 1, count, count + 1, 2**31 - 1, 2**31, 2**32 - 1, draw.randrange(count))
    )
    document.set(_AT + name, draw.choice((UINT32, UINT32, UINT32, 5, 10)), value)
    return f"{name} = {value}"


def _flag(document: Document, draw: random.Random) -> str:
    name = draw.choice((
        "add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces",
        "normalizer.lowercase", "normalizer.strip_accents",
    ))  # fmt: skip
    value = draw.choice((0, 1))
    document.set(_AT + name, BOOL, value)
    return f"{name} = {value}"


def _suppressed(document: Document, draw: random.Random) -> str:
    items = [draw.choice((0, 1, -1, 399, 400, 2**31 - 1)) for _ in range(draw.choice((0, 1, 1000)))]
    if draw.random() < 0.3:
        items = list(range(2000))
    document.set(_AT + "suppress_tokens", ARRAY, Array(draw.choice((5, 5, 5, 4)), items))
    return f"{len(items)} suppressed"


def _kinds_of_embedding(document: Document, draw: random.Random) -> str:
    value = draw.choice((0, 1, 2, 3, 2**31))
    document.set(_AT + "token_type_count", UINT32, value)
    return f"token_type_count = {value}"


CHANGES: list[tuple[Callable[[Document, random.Random], str], int]] = [
    (_words, 4), (_all_words, 2), (_length, 4), (_vocabulary, 3), (_token_types, 3), (_scores, 2), (_merges, 3),
    (_charsmap, 2), (_tokenizer, 5), (_pre, 3), (_special, 4), (_flag, 3), (_suppressed, 1), (_kinds_of_embedding, 1),
]  # fmt: skip
"""Each with how often it is drawn, beside those of the rest of the file."""

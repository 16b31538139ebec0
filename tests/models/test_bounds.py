"""However large a header says it is, the host that reads it stays small, and real vocabularies are read as before."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_bridge import InvalidModel
from llama_bridge.models import gguf as reading
from llama_bridge.models.gguf import ArrayRef, GgufHeader, read_gguf
from llama_bridge.models.source import open_model
from tests.models.headers import (
    ARRAY,
    STRING,
    U8,
    Sparse,
    array,
    gguf,
    string,
    strings,
    text,
    u32,
)
from tests.pace import idle_seconds

MIB = 1 << 20
GIB = 1 << 30


def read(data: bytes) -> GgufHeader:
    return read_gguf(io.BytesIO(data), "m.gguf")


def peak_of(work: Callable[[], object]) -> int:
    """The most memory that Python took for it at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value",
    [
        array(U8, 2 * GIB),
        array(STRING, GIB // 8),
        array(STRING, 1, struct.pack("<Q", 2 * GIB)),
        array(STRING, 2, string("a") + struct.pack("<Q", 2**64 - 1)),
        array(ARRAY, GIB // 12),
        struct.pack("<IQ", STRING, 2 * GIB),
        struct.pack("<IQ", STRING, 2**64 - 1),
        array(U8, 2**64 - 1),
    ],
    ids=[
        "bytes",
        "strings",
        "a long string among strings",
        "a string longer than any file",
        "arrays",
        "one string",
        "one string longer than any file",
        "more than any file has",
    ],
)
def test_a_value_of_gigabytes_is_refused_by_its_name_and_not_read(value: bytes) -> None:
    file = Sparse(gguf(("some.key", value)), 3 * GIB)

    def refuse() -> None:
        with pytest.raises(InvalidModel, match=r"some\.key"):
            read_gguf(file, "m.gguf")  # type: ignore[arg-type]

    assert peak_of(refuse) < 8 * MIB
    assert file.n_read < 4 * MIB


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gguf(("k" * 2000, u32(1))), "a key is 2,000 bytes long"),
        (gguf(("a.text", text(b"x" * (MIB + 1)))), r"a\.text.* is 1,048,577 bytes long"),
        (
            gguf(*((f"k{i}", text(b"x" * MIB)) for i in range(17))),
            r"k1\d'.* 16,777,216 bytes together",
        ),
        (gguf(n_values=20_000) + bytes(13 * 20_000), "20,000 values, more than"),
        (gguf(n_tensors=100_000) + bytes(33 * 100_000), "100,000 tensors, more than"),
        (gguf(n_tensors=1) + string(b"n" * 2000), "the name of a tensor is 2,000 bytes long"),
        (gguf(("t", strings([b"x" * 40_000]))), r"'t'.* string 0 is more than"),
        (gguf(("t", strings([b""] * 9 + [b"x" * 40_000, b""]))), r"'t'.* string 9 is more than"),
        (
            gguf(("t", array(ARRAY, 1, array(U8, 1, b"x")[4:]))),
            r"'t' is an array of the unknown type 9",
        ),
        (gguf(("t\n\x1b[2J", array(77, 1))), r"'t\\n\\x1b\[2J' is an array of the unknown type 77"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_no_model_has_is_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        read(data)


def test_millions_of_empty_strings_take_neither_memory_nor_minutes() -> None:
    most = reading._MAX_STRINGS
    pairs = [(f"k{i}", array(STRING, most // 4)) for i in range(5)]
    file = Sparse(gguf(pairs[0]), 64 * MIB)
    peaks: list[int] = []
    read_file = partial(read_gguf, file, "m.gguf")  # type: ignore[arg-type]
    assert idle_seconds(lambda: peaks.append(peak_of(read_file)), times=1) < 10
    assert peaks[0] < 8 * MIB
    body = bytes(8 * most // 4)
    with pytest.raises(InvalidModel, match=r"k4.* strings; together, arrays"):
        read(gguf(*((key, value + body) for key, value in pairs)))


def test_a_tokenizer_json_of_many_megabytes_is_left_in_the_file() -> None:
    key = "tokenizer.huggingface.json"
    data = gguf((key, text(b"{" * (20 * MIB))), ("after", u32(7)))
    header = read(data)
    assert isinstance(header.metadata[key], ArrayRef)
    assert header.metadata["after"] == 7
    assert peak_of(lambda: read(data)) < 8 * MIB


@given(
    st.lists(
        st.one_of(st.integers(0, 20), st.sampled_from([255, 256, 511, 4096, 16_383, 16_384])),
        max_size=200,
    )
)
def test_what_follows_a_vocabulary_is_found_whatever_its_words(lengths: list[int]) -> None:
    words = [b"w" * n for n in lengths]
    body = strings(words)
    data = gguf(("tokenizer.ggml.tokens", body), ("after", u32(7)))
    header = read(data)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, ArrayRef)
    assert (tokens.count, header.n_vocab) == (len(words), len(words))
    assert data[tokens.start : tokens.end] == body[16:]
    assert header.metadata["after"] == 7


class InDrops(io.BytesIO):
    """Gives a few bytes at a time, as a source without a buffer may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000) if size and size > 0 else 1000)


def test_a_file_that_comes_in_drops_is_the_same_file() -> None:
    data = open_model("demo").path.read_bytes()
    assert read_gguf(InDrops(data), "m.gguf") == read(data)


def test_the_fingerprint_of_files_saved_by_earlier_versions_still_fits() -> None:
    data = gguf(
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.chat_template", text("{{ messages }}")),
        ("tokenizer.ggml.tokens", strings([b"a", b"b"])),
        ("after", u32(7)),
    )
    header = read(data)
    spans = b"".join(data[a:b] for a, b in header.vocabulary_spans)
    assert spans == b"".join(
        string(key) + value
        for key, value in [
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.tokens", strings([b"a", b"b"])),
        ]
    )
    assert data[slice(*header.metadata_span)] == data[24:]
    assert header.tensors_span == (len(data), len(data))


VOCABULARIES = ("command-r", "qwen2", "gpt-2", "llama-spm", "deepseek-llm", "bert-bge")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_real_vocabulary_is_read_in_a_few_megabytes(name: str) -> None:
    from tools.random_model.vocabularies import vocabulary  # has no place in a page

    words = vocabulary(name)
    data = gguf(*words.entries.items())
    header = read(data)
    assert header.n_vocab == words.n_tokens
    merges: Any = header.metadata.get("tokenizer.ggml.merges", ArrayRef(STRING, 0, 0, 0))
    assert isinstance(merges, ArrayRef)
    assert header.text("tokenizer.chat_template") == (words.chat_template or "")
    assert peak_of(lambda: read(data)) < 8 * MIB

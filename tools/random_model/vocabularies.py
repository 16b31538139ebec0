"""The real vocabularies that llama.cpp ships for its own tests, taken from the pinned source distribution."""

from __future__ import annotations

import functools
import struct
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wasm import source

from .cache import cache_folder, kept

__all__ = ["Vocabulary", "test_vectors", "vocabulary", "vocabulary_files"]

_PREFIX = "ggml-vocab-"
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_NORMAL = 1
_TEST_SEPARATOR = "\n__ggml_vocab_test__\n"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF metadata.

    Attributes:
        name: as in ``ggml-vocab-<name>.gguf``.
        entries: each ``tokenizer.`` key with its raw value: the type code, then the value's bytes. Decoding
            hundreds of thousands of strings only to write them again would take minutes.
        test_vectors: texts and the tokens that they must give, without special tokens; some vocabularies have none.
    """

    name: str
    entries: dict[str, bytes] = field(repr=False)
    test_vectors: tuple[tuple[str, list[int]], ...] = field(repr=False)

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        (count,) = struct.unpack_from("<Q", self.entries["tokenizer.ggml.tokens"], 8)
        return int(count)

    @property
    def chat_template(self) -> str | None:
        """The chat template that came with it, or None."""
        raw = self.entries.get("tokenizer.chat_template")
        return raw[12:].decode() if raw else None

    @property
    def control_tokens(self) -> list[int]:
        """Ids of all tokens that are not ordinary text: begin, end, unknown, unused, control."""
        kinds = self.entries["tokenizer.ggml.token_type"]
        ids = {
            i for i, (kind,) in enumerate(struct.iter_unpack("<i", kinds[16:])) if kind != _NORMAL
        }
        for key, raw in self.entries.items():
            if key.endswith("_token_id"):
                ids.add(struct.unpack_from("<I", raw, 4)[0])
        return sorted(i for i in ids if i < self.n_tokens)


def vocabulary_files() -> dict[str, Path]:
    """The GGUF file of each vocabulary, by its name. They have no tensors.

    The first call on a machine fetches the source distribution, unless the build of llama.wasm has already.

    Raises:
        wasm.source.BuildError: the source distribution cannot be fetched.
    """
    folder = kept(cache_folder("") / f"vocabularies-{source.VERSION}", _unpack)
    return {path.stem.removeprefix(_PREFIX): path for path in sorted(folder.glob("*.gguf"))}


@functools.cache
def vocabulary(name: str) -> Vocabulary:
    """A vocabulary by name: ``llama-spm``, ``gpt-2``, ``qwen2``, ``llama-bpe``, ``phi-3``, ...

    Raises:
        KeyError: there is none of that name; the message lists the names.
        wasm.source.BuildError: as in :func:`vocabulary_files`.
    """
    files = vocabulary_files()
    if name not in files:
        raise KeyError(f"no vocabulary named {name!r}; there are: {', '.join(files)}")
    path = files[name]
    entries = {k: v for k, v in _entries(path.read_bytes()) if k.startswith("tokenizer.")}
    return Vocabulary(name, entries, tuple(test_vectors(path)))


def test_vectors(path: Path) -> Iterator[tuple[str, list[int]]]:
    """The texts beside a vocabulary's file, and the tokens that they must give, without special tokens."""
    texts, tokens = path.with_name(path.name + ".inp"), path.with_name(path.name + ".out")
    if texts.is_file():
        inputs = texts.read_bytes().decode().split(_TEST_SEPARATOR)
        outputs = tokens.read_text(encoding="utf-8").splitlines()
        if len(inputs) == len(outputs) + 1 and not inputs[-1]:
            inputs.pop()
        for text, line in zip(inputs, outputs, strict=True):
            yield text, [int(token) for token in line.split()]


def _unpack(folder: Path) -> None:
    sdist = source.fetch(cache_folder("wasm"), sys.executable, None, lambda _: None)
    folder.mkdir()
    with tarfile.open(sdist) as archive:
        for member in archive:
            member.name = Path(member.name).name
            if member.isfile() and member.name.startswith(_PREFIX):
                archive.extract(member, folder, filter="data")


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The metadata of a GGUF file, with raw values. The file is trusted, because its digest was checked."""
    (count,) = struct.unpack_from("<Q", data, 16)
    pos = 24
    for _ in range(count):
        start = _after_string(data, pos)
        key = data[pos + 8 : start].decode()
        (kind,) = struct.unpack_from("<I", data, start)
        pos = _after_value(data, start + 4, kind)
        yield key, data[start:pos]


def _after_value(data: bytes, pos: int, kind: int) -> int:
    if kind == _STRING:
        return _after_string(data, pos)
    if kind != _ARRAY:
        return pos + _SIZES[kind]
    element, count = struct.unpack_from("<IQ", data, pos)
    pos += 12
    if element in _SIZES:
        return int(pos + count * _SIZES[element])
    for _ in range(count):
        pos = _after_value(data, pos, element)
    return pos


def _after_string(data: bytes, pos: int) -> int:
    return pos + 8 + int.from_bytes(data[pos : pos + 8], "little")

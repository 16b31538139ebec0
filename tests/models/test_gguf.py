"""GGUF headers: a good one is read right, every broken one is refused before an engine sees it."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_bridge import InvalidModel, LlamaBridge, ModelNotFound
from llama_bridge.models.gguf import ArrayRef, read_gguf
from llama_bridge.models.source import open_model

DEMO = open_model("demo").path.read_bytes()


def read(data: bytes) -> object:
    return read_gguf(io.BytesIO(data), "m.gguf")


def test_the_demo_models_header() -> None:
    header = read_gguf(io.BytesIO(DEMO), "demo")
    assert header.architecture == "llama"
    assert header.file_size == len(DEMO) <= 3_000_000
    assert 1_000_000 < header.n_parameters < 3_000_000
    assert isinstance(header.metadata["tokenizer.ggml.tokens"], ArrayRef)
    assert header.text("tokenizer.chat_template")
    assert all(t.n_bytes for t in header.tensors)


def test_the_gguf_package_agrees() -> None:
    import gguf  # and numpy: not in a page

    header = read_gguf(io.BytesIO(DEMO), "demo")
    theirs = gguf.GGUFReader(open_model("demo").path)
    assert [t.name for t in theirs.tensors] == [t.name for t in header.tensors]
    ours = [header.data_offset + t.offset for t in header.tensors]
    assert [t.data_offset for t in theirs.tensors] == ours
    assert [t.n_bytes for t in theirs.tensors] == [t.n_bytes for t in header.tensors]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"GG", "not a GGUF"),
        (b"just some text, named .gguf\n" * 40, "not a GGUF"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF"),
        (b"GGUF", "truncated"),
        (DEMO[:30], "truncated"),
        (DEMO[:5000], "truncated"),
        (DEMO[: len(DEMO) // 2], "truncated"),
        (DEMO[:-1], "truncated"),
        (b"GGUF" + struct.pack("<I", 1) + DEMO[8:], "version 1"),
        (b"GGUF" + struct.pack("<I", 99) + DEMO[8:], "version 99"),
        (b"GGUF" + struct.pack(">I", 3) + DEMO[8:], "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + bytes(200), "do not fit"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "general.architecture"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_a_broken_file_is_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        read(data)


@given(st.integers(0, 6000), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_read_or_refused_but_never_crashes(at: int, patch: bytes) -> None:
    damaged = DEMO[:at] + patch + DEMO[at + len(patch) :]
    with contextlib.suppress(InvalidModel):
        assert read(damaged)


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_each_bad_model_path_has_its_own_error(tmp_path: Path, backend: str) -> None:
    cases: dict[str, tuple[bytes | None, type[Exception], str]] = {
        "missing.gguf": (None, ModelNotFound, "no such file"),
        "empty.gguf": (b"", InvalidModel, "empty"),
        "text.gguf": (b"hello there\n" * 99, InvalidModel, "not a GGUF"),
        "cut.gguf": (DEMO[: len(DEMO) - 4096], InvalidModel, "download or copy it again"),
    }
    for name, (data, kind, says) in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(kind, match=says) as caught:
            LlamaBridge(path, backend=backend)
        assert str(path) in str(caught.value)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.gguf").write_bytes(b"x")
    with pytest.raises(InvalidModel, match=r"a directory.*a\.gguf"):
        LlamaBridge(tmp_path / "folder", backend=backend)
    with pytest.raises(ModelNotFound, match="packaged model, 'demo'"):
        LlamaBridge("demo.gguf", backend=backend)


def test_a_missing_model_is_also_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LlamaBridge(tmp_path / "nothing.gguf")


def test_the_fingerprint_is_of_content_not_of_the_file(tmp_path: Path) -> None:
    same = tmp_path / "renamed.gguf"
    same.write_bytes(DEMO)
    assert open_model(same).fingerprint == open_model("demo").fingerprint

    other = bytearray(DEMO)
    header = open_model("demo").header
    tensor = next(t for t in header.tensors if t.n_bytes and t.n_bytes > 4096)
    start = header.data_offset + tensor.offset
    for i in range(start, start + (tensor.n_bytes or 0), 7):
        other[i] ^= 1
    same.write_bytes(other)
    changed = open_model(same).fingerprint
    differing = {k for k, v in open_model("demo").fingerprint.items() if changed[k] != v}
    assert differing == {"weights"}

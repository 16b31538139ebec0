"""A file that is something else is told by its name: what it is, and what to do."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from llama_bridge import InvalidModel, ModelNotFound, SessionCorrupt
from llama_bridge.files.format import read_session_file
from llama_bridge.models.file_kinds import file_kind
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeLlama

SAFETENSORS = struct.pack("<Q", 60) + b'{"weight":{"dtype":"F16"}}' + bytes(400)
OTHERS = [
    ("text", b"hello there\n" * 99, "a text file", "give the path of a GGUF file"),
    ("text", "Größe\n".encode() * 99, "a text file", "give the path of a GGUF file"),
    ("text", b"hi", "a text file", "give the path of a GGUF file"),
    ("safetensors", SAFETENSORS, "a safetensors file", "convert_hf_to_gguf.py"),
    ("zip", b"PK\x03\x04" + bytes(100), "a ZIP archive", "unpack it"),
    ("pytorch", b"\x80\x02}q\x00" + bytes(100), "a PyTorch file", "convert_hf_to_gguf.py"),
    ("compressed", gzip.compress(b"GGUF" * 50, mtime=0), "a compressed file", "unpack it first"),
    ("html", b"\n<!DOCTYPE html>\n<p>" * 9, "a web page", "download the file itself"),
    ("json", b'{"model_type": "llama"}' * 9, "a JSON file", "give the path of a GGUF file"),
    ("ggml", b"lmgg" + bytes(100), "older than GGUF", "download it in GGUF format"),
    (
        "git-lfs",
        b"version https://git-lfs.example/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer",
        "git lfs pull",
    ),
]
unknown = pytest.mark.parametrize(
    "data", [bytes(600), b"\xff" * 600, bytes(range(256)) * 3, b"GG\x00", b" \n\n"]
)


@pytest.mark.parametrize(("name", "data", "what", "way_out"), OTHERS)
def test_another_file_given_as_model_is_told_by_what_it_is(
    tmp_path: Path, name: str, data: bytes, what: str, way_out: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidModel) as caught:
        open_model(path)
    assert caught.value.found == name
    assert f"{what}, not a GGUF file: " in str(caught.value)
    assert way_out in str(caught.value)


@pytest.mark.parametrize(("name", "data", "what", "way_out"), OTHERS)
def test_another_file_given_as_session_is_told_by_what_it_is(
    tmp_path: Path, name: str, data: bytes, what: str, way_out: str
) -> None:
    path = tmp_path / "talk.session"
    path.write_bytes(data)
    with pytest.raises(SessionCorrupt) as caught:
        read_session_file(path)
    assert caught.value.found == name
    assert f"{what}, not a session" in str(caught.value)
    assert way_out not in str(caught.value)  # that one leads to a model


def test_a_model_given_as_session_is_told_by_every_call(tmp_path: Path) -> None:
    model = open_model("demo").path
    with FakeLlama() as llama:
        llama.generate("hello")
        before = llama.session().messages
        for call in (llama.session_load, llama.session_verify, read_session_file):
            with pytest.raises(SessionCorrupt, match="this is a model file") as caught:
                call(model)
            assert caught.value.found == "gguf"
            assert str(caught.value).endswith(
                "this is a model file (GGUF), not a session: load it with LlamaBridge(path)"
            )
        assert llama.session().messages == before
    (tmp_path / "tiny.gguf").write_bytes(model.read_bytes()[:20])
    with pytest.raises(SessionCorrupt, match="this is a model file"):
        read_session_file(tmp_path / "tiny.gguf")


def test_a_session_given_as_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "talk.session"
    with FakeLlama() as llama:
        llama.generate("hello")
        llama.session_save(path)
        with pytest.raises(InvalidModel, match="this is a saved session, not a GGUF") as caught:
            llama.load_model(path)
        assert "session_load(path)" in str(caught.value)
        assert caught.value.found == "session"


@unknown
def test_what_cannot_be_told_is_refused_with_its_beginning(tmp_path: Path, data: bytes) -> None:
    assert file_kind(data) is None
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match="not a GGUF file: it begins with") as caught:
        open_model(path)
    assert "give the path of a GGUF file" in str(caught.value)
    with pytest.raises(SessionCorrupt, match="not a"):
        read_session_file(path)


def test_text_cut_off_within_a_letter_is_text() -> None:
    kind = file_kind(("ö" * 600).encode()[:511])
    assert kind is not None
    assert kind.name == "text"


def test_no_file_an_empty_one_and_a_folder_each_have_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file: give the path of a GGUF file"):
        open_model(tmp_path / "nowhere.gguf")
    with pytest.raises(ModelNotFound, match="no such file: download the file from this address"):
        open_model("https://example.org/model.gguf")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(InvalidModel, match="the file is empty: download or copy it again"):
        open_model(tmp_path / "empty.gguf")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InvalidModel, match="this is a directory without a GGUF file") as no:
        open_model(folder)
    assert no.value.found == "directory"
    (folder / "a.gguf").touch()
    with pytest.raises(InvalidModel, match=r"a directory: give the path of .* \(a\.gguf\)"):
        open_model(folder)
    with pytest.raises(SessionCorrupt, match="this is a directory: give the path of a saved"):
        read_session_file(folder)

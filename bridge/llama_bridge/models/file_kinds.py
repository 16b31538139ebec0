"""What kind of file this is, judged by its first bytes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BEGINNING", "GGUF", "FileKind", "file_kind"]

BEGINNING = 512
"""How many bytes are examined."""

GGUF = "gguf"
_LARGEST_TABLE = 1 << 27
_CONVERT = "convert it to GGUF with llama.cpp's convert_hf_to_gguf.py"
_GIVE_GGUF = "give the path of a GGUF file"


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: name for programs.
        what: name for people, with an article.
        way_out: what to do if a model was expected.
    """

    name: str
    what: str
    way_out: str


_SESSION = FileKind(
    "session", "a saved session", "load its model first, then the session with session_load(path)"
)
_OLD = FileKind("ggml", "a model in a format older than GGUF", "download it in GGUF format")
_PICKLE = FileKind("pytorch", "a PyTorch file", _CONVERT)
_PACKED = FileKind("compressed", "a compressed file", "unpack it first")
_BY_MAGIC = {
    b"GGUF": FileKind(GGUF, "a model file (GGUF)", "load it with LlamaBridge(path)"),
    b"qsgg": _SESSION,  # "ggsq" as a little-endian number, as are the three of old models
    b"lmgg": _OLD,
    b"fmgg": _OLD,
    b"tjgg": _OLD,
    b"PK\x03\x04": FileKind(
        "zip", "a ZIP archive", f"unpack it, or if it is from PyTorch, {_CONVERT}"
    ),
    b"\x80\x02": _PICKLE,
    b"\x1f\x8b": _PACKED,
    b"\x28\xb5\x2f\xfd": _PACKED,
    b"\xfd7zXZ": _PACKED,
    b"7z\xbc\xaf": _PACKED,
    b"BZh": _PACKED,
    b"version https://git-lfs": FileKind(
        "git-lfs", "a Git LFS pointer", "fetch the real file with: git lfs pull"
    ),
}
_SAFETENSORS = FileKind("safetensors", "a safetensors file", _CONVERT)
_PAGE = FileKind("html", "a web page", "download the file itself, not the page that describes it")
_JSON = FileKind("json", "a JSON file", _GIVE_GGUF)
_TEXT = FileKind("text", "a text file", _GIVE_GGUF)


def file_kind(beginning: bytes) -> FileKind | None:
    """The kind of a file that begins like this, or None if unknown."""
    for magic, kind in _BY_MAGIC.items():
        if beginning.startswith(magic):
            return kind
    # The tensor table is JSON, preceded by its length.
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < _LARGEST_TABLE:
        return _SAFETENSORS
    return _kind_of_text(beginning)


def _kind_of_text(beginning: bytes) -> FileKind | None:
    text = beginning.decode("utf-8", "replace")
    cut_off = text.rstrip("\N{REPLACEMENT CHARACTER}")  # the last character may be cut in two
    if len(text) - len(cut_off) > 1 or not all(c.isprintable() or c.isspace() for c in cut_off):
        return None
    if "\N{REPLACEMENT CHARACTER}" in cut_off or not cut_off.strip():
        return None
    start = cut_off.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return _PAGE
    return _JSON if start.startswith(("{", "[")) else _TEXT

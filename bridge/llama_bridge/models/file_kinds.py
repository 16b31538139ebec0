"""What a file is that was taken for something else, told by its first bytes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BEGINNING", "GGUF", "FileKind", "file_kind"]

BEGINNING = 512
"""So many bytes are looked at."""

GGUF = "gguf"
_LARGEST_TABLE = 1 << 27
_CONVERT = "llama.cpp's convert_hf_to_gguf.py makes a GGUF file of it"
_GIVE_GGUF = "give the path of a GGUF file"


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: for programs.
        what: for people, with its article.
        way_out: what to do with it where a model was asked for.
    """

    name: str
    what: str
    way_out: str


_SESSION = FileKind(
    "session", "a saved session", "load its model, and then the session with session_load(path)"
)
_OLD = FileKind("ggml", "a model in a format older than GGUF", "download it as GGUF")
_PICKLE = FileKind("pytorch", "a PyTorch file", _CONVERT)
_PACKED = FileKind("compressed", "a compressed file", "unpack it first")
_BY_MAGIC = {
    b"GGUF": FileKind(GGUF, "a model file (GGUF)", "load it with LlamaBridge(path)"),
    b"qsgg": _SESSION,  # "ggsq" as a little-endian number, as are the three of old models
    b"lmgg": _OLD,
    b"fmgg": _OLD,
    b"tjgg": _OLD,
    b"PK\x03\x04": FileKind("zip", "a ZIP archive", f"unpack it; if it is of PyTorch, {_CONVERT}"),
    b"\x80\x02": _PICKLE,
    b"\x1f\x8b": _PACKED,
    b"\x28\xb5\x2f\xfd": _PACKED,
    b"\xfd7zXZ": _PACKED,
    b"7z\xbc\xaf": _PACKED,
    b"BZh": _PACKED,
    b"version https://git-lfs": FileKind(
        "git-lfs", "a Git LFS pointer", "fetch the file that it stands for with: git lfs pull"
    ),
}
_SAFETENSORS = FileKind("safetensors", "a safetensors file", _CONVERT)
_PAGE = FileKind("html", "a web page", "download the file itself, not the page about it")
_JSON = FileKind("json", "a JSON file", _GIVE_GGUF)
_TEXT = FileKind("text", "a text file", _GIVE_GGUF)


def file_kind(beginning: bytes) -> FileKind | None:
    """The kind of a file with this beginning, or None where it cannot be told."""
    for magic, kind in _BY_MAGIC.items():
        if beginning.startswith(magic):
            return kind
    # Its table of tensors is JSON, with its length before it.
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < _LARGEST_TABLE:
        return _SAFETENSORS
    return _kind_of_text(beginning)


def _kind_of_text(beginning: bytes) -> FileKind | None:
    text = beginning.decode("utf-8", "replace")
    cut_off = text.rstrip("\N{REPLACEMENT CHARACTER}")  # in the middle of its last letter
    if len(text) - len(cut_off) > 1 or not all(c.isprintable() or c.isspace() for c in cut_off):
        return None
    if "\N{REPLACEMENT CHARACTER}" in cut_off or not cut_off.strip():
        return None
    start = cut_off.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return _PAGE
    return _JSON if start.startswith(("{", "[")) else _TEXT

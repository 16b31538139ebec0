"""Identifies a model by its content, so that a session is never loaded into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from .gguf import GgufHeader, Span

__all__ = ["fingerprint"]

_SAMPLE = 512
_SAMPLES_PER_TENSOR = 3
_PIECE = 1 << 20


def fingerprint(files: Sequence[tuple[Callable[[], BinaryIO], GgufHeader]]) -> dict[str, str]:
    """The fields that a session file records of its model; see :attr:`ModelFile.fingerprint`.

    Args:
        files: the model's file, or its parts in order: what opens each, and its own header.
    """
    import hashlib  # 5 ms with OpenSSL: only sessions need it

    first = files[0][1]
    template = first.text("tokenizer.chat_template").encode()

    def sha256(spans_of: Callable[[GgufHeader], Iterable[Span]]) -> str:
        digest = hashlib.sha256()
        for open_file, header in files:
            with open_file() as file:
                for piece in _pieces(file, spans_of(header)):
                    digest.update(piece)
        return digest.hexdigest()

    return {
        "architecture": first.architecture,
        "vocabulary": sha256(lambda header: header.vocabulary_spans),
        "chat_template": hashlib.sha256(template).hexdigest(),
        "tensors": sha256(lambda header: [header.tensors_span]),
        "weights": sha256(_samples),
        "metadata": sha256(lambda header: [header.metadata_span]),
    }


def _samples(header: GgufHeader) -> Iterable[Span]:
    """A few bytes of every tensor, including its first and last."""
    for tensor in header.tensors:
        room = max(0, (tensor.n_bytes or _SAMPLE) - _SAMPLE)
        for i in range(_SAMPLES_PER_TENSOR):
            at = header.data_offset + tensor.offset + room * i // max(1, _SAMPLES_PER_TENSOR - 1)
            yield at, at + _SAMPLE


def _pieces(file: BinaryIO, spans: Iterable[Span]) -> Iterable[bytes]:
    """The bytes of these parts of a file, up to its end."""
    for start, end in spans:
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            yield piece
            start += len(piece)

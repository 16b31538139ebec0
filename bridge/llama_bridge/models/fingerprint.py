"""Identifies a model by its content, so that a session is never loaded into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from .gguf import GgufHeader, Span

__all__ = ["fingerprint"]

_SAMPLE = 512
_SAMPLES_PER_TENSOR = 3
_PIECE = 1 << 20


def fingerprint(open_file: Callable[[], BinaryIO], header: GgufHeader) -> dict[str, str]:
    """The fields that a session file records of its model; see :attr:`ModelFile.fingerprint`."""
    import hashlib  # 5 ms with OpenSSL: only sessions need it

    template = header.text("tokenizer.chat_template").encode()
    with open_file() as file:
        return {
            "architecture": header.architecture,
            "vocabulary": _sha256(file, header.vocabulary_spans),
            "chat_template": hashlib.sha256(template).hexdigest(),
            "tensors": _sha256(file, [header.tensors_span]),
            "weights": _sha256(file, _samples(header)),
            "metadata": _sha256(file, [header.metadata_span]),
        }


def _samples(header: GgufHeader) -> Iterable[Span]:
    """A few bytes of every tensor, including its first and last."""
    for tensor in header.tensors:
        room = max(0, (tensor.n_bytes or _SAMPLE) - _SAMPLE)
        for i in range(_SAMPLES_PER_TENSOR):
            at = header.data_offset + tensor.offset + room * i // max(1, _SAMPLES_PER_TENSOR - 1)
            yield at, at + _SAMPLE


def _sha256(file: BinaryIO, spans: Iterable[Span]) -> str:
    """Hash these parts of a file, up to its end."""
    import hashlib  # as in fingerprint(): 5 ms

    digest = hashlib.sha256()
    for start, end in spans:
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            digest.update(piece)
            start += len(piece)
    return digest.hexdigest()

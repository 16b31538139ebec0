"""What identifies a model by content, so that a session is never loaded into another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from .gguf import GgufHeader

__all__ = ["fingerprint"]

_SAMPLE = 512
_SAMPLES_PER_TENSOR = 3


def fingerprint(open_file: Callable[[], BinaryIO], header: GgufHeader) -> dict[str, str]:
    """The fields that a session file records of its model; see :attr:`ModelFile.fingerprint`."""
    import hashlib  # as in gguf.py

    template = header.text("tokenizer.chat_template").encode()
    return {
        "architecture": header.architecture,
        "vocabulary": header.vocabulary_sha256,
        "chat_template": hashlib.sha256(template).hexdigest(),
        "tensors": header.tensors_sha256,
        "weights": _weights_sha256(open_file, header),
        "metadata": header.metadata_sha256,
    }


def _weights_sha256(open_file: Callable[[], BinaryIO], header: GgufHeader) -> str:
    import hashlib  # as in gguf.py

    digest = hashlib.sha256()
    with open_file() as file:
        for tensor in header.tensors:
            room = max(0, (tensor.n_bytes or _SAMPLE) - _SAMPLE)
            for i in range(_SAMPLES_PER_TENSOR):
                at = (
                    header.data_offset + tensor.offset + room * i // max(1, _SAMPLES_PER_TENSOR - 1)
                )
                file.seek(at)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()

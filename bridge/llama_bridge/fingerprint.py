"""What identifies a model by content, so that a session is never loaded into another one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .gguf import GgufHeader

__all__ = ["fingerprint"]

_SAMPLE = 512
_SAMPLES_PER_TENSOR = 3


def fingerprint(path: Path, header: GgufHeader) -> dict[str, str]:
    """The fields that a session file records of its model; see :attr:`ModelFile.fingerprint`."""
    template = header.text("tokenizer.chat_template").encode()
    return {
        "architecture": header.architecture,
        "vocabulary": header.vocabulary_sha256,
        "chat_template": hashlib.sha256(template).hexdigest(),
        "tensors": header.tensors_sha256,
        "weights": _weights_sha256(path, header),
        "metadata": header.metadata_sha256,
    }


def _weights_sha256(path: Path, header: GgufHeader) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for tensor in header.tensors:
            room = max(0, (tensor.n_bytes or _SAMPLE) - _SAMPLE)
            for i in range(_SAMPLES_PER_TENSOR):
                at = (
                    header.data_offset + tensor.offset + room * i // max(1, _SAMPLES_PER_TENSOR - 1)
                )
                file.seek(at)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()

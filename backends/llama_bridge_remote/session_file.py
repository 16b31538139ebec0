"""Session files of conversations that a server keeps: what was said, and what the server calls it.

One JSON object: ``format``, ``version``, ``digest`` (SHA-256 of ``body`` as it stands), and ``body``, which is JSON text.
The KV cache itself never leaves the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_bridge.checks import full_path
from llama_bridge.errors import SessionCorrupt, SessionNotFound
from llama_bridge.files.replacing import OPEN_SAFELY, replace_file
from llama_bridge.json_text import read_json
from llama_bridge.params import SamplingParams
from llama_bridge.verification import FieldCheck, Verification

__all__ = ["plain", "read_file", "verified", "whole", "write_file"]

_VERSION = 1
_MOST = 64 << 20


def write_file(target: Path, form: str, body: Mapping[str, Any]) -> int:
    """Write a session file, or leave what was there; returns its size in bytes.

    Raises:
        SessionWriteError.
    """
    text = json.dumps(body, ensure_ascii=False)
    outer = {
        "format": form,
        "version": _VERSION,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "body": text,
    }
    data = json.dumps(outer, ensure_ascii=False).encode()
    replace_file(target, lambda file: file.write(data))
    return len(data)


def read_file(path: str | os.PathLike[str], form: str, what: str) -> tuple[Path, int, Any]:
    """The path of a session file, its size and its body.

    Args:
        path: where it is.
        form: its format.
        what: a file of that format, in words.

    Raises:
        InvalidInput, SessionNotFound, SessionCorrupt.
    """
    given = Path(full_path("path", path))
    data = _bytes(given)
    try:
        outer = read_json(data.decode())
        if outer["format"] != form:
            raise ValueError("it has another format")
    except (ValueError, TypeError, KeyError) as error:
        raise SessionCorrupt(given, f"it is no {what}") from error
    if outer.get("version") != _VERSION:
        raise SessionCorrupt(
            given, f"it has version {outer.get('version')!r}, but this one reads {_VERSION}"
        )
    try:
        body = outer["body"]
        if hashlib.sha256(body.encode()).hexdigest() != outer["digest"]:
            raise ValueError("its digest does not fit: it was altered")
        return given, len(data), read_json(body)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SessionCorrupt(given, str(error)) from error


def _bytes(path: Path) -> bytes:
    try:
        number = os.open(path, os.O_RDONLY | OPEN_SAFELY & ~getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError as error:
        raise SessionNotFound(path, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise SessionCorrupt(path, f"it cannot be read: {error}") from error
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise SessionCorrupt(path, "it is no file")
    with os.fdopen(number, "rb") as file:
        if found.st_size > _MOST:
            raise SessionCorrupt(path, f"it has more than {_MOST >> 20} MiB")
        return file.read(_MOST)


def plain(sampling: SamplingParams) -> dict[str, Any]:
    """How tokens are drawn, as JSON."""
    fields = {name: getattr(sampling, name) for name in sampling.__dataclass_fields__}
    bias = [
        [token, "-inf" if value == float("-inf") else value]
        for token, value in sampling.logit_bias.items()
    ]
    return {**fields, "logit_bias": bias}


def whole(value: object) -> int:
    """A number of a file.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError("a number in it is none")
    return value


def verified(path: Path, n_bytes: int, n_tokens: int, checks: list[FieldCheck]) -> Verification:
    """What was compared, and what the first difference means."""
    refusal = next(
        (
            f"{one.field} differs: saved with {one.saved!r}, now {one.current!r}"
            for one in checks
            if not one.same
        ),
        None,
    )
    return Verification(path, n_bytes, n_tokens, tuple(checks), refusal)

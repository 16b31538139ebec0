"""What a session file must match to be loaded, compared field by field, and why a file is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any, cast

from ..engine import EngineInfo
from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..models.adapter import Adapter
from ..models.source import ModelFile
from ..verification import FieldCheck

__all__ = [
    "compare",
    "compare_fields",
    "context_room",
    "part",
    "recorded",
    "refuse_foreign_tokens",
    "refuse_what_does_not_fit",
    "requirements",
    "state_version",
]


def requirements(info: EngineInfo, model: ModelFile, adapters: Sequence[Adapter]) -> dict[str, Any]:
    """What a file must match to be loaded, most telling field first. The names come from the file format."""
    return {
        "model": model.fingerprint,
        "context": {
            "state_format": info.state_format,
            "kv_type_k": info.type_k,
            "kv_type_v": info.type_v,
            "flash_attention": info.flash_attn,
            "rope": "model",
            "lora": [
                {"name": adapter.name, "sha256": adapter.sha256, "scale": adapter.scale}
                for adapter in adapters
            ],
            "byte_order": sys.byteorder,
        },
    }


def state_version(info: EngineInfo) -> int:
    """The number at the end of an engine's state format, for llama.cpp's sequence file; 0 if there is none.

    Compatibility depends on the whole text, which the manifest records.
    """
    found = re.search(r"[0-9]{1,9}$", info.state_format)
    return int(found[0]) if found else 0


def recorded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a file was saved with, including defaults that older files leave out."""
    context: dict[str, Any] = {"byte_order": "little"}
    return {**manifest, "context": context | part(manifest, "context")}


def part(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields under a key of the manifest; empty if it is not an object."""
    value = manifest.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def compare_fields(
    saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = ""
) -> Generator[FieldCheck]:
    """Compare every field of ``current``, in order, with the file."""
    for key, value in current.items():
        was = saved.get(key)
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", was if isinstance(was, dict) else {})
            yield from compare_fields(inner, cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            same = _by_content(was) == _by_content(value) and type(was) is type(value)
            yield FieldCheck(f"{prefix}{key}", was, value, same)


def _by_content(value: object) -> object:
    """A value without the names of adapters: those may have been renamed."""
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    return [
        {k: v for k, v in cast("dict[str, Any]", one).items() if k != "name"}
        if isinstance(one, dict)
        else one
        for one in items
    ]


def compare(path: PathLike, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse a file that was saved with another model or settings.

    Raises:
        SessionMismatch: at the first field that differs.
    """
    for check in compare_fields(saved, current):
        if not check.same:
            raise SessionMismatch(path, check.field, check.saved, check.current)


def context_room(n_tokens: int, saved: object, info: EngineInfo) -> FieldCheck:
    """The saved and the current context length; they differ only if the conversation does not fit."""
    return FieldCheck("context.n_ctx", saved, info.n_ctx, n_tokens <= info.n_ctx)


def refuse_what_does_not_fit(
    path: PathLike, n_tokens: int, saved: object, info: EngineInfo
) -> None:
    """Refuse a conversation that is longer than the context.

    Raises:
        SessionMismatch.
    """
    room = context_room(n_tokens, saved, info)
    if not room.same:
        why = f"its {n_tokens} tokens do not fit"
        raise SessionMismatch(path, room.field, room.saved, room.current, why)


def refuse_foreign_tokens(path: PathLike, tokens: tuple[int, ...], info: EngineInfo) -> None:
    """Refuse tokens that the model lacks: an engine would read foreign memory.

    Raises:
        SessionCorrupt.
    """
    if not all(0 <= token < info.n_vocab for token in tokens):
        raise SessionCorrupt(path, "its token ledger has tokens that the model lacks")

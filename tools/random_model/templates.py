"""The chat templates of real models that lie in the source distribution of llama-cpp-python."""

from __future__ import annotations

import functools
import sys
import tarfile
from pathlib import Path

from wasm import source

from .cache import cache_folder, kept

__all__ = ["templates"]

_FOLDER = "/vendor/llama.cpp/models/templates/"


@functools.cache
def templates() -> dict[str, str]:
    """All of them by name, such as ``"Qwen-Qwen2.5-7B-Instruct"``.

    The first call on a machine fetches the source distribution, unless the build of chat.wasm has already.

    Raises:
        wasm.source.BuildError: the source distribution cannot be had.
    """
    folder = kept(cache_folder("") / f"templates-{source.VERSION}", _unpack)
    found = sorted(folder.glob("*.jinja"))
    return {path.stem: path.read_bytes().decode() for path in found}


def _unpack(folder: Path) -> None:
    sdist = source.fetch(cache_folder("wasm"), sys.executable, None, lambda _: None)
    folder.mkdir()
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.isfile() and _FOLDER in member.name and member.name.endswith(".jinja"):
                member.name = Path(member.name).name
                archive.extract(member, folder, filter="data")

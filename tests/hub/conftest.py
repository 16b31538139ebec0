"""A hub on this machine with real models, and a home in which nothing of this user's is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge.hub import transfer
from llama_bridge.models.source import open_model
from llama_bridge.progress import Progress
from llama_bridge.testing.hub import HubServer
from llama_bridge.user_cache import user_cache

NAME = b"llama-bridge demo"


def real(mark: str) -> bytes:
    """A whole model, of 2.6 MB, that differs from others by a mark of four letters in its name."""
    data = open_model("demo").path.read_bytes()
    assert len(mark) == 4
    return data.replace(NAME, NAME[:-4] + mark.encode(), 1)


def keep_compiled(caches: Path) -> None:
    """Give an empty cache folder the modules that were compiled for this machine: that takes seconds."""
    if (there := user_cache()) is not None and (there / "compiled").is_dir():
        folder = caches / "llama-bridge" / "compiled"
        folder.mkdir(parents=True, mode=0o700)
        for path in (there / "compiled").glob("*.cwasm"):
            (folder / path.name).symlink_to(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub that everything here asks."""
    if sys.platform == "emscripten":
        pytest.skip("a page has no server")
    keep_compiled(tmp_path / "caches")
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    with HubServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server


class Heard(list[Progress]):
    """Progress, to be looked at."""

    def stages(self) -> list[str]:
        """The stages, in order."""
        return list(dict.fromkeys(step.stage for step in self))

    def __call__(self, step: Progress) -> None:
        """Listen."""
        self.append(step)


@pytest.fixture
def heard() -> Heard:
    """Something to pass as ``on_progress``."""
    return Heard()


def files_in(folder: Path) -> list[str]:
    """All files below a folder but locks, sorted."""
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()]
    return sorted(name for name in found if not name.startswith(".locks"))

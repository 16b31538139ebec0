"""A model by name, from nothing to the first token, beside a plain download."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.testing.hub import HubServer
from tools.random_model import QWEN2_HALF_BILLION, TINY, cached_model

from .measure import alternate, ratio, seconds, spread
from .report import Report, ms

__all__ = ["measure_pull"]

_PULL = 1.1
_ONE = SamplingParams(max_tokens=1, temperature=0)
_FILE = "model-Q8_0.gguf"


def measure_pull(report: Report, backends: list[str], *, rounds: int, quick: bool) -> None:
    """Both by turns, each into an empty folder."""
    backend = "native" if "native" in backends else backends[0]
    model = cached_model(**(TINY if quick else QWEN2_HALF_BILLION | {"quantization": "q8_0"}))
    rounds = max(3, rounds // 2)
    with HubServer() as hub:
        hub.add("org/repo", {_FILE: model})
        address = hub.address("org/repo", _FILE)

        def pulled() -> float:
            with TemporaryDirectory() as folder, _environment(hub.environment(Path(folder))):
                return _first_token(lambda: f"hf:org/repo/{_FILE}", backend)

        def downloaded() -> float:
            with TemporaryDirectory() as folder:
                return _first_token(lambda: _download(address, Path(folder, _FILE)), backend)

        _first_token(lambda: str(model), backend)  # all is imported from here on
        found = alternate({"by name": pulled, "download, then load": downloaded}, rounds, "pull")
    share = ratio(found["by name"], found["download, then load"])
    report.table(
        f"From nothing to the first token, {model.stat().st_size / 1e6:.0f} MB from a server on this machine, {rounds} rounds",
        ["", "ms"],
        [[name, ms(spread(times))] for name, times in found.items()],
        "The plain download checks no digest and continues nothing.",
    )
    report.bound(
        f"by name at most {_PULL} of a plain download",
        share.median,
        share.median <= _PULL,
        f"{share.median:.2f}",
    )


def _first_token(place: Callable[[], str], backend: str) -> float:
    def work() -> None:
        params = ModelParams(n_ctx=512, n_threads=1)
        with LlamaBridge(place(), backend=backend, params=params) as llama:
            llama.generate("Hello", sampling=_ONE)

    return seconds(work)


def _download(address: str, path: Path) -> str:
    with urllib.request.urlopen(address) as response, path.open("wb") as file:
        while piece := response.read(1 << 20):
            file.write(piece)
    return str(path)


@contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

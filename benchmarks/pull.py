"""A model by name, from nothing to the first token, beside a plain download."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
_FOLDER = "/folder"
_LINES = {"as fast as two processes can": 0.0, "1 Gbit/s": 0.0005}
"""Seconds that the server waits after each 64 kB."""


def measure_pull(report: Report, backends: list[str], *, rounds: int, quick: bool) -> None:
    """Both by turns, each into an empty folder, from a server on this machine: as fast as it can, and as fast as most lines."""
    backend = "native" if "native" in backends else backends[0]
    model = cached_model(**(TINY if quick else QWEN2_HALF_BILLION | {"quantization": "q8_0"}))
    rounds = max(3, rounds // 2)
    for line, pause in _LINES.items():
        found = _measured(model, backend, rounds, pause)
        share = ratio(found["by name"], found["download, then load"])
        report.table(
            f"From nothing to the first token, {model.stat().st_size / 1e6:.0f} MB, {line}, {rounds} rounds",
            ["", "ms"],
            [[name, ms(spread(times))] for name, times in found.items()],
            f"By name takes {share.median:.2f} of the other, which checks no digest, continues nothing and may lose the file in "
            "a power cut.",
        )
        if pause:
            report.bound(
                f"by name at most {_PULL} of a plain download, {line}",
                share.median,
                share.median <= _PULL,
                f"{share.median:.2f}",
            )


def _measured(model: Path, backend: str, rounds: int, pause: float) -> dict[str, list[float]]:
    with TemporaryDirectory() as caches, _server(model, pause) as (environment, address):

        def pulled() -> float:
            with TemporaryDirectory() as folder:
                places = {
                    name: value.replace(_FOLDER, folder) for name, value in environment.items()
                }
                with _environment(places | {"XDG_CACHE_HOME": caches}):
                    return _first_token(lambda: f"hf:org/repo/{_FILE}", backend)

        def downloaded() -> float:
            with TemporaryDirectory() as folder, _environment({"XDG_CACHE_HOME": caches}):
                return _first_token(lambda: _download(address, Path(folder, _FILE)), backend)

        pulled()  # all is imported and compiled from here on
        return alternate({"by name": pulled, "download, then load": downloaded}, rounds, "pull")


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


@contextmanager
def _server(model: Path, pause: float) -> Generator[tuple[dict[str, str], str]]:
    """A hub in another process, as a real one is: the environment that leads to it, and the file's plain address."""
    command = [sys.executable, "-m", "benchmarks.pull", str(model), str(pause)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            told = json.loads(server.stdout.readline())
            yield told["environment"], told["address"]
        finally:
            server.stdin.close()


def _serve(model: Path, pause: float) -> None:
    """Until standard input ends."""
    with HubServer() as hub:
        hub.add("org/repo", {_FILE: model})
        if pause:
            hub.fail("slow", path="*.gguf", times=None, seconds=pause)
        told = {
            "environment": hub.environment(Path(_FOLDER)),
            "address": hub.address("org/repo", _FILE),
        }
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), float(sys.argv[2]))

"""Model files: what it costs to check one, and to fetch one by name beside a plain download."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.models.source import open_model
from llama_bridge.testing.hub import HubServer
from tools.random_model import QWEN2_HALF_BILLION, TINY, cached_model, write_model

from .measure import alternate, ratio, seconds, spread
from .report import Report, ms

__all__ = ["measure_files"]

_PREFLIGHT = 0.050
_PULL = 1.1
_SHAPES: dict[str, dict[str, Any]] = {
    "0.5 GB": {"n_layer": 24, "n_embd": 896, "n_head": 14, "n_ff": 4864},
    "1.5 GB": {"n_layer": 28, "n_embd": 1536, "n_head": 12, "n_ff": 8960},
    "3.3 GB": {"n_layer": 36, "n_embd": 2048, "n_head": 16, "n_ff": 11008},
}
_ONE = SamplingParams(max_tokens=1, temperature=0)
_FILE = "model-Q8_0.gguf"


def measure_files(report: Report, backends: list[str], *, rounds: int, quick: bool) -> None:
    """The preflight and the fingerprint of hollow files; then a pull."""
    with TemporaryDirectory() as folder:
        _measure_checks(report, Path(folder), [*_SHAPES][: 1 if quick else None], rounds)
    backend = "native" if "native" in backends else backends[0]
    fetched = cached_model(**(TINY if quick else QWEN2_HALF_BILLION | {"quantization": "q8_0"}))
    _measure_pull(report, fetched, backend, rounds=max(3, rounds // 2))


def _measure_checks(report: Report, folder: Path, sizes: list[str], rounds: int) -> None:
    rows = []
    for name in sizes:
        path = folder / f"{name}.gguf"
        write_model(
            path, vocab="qwen2", architecture="qwen2", quantization="q8_0", hollow=True,
            n_head_kv=2, n_ctx_train=32768, **_SHAPES[name],
        )  # fmt: skip
        checks: list[float] = []
        prints: list[float] = []
        for _ in range(rounds):
            clock = time.perf_counter()
            model = open_model(path)
            checks.append(time.perf_counter() - clock)
            prints.append(seconds(partial(getattr, model, "fingerprint")))
        rows.append(
            [name, f"{path.stat().st_size / 1e9:.2f}", ms(spread(checks)), ms(spread(prints))]
        )
        if len(rows) == 1:
            found = spread(checks)
            report.bound(
                f"a file of {name} is checked in {_PREFLIGHT * 1e3:.0f} ms",
                found.median,
                found.median <= _PREFLIGHT,
                ms(found),
            )
    report.table(
        f"Checking a model file with 151,936 tokens, {rounds} rounds",
        ["", "GB", "preflight, ms", "fingerprint, ms"],
        rows,
        "The files are hollow: neither reads the weights, except for a few samples of them.",
    )


def _measure_pull(report: Report, model: Path, backend: str, *, rounds: int) -> None:
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
        found = alternate(
            {"by name": pulled, "download, then load": downloaded}, rounds, "files, pull"
        )
        print(f"files: {len(hub.asked)} requests", file=sys.stderr, flush=True)
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

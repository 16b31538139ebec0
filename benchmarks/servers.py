"""The server beside the servers that people would run instead: llama-cpp-python's, and llama.cpp's own.

Both are fetched from PyPI into the user's cache the first time. llama-server comes in the wheel ``xllamacpp``, which is built
without the instructions of newer CPUs: its speed is not that of one built here.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from llama_bridge import LlamaBridge
from tools.load.program import free_port
from tools.random_model.cache import cache_folder, kept

from .measure import Spread, alternate, ratio, spread
from .parallel import Crowd, prompts_of, say
from .report import Report, times

__all__ = ["LLAMA", "OURS", "PYTHON", "Server", "has_llama_server", "measure_servers"]

OURS, PYTHON, LLAMA = "llama-bridge serve", "llama-cpp-python's server", "llama-server"
_GAIN = 3.0
_SECONDS = 120
_PACKAGES = {
    PYTHON: [
        "fastapi==0.165.0",
        "sse-starlette==3.7.0",
        "starlette-context==0.5.1",
        "pydantic-settings==2.16.3",
        "PyYAML==6.0.4",
        "uvicorn==0.54.0",
    ],
    LLAMA: ["xllamacpp==2026.10.11549"],
}
_RUN_LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_parallel, params.n_ctx = sys.argv[1], *map(int, sys.argv[2:5])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[5])
params.n_batch = params.n_ubatch = 512
params.warmup = False
params.cache_ram_mib = 0
server = xllamacpp.Server(params)
time.sleep(1e6)
"""


def measure_servers(
    report: Report,
    model: Path,
    label: str,
    *,
    n_threads: int,
    rounds: int,
    callers: list[int],
    n_prompt: int,
    n_decode: int,
) -> None:
    """A table of tokens per second and times to the first token, and the bounds."""
    most = max(callers)
    n_ctx = most * (n_prompt + n_decode + 16)
    with LlamaBridge(model, backend="native", n_ctx=256) as llama:
        prompts = prompts_of(llama, most, n_prompt)
    with ExitStack() as opened:
        servers = {
            name: opened.enter_context(Server(name, model, most, n_ctx, n_threads))
            for name in (OURS, PYTHON, LLAMA)
        }
        calls: dict[str, Callable[[], Crowd]] = {
            f"{name}, {n}": partial(server.ask, prompts[:n], n_decode)
            for name, server in servers.items()
            for n in callers
        }
        found = alternate(calls, rounds, f"servers, {label}")
    rates = {name: [one.rate for one in crowds] for name, crowds in found.items()}
    rows: list[list[str]] = []
    for n in callers:
        for name in servers:
            crowds = found[f"{name}, {n}"]
            first = [sorted(crowd.first)[n // 2] for crowd in crowds]
            worst = [max(crowd.first) for crowd in crowds]
            share = ratio(rates[f"{name}, {n}"], rates[f"{PYTHON}, {n}"])
            rows.append(
                [
                    f"{n}",
                    name,
                    f"{spread(rates[f'{name}, {n}']).median:,.1f}",
                    times(share),
                    _ms(first),
                    _ms(worst),
                ]
            )
    columns = ["callers", "", "tokens/s of all", f"of {PYTHON}", "first token, ms", "worst, ms"]
    report.table(
        f"Servers, {label}: {n_threads} threads",
        columns,
        rows,
        f"Over HTTP, streamed. Medians; ratios within a round. {LLAMA} is a wheel without newer CPU instructions.",
    )
    n = 8
    gain = ratio(rates[f"{OURS}, {n}"], rates[f"{PYTHON}, {n}"])
    promise = f"{n} clients get at least {_GAIN:g} times the tokens of {PYTHON}, {label}"
    report.bound(promise, gain.median, gain.median >= _GAIN, times(gain))


def _ms(seconds: list[float]) -> str:
    found: Spread = spread(seconds)
    return f"{1000 * found.median:,.0f}"


def has_llama_server() -> bool:
    """Whether it is installed here, so that nothing has to be fetched."""
    return importlib.util.find_spec("xllamacpp") is not None


class Server:
    """A server in a process of its own.

    Attributes:
        port: where it answers, on 127.0.0.1.
    """

    def __init__(self, name: str, model: Path, most: int, n_ctx: int, n_threads: int) -> None:
        self.port = free_port()
        port, path = str(self.port), os.fspath(model)
        commands = {
            OURS: f"-m llama_bridge serve --port {port} --n-parallel {most} --n-ctx {n_ctx} --threads {n_threads} "
            "--backend native",
            PYTHON: f"-m llama_cpp.server --port {port} --n_ctx {n_ctx} --n_threads {n_threads} --n_threads_batch "
            f"{n_threads} --interrupt_requests False --verbose False --flash_attn True",
        }
        if name == LLAMA:
            command = ["-c", _RUN_LLAMA, path, port, str(most), str(n_ctx), str(n_threads)]
        else:
            command = [*commands[name].split(), *(["--model"] if name == PYTHON else []), path]
        fetched = name in _PACKAGES and not (name == LLAMA and has_llama_server())
        env = os.environ | ({"PYTHONPATH": _packages(name)} if fetched else {})
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._name = name

    def __enter__(self) -> Server:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                link.request("GET", "/v1/models")
                if link.getresponse().status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        self._process.kill()
        raise RuntimeError(f"{self._name} did not start")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, prompts: list[str], n_decode: int) -> Crowd:
        """All prompts at once, streamed."""
        return say([partial(_read, self.port, prompt, n_decode) for prompt in prompts], n_decode)


def _read(port: int, prompt: str, n_decode: int, heard: Callable[[], None]) -> int:
    """Ask for a completion, and read its stream; returns how many tokens it has."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"prompt": prompt, "max_tokens": n_decode, "temperature": 0, "stream": True}
    headers = {"Content-Type": "application/json"}
    link.request("POST", "/v1/completions", json.dumps(body), headers)
    answer, last = link.getresponse(), b""
    if answer.status != 200:
        raise RuntimeError(answer.read()[:500])
    while line := answer.readline():
        if line.startswith(b"data:") and b"[DONE]" not in line:
            heard()
            last = line if b'"length"' in line else last
    link.close()
    return n_decode if last else 0


def _packages(name: str) -> str:
    """A folder with the packages of a server."""
    wanted = _PACKAGES[name]

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        subprocess.run([*command, *wanted], check=True)

    key = hashlib.sha256(" ".join([sys.version, *wanted]).encode()).hexdigest()[:16]
    return str(kept(cache_folder("servers") / key, make))

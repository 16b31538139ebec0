"""Servers for the tests: ours in a thread, llama-server in a process of its own, and one that says what a test wants."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_bridge.models.source import open_model

if TYPE_CHECKING:
    import ssl

__all__ = ["Handler", "Heard", "LlamaServer", "Scripted", "free_port", "llama_server", "scripted"]

_RUN = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[6])
params.n_parallel, params.warmup, params.slot_save_path = 2, False, sys.argv[3]
params.model_alias = {sys.argv[4]}
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.embedding = sys.argv[5] == "embeds"
if params.embedding:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
sys.stdin.read()
import os
os._exit(0)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class LlamaServer:
    """A llama-server that runs.

    Attributes:
        port: where.
        slots: its folder for slots.
        process: itself; None if somebody else has started it.
    """

    port: int
    slots: Path = Path()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def llama_server(
    slots: Path,
    model: Path | None = None,
    *,
    alias: str = "demo",
    port: int = 0,
    keeps: bool = True,
    embeds: bool = False,
    n_ctx: int = 2048,
) -> Iterator[LlamaServer]:
    """Start one, with the demo model if no other is given. It ends when this process does."""
    slots.mkdir(exist_ok=True)
    path = os.fspath(model or open_model("demo").path)
    port = port or free_port()
    folder = f"{slots}/" if keeps else ""
    arguments = [path, str(port), folder, alias, "embeds" if embeds else "answers", str(n_ctx)]
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = LlamaServer(port, slots, process)
    try:
        _wait(server)
        yield server
    finally:
        server.kill()
        assert process.stdin is not None
        process.stdin.close()


def _wait(server: LlamaServer) -> None:
    end = time.monotonic() + 60
    while server.process is not None and server.process.poll() is None:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            link.request("GET", "/health")
            if link.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            link.close()
        assert time.monotonic() < end, "llama-server did not start"
        time.sleep(0.05)
    raise AssertionError("llama-server ended")


@dataclass(frozen=True)
class Heard:
    """A request that a scripted server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """A server whose answers a test gives.

    Attributes:
        answer: called with each request and the handler that answers it.
        heard: the requests so far.
        gone: set when a client has left before its answer was whole.
        open_to_pages: whether web pages of other servers may ask.
    """

    port: int = 0
    answer: Callable[[Heard, Handler], None] = field(default=lambda _heard, _handler: None)
    heard: list[Heard] = field(default_factory=list[Heard])
    gone: threading.Event = field(default_factory=threading.Event)
    open_to_pages: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Scripted

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_OPTIONS(self) -> None:
        """A browser asks whether a page may ask."""
        self.send_response(204)
        if self.scripted.open_to_pages:
            self.send_header("Access-Control-Allow-Headers", "*, Authorization")
        self.end_headers()

    def end_headers(self) -> None:
        if self.scripted.open_to_pages:
            self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def _do(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(size)
        names = {name.lower(): value for name, value in self.headers.items()}
        heard = Heard(self.command, self.path, names, json.loads(data) if data else None)
        self.scripted.heard.append(heard)
        try:
            self.scripted.answer(heard, self)
        except OSError:
            self.close_connection = True
            self.scripted.gone.set()

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(value).encode(), status, "application/json", **headers)

    def raw(self, data: bytes, status: int = 200, kind: str = "text/html", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value: Any) -> None:
        data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def scripted(
    answer: Callable[[Heard, Handler], None],
    tls: ssl.SSLContext | None = None,
    *,
    open_to_pages: bool = False,
) -> Iterator[Scripted]:
    """Run one in a thread."""
    script = Scripted(answer=answer, open_to_pages=open_to_pages)
    handler = type("Handler", (Handler,), {"scripted": script})
    server = _Quiet(("127.0.0.1", 0), handler)
    script.port = server.server_address[1]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

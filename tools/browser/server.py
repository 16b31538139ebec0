"""A small static server with what a page with Pyodide needs: types, headers, parts of files.

For development and tests, on this machine only. Any static server works if it sends these headers;
``Handler.end_headers`` has the list.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["CSP", "Handler", "serve"]

CSP = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Allows scripts and connections of the page's own server only, no inline script or style, and WebAssembly with its
threads in our workers."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Handler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD.

    Args:
        csp: the Content-Security-Policy; empty for none.
        isolated: whether the page may share memory.
        ranges: whether parts of files are served.
    """

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 -- as in the base class; the system's table may lack these
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".whl": "application/zip",
    }

    def __init__(self, *args: Any, csp: str, isolated: bool, ranges: bool, **kwargs: Any) -> None:
        self._csp, self._isolated, self._ranges = csp, isolated, ranges
        self._left = 0
        super().__init__(*args, **kwargs)

    def end_headers(self) -> None:
        """Add the headers of every answer, including errors."""
        if self._csp:
            self.send_header("Content-Security-Policy", self._csp)
        if self._isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Accept-Ranges", "bytes" if self._ranges else "none")
        self.send_header("Cache-Control", "no-cache")  # cached, but revalidated each time: see ETag
        super().end_headers()

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Send status and headers; return the file if its bytes follow."""
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        try:
            file = path.open("rb")
        except OSError:
            if path.name == "favicon.ico":  # browsers request it by themselves, and log an error
                self._empty(HTTPStatus.NO_CONTENT)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
            return None
        stat = path.stat()
        size, tag = stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        part = self._asked(size) if self.headers.get("If-Range", tag) == tag else None
        if part is None and self.headers.get("If-None-Match") == tag:
            file.close()
            self._empty(HTTPStatus.NOT_MODIFIED, ETag=tag)
            return None
        if part is not None and not part:
            file.close()
            unsatisfied = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, **unsatisfied)
            return None
        self.send_response(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("ETag", tag)
        if part is None:
            part = range(size)
        else:
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        file.seek(part.start)
        self._left = len(part)
        return file

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send the promised bytes. A browser that has left is not an error."""
        try:
            while self._left and (data := source.read(min(self._left, 1 << 20))):
                outputfile.write(data)
                self._left -= len(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the browser's console shows failures."""

    def _empty(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _asked(self, size: int) -> range | None:
        """The requested part of a file: empty if the file has no such part, None for the whole file."""
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not self._ranges or found is None or found[0] == "bytes=-":
            return None
        if not found[1]:
            return range(max(0, size - int(found[2])), size)
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        return range(int(found[1]), last + 1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections: this is how browsers leave."""


@contextmanager
def serve(
    folder: Path,
    *,
    port: int = 0,
    csp: str = CSP,
    isolated: bool = True,
    ranges: bool = True,
    handler: type[Handler] = Handler,
) -> Generator[str]:
    """Serve ``folder`` in a thread while the block lasts.

    Args:
        folder: the folder to serve.
        port: the port; 0 for any free one.
        csp: the Content-Security-Policy; empty for none.
        isolated: send the headers that make a page ``crossOriginIsolated``.
        ranges: answer ``Range`` requests with parts.
        handler: another handler, for tests of bad servers.

    Yields:
        The address, such as ``http://127.0.0.1:8000/``.
    """
    answer = partial(handler, csp=csp, isolated=isolated, ranges=ranges, directory=str(folder))
    with _Server(("127.0.0.1", port), answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()

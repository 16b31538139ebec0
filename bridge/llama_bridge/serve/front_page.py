"""``/``: the chat application, which ``app/`` in the sources is built from."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from .server import Server

__all__ = ["FILES", "front_page"]

_FOLDER = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}

FILES = {
    "/": "index.html",
    "/app.css": "app.css",
    "/app.js": "app.js",
    "/icon.svg": "icon.svg",
    "/licences.txt": "licences.txt",
}
"""Its files by their paths; they need no key."""


async def front_page(_server: Server, request: Request) -> Response:
    """One of its files. Nothing in them is of this server, and they run nothing but themselves."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    file = _FOLDER / FILES[path]
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",  # asked for again each time, and sent if it has changed
    }
    return FileResponse(file, headers=headers, media_type=_TYPES[file.suffix])

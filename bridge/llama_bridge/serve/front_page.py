"""``/``: a page to try the model."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from .server import Server

__all__ = ["FILES", "front_page"]

_FOLDER = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript"}

FILES = {"/": "index.html", "/page.css": "page.css", "/page.mjs": "page.mjs"}
"""Its files by their paths; they need no key."""


async def front_page(_server: Server, request: Request) -> Response:
    """One of the page's files. Nothing in them is of this server, and they run nothing but themselves."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    file = _FOLDER / FILES[path]
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return FileResponse(file, headers=headers, media_type=_TYPES[file.suffix])

"""What only a window of its own may ask for: it is on the machine of its owner, and has a key that nobody else has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from .conversations import Conversations
from .current_model import CurrentModel
from .library import Library
from .served import Models
from .server import Server
from .session_files import SessionFiles

__all__ = ["UPLOADS", "window_routes"]

Answers = Callable[[Server, Request], Awaitable[Response]]

UPLOADS = ("/app/models/files/", "/app/sessions/files/", "/app/sessions/checks/")
"""Addresses to which files come that may be larger than any request: they are written to the disk as they arrive."""


def window_routes(conversations: Path, models: Models) -> list[tuple[str, Answers, str]]:
    """Path, answer and method of each.

    Args:
        conversations: where they are kept.
        models: a :class:`CurrentModel` can be replaced.
    """
    kept, place = Conversations(conversations), "/app/conversations"
    routes: list[tuple[str, Answers, str]] = [
        (place, kept.heads, "GET"),
        (f"{place}/{{id}}", kept.one, "GET"),
        (f"{place}/{{id}}", kept.keep, "PUT"),
        (f"{place}/{{id}}", kept.forget, "DELETE"),
        ("/app/preferences", kept.preferences, "GET"),
        ("/app/preferences", kept.keep_preferences, "PUT"),
    ]
    sessions, place = SessionFiles(), "/app/sessions"
    routes += [
        (f"{place}/files/{{name}}", sessions.take, "PUT"),
        (f"{place}/checks/{{name}}", sessions.check, "PUT"),
        (f"{place}/{{id}}", sessions.one, "GET"),
        (f"{place}/{{id}}/file", sessions.file, "GET"),
    ]
    if isinstance(models, CurrentModel):
        library, place = Library(models), "/app/models"
        routes += [
            (place, library.all, "GET"),
            (f"{place}/look", library.look, "POST"),
            (f"{place}/pull", library.pull, "POST"),
            (f"{place}/use", library.use, "POST"),
            (f"{place}/remove", library.remove, "POST"),
            (f"{place}/files/{{name}}", library.take, "PUT"),
        ]
    return routes

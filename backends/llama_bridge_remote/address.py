"""Which server is meant, and which model on it: from what ``LlamaBridge`` was given, and from the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from llama_bridge.checks import shown
from llama_bridge.errors import InvalidInput
from llama_bridge.runtime import Model, ServedModel

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "Address", "read_address"]

URL_VARIABLE = "LLAMA_BRIDGE_URL"
KEY_VARIABLE = "LLAMA_BRIDGE_API_KEY"

_EXAMPLE = 'LlamaBridge("http://127.0.0.1:8080", backend="remote")'
_SCHEME = re.compile(r"((?:[a-zA-Z][\w+.-]*:)?/*)(.*)", re.DOTALL)
_PORT = re.compile(r"[\w.-]+:\d{1,5}(/.*)?")


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and a model on it.

    Attributes:
        url: without user, password and a final slash, and without ``/v1``. Safe to show.
        user: user and password that the URL held, or None. Never shown.
        model: the name of a model there, or None for the only one.
    """

    url: str
    user: tuple[str, str] | None = None
    model: str | None = None

    def __repr__(self) -> str:
        return f"Address({self.url!r}, model={self.model!r})"


def read_address(model: Model) -> Address:
    """The server and the model that are meant.

    Raises:
        InvalidInput: no server is named, or its address cannot be one.
    """
    server: str | None = None
    given: object = model
    if isinstance(model, ServedModel):
        server, given = model.server, model.model
    if not isinstance(given, str):
        raise InvalidInput(
            f"model={shown(given)}: the remote backend takes the name of a model on the server"
        )
    name: str | None = given
    if server is None and _has_scheme(given):
        server, name = given, None
    if server is None:
        server = os.environ.get(URL_VARIABLE, "").strip()
        if not server:
            meant = _PORT.fullmatch(given) is not None
            hint = f"write http://{given}" if meant else f"write {_EXAMPLE}, or set {URL_VARIABLE}"
            raise InvalidInput(f"no server is named, only {shown(_without_user(given))}: {hint}")
    if name is not None and not name.strip():
        raise InvalidInput(
            "model is empty: give the name of a model on the server, or leave it out"
        )
    return _read(server, name)


def _has_scheme(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _read(server: str, name: str | None) -> Address:
    if not _has_scheme(server):
        other = re.match(r"([a-zA-Z][\w+.-]*)://", server)
        why = (
            f"it begins with {other[0]}, but servers are asked over http:// or https://"
            if other
            else f"it has no scheme: write http://{_without_user(server)}"
        )
        raise InvalidInput(
            f"the server's address {shown(_without_user(server))} cannot be used: {why}"
        )
    shown_url = shown(_without_user(server))
    try:
        parts = urlsplit(server)
        port = parts.port
    except (
        ValueError
    ):  # its text has what stands in the place of the port, such as a half of a password
        raise InvalidInput(
            f"the server's address {shown_url} cannot be used: its host or its port is none. In a user's name or a "
            "password, write / as %2F, ? as %3F, # as %23"
        ) from None
    if not parts.hostname or not server.isprintable() or any(map(str.isspace, server)):
        raise InvalidInput(f"the server's address {shown_url} names no host")
    if parts.query or parts.fragment:
        raise InvalidInput(
            f"the server's address {shown_url} has a query or a fragment: leave it out"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1")
    url = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"
    user = None
    if parts.username or parts.password:
        user = (unquote(parts.username or ""), unquote(parts.password or ""))
    return Address(url, user, name)


def _without_user(server: str) -> str:
    """An address that can be shown: without anything that may be a user or a password."""
    scheme, rest = _SCHEME.fullmatch(server).groups()  # type: ignore[union-attr]  # it fits every text
    _, user, place = rest.rpartition("@")
    return f"{scheme}{'***@' if user else ''}{place}"

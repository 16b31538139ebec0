"""The socket of a server, before anything else of it is there: its window can open meanwhile."""

from __future__ import annotations

import socket

from ..checks import check_count
from ..errors import InvalidInput

__all__ = ["listen"]

_LAST_PORT = 65535


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients; port 0 takes a free one.

    Raises:
        InvalidInput: the address cannot be used.
    """
    check_count("port", port)
    if port > _LAST_PORT:
        raise InvalidInput(f"port={port}: give a number up to {_LAST_PORT}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(f"host={host!r}, port={port}: {why}: give others") from error
    # asyncio turns TCP_NODELAY on where the socket says its protocol. Without it, events of a stream wait up to 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listener.detach())

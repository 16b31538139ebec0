"""What is written to a client leaves at once, also on a connection that is used again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from llama_bridge.serve import app
from llama_bridge.serve.protocol import PatientProtocol
from llama_bridge.testing import FakeLlama

from .serving import Address, serving


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The server's ends of all connections from now on."""
    found: list[socket.socket] = []
    made = PatientProtocol.connection_made

    def note(self: PatientProtocol, transport: asyncio.Transport) -> None:
        found.append(transport.get_extra_info("socket"))
        made(self, transport)

    monkeypatch.setattr(PatientProtocol, "connection_made", note)
    return found


@pytest.fixture
def address() -> Iterator[Address]:
    with FakeLlama("one two three") as llama, serving(app(llama, name="fake")) as found:
        yield found


def test_no_event_waits_for_the_client_to_acknowledge_the_one_before(
    sockets: list[socket.socket], address: Address
) -> None:
    """Each stream came 40 ms late, from a connection's second one on: so long a client waits to acknowledge."""
    with socket.create_connection(("127.0.0.1", address.port), timeout=10) as link:
        link.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\n\r\n".encode())
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
        (its,) = sockets
        assert its.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

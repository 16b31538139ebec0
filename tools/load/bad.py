"""Clients that leave, stall and send what they should not."""

from __future__ import annotations

import json
import random
import socket
import time

__all__ = ["misbehave"]

_HUGE = 8 << 20
_GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
    b"\0" * 2000,
    b"POST /v1/chat/completions HTTP/9.9\r\n" + b"a: b\r\n" * 500 + b"\r\n",
]


def misbehave(port: int, chance: random.Random, model: str) -> tuple[str, int]:
    """Do one bad thing; returns what it was, and the status that was answered, 0 if none was."""
    what = chance.choice(["leaves", "leaves", "stalls", "garbage", "broken", "huge", "half"])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        if what == "garbage":
            link.sendall(chance.choice(_GARBAGE))
            link.settimeout(5)
        elif what == "broken":
            body = chance.choice([b"", b"{", b"[1]", b'{"model": 3}', b"\xff" * 99, b"[" * 99999])
            link.sendall(_post(port, len(body)) + body)
        elif what == "huge":
            link.sendall(_post(port, _HUGE + 1))
            _fill(link, _HUGE + 1)
        elif what == "half":
            link.sendall(_post(port, 1000) + b'{"messages": [')
            time.sleep(chance.random())
            return what, 0
        else:
            body = json.dumps(
                {
                    "model": model,
                    "messages": [{"role": "user", "content": "Tell me a story. " * 20}],
                    "stream": True,
                    "max_tokens": 300,
                }
            ).encode()
            link.sendall(_post(port, len(body)) + body)
            found = _status(link)
            time.sleep(chance.random() * (3 if what == "stalls" else 0.2))
            return what, found
        return what, _status(link)


def _post(port: int, size: int) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def _fill(link: socket.socket, size: int) -> None:
    piece = b" " * 65536
    try:
        for _ in range(size // len(piece) + 1):
            link.sendall(piece)
    except OSError:  # it was refused before all had come
        pass


def _status(link: socket.socket) -> int:
    try:
        line = link.recv(4096).split(b"\r\n")[0].split()
    except OSError:
        return 0
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0

"""An application that answers on a port of 127.0.0.1, and the clients of the tests."""

from __future__ import annotations

import faulthandler
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import openai
import uvicorn
from starlette.types import ASGIApp

from llama_bridge.cli.listening import listen
from llama_bridge.serve.running import configured

__all__ = ["Address", "Reply", "serving", "until"]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass(frozen=True)
class Address:
    """Where a server answers."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @cache  # noqa: B019 -- a client takes 100 ms to make
    def openai(self, key: str = "none", *, strict: bool = True) -> openai.OpenAI:
        """The official client, which refuses what is not in OpenAI's shape.

        Strictly it refuses two things that OpenAI sends and it reads itself: the null in the chunks of ``/v1/completions``
        that are not the last, and vectors in base64.
        """
        return openai.OpenAI(
            base_url=self.url,
            api_key=key,
            max_retries=0,
            timeout=60,
            _strict_response_validation=strict,
        )

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request, as it is."""
        given = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request(method, path, data, given)
            answer = link.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            link.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[Address]:
    """Run an application in a thread."""
    listener = listen("127.0.0.1", port)
    address = Address(listener.getsockname()[1])
    server = uvicorn.Server(configured(app, 1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        until(lambda: server.started)
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        if thread.is_alive():
            faulthandler.dump_traceback(2)  # what holds it
        assert not thread.is_alive()


def until(done: Any, seconds: float = 30.0) -> float:
    """Wait until something is so; returns after how many seconds."""
    began = time.perf_counter()
    while not done():
        assert time.perf_counter() - began < seconds
        time.sleep(0.002)
    return time.perf_counter() - began

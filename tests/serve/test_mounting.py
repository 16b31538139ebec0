"""The application inside another one."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from llama_bridge import AsyncLlamaBridge
from llama_bridge.serve import ServerSettings, app
from llama_bridge.testing import FakeLlama

from .serving import serving, until


def test_it_answers_where_it_is_mounted() -> None:
    with FakeLlama("Well.") as llama:
        settings = ServerSettings(api_keys=("sk-mine",))
        inner = app(AsyncLlamaBridge.of(llama), name="fake", settings=settings)
        key = {"Authorization": "Bearer sk-mine"}
        hello = {"messages": [{"role": "user", "content": "Hello!"}]}
        with serving(Starlette(routes=[Mount("/llm", inner)])) as address:
            assert address.ask("GET", "/llm/health").status == 200
            assert address.ask("GET", "/llm/v1/models").status == 401
            assert address.ask("GET", "/v1/models", headers=key).status == 404
            reply = address.ask("POST", "/llm/v1/chat/completions", hello, key)
            assert reply.json["choices"][0]["message"]["content"] == "Well."
            counted = b'requests_total{path="/v1/chat/completions",status="200"} 1.0'
            until(lambda: counted in address.ask("GET", "/llm/metrics", headers=key).body)
        assert llama.generate("still mine").text == "Well."

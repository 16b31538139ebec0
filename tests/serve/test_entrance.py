"""How the page of a window gets its key."""

from __future__ import annotations

from pathlib import Path

from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.serve import ServerSettings
from llama_bridge.serve.app import application
from llama_bridge.serve.entrance import Entrance
from llama_bridge.serve.served import OneModel
from llama_bridge.testing import FakeLlama

from .serving import serving


def test_a_word_gives_the_key_once_and_no_other_word_does(tmp_path: Path) -> None:
    with FakeLlama("yes") as llama:
        models = OneModel(AsyncLlamaBridge.of(llama), ("fake",))
        settings = ServerSettings(api_keys=("sk-window",))
        made = application(models, settings, None, tmp_path, Entrance("first", "ö"))
        with serving(made) as address:
            for word in ("", "firs", "sk-window", "é"):
                refused = address.post("/app/enter", {"word": word})
                assert (refused.status, refused.error["code"]) == (403, "address_used")
            assert address.post("/app/enter", {"word": ["first"]}).status == 400
            assert address.post("/app/enter", {}).error["param"] == "word"
            assert address.post("/app/enter", {"word": "first"}).json == {"key": "sk-window"}
            assert address.post("/app/enter", {"word": "first"}).status == 403
            assert address.post("/app/enter", {"word": "ö"}).status == 200
            assert address.ask("GET", "/app/conversations").status == 401
        with serving(application(models, settings, None, tmp_path)) as address:
            assert address.post("/app/enter", {"word": "first"}).status == 401

"""The chat application in Firefox, used as a person would: at ``/`` of a server, and in a page without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_bridge.serve import app
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.serve.serving import serving

if sys.platform == "emscripten":
    pytest.skip("it starts processes", allow_module_level=True)

from tools.browser import browsers, fetch

from .story import pictures_in_firefox

if TYPE_CHECKING:
    from llama_bridge.testing import Asked

pytestmark = pytest.mark.slow


def answer(asked: Asked) -> str | FakeAnswer:
    if "long" in asked.prompt:
        return FakeAnswer("word " * 2000, token_seconds=0.01)
    return "Some **bold** words."


def test_firefox_asks_stops_renames_exports_and_a_reload_keeps_all(
    tmp_path: Path, missing: Callable[[str], None]
) -> None:
    if browsers.find("firefox") is None:
        missing("Firefox is not installed; on Debian: apt-get install firefox-esr")
    with FakeLlama(answer) as llama, serving(app(llama, name="fake")) as address:
        told = {
            "program": str(browsers.find("firefox")),
            "address": f"http://127.0.0.1:{address.port}/",
            "downloads": str(tmp_path),
        }
        program = Path(__file__).with_name("firefox_chat.mjs")
        command = [fetch.node(), program, fetch.node_modules(), json.dumps(told)]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["complaints"] == []
    assert seen["bold"] == "bold"
    assert 0 < seen["lengths"][0] < seen["lengths"][1] < seen["lengths"][2] < 10_000
    assert seen["ending"] == "Stopped."
    assert seen["title"].startswith("Seen in Firefox")
    assert seen["before"][::2] == ["Markdown", "A long one"]
    assert seen["after"] == seen["before"]
    file = json.loads((tmp_path / "Seen-in-Firefox.json").read_text())["conversation"]
    texts = [message["text"].strip() for message in file["messages"].values()]
    assert texts[3] == seen["before"][3]


@pytest.mark.pictures
def test_the_page_without_a_server_answers_in_firefox(
    address: str, pictures: Path, missing: Callable[[str], None]
) -> None:
    if browsers.find("firefox") is None:
        missing("Firefox is not installed; on Debian: apt-get install firefox-esr")
    pictures_in_firefox(address, pictures, "firefox-page")

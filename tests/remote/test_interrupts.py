"""Ctrl-C at every line where an answer of a server ends: the conversation goes on, or is told why not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import llama_bridge_remote
from llama_bridge import LlamaBridge
from llama_bridge.serve import app
from llama_bridge.testing import FakeLlama
from tests.attack import interrupts
from tests.serve.serving import serving


def test_an_interrupted_call_leaves_a_conversation_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At some lines the next call waited for ever, for an answer that was over."""
    folder = Path(llama_bridge_remote.__file__).parent
    monkeypatch.setattr(interrupts, "_OURS", (str(folder / "answer.py"),))
    with (
        FakeLlama(lambda _: "an answer") as model,
        serving(app(model, name="m")) as address,
        LlamaBridge(f"http://127.0.0.1:{address.port}", backend="remote") as llama,
    ):

        def call() -> None:
            llama.generate_continue("what?")

        n = interrupts.count(call, "line")
        assert n > 30
        for at in range(1, n + 1):
            llama.session_reset()
            interrupts.interrupted(call, at, "line")
            texts: list[str] = []
            after = threading.Thread(
                target=lambda texts=texts: texts.append(llama.generate_continue("so?").text),
                daemon=True,
            )
            after.start()
            after.join(10)
            assert texts == ["an answer"], f"line {at}"

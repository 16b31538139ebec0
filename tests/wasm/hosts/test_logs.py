"""What llama.cpp says in the guest."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from llama_bridge.errors import EngineError
from llama_bridge_wasm.hosts.logs import log_lines

from ..conftest import MakeGuest, load


def test_lines_have_levels_and_words() -> None:
    said = b"2 loading\n4 cannot go on\n\n4 \n3  \nassertion failed\n"
    assert list(log_lines(said)) == [
        (logging.DEBUG, "loading"),
        (logging.ERROR, "cannot go on"),
        (logging.ERROR, "assertion failed"),
    ]


def test_a_guest_that_stopped_tells_its_last_words_and_not_an_empty_line(
    make_guest: MakeGuest, wasm: Path
) -> None:
    guest = make_guest()
    assert load(guest) == 0
    guest._log(b"4 something is wrong\n4 \n\n")  # type: ignore[attr-defined]
    with pytest.raises(
        EngineError, match=r"It last said: something is wrong\. Load the model again"
    ):
        guest.call("lb_tokenize", -8, 4, 0, 0, 0, 0)

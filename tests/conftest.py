"""What the whole suite shares. Backends, models and gates come from the project's own pytest plugin."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import later_signals
from tests.making import make_model
from tests.native_gate import (
    native_backend,
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_setup,
)
from tests.remote_gate import (
    not_on_a_server,
    pytest_fixture_setup,
    pytest_runtest_call,
    served_demo,
)

__all__ = [
    "make_model",
    "native_backend",
    "not_on_a_server",
    "pictures",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "served_demo",
]

# Tests measure behaviour, not this machine's settings.
os.environ.pop("LLAMA_BRIDGE_BACKEND", None)

# A runner in the background may ignore Ctrl-C, and everything it starts would too; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_signal_is_held_back() -> Iterator[None]:
    """Whatever a test does, Ctrl-C works after it."""
    yield
    assert later_signals._holder is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where a test puts the pictures that it takes: ``make docs`` says where it wants them."""
    folder = Path(os.environ.get("LLAMA_BRIDGE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder

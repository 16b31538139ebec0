"""A screen for the tests that show a window: a virtual one, so that nothing flashes up. And the window."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from llama_bridge import Backend

if TYPE_CHECKING:
    from .driver import Driver

OpenWindow = Callable[..., "Driver"]

SCRIPT = Path(__file__).parents[2] / "examples" / "desktop_chat.py"

_MISSING = "there is no screen; on Debian: apt-get install xvfb"


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """A display that Tk can use. In CI a missing one is a failure, elsewhere the tests are skipped."""
    xvfb = shutil.which("Xvfb")
    if xvfb is not None:
        yield from _virtual_screen(xvfb)
    elif sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ:
        yield
    elif os.environ.get("CI"):
        pytest.fail(_MISSING, pytrace=False)
    else:
        pytest.skip(_MISSING)


def _virtual_screen(xvfb: str) -> Iterator[None]:
    reader, writer = os.pipe()
    command = [xvfb, "-displayfd", str(writer), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with open(reader, encoding="ascii") as lines:
            number = lines.readline().strip()
        assert number, "Xvfb did not start"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", f":{number}")
            yield
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def example(screen: None) -> ModuleType:
    spec = importlib.util.spec_from_file_location("desktop_chat", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tk_is_collected_here() -> Iterator[None]:
    """Tcl ends the process if an interpreter is freed by another thread, the next window's worker say."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.fixture
def open_window(example: ModuleType) -> Iterator[OpenWindow]:
    from .driver import Driver  # not at the top: imports Tk, without which other tests here run

    drivers: list[Driver] = []

    def open_it(backend: str | Backend, model: str = "demo") -> Driver:
        drivers.append(Driver(example, backend, model))
        drivers[-1].idle()
        return drivers[-1]

    yield open_it
    for driver in drivers:
        driver.close()
        assert driver.tracebacks == []
    drivers.clear()

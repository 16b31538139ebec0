"""A screen for the tests that show a window: a virtual one, so that nothing flashes up. And the window, of each toolkit."""

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

import pytest

from llama_bridge import Backend

from .driver import Driver

OpenWindow = Callable[..., "Driver"]

EXAMPLES = Path(__file__).parents[2] / "examples"

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


@pytest.fixture
def toolkit(request: pytest.FixtureRequest) -> type[Driver]:
    """The hands and eyes for one toolkit. ``make desktop`` has Qt; a Python without Tk is an error in CI."""
    if request.param == "qt":
        pytest.importorskip("PySide6", reason="no PySide6: `make desktop` runs this")
        from .qt_driver import QtDriver

        return QtDriver
    if not os.environ.get("CI"):
        pytest.importorskip("tkinter", reason="no tkinter; on Debian: apt-get install python3-tk")
    request.getfixturevalue("screen")
    request.getfixturevalue("tk_is_collected_here")
    from .tk_driver import TkDriver

    return TkDriver


def example_of(toolkit: type[Driver]) -> ModuleType:
    """The program, as a module."""
    name = toolkit.script
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tk_is_collected_here() -> Iterator[None]:
    """Tcl ends the process if an interpreter is freed by another thread, the bridge's say."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.fixture
def open_window(toolkit: type[Driver]) -> Iterator[OpenWindow]:
    example, drivers = example_of(toolkit), list[Driver]()

    def open_it(backend: str | Backend, model: str = "demo", *, wait: bool = True) -> Driver:
        drivers.append(toolkit(example, backend, model))
        if wait:
            drivers[-1].idle()
        return drivers[-1]

    yield open_it
    for driver in drivers:
        driver.close()
        assert driver.tracebacks == []
    drivers.clear()

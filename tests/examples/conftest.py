"""A screen for the tests that show a window: a virtual one, so that nothing flashes up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

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

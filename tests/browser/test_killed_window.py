"""``llama-bridge app`` is killed while it fetches a model, and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_bridge.testing.hub import HubServer

from .test_window_models import get, hub

if sys.platform in ("emscripten", "win32"):
    pytest.skip("it starts and kills processes", allow_module_level=True)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from .chatting import Chatter

__all__ = ["hub"]  # a fixture
pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("llama-bridge")


@contextmanager
def app(
    context: BrowserContext, folder: Path
) -> Generator[tuple[Chatter, subprocess.Popen[bytes]]]:
    """The command, with a browser that only writes down where it was led to, and a person who goes there."""
    from .chatting import Chatter

    words = folder / f"words-{time.monotonic_ns()}"
    browser = folder / "chromium"
    browser.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {words}.part\nmv {words}.part {words}\nexec sleep 120\n'
    )
    browser.chmod(0o755)
    command = [str(COMMAND), "app", "--conversations-dir", str(folder / "talks")]
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(command, env={**os.environ, "PATH": path}, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not words.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        file = re.search(r"file://(\S+)", words.read_text())
        assert file is not None
        led = re.search(r"url=([^\"]+)", Path(file[1]).read_text())
        assert led is not None
        person = Chatter(context, led[1])
        person.page.set_default_timeout(40_000)
        person.page.wait_for_selector("#model option", state="attached", timeout=60_000)
        yield person, process
        person.page.close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the browser too
        process.wait(30)


def test_a_download_goes_on_in_the_next_window_when_the_command_was_killed(
    context: BrowserContext, hub: HubServer, tmp_path: Path
) -> None:
    for path in ("/plain/*", "/blob/*"):
        hub.fail("slow", path=path, seconds=0.5, times=None)
    with app(context, tmp_path) as (person, process):
        person.say("Hello! My name is Zorblax.")
        person.press("Models")
        get(person, "hf:org/repo")
        person.page.wait_for_selector(".job .facts:has-text('MB of 2.6 MB')")
        process.kill()
        person.page.wait_for_selector(".library .trouble:has-text('Start it again')")
        person.page.keyboard.press("Escape")
        person.page.fill("#prompt", "What is my name?")
        person.page.press("#prompt", "Enter")
        person.page.wait_for_selector(
            ".turn:last-child .trouble:has-text('llama-bridge cannot be reached')"
        )
    hub.faults.clear()
    with app(context, tmp_path) as (person, _):
        assert person.titles == ["Hello! My name is Zorblax."]
        person.press("Models")
        person.page.wait_for_selector(".part:has-text('have arrived')")
        person.press("Go on with hf:org/repo")
        person.page.wait_for_selector(".said:has-text('a-Q4_K_M is here.')")
        assert person.page.locator(".part").count() == 0
        assert hub.downloads()[-1].headers["range"].startswith("bytes=")

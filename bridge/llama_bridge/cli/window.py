"""A window that shows one address: the system's web view, or else a browser.

The address has a word in it that opens the server once, and other users of the machine can read command lines. So the web
view reads it from its standard input, and a browser opens a file that only this user can read, which leads there.
"""

from __future__ import annotations

import html
import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import webbrowser
from contextlib import ExitStack
from pathlib import Path

import click

__all__ = ["Window"]

_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "brave-browser",
    "msedge",
    "chrome",
)
"""Those that show a page without an address bar: ``--app``."""


class Window:
    """Opens when told to. When it is closed, the process gets SIGTERM, which ends its server in peace."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._left = ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, if it is still open."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)
        self._left.close()

    def open(self) -> None:
        """Open it; returns at once."""
        threading.Thread(target=self._show, daemon=True).start()

    def _show(self) -> None:
        if not self._in_web_view() and not self._in_browser_window():
            webbrowser.open(self._file(self._folder()).as_uri())
            click.echo("Chatting in your browser; Ctrl-C ends it.", err=True)
            return
        signal.raise_signal(signal.SIGTERM)

    def _in_web_view(self) -> bool:
        """Whether there is a web view: False if it did not open."""
        if importlib.util.find_spec("webview") is None:
            return False
        command = [sys.executable, "-m", "llama_bridge.cli.web_view"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._process.communicate(self._address)
        return self._process.returncode == 0

    def _in_browser_window(self) -> bool:
        program = next(filter(None, map(shutil.which, _BROWSERS)), None)
        if program is None:
            return False
        folder = self._folder()
        # A profile of its own: otherwise the window belongs to the user's browser, and nobody knows when it is closed.
        command = [program, f"--user-data-dir={folder / 'profile'}", "--no-first-run"]
        command += ["--no-default-browser-check", f"--app={self._file(folder).as_uri()}"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
        self._process.wait()
        return True

    def _folder(self) -> Path:
        """A folder that only this user can read."""
        made = tempfile.TemporaryDirectory(prefix="llama-bridge-", ignore_cleanup_errors=True)
        return Path(self._left.enter_context(made))

    def _file(self, folder: Path) -> Path:
        path = folder / "open.html"
        there = html.escape(self._address)
        path.write_text(
            f'<!doctype html><title>llama-bridge</title><meta http-equiv="refresh" content="0;url={there}">'
        )
        return path

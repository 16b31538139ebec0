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
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

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


_AT_ONCE = 3
"""Seconds within which a browser ends that does not start."""

_PEACE = 5
"""Seconds that a window has to end by itself."""

_AGAIN = 2
"""Seconds after which a signal that was lost is given again."""

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP

_STARTING = """<!doctype html>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="0;url={address}">
<title>llama-bridge</title>
<style>
body {{ display: grid; place-content: center; min-height: 90vh; background: light-dark(#fff, #161618) }}
</style>
<progress></progress>
"""
"""A browser shows this until the server answers."""


class Window:
    """Opens when told to. When it is closed, the process gets SIGTERM, which ends its server in peace.

    There need not be a server yet. Only for the main thread.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._left = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._is_open = self._is_left = self._is_ended = False

    def __enter__(self) -> Window:
        for number in _SIGNALS:  # until the server has handlers of its own
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has SIGHUP
                signal.signal(number, self._end)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it, if it is still open."""
        self._is_left = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PEACE)
            except subprocess.TimeoutExpired:  # it is stuck
                self._process.kill()
                self._process.wait()
        self._left.close()
        if self._is_ended and kind is not None:
            raise SystemExit(0)  # Python makes another one of it where __set_name__ ends

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        """End the process in peace. Where Python is in a callback of its own, as of a weak reference, the exception is lost."""
        self._is_ended = True
        if not self._is_left:
            raise SystemExit(0)

    def open(self) -> None:
        """Open it, unless that has been done; returns at once. A signal that was lost is given again."""
        if self._is_ended:
            signal.raise_signal(signal.SIGTERM)
        elif not self._is_open:
            self._is_open = True
            threading.Thread(target=self._show, daemon=True).start()

    def _show(self) -> None:
        if not self._in_web_view() and not self._in_browser_window():
            file = self._file(self._folder())
            if _in_usual_browser(file.as_uri()):
                click.echo("Chatting in your browser; Ctrl-C ends it.", err=True)
            else:
                click.echo(f"No browser starts here: open {file} in one; Ctrl-C ends it.", err=True)
            return
        while not self._is_left:
            signal.raise_signal(signal.SIGTERM)
            if signal.getsignal(signal.SIGTERM) != self._end:
                break  # a server's own handler loses none
            time.sleep(_AGAIN)

    def _in_web_view(self) -> bool:
        """Whether there was a web view, which is closed now."""
        if importlib.util.find_spec("webview") is None:
            return False
        command = [sys.executable, "-m", "llama_bridge.cli.web_view"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._process.communicate(self._address)
        return self._is_left or self._process.returncode == 0

    def _in_browser_window(self) -> bool:
        """Whether there was such a browser, which is closed now. Some refuse to start, as Chromium does for root."""
        program = next(filter(None, map(shutil.which, _BROWSERS)), None)
        if program is None:
            return False
        folder = self._folder()
        # A profile of its own: otherwise the window belongs to the user's browser, and nobody knows when it is closed.
        command = [program, f"--user-data-dir={folder / 'profile'}", "--no-first-run"]
        command += ["--no-default-browser-check", f"--app={self._file(folder).as_uri()}"]
        began = time.monotonic()
        try:
            self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return False
        fails = self._process.wait() != 0 and time.monotonic() < began + _AT_ONCE
        return self._is_left or not fails

    def _folder(self) -> Path:
        """A folder that only this user can read."""
        made = tempfile.TemporaryDirectory(prefix="llama-bridge-", ignore_cleanup_errors=True)
        return Path(self._left.enter_context(made))

    def _file(self, folder: Path) -> Path:
        path = folder / "open.html"
        path.write_text(_STARTING.format(address=html.escape(self._address)))
        return path


def _in_usual_browser(address: str) -> bool:
    """Whether one began; of some that cannot be executed, webbrowser says so by an error."""
    try:
        return webbrowser.open(address)
    except (OSError, webbrowser.Error):
        return False

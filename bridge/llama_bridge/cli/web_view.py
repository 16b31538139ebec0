"""The process of a window: ``python -m llama_bridge.cli.web_view``, with the address on standard input.

It is a process of its own because a web view wants the main thread, which the server has.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> int:
    """Show the window until it is closed; 1 if this system has no web view."""
    view: Any = importlib.import_module("webview")  # has no types
    view.settings["ALLOW_DOWNLOADS"] = True
    view.create_window("llama-bridge", sys.stdin.read(), width=1180, height=820, text_select=True)
    try:
        view.start()
    except view.errors.WebViewException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tools.browser FOLDER...``: serves a page made from these folders, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import suppress
from pathlib import Path

from .fetch import FetchError
from .server import serve
from .site import ROOT, lay_out


def main() -> None:
    """Lay out the site, serve it, print its address."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.browser",
        description="Serves a page made from these folders, until Ctrl-C.",
    )
    parser.add_argument(
        "folder", nargs="*", type=Path, help="its content goes to the top of the site"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--site",
        type=Path,
        default=ROOT / "build" / "site",
        metavar="FOLDER",
        help="where the site is put; default: build/site",
    )
    options = parser.parse_args()
    try:
        lay_out(options.site, extra=options.folder, compiled=True)
        with suppress(KeyboardInterrupt), serve(options.site, port=options.port) as address:
            print(f"Serving {address}  (Ctrl-C stops it)", flush=True)
            threading.Event().wait()
    except (FetchError, OSError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()

"""The command ``llama-bridge``, also ``python -m llama_bridge``. Its parser is the extra ``[cli]``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with its status, and with 2 where the extra is not installed."""
    try:
        from .cli.app import app  # click and rich are an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print('the command line needs: pip install "llama-bridge[cli]"', file=sys.stderr)
        sys.exit(2)
    app(prog_name="llama-bridge")


if __name__ == "__main__":
    main()

"""``python -m llama_bridge``: the command ``llama-bridge``."""

from __future__ import annotations

from llama_bridge_command import main

if __name__ == "__main__":
    main()

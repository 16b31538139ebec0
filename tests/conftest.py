"""What the whole suite shares. Backends, models and gates come from the project's own pytest plugin."""

from __future__ import annotations

import os

# Tests measure behaviour, not this machine's settings.
os.environ.pop("LLAMA_BRIDGE_BACKEND", None)

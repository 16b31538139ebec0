"""A fleet is tested without Ray here; ``test_on_ray*.py`` run where Ray is: ``make fleet``."""

from __future__ import annotations

import importlib.util
import os
import sys

collect_ignore_glob: list[str] = []
if sys.platform == "emscripten":
    collect_ignore_glob = ["test_*.py"]
elif importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["test_on_ray*.py"]

# On a busy machine a process takes longer to start than Ray Serve waits for its proxy before it kills it.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")
